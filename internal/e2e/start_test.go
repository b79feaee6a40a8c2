package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// readiness is an answer of /readyz.
type readiness struct {
	status int
	Why    []string
}

func fetch(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// readies asks a listener until cond returns nil.
func readies(t *testing.T, url string, cond func(readiness) error) {
	t.Helper()
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		status, body, err := fetch(ctx, url)
		if err != nil {
			return err
		}
		r := readiness{status: status}
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return fmt.Errorf("%d %s: %w", status, body, err)
		}
		return cond(r)
	})
}

// waitsFor wants a process that is not ready for a reason that has all the words.
func waitsFor(words ...string) func(readiness) error {
	return says(http.StatusServiceUnavailable, words)
}

// isDegraded wants a process that is ready all the same.
func isDegraded(words ...string) func(readiness) error { return says(http.StatusOK, words) }

func says(status int, words []string) func(readiness) error {
	return func(r readiness) error {
		for _, why := range r.Why {
			all := true
			for _, word := range words {
				all = all && strings.Contains(why, word)
			}
			if all && r.status == status {
				return nil
			}
		}
		return fmt.Errorf("want %q, got %d %q", words, r.status, r.Why)
	}
}

func isReady(r readiness) error {
	if r.status != http.StatusOK {
		return fmt.Errorf("not ready: %q", r.Why)
	}
	return nil
}

// health returns the address of a worker's own listener.
func health(t *testing.T, p *testenv.Process) (url string) {
	t.Helper()
	address := regexp.MustCompile(`msg=listening .*component=worker address=(\S+)`)
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		log, err := os.ReadFile(p.LogFile())
		if err != nil {
			return err
		}
		select {
		case <-p.Done():
			return errors.New("it has ended")
		default:
		}
		m := address.FindSubmatch(log)
		if m == nil {
			return errors.New("it does not listen yet")
		}
		url = "http://" + string(m[1])
		return nil
	})
	return url
}

// startWorld has servers of its own that a test may stop, and a database user whose password it may change.
func startWorld(t *testing.T) (w *world, my *testenv.MySQLServer, exec func(string)) {
	t.Helper()
	my = testenv.StartMySQL(t, testenv.MySQLOptions{})
	rs := testenv.StartRedis(t, testenv.RedisOptions{Appendfsync: "always"})
	w = newWorldOn(t, servers{redis: rs, mysql: my}, map[string]string{"items.json": itemSchema, "items.yaml": fmt.Sprintf(itemDataset, testenv.Kafka(t).Topic(t))})
	w.db.SetMaxIdleConns(0) // what is idle when the server ends cannot be closed properly
	exec = func(stmt string) {
		t.Helper()
		if _, err := w.db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	dsn, err := mysql.ParseDSN(w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	exec("CREATE USER worker@'127.0.0.1' IDENTIFIED BY 'right'")
	exec("GRANT ALL ON *.* TO worker@'127.0.0.1'")
	w.env = []string{"FRESHET_MYSQL__DSN=worker:right@tcp(" + my.Addr + ")/" + dsn.DBName}
	return w, my, exec
}

// flows proves that a change passes through every tier.
func (w *world) flows(version int64) {
	w.t.Helper()
	tok, err := w.producer().Publish(w.t.Context(), schemas.Event{
		Dataset: "items", Key: "a", Op: schemas.Upsert, Version: version, Data: fmt.Appendf(nil, `{"id":"a","n":%d,"body":"x"}`, version),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.seen(w.node(fmt.Sprintf("n%d", version)).Node, tok)
}

// Servers that are away when a process starts are waited for: its listeners answer, and say what is missing.
func TestStartWaitsForServersThatAreAway(t *testing.T) {
	w, my, _ := startWorld(t)
	my.Kill(t)
	w.redis.Kill(t)
	p, api := w.startServe("w1")
	own := health(t, p)
	readies(t, own+"/readyz", waitsFor("mysql: open the replica:", "refused"))
	readies(t, own+"/readyz", waitsFor("redis: check the lanes:", "refused"))
	readies(t, api+"/readyz?role=admin", waitsFor("mysql: open the replica of the admin API:", "refused"))
	readies(t, api+"/readyz?role=worker", waitsFor("redis: check the lanes:", "refused"))
	for url, want := range map[string]int{
		own + "/livez": http.StatusOK, own + "/metrics": http.StatusOK, api + "/livez": http.StatusOK, api + "/metrics": http.StatusOK,
		api + "/openapi.json": http.StatusOK, api + "/v1/datasets": http.StatusServiceUnavailable, api + "/v1/lag": http.StatusServiceUnavailable,
	} {
		status, body, err := fetch(t.Context(), url)
		if err != nil || status != want {
			t.Errorf("%s: %d, %v, want %d\n%.200s", url, status, err, want, body)
		}
		if strings.HasSuffix(url, "/metrics") && !regexp.MustCompile(`freshet_waiting_seconds\{component="worker",server="redis"\} [0-9.e-]*[1-9]`).MatchString(body) {
			t.Errorf("%s has nothing of what is waited for", url)
		}
	}
	w.redis.Restart(t)
	my.Restart(t)
	readies(t, own+"/readyz", isReady)
	readies(t, api+"/readyz", isReady)
	w.flows(1)
	if status, body, err := fetch(t.Context(), api+"/v1/lag"); err != nil || status != http.StatusOK {
		t.Errorf("lag: %d, %v\n%.200s", status, err, body)
	}
}

// What an operator can correct at the servers is said in words, and the worker begins once it is corrected.
func TestStartSaysWhatIsWrongInWords(t *testing.T) {
	w, _, exec := startWorld(t)
	rdb := w.redis.Client(t)
	acl := func(rules ...any) {
		t.Helper()
		if err := rdb.Do(t.Context(), append([]any{"ACL", "SETUSER", "worker", "on", "~*", "&*"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	acl(">right", "+@all", "-info")
	exec("ALTER USER worker@'127.0.0.1' IDENTIFIED BY 'other'")
	w.env = append(w.env, "FRESHET_REDIS__URL=redis://worker:wrong@"+w.redis.Addr+"/0")
	own := health(t, w.startWorker())
	readies(t, own+"/readyz", waitsFor("mysql: open the replica:", "mysql error 1045: access denied; check user, password and grants"))
	readies(t, own+"/readyz", waitsFor("redis: check the lanes:", "correct user and password of Redis"))
	acl(">wrong")
	readies(t, own+"/readyz", waitsFor("redis: check the lanes:", "ACL SETUSER"))
	acl("+@all")
	exec("ALTER USER worker@'127.0.0.1' IDENTIFIED BY 'right'")
	exec("REVOKE ALL PRIVILEGES ON *.* FROM worker@'127.0.0.1'")
	readies(t, own+"/readyz", waitsFor("mysql: open the replica:", "access denied"))
	exec("GRANT ALL ON *.* TO worker@'127.0.0.1'")
	readies(t, own+"/readyz", isReady)
	w.flows(1)
}

// Limits of the account are said in words too.
func TestStartSaysWhichLimitOfTheAccountIsReached(t *testing.T) {
	w, _, exec := startWorld(t)
	exec("ALTER USER worker@'127.0.0.1' ACCOUNT LOCK")
	own := health(t, w.startWorker())
	readies(t, own+"/readyz", waitsFor("mysql: open the replica:", "the account is locked"))
	exec("ALTER USER worker@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1 ACCOUNT UNLOCK")
	readies(t, own+"/readyz", waitsFor("mysql: open the replica:", "mysql error 1226: the server has no connection left for this account"))
	exec("ALTER USER worker@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")
	readies(t, own+"/readyz", isReady)
}

// With --fail-fast each of these ends the process, with the words of readiness; and a configuration that nothing at the servers can
// heal ends it always.
func TestStartFailsFast(t *testing.T) {
	w, my, exec := startWorld(t)
	ends := func(name, want string, args ...string) {
		t.Helper()
		if _, stderr, code := w.run("", args...); code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, want %q in\n%s", name, code, want, stderr)
		}
	}
	exec("ALTER USER worker@'127.0.0.1' IDENTIFIED BY 'other'")
	for _, command := range []string{"worker", "serve", "admin"} {
		args := []string{command, "--fail-fast"}
		if command != "worker" {
			args = append(args, "--admin-listen", "127.0.0.1:0")
		}
		ends(command+" with a wrong password", "mysql error 1045: access denied; check user, password and grants", args...)
	}
	exec("ALTER USER worker@'127.0.0.1' IDENTIFIED BY 'right'")
	ends("worker without Kafka", "127.0.0.1:1", "worker", "--fail-fast", "--kafka-brokers", "127.0.0.1:1")
	w.redis.Kill(t)
	ends("worker without Redis", "check redis:", "worker", "--fail-fast")
	my.Kill(t)
	ends("worker without MySQL", "refused", "worker", "--fail-fast")
	ends("worker with a URL that cannot be parsed", "redis.mode is", "worker", "--redis-mode", "odd")
	ends("worker with a folder without datasets", "dataset", "worker", "--datasets", t.TempDir())
}
