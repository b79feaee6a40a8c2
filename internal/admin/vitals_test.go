package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
)

// running is a rig whose server runs, so that it samples.
func running(t *testing.T, change func(*admin.Config)) *rig {
	t.Helper()
	r := newRig(t, func(c *admin.Config) {
		c.Listen = "127.0.0.1:0"
		if change != nil {
			change(c)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return r
}

func (r *rig) overview() (o api.Overview) {
	r.t.Helper()
	r.want(http.StatusOK, "viewer", http.MethodGet, "/v1/overview", nil).into(r.t, &o)
	return o
}

// problem waits until the overview has a problem of a code, and returns it.
func (r *rig) problem(code string, wait time.Duration) (found api.Problem) {
	r.t.Helper()
	testenv.Eventually(r.t, wait, func(context.Context) error {
		o := r.overview()
		i := slices.IndexFunc(o.Problems, func(p api.Problem) bool { return p.Code == code })
		if i < 0 {
			return fmt.Errorf("no problem %s in %+v", code, o.Problems)
		}
		found = o.Problems[i]
		return nil
	})
	return found
}

// working announces a worker until the test ends.
func (r *rig) working(state func() api.WorkerState) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- roster.Announce(ctx, r.db, state, r.cfg.Logger) }()
	r.t.Cleanup(func() {
		cancel()
		must(r.t, <-done)
	})
}

func (r *rig) topic() string { return r.datasets.All()[0].Topic }

// Rates are those of the topic and of the positions in MySQL, whichever process moved them; before there are two samples they are absent.
func TestOverviewRatesAndPath(t *testing.T) {
	r := running(t, nil)
	if o := r.overview(); o.Rates.Applied != nil || o.Rates.Published != nil {
		t.Errorf("rates of one look: %+v", o.Rates)
	}
	ctx := t.Context()
	info, err := r.cfg.Kafka.Topic(ctx, r.topic())
	must(t, err)
	var o api.Overview
	n := int64(0)
	testenv.Eventually(t, 40*time.Second, func(context.Context) error {
		r.publish(10, 1+n) // versions grow
		n++
		for p := range info.Partitions { // as workers elsewhere do
			_, err := r.db.Exec("INSERT INTO freshet_position (source, grp, owner, next_offset) VALUES (?, ?, 'w', 0) ON DUPLICATE KEY UPDATE next_offset = next_offset + 3",
				fmt.Sprintf("%s/%s/%d", r.topic(), info.ID, p), r.cfg.Group)
			must(t, err)
		}
		o = r.overview()
		if len(o.Samples) < 3 || o.Rates.Applied == nil || *o.Rates.Applied == 0 || *o.Rates.Published == 0 {
			return fmt.Errorf("samples %d, rates %+v", len(o.Samples), o.Rates)
		}
		return nil
	})
	if o.Rates.Emitted == nil || *o.Rates.Emitted != 0 || o.Rates.Invalidations != nil || o.Rates.HitRatio != nil {
		t.Errorf("no lane moved and no node is there: %+v", o.Rates)
	}
	first := o.Samples[0]
	if first.Applied != nil || first.Backlog == nil || *first.Backlog != 0 {
		t.Errorf("first sample %+v", first)
	}
	if len(o.Path) != 4 || o.Path[1].From != "kafka" || o.Path[1].Backlog == nil || *o.Path[1].Backlog <= 0 || *o.Path[0].Rate != *o.Rates.Published {
		t.Errorf("path %+v", o.Path)
	}
	var later api.Overview
	since := o.Samples[len(o.Samples)-2].At
	r.want(200, "viewer", "GET", "/v1/overview?since="+since.Format(time.RFC3339Nano), nil).into(t, &later)
	if len(later.Samples) == 0 || len(later.Samples) > 2 || !later.Samples[0].At.After(since) {
		t.Errorf("samples since %v: %+v", since, later.Samples)
	}
}

// The sentence says what is wrong, with cause, owner and place.
func TestOverviewSaysWhatWaits(t *testing.T) {
	r := newRig(t, nil)
	if p := r.problem("no_workers", 5*time.Second); p.Level != api.LevelBad {
		t.Errorf("%+v", p)
	}
	since := time.Now().Add(-41 * time.Second).UTC()
	r.publish(2, 1)
	r.working(func() api.WorkerState {
		return api.WorkerState{
			Owner: "w3", Partitions: []api.WorkerPartition{{Topic: r.topic(), Partition: 0}, {Topic: r.topic(), Partition: 1}},
			Degraded: []string{"waiting since " + since.Format(time.RFC3339) + " for mysql: apply batch of topic " + r.topic() + ": mysql error 1213: a deadlock"},
		}
	})
	p := r.problem("partitions_behind", 10*time.Second)
	for _, part := range []string{"of items", "worker w3 waits for MySQL", "a deadlock"} {
		if !strings.Contains(p.Sentence, part) {
			t.Errorf("%q is not in %q", part, p.Sentence)
		}
	}
	if p.Args.Worker != "w3" || p.Args.Dataset != "items" || p.Args.Server != "MySQL" || p.Args.Waits.Code != "server" || p.Args.Waits.Since.Unix() != since.Unix() {
		t.Errorf("args %+v of %q", p.Args, p.Sentence)
	}
	var lag struct{ Items []api.Partition }
	r.want(200, "viewer", "GET", "/v1/lag", nil).into(t, &lag)
	if !slices.ContainsFunc(lag.Items, func(p api.Partition) bool { return p.Waits != nil && p.Waits.Server == "MySQL" && p.Position == -1 }) {
		t.Errorf("lag %+v", lag.Items)
	}
	r.want(200, "operator", "POST", "/v1/datasets/items/pause", map[string]string{"reason": "a rebuild"})
	if o := r.overview(); !slices.ContainsFunc(o.Problems, func(p api.Problem) bool {
		return p.Code == "dataset_paused" && p.Args.Who == "operator-1" && strings.Contains(p.Sentence, "items is paused by operator-1: a rebuild")
	}) || *o.Counts.PausedDatasets != 1 {
		t.Errorf("the pause does not show at once: %+v", o)
	}
}

// A stale copy that a worker's sampler found is the worst of all.
func TestOverviewNamesAStaleRecord(t *testing.T) {
	r := newRig(t, nil)
	seen := report.Stats{Stale: []report.Stale{{Old: report.Old{Tier: report.TierLocal, Node: "n1", Version: 3}, Dataset: "items", Key: "k1", Replica: 5, Since: time.Now().Add(-time.Minute)}}}
	r.working(func() api.WorkerState { return api.WorkerState{Owner: "w", Consistency: &seen} })
	p := r.problem("stale_records", 10*time.Second)
	if p.Level != api.LevelBad || p.Args.Key != "k1" || p.Args.Node != "n1" || !strings.Contains(p.Sentence, "items/k1 is stale in node n1") {
		t.Errorf("%+v", p)
	}
}

// Letters and jobs are counted.
func TestOverviewCounts(t *testing.T) {
	r := newRig(t, nil)
	if o := r.overview(); o.Counts.Letters == nil || *o.Counts.Letters != 0 || *o.Counts.Partitions != 2 || *o.Counts.RunningJobs != 0 {
		t.Errorf("%+v", o.Counts)
	}
}

// A node that stops without an end is mentioned while its last state is there, and after that is gone; one that ends is not.
func TestOverviewNamesASilentNode(t *testing.T) {
	r := running(t, nil)
	rdb := r.redis.Client(t)
	join := func(id string) *invalidation.Node {
		n, err := invalidation.Join(t.Context(), rdb, invalidation.Config{Namespace: r.cfg.Namespace, ID: id, Datasets: r.datasets, JoinWait: 1})
		must(t, err)
		return n
	}
	n := join("leaves")
	testenv.Eventually(t, 10*time.Second, func(context.Context) error {
		if o := r.overview(); o.Counts.Nodes == nil || *o.Counts.Nodes != 1 {
			return fmt.Errorf("counts %+v", o.Counts)
		}
		return nil
	})
	must(t, n.Close())
	state := func(ttl time.Duration) { // what a node that was suspended has left behind
		must(t, rdb.Set(t.Context(), "{fr:"+r.cfg.Namespace+":nodes}:n:frozen", `{"ID":"frozen","Lanes":[]}`, ttl).Err())
		must(t, rdb.SAdd(t.Context(), "{fr:"+r.cfg.Namespace+":nodes}:ids", "frozen").Err())
	}
	state(invalidation.PresenceTTL)
	began := time.Now()
	p := r.problem("nodes_silent", 15*time.Second)
	if took := time.Since(began); took < 6*time.Second || took > 11*time.Second {
		t.Errorf("it took %v", took)
	}
	if p.Args.Node != "frozen" || p.Args.Count != 1 || !strings.Contains(p.Sentence, "node frozen has reported nothing for") {
		t.Errorf("%+v", p)
	}
	testenv.Eventually(t, 15*time.Second, func(context.Context) error {
		o := r.overview()
		if *o.Counts.Nodes != 0 || *o.Counts.SilentNodes != 1 || *o.Problems[len(o.Problems)-1].Args.Seconds < 10 {
			return fmt.Errorf("counts %+v, problems %+v", o.Counts, o.Problems)
		}
		return nil
	})
}
