package e2e_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
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

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
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
	site                   string             // nodes of a service, behind HAProxy
	node1                  *invalidation.Node // one of them
	user                   *user
	src                    *sql.DB
	pub                    *producer.Producer
	version                int64
}

// nodes is how many there are, processes how many are scraped: a worker, a relay and the admin API beside them.
const nodes, processes = 3, nodes + 3

// alertLimit is for alerts whose numbers are counted every 15 s, twice.
const alertLimit = 60 * time.Second

// TestFaultsFireTheirAlerts injects faults into running systems with three nodes behind HAProxy: the deployed alerts fire and clear, all of them, and
// no request of a user fails.
func TestFaultsFireTheirAlerts(t *testing.T) {
	t.Run("faults", faultsFire) // beside each other, since both mostly wait
	t.Run("losses", lossesFire)
}

// faultsFire takes servers and processes away and writes what cannot be used. Before that, each panel of the dashboard shows something.
func faultsFire(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.traffic()
	w.awaitHealth()
	w.panelsShowSomething()

	w.plantStale()
	w.badEvents()
	w.badRows()
	w.guessTokens()
	w.writeTokens("nonsense")
	w.poison()
	leave := w.joinWrongly(w.redis.Client(t))
	w.firing("FreshetRefusedLogins", "FreshetFileUnusable", "FreshetDeadLettersOpen", "FreshetDeadLetterStorm", "FreshetDatasetPaused",
		"FreshetOutboxDeadRows", "FreshetOutboxUnknownDataset", "FreshetOutboxBehind", "FreshetEntriesStale", "FreshetVersionConflicts",
		"FreshetInvalidationsUnreadable", "FreshetDegraded", "FreshetNodesUnready", "FreshetNodesStray")
	leave()
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
	w.manyEvents()
	w.firing("FreshetWaiting", "FreshetLagging", "FreshetCountsStale")
	w.awaitQuery("max(freshet_lag_seconds) > 5") // later than the target
	w.mysqlLink.Lead(testenv.MySQL(t).Addr)
	w.firing("FreshetFreshnessBurnsFast", "FreshetFreshnessBurnsSlowly")
	w.awaitHealth()

	w.worker.Kill(t)
	w.relay.Kill(t)
	w.firing("FreshetDown", "FreshetWithoutWorker", "FreshetOutboxWithoutRelay")
	w.startWorker()
	w.relay = w.startRelay("r1")
	w.awaitHealth()
	w.leave()
}

// newWatched starts everything; env are further settings.
func newWatched(t *testing.T, env ...string) *watched {
	t.Helper()
	path, haproxy := program(t, "prometheus"), program(t, "haproxy")
	files := map[string]string{"items.json": itemSchema, "items.yaml": fmt.Sprintf(itemDataset, testenv.Kafka(t).Topic(t))}
	w := &watched{world: newWorldOn(t, servers{redis: testenv.StartRedis(t, testenv.RedisOptions{}), cleanup: "delete"}, files)} // its nodes alone may stray
	w.env = append(w.env, env...)
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
	w.startWorker()
	w.relay = w.startRelay("r1")
	w.admin = testenv.StartProcess(t, "admin", w.linked("admin", "--admin-listen", "127.0.0.1:0"))
	w.adminAddr = listening(t, w.admin)
	serves(t, w.adminAddr)
	w.serveNodes(haproxy)
	w.startPrometheus(path, m[1])
	return w
}

// startWorker starts a worker at its address.
func (w *watched) startWorker() {
	w.t.Helper()
	w.worker = testenv.StartProcess(w.t, "worker", w.linked("worker", "--worker-id", "w1"))
}

// linked is a command whose ways to MySQL and Redis are links.
func (w *watched) linked(args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := w.command(context.Background(), args...)
	for _, kv := range slices.Clone(cmd.Env) {
		if text, ok := strings.CutPrefix(kv, "FRESHET_MYSQL__DSN="); ok {
			dsn, err := mysql.ParseDSN(text)
			if err != nil {
				w.t.Fatal(err)
			}
			dsn.Net, dsn.Addr = "tcp", w.mysqlLink.Addr
			cmd.Env = append(cmd.Env, "FRESHET_MYSQL__DSN="+dsn.FormatDSN())
		}
		if strings.HasPrefix(kv, "FRESHET_REDIS__URL=") && args[0] == "worker" {
			cmd.Env = append(cmd.Env, strings.Replace(kv, w.redis.Addr, w.redisLink.Addr, 1))
		}
	}
	return cmd
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
		{`(?m)^( +for:) \w+$`, "$1 1s"}, {`\[\d+[mh]\]`, "[10s]"}, {`(_seconds\)?) > \d+`, "$1 > 3"}, {`time\(\) - \d+`, "time() - 30"},
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

// eventually asks a few times a second: the machine has more to do, and Prometheus learns nothing new in between.
func (w *watched) eventually(cond func(context.Context) error) {
	w.t.Helper()
	next := time.NewTicker(200 * time.Millisecond)
	defer next.Stop()
	testenv.Eventually(w.t, alertLimit, func(ctx context.Context) error {
		err := cond(ctx)
		if err != nil {
			<-next.C
		}
		return err
	})
}

// awaitQuery waits until a query returns something.
func (w *watched) awaitQuery(expr string) {
	w.t.Helper()
	w.eventually(func(ctx context.Context) error {
		a, err := w.query(ctx, expr)
		if err == nil && len(a.Data.Result) == 0 {
			err = fmt.Errorf("nothing answers %s", expr)
		}
		return err
	})
}

// firing waits until each of the alerts has fired, not necessarily at one time: some end by themselves.
func (w *watched) firing(want ...string) {
	w.t.Helper()
	began, seen := time.Now(), map[string]bool{}
	w.eventually(func(ctx context.Context) error {
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
	w.eventually(func(ctx context.Context) error {
		names, err := w.alerts(ctx)
		if err != nil || len(names) > 0 {
			return fmt.Errorf("%v fire, %w", names, err)
		}
		up, err := w.query(ctx, "up == 1")
		if err != nil || len(up.Data.Result) != processes {
			return fmt.Errorf("%d of %d processes are scraped: %v, %w", len(up.Data.Result), processes, up.Data.Result, err)
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
			w.eventually(func(ctx context.Context) error {
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
