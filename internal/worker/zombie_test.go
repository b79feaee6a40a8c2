package worker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
)

// halt blocks the nth call that reaches a point, until it is released or the test ends.
type halt struct {
	point            string
	nth              int64
	over             <-chan struct{}
	seen             atomic.Int64
	reached, release chan struct{}
}

func newHalt(t *testing.T, point string, nth int64) *halt {
	t.Helper()
	return &halt{point: point, nth: nth, over: t.Context().Done(), reached: make(chan struct{}), release: make(chan struct{})}
}

func (h *halt) at(point string) {
	if point != h.point || h.seen.Add(1) != h.nth {
		return
	}
	close(h.reached)
	select {
	case <-h.release:
	case <-h.over:
	}
}

// A worker is stuck somewhere on a batch's way, loses its partitions, and wakes up when its successor has done its
// work and more. Nothing is missing, nothing goes back; the entry of a record whose event was no good is gone although
// only MySQL knew its name.
func TestSuccessorFinishesAndZombieHarmsNothing(t *testing.T) {
	t.Parallel()
	for _, point := range []string{
		worker.PointAfterFetch, worker.PointInApply, worker.PointAfterApply, worker.PointInEmit, worker.PointAfterEmit,
		worker.PointBeforeCommit,
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, servers{})
			h := newHalt(t, point, 1)
			var armed atomic.Bool // what comes before counts differently on a slow machine
			at := func(point string) {
				if armed.Load() {
					h.at(point)
				}
			}
			first := b.start(func(c *worker.Config, r *replica.Config) {
				c.Failpoint, r.BeforeCommit = at, func() { at(worker.PointInApply) }
			})
			b.putMany("items", 5)
			b.awaitDone("items")
			armed.Store(true)
			gone := b.hold("items", "bad", 1)
			// Batches are reached one by one, whatever the point counts. One after the other: many bad events at once would be a
			// storm, which pauses the dataset.
			for v, stop := int64(2), false; !stop; v++ {
				b.put("items", "k1", v)
				end := b.poison("items", "bad") + 1
				testenv.Eventually(t, patience, func(ctx context.Context) error {
					select {
					case <-h.reached:
						stop = true
						return nil
					default:
					}
					if next, err := b.next(ctx, "items"); err != nil || next < end {
						return fmt.Errorf("position %d of %d (%w)", next, end, err)
					}
					return nil
				})
			}
			first.kill()
			second := b.start(nil)
			b.putMany("others", 3)
			last := b.end("items")
			b.put("items", "k2", last+10)
			b.awaitDone("items")
			b.awaitDone("others")
			if !gone() {
				t.Error("the entry of a refused event's record survived")
			}
			before := b.snapshot()
			close(h.release)
			first.stop()
			b.awaitDone("items")
			if after := b.snapshot(); after != before {
				t.Errorf("the zombie changed something:\n%s\nbefore:\n%s", after, before)
			}
			b.put("items", "k3", 7)
			b.awaitDone("items")
			awaitReady(t, second)
		})
	}
}

// A worker dies between its transaction and the emission. The names that only MySQL knows, since the row that held them is
// overwritten, are emitted by the successor although it changes no row.
func TestSuccessorEmitsDisplacedNames(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	h := newHalt(t, worker.PointAfterApply, 2)
	first := b.start(func(c *worker.Config, _ *replica.Config) { c.Failpoint = h.at })
	b.put("items", "k1", 1)
	b.awaitDone("items")
	gone := b.hold("items", "former", 1)
	off := b.put("items", "k1", 2)
	testenv.Await(t, h.reached)
	name, err := b.dataset("items").CacheKey("former")
	if err != nil {
		t.Fatal(err)
	}
	b.exec("INSERT INTO freshet_displaced (source, `off`, kind, name, created_at) VALUES (?, ?, 'k', ?, 0)", b.source("items"), off, name)
	first.kill()
	b.start(nil)
	b.awaitDone("items")
	if !gone() {
		t.Error("the displaced name was not emitted")
	}
	close(h.release)
	first.stop()
}

// snapshot is all rows of items, and the positions.
func (b *bed) snapshot() string {
	b.t.Helper()
	var rows, positions, letters string
	err := b.db.QueryRowContext(b.t.Context(), `SELECT (SELECT GROUP_CONCAT(id, ':', _version, ':', n ORDER BY id) FROM items),
		(SELECT GROUP_CONCAT(source, ' at ', next_offset, ' fence ', fence ORDER BY source) FROM freshet_position),
		(SELECT COUNT(*) FROM freshet_dead_letter)`).Scan(&rows, &positions, &letters)
	if err != nil {
		b.t.Fatal(err)
	}
	return rows + "\n" + positions + "\n" + letters + " letters"
}

// A worker that is asked to end lets the running batch finish, commits exactly what was applied and emitted, and leaves
// the rest to the next one.
func TestDrainCommitsWhatIsApplied(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	h := newHalt(t, worker.PointAfterApply, 3)
	w := b.start(func(c *worker.Config, _ *replica.Config) { c.Failpoint = h.at })
	b.putMany("items", 300)
	testenv.Await(t, h.reached)
	w.kill()
	close(h.release)
	w.stop()
	next, err := b.next(t.Context(), "items")
	if err != nil {
		t.Fatal(err)
	}
	committed, err := b.committed(t.Context(), "items")
	if err != nil {
		t.Fatal(err)
	}
	wm, err := b.rdb.HGet(t.Context(), b.keys().Meta, "wm:"+b.source("items")).Int64()
	if err != nil {
		t.Fatal(err)
	}
	rows := int64(b.count("items"))
	if next == 0 || next == 300 || committed != next || wm != next-1 || rows != next {
		t.Errorf("applied to %d, %d rows, committed %d, watermark %d: want the same, and neither none nor all", next, rows, committed, wm)
	}
	b.start(nil)
	b.awaitDone("items")
	testenv.Eventually(t, patience, func(context.Context) error {
		if n := b.count("items"); n != 300 {
			return fmt.Errorf("%d rows, want 300", n)
		}
		return nil
	})
}
