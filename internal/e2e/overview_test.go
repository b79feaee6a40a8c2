package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// nodeVar makes this test binary a process that caches: address of Redis, namespace, folder of datasets, id.
const nodeVar = "FRESHET_E2E_NODE"

func nodeChild() (code int, is bool) {
	args := strings.Fields(os.Getenv(nodeVar))
	if len(args) != 4 {
		return 0, false
	}
	set, err := schemas.LoadDatasets(os.DirFS(args[2]))
	if err == nil {
		_, err = invalidation.Join(context.Background(), redis.NewClient(&redis.Options{Addr: args[0]}), invalidation.Config{Namespace: args[1], Datasets: set, ID: args[3]})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	select {} // until it is killed
}

func (w *world) nodeProcess(id string) *testenv.Process {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), nodeVar+"="+strings.Join([]string{w.redis.Addr, w.ns, w.dir, id}, " "))
	return testenv.StartProcess(w.t, "node "+id, cmd)
}

func (w *world) overview(url string) (o api.Overview) {
	w.t.Helper()
	res, err := http.Get(url + "/v1/overview") //nolint:forbidigo // a test's, of a server of its own
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&o); err != nil || res.StatusCode != http.StatusOK {
		w.t.Fatalf("overview: %d %v", res.StatusCode, err)
	}
	return o
}

// health waits until the overview has a problem of the code, or none of it any more, and returns how long that took.
func (w *world) health(url, code string, want bool, wait time.Duration) (p api.Problem, took time.Duration) {
	w.t.Helper()
	began := time.Now()
	testenv.Eventually(w.t, wait, func(context.Context) error {
		o := w.overview(url)
		i := slices.IndexFunc(o.Problems, func(p api.Problem) bool { return p.Code == code })
		if i >= 0 != want {
			return fmt.Errorf("problem %s: want %t; there is %+v", code, want, o.Problems)
		}
		if want {
			p = o.Problems[i]
		}
		return nil
	})
	return p, time.Since(began)
}

// Whatever is frozen, with SIGSTOP, is in the overview's sentence within ten seconds or so, and gone from it once it continues.
func TestOverviewNamesWhatIsFrozen(t *testing.T) {
	ks := testenv.Kafka(t)
	topic := ks.Topic(t)
	my := testenv.StartMySQL(t, testenv.MySQLOptions{})
	w := newWorldOn(t, servers{redis: testenv.StartRedis(t, testenv.RedisOptions{}), mysql: my},
		map[string]string{"items.json": itemSchema, "items.yaml": fmt.Sprintf(itemDataset, topic)})
	t.Cleanup(func() { ks.DeleteTopic(t, schemas.InvalidationTopic(w.ns)) })
	worker, node := w.startWorker(), w.nodeProcess("n1")
	url := listening(t, testenv.StartProcess(t, "admin", w.command(context.Background(), "admin", "--admin-listen", "127.0.0.1:0", "--admin-rate", "10000")))
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		if o := w.overview(url); len(o.Problems) > 0 || o.Counts.Nodes == nil || *o.Counts.Nodes != 1 || *o.Counts.Workers != 1 {
			return fmt.Errorf("of a sound system: %+v, %+v", o.Problems, o.Counts)
		}
		return nil
	})
	for _, c := range []struct {
		name, code, sentence string
		within               time.Duration
		stop, cont           func(testing.TB)
	}{
		{"node", "nodes_silent", "node n1 has reported nothing for", 10 * time.Second, node.Stop, node.Cont},
		{"worker", "worker_silent", "worker w1 has reported nothing for", 10 * time.Second, worker.Stop, worker.Cont},
		{"Redis", "server_away", "Redis does not answer", 10 * time.Second, w.redis.Stop, w.redis.Cont},
		{"MySQL", "server_away", "MySQL does not answer", 10 * time.Second, my.Stop, my.Cont},
	} {
		c.stop(t)
		p, took := w.health(url, c.code, true, settleLimit)
		c.cont(t)
		t.Logf("%s: after %v: %s", c.name, took.Round(time.Millisecond), p.Sentence)
		if !strings.HasPrefix(p.Sentence, c.sentence) || took > c.within {
			t.Errorf("%s: %q after %v", c.name, p.Sentence, took)
		}
		w.health(url, c.code, false, settleLimit)
	}
}

// The doctor and the settings are served by the real binary; no secret is shown.
func TestDoctorAndSettingsOverHTTP(t *testing.T) {
	w := itemWorld(t)
	cmd := w.command(context.Background(), "serve", "--worker-id", "w1", "--admin-listen", "127.0.0.1:0")
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "FRESHET_RELAY__DSN=") }) // there is no outbox to look at
	url := listening(t, testenv.StartProcess(t, "serve", cmd))
	w.node("n1")
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		res, err := http.Post(url+"/v1/doctor", "application/json", strings.NewReader("{}")) //nolint:forbidigo // a test's, of a server of its own
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var d api.Diagnosis
		if err := json.NewDecoder(res.Body).Decode(&d); err != nil || !d.Healthy || !slices.ContainsFunc(d.Findings, func(f api.Finding) bool { return f.Name == "canary" }) {
			return fmt.Errorf("%d %+v, %w", res.StatusCode, d, err)
		}
		return nil
	})
	res, err := http.Get(url + "/v1/settings") //nolint:forbidigo // a test's, of a server of its own
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var about api.About
	if err := json.NewDecoder(res.Body).Decode(&about); err != nil {
		t.Fatal(err)
	}
	values := map[string]api.Setting{}
	for _, s := range about.Settings {
		values[s.Key] = s
	}
	if s := values["mysql.dsn"]; s.Value != "***" || !strings.HasPrefix(s.Origin, "environment ") {
		t.Errorf("mysql.dsn: %+v", s)
	}
	if s := values["namespace"]; s.Value != w.ns {
		t.Errorf("namespace: %+v", s)
	}
	if s := values["admin.listen"]; s.Origin != "flag --admin-listen" {
		t.Errorf("admin.listen: %+v", s)
	}
}
