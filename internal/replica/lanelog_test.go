package replica_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

func TestLaneStart(t *testing.T) { lanes(t, newBed(t, replica.Config{})) }

// lanes runs the lane log's starts on any server.
func lanes(t *testing.T, b *bed) {
	t.Helper()
	log, other := b.Lanes("shop"), b.Lanes("other")
	start := func(l *replica.LaneLog, n int, root string, propose, want int64) {
		t.Helper()
		if got, err := l.Start(t.Context(), src, n, root, propose); err != nil || got != want {
			t.Errorf("start in lane %d of root %s: %d, %v, want %d", n, root, got, err, want)
		}
	}
	start(log, 0, "r1", 100, 100)
	start(log, 0, "r1", 200, 100)
	start(log, 1, "r1", 300, 300)
	start(log, 0, "r2", 400, 400)
	start(other, 0, "r1", 500, 500)
}

func TestWindow(t *testing.T) {
	b := newBed(t, replica.Config{HistoryEvery: time.Nanosecond})
	log := b.Lanes("shop")
	window := func(d time.Duration, next, want int64) {
		t.Helper()
		if got, err := log.Window(t.Context(), src, d, next); err != nil || got != want {
			t.Errorf("window of %s below %d: %d, %v, want %d", d, next, got, err, want)
		}
	}
	window(time.Hour, 77, 77) // nothing was ever committed

	b.off.Store(1000) // the log begins here
	b.exec(t, "UPDATE freshet_position SET next_offset = 1000 WHERE source = ?", src)
	b.apply(t, b.item(t, 1, 1, "a"), b.item(t, 2, 1, "a"))
	b.apply(t, b.item(t, 1, 2, "b"))
	b.apply(t, b.item(t, 1, 3, "c"))
	// History says: from 1000, 1002 and 1003 on, everything is later than the note's time. Age the notes.
	for off, age := range map[int64]time.Duration{1000: 3 * time.Hour, 1002: 2 * time.Hour, 1003: time.Hour} {
		b.exec(t, "UPDATE freshet_position_history SET committed_at = committed_at - ? WHERE source = ? AND off = ?", age.Milliseconds(), src, off)
	}
	window(4*time.Hour, 1004, 1000)
	window(150*time.Minute, 1004, 1000)
	window(90*time.Minute, 1004, 1002)
	window(time.Minute, 1004, 1003)
	window(time.Minute, 1001, 1001)

	if err := log.Purge(t.Context(), src, 1004, 90*time.Minute); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_position_history"); n != 3 {
		t.Errorf("%d notes are left, want 3: where the time begins, what is younger, and the position", n)
	}
	window(90*time.Minute, 1004, 1002)
}

// A source that fell quiet has nothing within any window, however long its last batches came after the last note.
func TestQuietSourceHasAnEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		note func(t *testing.T, b *bed)
	}{
		{"purge", func(t *testing.T, b *bed) {
			if err := b.Lanes("shop").Purge(t.Context(), src, 0, time.Hour); err != nil {
				t.Fatal(err)
			}
		}},
		{"another owner", func(t *testing.T, b *bed) { b.take(t, "next", 2) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, replica.Config{})
			for v := range int64(5) {
				b.apply(t, b.item(t, 1, v+1, "x"))
			}
			next := b.off.Load()
			c.note(t, b)
			window := func(d time.Duration, want int64) {
				t.Helper()
				if got, err := b.Lanes("shop").Window(t.Context(), src, d, next); err != nil || got != want {
					t.Errorf("window of %s: %d, %v, want %d", d, got, err, want)
				}
			}
			window(time.Hour, 0)
			b.exec(t, "UPDATE freshet_position_history SET committed_at = committed_at - 7200000 WHERE source = ?", src)
			window(time.Hour, next)
		})
	}
}

func TestHistoryIsSparse(t *testing.T) {
	b := newBed(t, replica.Config{})
	for v := range int64(5) {
		b.apply(t, b.item(t, 1, v+1, "x"))
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_position_history"); n != 1 {
		t.Errorf("%d notes within a moment, want 1", n)
	}
}

func TestPurgeRaisesLow(t *testing.T) {
	b := newBed(t, replica.Config{})
	log := b.Lanes("shop")
	low := func(want int64) {
		t.Helper()
		if got, err := log.Low(t.Context(), src); err != nil || got != want {
			t.Errorf("low is %d, %v, want %d", got, err, want)
		}
	}
	low(-1)
	// 2500 names, more than one chunk.
	b.exec(t, "INSERT INTO freshet_displaced (source, off, kind, name, created_at) WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 49)"+
		" SELECT ?, a.n * 50 + b.n, 'k', CONCAT('n', a.n * 50 + b.n), 1 FROM s a, s b", src)
	b.exec(t, "UPDATE freshet_displaced SET created_at = ? WHERE off = 5", time.Now().UnixMilli())
	if err := log.Purge(t.Context(), src, 2400, time.Hour); err != nil {
		t.Fatal(err)
	}
	low(2399)
	left, err := b.Lanes("").Displaced(t.Context(), src, 0, 2400)
	if err != nil {
		t.Fatal(err)
	}
	want := []replica.Name{{Offset: 5, Kind: 'k', Name: "n5"}, {Offset: 2400, Kind: 'k', Name: "n2400"}}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if err = log.Purge(t.Context(), src, 2400, 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	low(2399)
}

// Datasets come to share a topic, and cease to: their names for it change, and its epoch, which versions depend on, does not.
func TestNamesOfATopicShareItsEpoch(t *testing.T) {
	b := newBed(t, replica.Config{})
	epoch := func(name, id string, want int64) {
		t.Helper()
		if _, err := b.Topics.Observe(t.Context(), name, id, 1); err != nil {
			t.Fatal(err)
		}
		if got, _, err := b.Topics.Get(t.Context(), name); err != nil || got.Epoch != want || got.ID != id {
			t.Fatalf("%s under id %s: %+v, %v, want epoch %d", name, id, got, err, want)
		}
	}
	epoch("shop", "first", 0)
	epoch("shop", "second", 1)
	epoch("shop2", "other", 0)
	epoch("shop#users", "second", 1)
	epoch("shop#users", "third", 2)
	epoch("shop#orders", "third", 2)
	epoch("shop#orders", "fourth", 3)
	epoch("shop#users", "fourth", 3)
	epoch("shop", "fourth", 3)
	epoch("shop", "fifth", 4)
}

// A topic comes back that a name still has from the time before it was shared. Epochs of the names that are read must not go back:
// their rows have versions of the epoch between.
func TestEpochsDoNotGoBackWithATopic(t *testing.T) {
	b := newBed(t, replica.Config{})
	observe := func(name, id string, want int64) {
		t.Helper()
		if _, err := b.Topics.Observe(t.Context(), name, id, 1); err != nil {
			t.Fatal(err)
		}
		if got, _, err := b.Topics.Get(t.Context(), name); err != nil || got.Epoch != want {
			t.Fatalf("%s under id %s: %+v, %v, want epoch %d", name, id, got, err, want)
		}
	}
	observe("shop", "first", 0) // before it was shared
	observe("shop#users", "first", 0)
	observe("shop#orders", "first", 0)
	observe("shop#users", "second", 1)
	observe("shop#orders", "second", 1)
	for _, name := range []string{"shop#users", "shop#orders"} {
		if ok, err := b.Topics.Accept(t.Context(), name, "first"); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	observe("shop#users", "first", 2)
	observe("shop#orders", "first", 2)
}

func TestTopicLog(t *testing.T) { topics(t, newBed(t, replica.Config{})) }

// topics runs the topic log on any server.
func topics(t *testing.T, b *bed) {
	t.Helper()
	const topic = "t.log"
	observe := func(id string, want bool) {
		t.Helper()
		if got, err := b.Topics.Observe(t.Context(), topic, id, 4); err != nil || got != want {
			t.Fatalf("observe %s: pending %t, %v, want %t", id, got, err, want)
		}
	}
	source := func(topic, id string, p int32) replica.Claim {
		return replica.Claim{Source: schemas.SourceName(topic, id, p)}
	}
	observe("old", false)
	observe("old", false)
	claims := []replica.Claim{source(topic, "old", 0), source(topic, "old", 1), source(topic+"2", "old", 0), source(topic, "older", 0), source(topic, "new", 1)}
	held, err := b.Positions.Take(t.Context(), group, "zombie", 1, claims)
	if err != nil {
		t.Fatal(err)
	}
	observe("new", true)
	observe("new", true)
	fresh, err := b.Positions.Take(t.Context(), group, "owner", 2, []replica.Claim{source(topic, "new", 0)})
	if err != nil || !fresh[0].Fresh {
		t.Fatalf("take the new source: %+v, %v", fresh, err)
	}
	apply := func(p replica.Position) error {
		_, err := b.Apply(t.Context(), &replica.Batch{Source: p.Source, Fence: p.Fence, Next: 1})
		return err
	}
	for i, want := range []error{replica.ErrFenced, replica.ErrFenced, nil, replica.ErrFenced, nil} {
		if err := apply(held[i]); !errors.Is(err, want) {
			t.Errorf("batch of %s: %v, want %v", held[i].Source, err, want)
		}
	}
	if err := apply(fresh[0]); err != nil {
		t.Errorf("batch of the new source: %v", err)
	}
	if _, err := b.Topics.Observe(t.Context(), topic, "old", 4); !errors.Is(err, replica.ErrLate) {
		t.Errorf("observe the replaced id: %v, want ErrLate", err)
	}
	if err := b.Topics.Flushed(t.Context(), topic, "old", 0); err != nil {
		t.Fatal(err)
	}
	observe("new", true)
	if err := b.Topics.Flushed(t.Context(), topic, "new", time.Hour); err != nil {
		t.Fatal(err)
	}
	observe("new", false)
	if got, ok, err := b.Topics.Get(t.Context(), topic); err != nil || !ok || got != (replica.Topic{ID: "new", Partitions: 4, Epoch: 1}) {
		t.Errorf("topic %+v, %t, %v", got, ok, err)
	}
	positions := func() int {
		return one[int](t, b.db, "SELECT COUNT(*) FROM freshet_position WHERE source LIKE 't.log/%'")
	}
	if n := positions(); n != 5 {
		t.Errorf("%d positions within the time to keep, want 5", n)
	}
	b.exec(t, "UPDATE freshet_position SET touched_at = touched_at - 7200000 WHERE source LIKE 't.log/old%'")
	if err := b.Topics.Flushed(t.Context(), topic, "new", time.Hour); err != nil {
		t.Fatal(err)
	}
	if n := positions(); n != 2 {
		t.Errorf("%d positions after the time to keep, want 2", n)
	}
}
