package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// serve starts worker and admin API in one process, and returns the API's address once it serves.
func (w *world) serve(name string) (*testenv.Process, string) {
	w.t.Helper()
	p, url := w.startServe(name)
	serves(w.t, url)
	return p, url
}

// startServe is serve without the wait for what the API needs.
func (w *world) startServe(name string) (*testenv.Process, string) {
	w.t.Helper()
	cmd := w.command(context.Background(), "serve", "--worker-id", name, "--admin-listen", "127.0.0.1:0")
	p := testenv.StartProcess(w.t, name, cmd)
	return p, listening(w.t, p)
}

// api starts an admin API in a process of its own, once, and returns its address.
func (w *world) api() string {
	w.t.Helper()
	if w.apiURL == "" {
		w.admin = testenv.StartProcess(w.t, "admin", w.command(context.Background(), "admin", "--admin-listen", "127.0.0.1:0"))
		w.apiURL = listening(w.t, w.admin)
		serves(w.t, w.apiURL)
	}
	return w.apiURL
}

// ask runs a command against the API and reads its JSON.
func ask[T any](w *world, url string, wantCode int, args ...string) (out T) {
	w.t.Helper()
	stdout, stderr, code := w.run("", append(args, "--json", "--client-url", url)...)
	if code != wantCode {
		w.t.Fatalf("freshet %v: exit code %d, want %d\n%s%s", args, code, wantCode, stdout, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		w.t.Fatalf("freshet %v: %v\n%s", args, err, stdout)
	}
	return out
}

// One record is published over HTTP, looked at on every tier, damaged, and replayed: by the commands that a person uses.
func TestOperating(t *testing.T) {
	w := itemWorld(t)
	_, url := w.serve("w1")
	n := w.node("n1")
	body := `{"specversion":"1.0","id":"e1","source":"//shop","type":"io.freshet.row.upsert.v1","subject":"items/a","partitionkey":"a","sequence":"7","data":{"id":"a","n":7,"body":"x"}}`
	tok := w.post(url+"/v1/events", "application/cloudevents+json", body)
	w.seen(n.Node, tok)
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		// A node may refuse to keep one fill, so it is asked each time.
		if v, err := n.items.Get(ctx, "a"); err != nil || v.N != 7 {
			return fmt.Errorf("node reads %+v, %w", v, err)
		}
		r := ask[api.Record](w, url, 0, "inspect", "items", "a")
		if len(r.Nodes) != 1 || !r.Nodes[0].Served || r.Nodes[0].Version != 7 || r.Row == nil || r.Row.Version != 7 || r.Shared == nil || r.Shared.Version != 7 || !r.Fresh {
			return fmt.Errorf("inspected: %+v", r)
		}
		return nil
	})
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		lag := ask[struct{ Items []api.Partition }](w, url, 0, "lag")
		for _, p := range lag.Items {
			if p.Owner != "w1" || !p.Alive || p.Records != 0 {
				return fmt.Errorf("partition: %+v", p)
			}
		}
		if len(lag.Items) != 4 {
			return fmt.Errorf("%d partitions", len(lag.Items))
		}
		return nil
	})
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		nodes := ask[struct {
			Nodes   []api.Node
			Workers []api.WorkerState
		}](w, url, 0, "nodes")
		if len(nodes.Nodes) != 1 || nodes.Nodes[0].ID != "n1" || nodes.Nodes[0].Suspect || len(nodes.Workers) != 1 || !nodes.Workers[0].Alive {
			return fmt.Errorf("nodes: %+v", nodes)
		}
		return nil
	})
	ask[map[string]any](w, url, 0, "nodes", "flush", "n1", "--reason", "a test")
	if f := n.Stats().Lanes[0].Flushes["asked"]; f != 1 {
		t.Errorf("node counted %d flushes that were asked for", f)
	}

	w.exec("UPDATE items SET n = 1, _version = 1 WHERE id = 'a'")
	if r := ask[api.Record](w, url, 1, "inspect", "items", "a"); r.Fresh || !strings.Contains(r.Verdict, "replay this key") {
		t.Errorf("after damage: %+v", r)
	}
	done := ask[api.Replay](w, url, 0, "replay", "start", "items", "--key", "a", "--apply", "--watch")
	if done.State != "done" || done.Total.Applied != 1 {
		t.Errorf("replay: %+v", done)
	}
	w.reaches(7, "SELECT _version FROM items WHERE id = 'a'")
	if r := ask[api.Record](w, url, 0, "inspect", "items", "a"); !r.Fresh {
		t.Errorf("after the replay: %+v", r)
	}
	if got := w.number1("SELECT COUNT(*) FROM freshet_audit WHERE action = 'start-replay' AND outcome = 202"); got != 1 {
		t.Errorf("audit has %d ends of the replay's start", got)
	}
}

func itemWorld(t *testing.T) *world {
	t.Helper()
	ks := testenv.Kafka(t)
	return newWorld(t, testenv.Redis(t), map[string]string{"items.json": itemSchema, "items.yaml": fmt.Sprintf(itemDataset, ks.Topic(t))})
}

func (w *world) number1(query string) int {
	w.t.Helper()
	n, err := w.number(w.t.Context(), query)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// post publishes over HTTP and returns the token.
func (w *world) post(url, contentType, body string) schemas.Token {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var out struct {
		Token  schemas.Token `json:"token"`
		Detail string        `json:"detail"`
	}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil || res.StatusCode != 202 {
		w.t.Fatalf("publish over HTTP: %d %s %v", res.StatusCode, out.Detail, err)
	}
	return out.Token
}

// A replay outlives the workers that run it, and live traffic continues meanwhile.
func TestReplaySurvivesKilledWorkers(t *testing.T) {
	w := itemWorld(t)
	p := w.producer()
	const versions = 6
	keys, rate, kills := 500, 600, 3
	if os.Getenv("FRESHET_TEST_REPLAY") != "" {
		past, _ := replaySize(t)
		keys, rate, kills = max(past/versions, 500), max(past/60, 600), 5
	}
	w.patient(keys * versions)
	for v := int64(1); v <= versions; v++ {
		for from := 0; from < keys; from += 1000 {
			var evs []schemas.Event
			for k := from; k < min(from+1000, keys); k++ {
				evs = append(evs, upsert("items", fmt.Sprintf("k%d", k), v, "b"))
			}
			publish(t, p, evs...)
		}
	}
	first := w.startWorker()
	w.reaches(keys, "SELECT COUNT(*) FROM items WHERE _version = 6")
	w.exec("UPDATE items SET _version = 1, n = 1 WHERE id LIKE '%7'")
	w.exec("DELETE FROM items WHERE id LIKE '%3'")
	url := w.api()
	job := ask[api.Replay](w, url, 0, "replay", "start", "items", "--apply", "--rate", strconv.Itoa(rate))
	began := time.Now()
	workers := []*testenv.Process{first}
	for kill := range kills {
		var before int64
		testenv.Eventually(t, settleLimit, func(context.Context) error {
			got := ask[api.Replay](w, url, 0, "replay", "status", job.ID)
			if before == 0 {
				before = got.Total.Events + 1
			}
			if got.Total.Events <= before {
				return fmt.Errorf("kill %d: replay stands at %+v", kill, got.Total)
			}
			return nil
		})
		workers[len(workers)-1].Kill(t)
		workers = append(workers, w.startWorker())
		publish(t, p, upsert("items", fmt.Sprintf("live%d", kill), 1, "b"))
	}
	ask[api.Replay](w, url, 0, "replay", "limit", job.ID, "--rate", strconv.Itoa(max(5000, 2*rate)))
	done := ask[api.Replay](w, url, 0, "replay", "watch", job.ID)
	if done.State != "done" || done.Total.Events != int64(keys*versions) || done.Takeovers == 0 {
		t.Errorf("replay ended as %+v, %s, %d takeovers; each event must count once", done.Total, done.State, done.Takeovers)
	}
	took := time.Since(began).Seconds()
	t.Logf("%d events counted of %d, %.3f times each; %d applied; %d takeovers in %d kills; %.1f s, %.0f/s", done.Total.Events, keys*versions,
		float64(done.Total.Events)/float64(keys*versions), done.Total.Applied, done.Takeovers, kills, took, float64(done.Total.Events)/took)
	w.reaches(keys, "SELECT COUNT(*) FROM items WHERE _version = 6 AND n = 6")
	w.reaches(kills, "SELECT COUNT(*) FROM items WHERE id LIKE 'live%'")
	if err := w.admin.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.admin.Done():
		if err := w.admin.Err(); err != nil {
			t.Errorf("the admin API ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the admin API does not end")
	}
}

// listening returns the address that an admin API says it listens on.
// serves waits until an API has what it needs; who has no token learns more from the log.
func serves(t *testing.T, url string) {
	t.Helper()
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		status, body, err := fetch(ctx, url+"/readyz?role=admin")
		if err == nil && strings.Contains(body, "starting") {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
}

func listening(t *testing.T, p *testenv.Process) (url string) {
	t.Helper()
	address := regexp.MustCompile(`msg=listening .*component=admin .*address=(\S+)`)
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		log, err := os.ReadFile(p.LogFile())
		if m := address.FindSubmatch(log); err == nil && m != nil {
			url = "http://" + string(m[1])
			return nil
		}
		return fmt.Errorf("it does not listen yet")
	})
	return url
}
