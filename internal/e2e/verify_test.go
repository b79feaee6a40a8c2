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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// verify runs freshet verify over every row; its exit code must agree with what it found.
func (w *world) verify(args ...string) consistency.Report {
	w.t.Helper()
	stdout, stderr, code := w.run("", append([]string{"verify", "--json", "--records", "0"}, args...)...)
	var r consistency.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		w.t.Fatalf("verify: %v, exit code %d\n%s%s", err, code, stdout, stderr)
	}
	if len(r.Stale)+len(r.Ahead) > 0 != (code == 1) || code > 1 {
		w.t.Errorf("verify: exit code %d with %+v\n%s", code, r, stderr)
	}
	return r
}

// spoil puts an older version of a person into the shared tier by hand.
func (p *people) spoil(id int64) {
	p.t.Helper()
	p.plant(id, p.version[id]-1)
}

// plant puts any version of a person into the shared tier by hand.
func (p *people) plant(id, version int64) {
	p.t.Helper()
	p.plantEntry(p.rdb, peopleLanes, fmt.Sprintf("p:%d", id), version, fmt.Sprintf(`{"id":%d}`, id))
}

// plantEntry puts any version of a cached value into the shared tier by hand.
func (w *world) plantEntry(rdb redis.UniversalClient, lanes int, name string, version int64, data string) {
	w.t.Helper()
	k := lane.KeysOf(w.ns, lane.Of(name, lanes))
	testenv.Eventually(w.t, settleLimit, func(ctx context.Context) error { // a master may just have changed
		m, err := rdb.HMGet(ctx, k.Meta, "root", "seq").Result()
		if err != nil {
			return fmt.Errorf("read lane: %w", err)
		}
		b := fmt.Sprintf("V %d %s %s 99999999999999 0\n%s", version, m[0], m[1], data)
		return rdb.Set(ctx, k.Value(name), b, time.Hour).Err()
	})
}

// spoilLocal puts an older version into one node's memory by hand, and leaves the shared tier as it was.
func (p *people) spoilLocal(n *phone, id int64) {
	p.t.Helper()
	name := fmt.Sprintf("p:%d", id)
	testenv.Eventually(p.t, settleLimit, func(ctx context.Context) error {
		p.spoil(id)
		if _, err := invalidation.Ask(ctx, p.rdb, p.ns, invalidation.Question{Node: n.Stats().ID, Flush: true}, 1, time.Second); err != nil {
			return fmt.Errorf("flush node: %w", err)
		}
		if _, err := n.byID.Get(ctx, fmt.Sprint(id)); err != nil && !errors.Is(err, invalidation.ErrNotFound) {
			return fmt.Errorf("read: %w", err)
		}
		if l, ok := n.byID.Peek(fmt.Sprint(id)); !ok || l.Version != p.version[id]-1 {
			return fmt.Errorf("the node holds version %d, %t", l.Version, ok)
		}
		return p.rdb.Del(ctx, lane.KeysOf(p.ns, lane.Of(name, peopleLanes)).Value(name)).Err()
	})
}

// plantedIsSeen spoils a copy on each tier and wants freshet verify to find them: it was not blind when it found nothing.
func (p *people) plantedIsSeen(nodes []*phone) {
	p.t.Helper()
	const shared, local = 1, 2
	for _, id := range []int64{shared, local} { // records with something older than what they are
		for p.version[id] < 2 {
			p.publish(person{id, "", 1}, schemas.Upsert)
		}
	}
	for _, n := range nodes {
		p.wait(n)
	}
	node := nodes[1].Stats().ID
	testenv.Eventually(p.t, settleLimit, func(context.Context) error { // a repair that is not over fixes what is planted too early
		p.spoilLocal(nodes[1], local)
		p.spoil(shared)
		found := p.verify("--wait", "100ms").Stale
		sees := func(tier, node, key string) bool {
			return slices.ContainsFunc(found, func(s report.Stale) bool {
				return s.Tier == tier && s.Node == node && s.Key == key && s.Dataset == "people"
			})
		}
		if !sees("shared", "", "1") || !sees("local", node, "2") {
			return fmt.Errorf("of what was planted freshet verify finds only %+v", found)
		}
		return nil
	})
}

// The worker itself finds what was planted, and says so in its metrics, its log, the API's state and to freshet doctor.
func TestWorkerSeesAStaleEntry(t *testing.T) {
	t.Parallel()
	p := newPeople(t, "FRESHET_WORKER__SAMPLES=20", "FRESHET_WORKER__STALE_AFTER=12s")
	worker := p.startWorker()
	nodes := []*phone{p.phone("n1"), p.phone("n2")}
	for range 200 {
		p.change()
		for _, n := range nodes {
			n.read(t.Context())
		}
	}
	for _, n := range nodes {
		p.wait(n)
	}
	if got := p.doctor("--no-canary"); has(got, "entry-stale") {
		t.Errorf("of a sound system: %+v", got)
	}
	for p.version[1] < 2 {
		p.publish(person{1, "", 1}, schemas.Upsert)
	}
	p.wait(nodes[0])
	p.spoil(1)
	for p.version[2] < 1 {
		p.publish(person{2, "", 1}, schemas.Upsert)
	}
	p.wait(nodes[0])
	p.plant(2, p.version[2]+1_000_000)
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		got := p.doctor("--no-canary")
		for where, name := range map[string]string{"people 1": "entry-stale", "people 2": "entry-ahead"} {
			if !slices.ContainsFunc(got, func(f finding) bool { return f.Name == name && f.Bad && f.Where == where }) {
				return fmt.Errorf("the doctor finds no %s: %+v", name, got)
			}
		}
		return nil
	})
	text, err := os.ReadFile(worker.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	log := string(text)
	address := regexp.MustCompile(`listening.* address=(\S+)`).FindStringSubmatch(log)
	if address == nil {
		t.Fatalf("the worker does not say where it listens:\n%s", log)
	}
	res, err := (&http.Client{Timeout: settleLimit}).Get("http://" + address[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	metrics, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`freshet_consistency_alarms_total\{tier="shared"\} [1-9]`).Match(metrics) ||
		!regexp.MustCompile(`freshet_consistency_checks_total\{tier="local",window="12"\} [1-9]`).Match(metrics) {
		t.Errorf("metrics:\n%s", strings.Join(regexp.MustCompile(`(?m)^freshet_consistency.*$`).FindAllString(string(metrics), -1), "\n"))
	}
	if !strings.Contains(log, "older than the replica") {
		t.Errorf("the log has no word of it:\n%s", log)
	}
}
