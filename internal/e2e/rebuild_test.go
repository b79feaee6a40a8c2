package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// newRebuildCampaign is a campaign without the triggers that watch the rows: they would stay with the previous table.
func newRebuildCampaign(t *testing.T) *campaign {
	t.Helper()
	// Workers publish the newest state of a record again into a compacted topic, and a row that was damaged by a greater version
	// counts as that.
	topic := testenv.Kafka(t).Topic(t)
	w := newWorldOn(t, servers{cleanup: "delete", rebuilds: true}, map[string]string{"items.json": itemSchema, "items.yaml": fmt.Sprintf(itemDataset, topic)})
	c := &campaign{world: w, rng: chance(t)}
	c.env = append(c.env, "FRESHET_WORKER__SESSION_TIMEOUT="+faultSession.String(), "FRESHET_LOG__LEVEL=info")
	var err error
	if c.kafkc, err = kafkalog.New(kafkalog.Config{Brokers: c.kafka.Brokers}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kafkc.Close() })
	c.traffic()
	return c
}

// damage does to the replica what no event can fix: rows that are gone, rows that no one published, and rows whose wrong
// content lies above every version that will ever come.
func (c *campaign) damage() {
	c.t.Helper()
	c.reaches(1, "SELECT COUNT(*) >= 100 FROM items")
	for _, stmt := range []string{
		"DELETE FROM items WHERE id LIKE '%3'",
		"UPDATE items SET body = 'damaged', n = -1, _deleted = 0, _version = _version + 1000000 WHERE id LIKE '%5'",
		"UPDATE items SET body = 'damaged', n = -1 WHERE id LIKE '%7'",
		"REPLACE INTO items (id, n, body, _version, _deleted, _at) VALUES ('nobody', 1, 'damaged', 1, 0, 0), ('k9999', 1, 'damaged', 9, 0, 0)",
	} {
		c.exec(stmt)
	}
}

// whole demands that the replica is what was published, and that caches have nothing else.
func (c *campaign) whole() {
	c.t.Helper()
	model, token := c.stopTraffic()
	testenv.Eventually(c.t, healLimit, func(ctx context.Context) error { return c.replicaEquals(ctx, model) })
	for _, n := range c.nodes {
		c.seen(n.Node, token)
	}
	c.stopReading()
	c.cachesEqual(c.t, c.nodes, model)
	if letters := c.count("freshet_dead_letter"); letters != 0 {
		c.t.Errorf("%d dead letters of good events", letters)
	}
	if n := c.number1("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE '%\\_\\_rebuild\\_%'"); n != 0 {
		c.t.Errorf("%d tables of rebuilds were left behind", n)
	}
	testenv.Eventually(c.t, healLimit, func(ctx context.Context) error {
		n, err := c.number(ctx, "SELECT COUNT(*) FROM freshet_meta WHERE name LIKE 'rebuild:%'")
		if err == nil && n > 0 {
			err = fmt.Errorf("%d notes of rebuilds are left", n)
		}
		return err
	})
}

func (c *campaign) olds() int {
	c.t.Helper()
	return c.number1("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE 'items\\_\\_old\\_%'")
}

// A damaged table is rebuilt while traffic continues; nodes that have cached the damage lose it.
func TestRebuildBesideLiveTraffic(t *testing.T) {
	t.Parallel()
	c := newRebuildCampaign(t)
	_, url := c.serve("s1")
	c.startWorker()
	c.join(2)
	c.damage()
	c.progress()

	dry := ask[api.Replay](c.world, url, 0, "replay", "start", "items", "--rebuild", "--watch")
	if dry.State != "done" || dry.Total.Applied == 0 || dry.Total.Applied+dry.Total.Stale != dry.Total.Events {
		t.Errorf("dry run: %s, %+v", dry.State, dry.Total)
	}
	if n := c.number1("SELECT COUNT(*) FROM items WHERE id = 'nobody'"); n != 1 || c.olds() != 0 {
		t.Error("the dry run changed the table")
	}
	if !strings.Contains(dry.Problem, "2 live rows are not in the topic") || strings.HasPrefix(dry.Problem, "0 rows") {
		t.Errorf("the dry run foresees %q", dry.Problem)
	}
	done := ask[api.Replay](c.world, url, 0, "replay", "start", "items", "--rebuild", "--accept-loss", "--apply", "--watch", "--reason", "damaged by hand")
	_, old, _ := strings.Cut(done.Problem, "kept as ")
	if done.State != "done" || c.olds() != 1 || c.number1("SELECT COUNT(*) FROM `"+old+"` WHERE id = 'nobody'") != 1 {
		t.Errorf("rebuild: %s, %q, %d previous tables", done.State, done.Problem, c.olds())
	}
	if n := c.number1("SELECT COUNT(*) FROM items WHERE body = 'damaged'"); n != 0 {
		t.Errorf("%d damaged rows are left", n)
	}
	c.progress()
	c.damage()
	done = ask[api.Replay](c.world, url, 0, "replay", "start", "items", "--rebuild", "--accept-loss", "--drop-old", "--apply", "--watch")
	if done.State != "done" || c.olds() != 1 {
		t.Errorf("rebuild: %s, %q, %d previous tables", done.State, done.Problem, c.olds())
	}
	c.progress()
	c.whole()
	c.shownWell(url)
}

// shownWell waits until lag and inspection show the rebuilt table as they would any other.
func (c *campaign) shownWell(url string) {
	c.t.Helper()
	testenv.Eventually(c.t, settleLimit, func(context.Context) error {
		for _, p := range ask[struct{ Items []api.Partition }](c.world, url, 0, "lag").Items {
			if p.Records != 0 || p.Seconds != 0 || p.Committed != p.End || !p.Alive || p.Paused || p.Error != "" {
				return fmt.Errorf("partition: %+v", p)
			}
		}
		return nil
	})
	var key string
	var version int64
	if err := c.db.QueryRowContext(c.t.Context(), "SELECT id, _version FROM items WHERE _deleted = 0 AND _version > 0 LIMIT 1").Scan(&key, &version); err != nil {
		c.t.Fatal(err)
	}
	r := ask[api.Record](c.world, url, 0, "inspect", "items", key)
	if r.Row == nil || r.Row.Version != version || r.Row.Deleted || !r.Fresh || len(r.Kafka.Events) == 0 || r.Kafka.Committed < r.Kafka.Events[0].Offset {
		c.t.Errorf("inspected after a rebuild: %+v", r)
	}
}

// The worker that rebuilds is killed at every step, and another continues with it.
func TestRebuildSurvivesKilledWorkers(t *testing.T) {
	t.Parallel()
	c := newRebuildCampaign(t)
	c.startChild("", 0)
	c.join(2)
	for _, point := range []string{
		jobs.PointRebuildBegun, jobs.PointRebuildBatch, jobs.PointRebuildHeld, jobs.PointRebuildSwapped, jobs.PointRebuildTold,
	} {
		c.damage()
		job := c.addRebuild()
		nth := int64(1)
		if point == jobs.PointRebuildBatch {
			nth = 3
		}
		victim := c.startChildAs(childConfig{Point: point, Nth: nth, Replays: true})
		victim.awaitPoint(t)
		victim.Kill(t)
		heir := c.startChildAs(childConfig{Replays: true})
		done := c.ended(job)
		if done.State != jobstore.Done || done.Takeovers == 0 {
			t.Errorf("killed at %s: %s %q after %d takeovers", point, done.State, done.Problem, done.Takeovers)
		}
		if n := c.number1("SELECT COUNT(*) FROM items WHERE body = 'damaged'"); n != 0 {
			t.Errorf("killed at %s: %d damaged rows are left", point, n)
		}
		heir.Kill(t)
		c.progress()
	}
	if full() {
		c.wakeUp()
	}
	c.startChildAs(childConfig{Replays: true}) // removes the last note
	c.whole()
}

// wakeUp lets a worker that rebuilds stop while it holds live batches, for longer than the server believes in it;
// another rebuilds, and it wakes up.
func (c *campaign) wakeUp() {
	c.t.Helper()
	c.damage()
	victim := c.startChildAs(childConfig{Point: jobs.PointRebuildHeld, Nth: 1, Freeze: true, Replays: true})
	job := c.addRebuild()
	victim.awaitPoint(c.t)
	victim.Stop(c.t) // it has stopped itself; this waits until the kernel says so
	c.startChildAs(childConfig{Replays: true})
	if done := c.ended(job); done.State != jobstore.Done || done.Takeovers == 0 {
		c.t.Errorf("%s %q after %d takeovers", done.State, done.Problem, done.Takeovers)
	}
	victim.Cont(c.t)
	c.progress()
}

// A rebuild that is cancelled leaves everything as it was.
func TestCancelledRebuildLeavesNothing(t *testing.T) {
	t.Parallel()
	c := newRebuildCampaign(t)
	c.startChild("", 0)
	c.reaches(1, "SELECT COUNT(*) >= 100 FROM items")
	c.exec("REPLACE INTO items (id, n, body, _version, _deleted, _at) VALUES ('nobody', 1, 'mine', 1, 0, 0)")
	job := c.addRebuild()
	victim := c.startChildAs(childConfig{Point: jobs.PointRebuildBatch, Nth: 2, Replays: true})
	victim.awaitPoint(t)
	if err := c.replica.Jobs.Set(t.Context(), job, jobstore.Running, jobstore.Cancelled); err != nil {
		t.Fatal(err)
	}
	victim.Kill(t)
	c.startChildAs(childConfig{Replays: true})
	c.reaches(0, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE 'items\\_\\_%'")
	c.reaches(0, "SELECT COUNT(*) FROM freshet_meta WHERE name LIKE 'rebuild:%'")
	if n := c.number1("SELECT COUNT(*) FROM items WHERE id = 'nobody'"); n != 1 {
		t.Error("the table was changed")
	}
}

// addRebuild makes a replay that rebuilds, as the API does.
func (c *campaign) addRebuild() string {
	c.t.Helper()
	info, err := c.kafkc.Topic(c.t.Context(), c.topic())
	if err != nil {
		c.t.Fatal(err)
	}
	ends, err := c.kafkc.Offsets(c.t.Context(), c.topic())
	if err != nil {
		c.t.Fatal(err)
	}
	j := jobstore.Job{Spec: jobstore.Spec{Dataset: "items", Action: jobstore.ActionRebuild, AcceptLoss: true, Reason: "a test", DropOld: true}, Actor: "test"}
	for n, o := range ends {
		j.Parts = append(j.Parts, jobstore.Part{Source: schemas.SourceName(info.Name, info.ID, n), From: o.First, End: o.LastStable})
	}
	id, _, err := c.replica.Jobs.Add(c.t.Context(), j, "")
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func (c *campaign) ended(id string) (j jobstore.Job) {
	c.t.Helper()
	testenv.Eventually(c.t, healLimit, func(ctx context.Context) (err error) {
		if j, err = c.replica.Jobs.Get(ctx, id); err == nil && j.State.Live() {
			err = fmt.Errorf("rebuild is %s for %s", j.State, time.Since(j.Created).Round(time.Second))
		}
		return err
	})
	return j
}
