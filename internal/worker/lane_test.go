package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation/lane"
)

// What is lost in Redis is found by the watermark check and emitted again, or the lane is flushed where that is not
// possible any more.

func TestLostLaneStateIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		lose func(t *testing.T, b *bed)
		// again reports that keys are emitted again; root that the lane has a new one.
		again, root bool
	}{
		{"everything", func(t *testing.T, b *bed) { // the namespace's share of a FLUSHALL
			for _, k := range []string{b.keys().Meta, b.keys().Stream, b.keys().Floors0, b.keys().Floors1, b.keys().Tags} {
				b.rdb.Del(t.Context(), k)
			}
		}, true, true},
		{"the meta hash alone", func(t *testing.T, b *bed) { b.rdb.Del(t.Context(), b.keys().Meta) }, true, true},
		{"the stream alone", func(t *testing.T, b *bed) { b.rdb.Del(t.Context(), b.keys().Stream) }, false, false},
		{"a part of the watermark", func(t *testing.T, b *bed) {
			b.rdb.HSet(t.Context(), b.keys().Meta, "wm:"+b.source("items"), 4)
		}, true, false},
		{"the watermark", func(t *testing.T, b *bed) { b.rdb.HDel(t.Context(), b.keys().Meta, "wm:"+b.source("items")) }, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, servers{})
			w := b.start(nil)
			b.putMany("items", 50)
			b.awaitDone("items")
			before, root := w.Stats(), b.root()
			c.lose(t, b)
			if c.again {
				awaitStats(t, w, "keys are emitted again", func(s worker.Stats) bool {
					return s.Reemitted > before.Reemitted && s.Regressions > before.Regressions
				})
			}
			b.awaitDone("items")
			if got := b.root() != root; got != c.root {
				t.Errorf("new root: %v, want %v", got, c.root)
			}
			gone := b.hold("items", "k1", 1)
			b.put("items", "k1", 2)
			b.awaitDone("items")
			if !gone() {
				t.Error("an entry survived the change of its record")
			}
			awaitReady(t, w)
			if st := w.Stats(); st.LaneFlushes != 0 {
				t.Errorf("%d flushes although everything could be emitted again", st.LaneFlushes)
			}
		})
	}
}

// A lane is lost, and what would have to be emitted again cannot be any more. One flush of the lane fixes it; what is
// within the window is emitted again, and it ends.
func TestWhatCannotBeEmittedAgainFlushesTheLane(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, b *bed)
	}{
		{"displaced names are purged", func(_ *testing.T, b *bed) {
			b.exec("INSERT INTO freshet_displaced_low (source, `off`) VALUES (?, ?)", b.source("items"), 40)
			b.exec("DELETE FROM freshet_displaced")
		}},
		{"Kafka deleted the records", func(t *testing.T, b *bed) { b.truncate("items", 40) }},
		{"Kafka deleted the records of both topics", func(t *testing.T, b *bed) {
			b.truncate("items", 40)
			b.truncate("others", 30)
		}},
	} {
		for _, lost := range []struct {
			name string
			lose func(t *testing.T, b *bed)
		}{
			{"watermark", func(t *testing.T, b *bed) { b.rdb.HSet(t.Context(), b.keys().Meta, "wm:"+b.source("items"), 4) }},
			{"lane", func(t *testing.T, b *bed) { b.rdb.Del(t.Context(), b.keys().Meta) }},
		} {
			t.Run(c.name+", "+lost.name, func(t *testing.T) {
				t.Parallel()
				b := newBed(t, servers{})
				w := b.start(nil)
				b.putMany("items", 50)
				b.putMany("others", 50)
				b.awaitDone("items")
				b.awaitDone("others")
				root := b.root()
				c.spoil(t, b)
				lost.lose(t, b)
				testenv.Eventually(t, patience, func(context.Context) error {
					if got, err := b.rdb.HGet(t.Context(), b.keys().Meta, "root").Result(); err != nil || got == root {
						return fmt.Errorf("the lane has its old root, %w", err)
					}
					return nil
				})
				b.awaitDone("items")
				b.awaitDone("others")
				awaitReady(t, w)
				// It must come to rest: no root after root.
				first := b.root()
				flushes := w.Stats().LaneFlushes
				b.put("items", "last", 1)
				b.put("others", "last", 1)
				b.awaitDone("items")
				b.awaitDone("others")
				if b.root() != first || flushes > 2 {
					t.Errorf("the lane continues being flushed: %d flushes, then %d", flushes, w.Stats().LaneFlushes)
				}
			})
		}
	}
}

// A lane is lost, and Kafka dropped records that a new root would have to begin with, as size-based retention does. No one
// can say what they invalidated: the lane gets a root with hold. What is older than the window needs none.
func TestRootThatCannotBeginWhereItMust(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		window  time.Duration
		restart bool
		dropped int64
		held    bool
	}{
		{"dropped within the window", 0, false, 40, true},
		{"dropped within the window, another worker", 0, true, 40, true},
		{"everything is dropped", 0, true, 50, true},
		{"dropped before the window", time.Millisecond, true, 50, false},
		{"nothing is dropped", 0, true, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, servers{})
			edit := func(cc *worker.Config, _ *replica.Config) { cc.Window = c.window }
			w := b.start(edit)
			b.putMany("items", 50)
			b.awaitDone("items")
			if c.restart {
				w.stop()
			}
			if c.dropped > 0 {
				b.truncate("items", c.dropped)
			}
			b.rdb.Del(t.Context(), b.keys().Meta)
			if c.restart {
				w = b.start(edit)
			}
			b.put("items", "next", 1)
			b.awaitDone("items")
			awaitReady(t, w)
			fa, err := b.rdb.HGet(t.Context(), b.keys().Meta, "fa").Int64()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			if st := w.Stats(); (fa > 0) != c.held || (st.LaneFlushes > 0) != c.held {
				t.Errorf("hold %d, %d flushes, want one: %v", fa, st.LaneFlushes, c.held)
			}
			root := b.root()
			b.put("items", "last", 1)
			b.awaitDone("items")
			if b.root() != root {
				t.Error("the lane continues being flushed")
			}
		})
	}
}

// A repair that breaks off half-way is not forgotten: the watermark must not move over what it left out.
func TestInterruptedRepairGoesOn(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	var faults atomic.Int64
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.Emitter = &brokenEmitter{Emitter: c.Emitter, left: &faults}
	})
	b.putMany("items", 50)
	b.awaitDone("items")
	gone := b.hold("items", "k10", 0) // version 0: nothing keeps it
	faults.Store(3)
	b.rdb.HSet(t.Context(), b.keys().Meta, "wm:"+b.source("items"), 4)
	awaitStats(t, w, "repairs fail", func(worker.Stats) bool { return faults.Load() == 0 })
	b.awaitDone("items")
	if !gone() {
		t.Error("the watermark is complete, and an entry of the range survived")
	}
	awaitReady(t, w)
}

// brokenEmitter fails as many emissions of redelivered ranges as are left.
type brokenEmitter struct {
	worker.Emitter

	left *atomic.Int64
}

func (e *brokenEmitter) Emit(ctx context.Context, n int, root string, start int64, em lane.Emission) (lane.Reply, error) {
	if em.Keep && e.left.Load() > 0 {
		e.left.Add(-1)
		return lane.Reply{}, errors.New("connection reset")
	}
	return e.Emitter.Emit(ctx, n, root, start, em)
}

// truncate makes Kafka delete the records before an offset, as retention does.
func (b *bed) truncate(dataset string, before int64) {
	b.t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 10_000
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = b.dataset(dataset).Topic
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Offset = before
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	res, err := req.RequestWith(b.t.Context(), b.producer)
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// Other programs' hashes of cache sections: a worker that differs from the registered ones writes nothing of that
// dataset, and continues by itself when they agree.
func TestAnotherCacheHashPausesTheDatasetOnly(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.migrate(b.declare("-next"))
	w := b.start(nil)
	b.putMany("items", 5)
	b.putMany("others", 5)
	b.awaitDone("others")
	awaitReason(t, w, "dataset items is paused", "freshet migrate datasets")
	if n := b.count("items"); n != 0 {
		t.Errorf("%d rows were written under another declaration", n)
	}
	root := b.root()
	b.migrate(b.datasets)
	b.awaitDone("items")
	awaitReady(t, w)
	testenv.Eventually(t, patience, func(context.Context) error { // the next look at the lanes adopts it
		if b.root() == root {
			return errors.New("the lane kept its root although the hash of a cache section is to be adopted")
		}
		return nil
	})
}

// A worker whose declaration lost its cache section writes nothing of that dataset while the database still knows one. Once
// an operator decides that the section may go, it flows, and the lanes tell nodes that still have it.
func TestCacheSectionThatIsGonePausesTheDatasetOnly(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	bare := b.bare() // others has no section here
	first := b.start(nil)
	b.putMany("others", 1)
	b.awaitDone("others")
	first.stop()
	w := b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = bare })
	b.put("others", "k0", 2)
	b.putMany("items", 5)
	b.awaitDone("items")
	awaitReason(t, w, "dataset others is paused", "cache section", "freshet migrate datasets --drop-cache others")
	if v := b.version(t.Context(), "others", "k0"); v != 1 {
		t.Errorf("others k0 has version %d: the nodes are not notified of it", v)
	}
	root := b.root()
	if ddl, err := tables.Migrate(t.Context(), b.db, bare.All(), false, "others"); err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate datasets: %v, %v", err, ddl)
	}
	b.awaitRow("others", "k0", 2)
	awaitReady(t, w)
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		h, err := b.rdb.HGet(ctx, b.keys().Meta, "d:others").Result()
		if err != nil || h == b.dataset("others").CacheHash() || b.root() == root {
			return fmt.Errorf("nodes with the section still find it in the lane: %q, %w", h, err)
		}
		return nil
	})
}
