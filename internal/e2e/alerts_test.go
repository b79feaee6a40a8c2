package e2e_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/prom"
	"github.com/freshet/freshet/producer"
)

// watched is a running system with the real Prometheus, the deployed configuration and rules, all times of which are made short.
type watched struct {
	*world

	worker, relay          *testenv.Process
	mysqlLink, redisLink   *testenv.Proxy
	workerAddr, relayAddr  string
	adminAddr, tokensFile  string
	prometheus, tokenLines string
	src                    *sql.DB
	pub                    *producer.Producer
	version                int64
	items                  *invalidation.Cache[item]
}

// alertLimit is for alerts whose numbers are counted every 15 s, twice.
const alertLimit = 60 * time.Second

// TestFaultsFireTheirAlerts injects faults into a running system: the deployed alerts fire and clear. Before that, each panel of the
// dashboard shows something. Only deploy/prometheus/rules_test.yml shows the others: burn rates need hundreds of late events, and losses, failed
// jobs, stuck partitions, missing topics and blocked rows need servers that lose data or refuse, which other tests here have.
func TestFaultsFireTheirAlerts(t *testing.T) {
	path, err := exec.LookPath("prometheus")
	if err != nil {
		testenv.Skip(t, "prometheus is not installed (Debian: prometheus)")
	}
	w := newWatched(t, path)
	w.traffic()
	w.awaitHealth()
	w.panelsShowSomething()

	w.plantStale()
	w.badEvents()
	w.badRows()
	w.guessTokens()
	w.writeTokens("nonsense")
	w.poison()
	w.firing("FreshetRefusedLogins", "FreshetFileUnusable", "FreshetDeadLettersOpen", "FreshetDeadLetterStorm", "FreshetDatasetPaused",
		"FreshetOutboxDeadRows", "FreshetOutboxUnknownDataset", "FreshetOutboxBehind", "FreshetEntriesStale", "FreshetVersionConflicts",
		"FreshetInvalidationsUnreadable", "FreshetDegraded")
	w.writeTokens(w.tokenLines)
	w.healPoison()
	w.sourceExec("DELETE FROM freshet_outbox WHERE dataset = 'unknown'")
	w.sourceExec("DELETE FROM freshet_outbox_dead")
	w.mustRun("inspect", "items", "stale", "--invalidate", "--reason", "a test", "--client-url", w.adminAddr)
	w.awaitHealth()

	end := w.openTransaction()
	w.redisLink.Hold()
	w.firing("FreshetNodesSuspect", "FreshetLaneSilent", "FreshetTransactionOpen")
	w.redisLink.Release()
	end()
	w.loseLane()
	w.firing("FreshetLaneLost")
	w.mysqlLink.Lead("127.0.0.1:1") // no one listens there
	publish(t, w.pub, upsert("items", "b", 1, "x"))
	w.firing("FreshetWaiting", "FreshetLagging")
	w.mysqlLink.Lead(testenv.MySQL(t).Addr)
	w.awaitHealth()

	w.worker.Kill(t)
	w.relay.Kill(t)
	w.firing("FreshetDown", "FreshetWithoutWorker", "FreshetOutboxWithoutRelay")
	w.startAll()
	w.awaitHealth()
}

func newWatched(t *testing.T, path string) *watched {
	t.Helper()
	w := &watched{world: itemWorld(t)}
	w.src, w.pub = w.source(), w.producer()
	w.mysqlLink, w.redisLink = testenv.NewProxy(t, testenv.MySQL(t).Addr), testenv.NewProxy(t, w.redis.Addr)
	w.workerAddr, w.relayAddr = freeAddr(t), freeAddr(t)
	out := w.mustRun("admin", "token", "--name", "prometheus", "--role", "operator")
	m := regexp.MustCompile(`(?s)shown only now: +(\S+)\n.*file: (.*)\n`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("freshet admin token prints\n%s", out)
	}
	w.tokenLines, w.tokensFile = m[2]+"\n", filepath.Join(t.TempDir(), "tokens")
	w.writeTokens(w.tokenLines)
	w.env = append(w.env, "FRESHET_ADMIN__TOKENS_FILE="+w.tokensFile, "FRESHET_CLIENT__TOKEN="+m[1], "FRESHET_WORKER__LISTEN="+w.workerAddr, "FRESHET_WORKER__ADVERTISE="+w.workerAddr,
		"FRESHET_RELAY__LISTEN="+w.relayAddr, "FRESHET_WORKER__SAMPLES=20", "FRESHET_WORKER__STALE_AFTER=12s")
	w.startAll()
	w.adminAddr = w.api()
	w.joinNode()
	w.startPrometheus(path, m[1])
	return w
}

// startAll starts worker and relay at their addresses. The worker's ways to MySQL and Redis are links.
func (w *watched) startAll() {
	w.t.Helper()
	cmd := w.command(context.Background(), "worker", "--worker-id", "w1")
	for _, kv := range slices.Clone(cmd.Env) {
		if text, ok := strings.CutPrefix(kv, "FRESHET_MYSQL__DSN="); ok {
			dsn, err := mysql.ParseDSN(text)
			if err != nil {
				w.t.Fatal(err)
			}
			dsn.Net, dsn.Addr = "tcp", w.mysqlLink.Addr
			cmd.Env = append(cmd.Env, "FRESHET_MYSQL__DSN="+dsn.FormatDSN())
		}
		if strings.HasPrefix(kv, "FRESHET_REDIS__URL=") {
			cmd.Env = append(cmd.Env, strings.Replace(kv, w.redis.Addr, w.redisLink.Addr, 1))
		}
	}
	w.worker = testenv.StartProcess(w.t, "worker", cmd)
	w.relay = w.startRelay("r1")
}

// joinNode joins a node in this process, with metrics at an address that the admin API lists. Its way to Redis is a link.
func (w *watched) joinNode() {
	t := w.t
	t.Helper()
	reg := prometheus.NewRegistry()
	srv := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	t.Cleanup(srv.Close)
	linked := redis.NewClient(&redis.Options{Addr: w.redisLink.Addr})
	n, err := invalidation.Join(t.Context(), linked, invalidation.Config{Namespace: w.ns, Datasets: w.datasets, ID: "n1", Address: strings.TrimPrefix(srv.URL, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	reg.MustRegister(prom.NewCollector(n))
	w.items, err = invalidation.NewCache(n, invalidation.CacheConfig[item]{Dataset: "items", Load: w.load})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		linked.Close()
	})
}

// startPrometheus starts it with the deployed files. Nothing in them is replaced but addresses, the token's file and times.
func (w *watched) startPrometheus(path, token string) {
	t := w.t
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"token": token}
	for _, name := range []string{"prometheus.yml", "rules.yml"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	files["prometheus.yml"] = strings.NewReplacer("127.0.0.1:7789", strings.TrimPrefix(w.adminAddr, "http://"), "127.0.0.1:7790", w.relayAddr,
		"/etc/prometheus/freshet-token", filepath.Join(dir, "token"), "namespace: default", "namespace: "+w.ns, ": 15s", ": 1s").Replace(files["prometheus.yml"])
	for _, short := range []struct{ from, to string }{
		{`(?m)^( +for:) \w+$`, "$1 1s"}, {`\[\d+[mh]\]`, "[10s]"}, {`offset 1h`, "offset 20s"}, {`(_seconds\)?) > \d+`, "$1 > 3"},
	} {
		re := regexp.MustCompile(short.from)
		if !re.MatchString(files["rules.yml"]) {
			t.Fatalf("rules.yml has no %s", short.from)
		}
		files["rules.yml"] = re.ReplaceAllString(files["rules.yml"], short.to)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := freeAddr(t)
	w.prometheus = "http://" + addr
	testenv.StartProcess(t, "prometheus", exec.Command(path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn"))
}

// answer is what Prometheus answers to a query.
type answer struct {
	Status, Error string
	Data          struct {
		Result []struct{ Metric map[string]string }
	}
}

func (w *watched) query(ctx context.Context, expr string) (answer, error) {
	_, body, err := fetch(ctx, w.prometheus+"/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil || a.Status != "success" {
		return answer{}, fmt.Errorf("query %s: %s, %w", expr, body, err)
	}
	return a, nil
}

// alerts returns the names of those that fire.
func (w *watched) alerts(ctx context.Context) (names []string, err error) {
	a, err := w.query(ctx, `ALERTS{alertstate="firing"}`)
	for _, r := range a.Data.Result {
		names = append(names, r.Metric["alertname"])
	}
	return names, err
}

// firing waits until each of the alerts has fired, not necessarily at one time: some end by themselves.
func (w *watched) firing(want ...string) {
	w.t.Helper()
	began, seen := time.Now(), map[string]bool{}
	testenv.Eventually(w.t, alertLimit, func(ctx context.Context) error {
		names, err := w.alerts(ctx)
		for _, name := range names {
			seen[name] = true
		}
		missing := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return seen[name] })
		if len(missing) > 0 {
			err = errors.Join(err, fmt.Errorf("%v do not fire; %v do", missing, names))
		}
		return err
	})
	w.t.Logf("%v fired within %s", want, time.Since(began).Round(time.Second/10))
}

// awaitHealth waits until everything is scraped and no alert fires.
func (w *watched) awaitHealth() {
	w.t.Helper()
	began := time.Now()
	testenv.Eventually(w.t, alertLimit, func(ctx context.Context) error {
		names, err := w.alerts(ctx)
		if err != nil || len(names) > 0 {
			return fmt.Errorf("%v fire, %w", names, err)
		}
		up, err := w.query(ctx, "up == 1")
		if err != nil || len(up.Data.Result) != 4 {
			return fmt.Errorf("%d of 4 processes are scraped: %v, %w", len(up.Data.Result), up.Data.Result, err)
		}
		return nil
	})
	w.t.Logf("nothing fires after %s", time.Since(began).Round(time.Second/10))
}

// panelsShowSomething sends each query of the dashboard while events flow.
func (w *watched) panelsShowSomething() {
	w.t.Helper()
	// In health these are empty.
	empty := map[string]string{"Alerts": "no alert fires"}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile("../../deploy/grafana/dashboard.json")
	if err == nil {
		err = json.Unmarshal(text, &dashboard)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	queries := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			queries++
			expr := strings.NewReplacer("$namespace", w.ns, "$instance", ".*", "$dataset", ".*", "$__rate_interval", "10s").Replace(target.Expr)
			testenv.Eventually(w.t, alertLimit, func(ctx context.Context) error {
				a, err := w.query(ctx, expr)
				if err == nil && (len(a.Data.Result) == 0) != (empty[p.Title] != "") {
					w.traffic()
					err = fmt.Errorf("panel %s: %d series of %s", p.Title, len(a.Data.Result), expr)
				}
				return err
			})
		}
	}
	if queries < 40 {
		w.t.Errorf("the dashboard has %d queries", queries)
	}
}
