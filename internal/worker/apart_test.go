package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// What blocks one dataset must not block the others, although there are fewer writers than partitions.

func TestRefusedDatasetLetsGoOfItsWriter(t *testing.T) {
	b := newBed(t, servers{})
	// An error that no table of errors knows: neither the record's fault nor, for sure, the dataset's.
	b.exec("CREATE TRIGGER refuse BEFORE INSERT ON items FOR EACH ROW SIGNAL SQLSTATE '45000'")
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.Consumer.Writers, c.PauseAfter = 1, 300*time.Millisecond
	})
	b.put("items", "k", 1)
	awaitReason(t, w, "dataset items is paused", "mysql error 1644")
	b.put("others", "k", 1)
	b.awaitRow("others", "k", 1)
	b.exec("DROP TRIGGER refuse")
	b.awaitRow("items", "k", 1)
	b.awaitDone("items")
	awaitReady(t, w)
	if n := b.count("freshet_dead_letter"); n != 0 {
		t.Errorf("%d dead letters of an error of no row", n)
	}
}

// The dead topic of items is missing: once too many of its letters wait for their copies, nothing more of items is applied.
func TestUncopiedLettersLeaveOtherDatasetsAlone(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.Consumer.Writers, c.PauseAfter, c.DeadTopics = 1, 300*time.Millisecond, true
	})
	const enough = 4 // batches, each with a letter
	for i := range enough {
		b.poison("items", "bad")
		testenv.Eventually(t, patience, func(context.Context) error {
			if n := b.count("freshet_dead_letter"); n != i+1 {
				return fmt.Errorf("%d letters, want %d", n, i+1)
			}
			return nil
		})
	}
	b.put("items", "k", 1)
	awaitReason(t, w, "copy dead letters to topic "+b.dataset("items").Topic+".dead")
	b.put("others", "k", 1)
	b.awaitRow("others", "k", 1)
	awaitReason(t, w, "dataset items is paused", "dead letters")
	if v := b.version(t.Context(), "items", "k"); v != 0 {
		t.Errorf("items was applied to version %d with %d batches of uncopied letters", v, enough)
	}
	b.kafka.CreateTopicNamed(t, worker.DeadTopic(b.dataset("items").Topic), 1)
	b.awaitRow("items", "k", 1)
	b.awaitDone("items")
	awaitReady(t, w)
}

func TestSilentLanesLeaveDatasetsWithoutCacheAlone(t *testing.T) {
	rs := testenv.StartRedis(t, testenv.RedisOptions{})
	b := newBed(t, servers{redis: rs})
	set := b.mixed()
	names := schemas.InvalidationTopic(b.ns)
	b.kafka.CreateTopicNamed(t, names, 1)
	t.Cleanup(func() { b.kafka.DeleteTopic(t, names) })
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.Datasets, c.Consumer.Writers, c.PauseAfter, c.Namespace = set, 1, 300*time.Millisecond, b.ns
	})
	b.put("items", "k", 1)
	b.awaitDone("items")
	rs.Stop(t)
	awaitReason(t, w, "redis: check lanes") // the last answer is too old by now
	b.put("items", "k", 2)
	awaitReason(t, w, "dataset items is paused", "lanes")
	rec, err := schemas.Invalidation{Names: []string{"items:k"}}.Encode("1", "//test")
	if err != nil {
		t.Fatal(err)
	}
	b.produce(names, 0, rec.Key, rec.Value, rec.Headers)
	awaitReason(t, w, "topic "+names+" is paused", "lanes")
	b.put("others", "k", 1)
	b.awaitRow("others", "k", 1)
	if v := b.version(context.WithoutCancel(t.Context()), "items", "k"); v != 1 {
		t.Errorf("items k has version %d: the worker ran ahead of lanes that do not answer", v)
	}
	rs.Cont(t)
	b.awaitRow("items", "k", 2)
	b.awaitDone("items")
	awaitReady(t, w)
}

func TestWaitingEmissionLeavesOtherRepairsAlone(t *testing.T) {
	b := newBed(t, servers{})
	stuck := make(chan struct{})
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.Emitter = &waitingEmitter{Emitter: c.Emitter, source: b.source("items"), until: stuck}
	})
	b.putMany("others", 10)
	b.awaitDone("others")
	b.put("items", "k", 1)
	b.awaitRow("items", "k", 1) // its emission waits, or will
	gone := b.hold("others", "k7", 0)
	b.rdb.HSet(t.Context(), b.keys().Meta, "wm:"+b.source("others"), 4)
	b.awaitDone("others")
	if !gone() {
		t.Error("the watermark is complete, and an entry of the range survived")
	}
	close(stuck)
	b.awaitDone("items")
	awaitReady(t, w)
}

// waitingEmitter answers nothing of one source until then, or nothing but emissions that name something.
type waitingEmitter struct {
	worker.Emitter

	source     string
	watermarks bool
	until      chan struct{}
}

func (e *waitingEmitter) Emit(ctx context.Context, n int, root string, start int64, em lane.Emission) (lane.Reply, error) {
	if em.Source == e.source && (!e.watermarks || len(em.Items)+len(em.Tags) == 0) {
		select {
		case <-e.until:
		case <-ctx.Done():
			return lane.Reply{}, context.Cause(ctx)
		}
	}
	return e.Emitter.Emit(ctx, n, root, start, em)
}

// A lane that does not answer when a watermark is moved blocks the commit of that partition alone.
func TestWaitingWatermarkLeavesOtherCommitsAlone(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	stuck := make(chan struct{})
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.Emitter = &waitingEmitter{Emitter: c.Emitter, source: b.source("items"), watermarks: true, until: stuck}
	})
	b.produce(b.dataset("items").Topic, 0, nil, []byte("{"), nil) // has no name, so only the watermark moves
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		if next, err := b.next(ctx, "items"); err != nil || next != 1 {
			return fmt.Errorf("next offset %d, %w", next, err)
		}
		return nil
	})
	b.putMany("others", 10)
	b.awaitDone("others")
	if at, err := b.committed(t.Context(), "items"); err != nil || at > 0 {
		t.Errorf("committed to %d, %v, although the lane does not know", at, err)
	}
	close(stuck)
	b.awaitDone("items")
	awaitReady(t, w)
}

// TestLockedTableLeavesOtherDatasetsAlone: a table that another session locks must not keep the only writer for a minute.
func TestLockedTableLeavesOtherDatasetsAlone(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(func(c *worker.Config, r *replica.Config) {
		c.Consumer.Writers, r.MySQL.LockWait, c.ProbeInterval = 1, time.Second, 2*time.Second
	})
	conn, err := b.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "LOCK TABLES "+b.dataset("items").Replica.Table+" WRITE"); err != nil {
		t.Fatal(err)
	}
	b.put("items", "k", 1)
	awaitReason(t, w, "dataset items is paused", "mysql error 1205", "lock")
	b.put("others", "k", 1)
	b.awaitRow("others", "k", 1)
	if _, err := conn.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	b.awaitRow("items", "k", 1)
	awaitReady(t, w)
}
