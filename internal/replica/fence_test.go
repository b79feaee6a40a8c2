package replica_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
)

func TestTake(t *testing.T) {
	b := newBed(t, replica.Config{SessionTimeout: time.Hour})
	b.apply(t, b.item(t, 1, 1, "x"))
	claims := []replica.Claim{{Source: "z/i/0", First: 7}, {Source: src, First: 9}, {Source: "a/i/0"}}
	ps, err := b.Positions.Take(t.Context(), group, "b", 7, claims)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []replica.Position{{Source: "z/i/0", Fence: 1, Next: 7, Fresh: true}, {Source: src, Fence: 2, Next: 1}, {Source: "a/i/0", Fence: 1, Fresh: true}} {
		if ps[i] != want {
			t.Errorf("position %d is %+v, want %+v", i, ps[i], want)
		}
	}
	// What is deleted before the first batch is missed: the position stays where the log once began.
	if p, err := b.Positions.Take(t.Context(), group, "b", 7, []replica.Claim{{Source: "z/i/0", First: 50}}); err != nil || p[0].Next != 7 || p[0].Fresh {
		t.Errorf("taken again: %+v, %v; want position 7", p, err)
	}
	t.Run("an older generation is late", func(t *testing.T) {
		if _, err := b.Positions.Take(t.Context(), group, "c", 6, claims); !errors.Is(err, replica.ErrLate) {
			t.Errorf("error %v, want ErrLate", err)
		}
		if f := one[int64](t, b.db, "SELECT MAX(fence) FROM freshet_position"); f != 2 {
			t.Errorf("the late member raised a fence to %d", f)
		}
	})
	t.Run("unless the owner is silent", func(t *testing.T) {
		b.exec(t, "UPDATE freshet_position SET touched_at = touched_at - 3600000")
		if _, err := b.Positions.Take(t.Context(), group, "c", 6, claims); err != nil {
			t.Error(err)
		}
	})
	t.Run("another group", func(t *testing.T) {
		if _, err := b.Positions.Take(t.Context(), "other", "c", 9, []replica.Claim{{Source: src}}); !errors.Is(err, replica.ErrForeignGroup) {
			t.Errorf("error %v, want ErrForeignGroup", err)
		}
	})
}

func TestForeignGroupOnOtherSources(t *testing.T) {
	b := newBed(t, replica.Config{})
	_, err := b.Positions.Take(t.Context(), "other", "c", 9, []replica.Claim{{Source: "other/i/0"}})
	if !errors.Is(err, replica.ErrForeignGroup) {
		t.Fatalf("error %v, want ErrForeignGroup", err)
	}
	// The refusal must not leave a row behind that shuts out the rightful group.
	if _, err = b.Positions.Take(t.Context(), group, "a", 10, []replica.Claim{{Source: src}}); err != nil {
		t.Error(err)
	}
}

func TestFencedBatchWritesNothing(t *testing.T) {
	b := newBed(t, replica.Config{})
	old := b.pos
	b.apply(t, b.item(t, 2, 1, "before")) // writes the history, which would notice too
	b.pos = b.take(t, "b", 2)
	batch := b.batch(b.item(t, 1, 1, "zombie"))
	batch.Fence = old.Fence
	batch.Letters = []*replica.Letter{{Offset: 0, Dataset: "items", Reason: "schema"}}
	if _, err := b.Apply(t.Context(), batch); !errors.Is(err, replica.ErrFenced) {
		t.Fatalf("error %v, want ErrFenced", err)
	}
	b.wantRow(t, 1, "none")
	if n := len(b.letters(t)); n != 0 {
		t.Errorf("%d letters", n)
	}
	b.exec(t, "DELETE FROM freshet_position")
	if _, err := b.Apply(t.Context(), b.batch(b.item(t, 1, 1, "x"))); !errors.Is(err, replica.ErrFenced) {
		t.Errorf("without a row: %v, want ErrFenced", err)
	}
}

// waiting waits until n transactions of the test's database wait for a lock. The server renews its list only when no one
// has read it for 100 ms.
func waiting(t *testing.T, b *bed, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.Fatalf("no %d transactions wait for a lock", n)
		case <-tick.C:
		}
		if one[int](t, b.db, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"+mine) >= n {
			return
		}
	}
}

// mine restricts a query of innodb_trx to the test's database.
const mine = " AND trx_mysql_thread_id IN (SELECT id FROM information_schema.processlist WHERE db = DATABASE())"

// holdRow locks one row of items in a transaction of the test and returns its end.
func holdRow(t *testing.T, b *bed, id int) (release func()) {
	t.Helper()
	tx, err := b.db.BeginTx(context.WithoutCancel(t.Context()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() }) // the second end of a transaction is an error
	if _, err = tx.ExecContext(t.Context(), "UPDATE items SET _at = _at + 1 WHERE id = ?", id); err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback() }
}

// TestTakeWaitsForZombie: a batch of the previous owner is in the middle of its transaction while another member takes
// the partition. The new owner waits, sees what the zombie committed, and is alone from then on.
func TestTakeWaitsForZombie(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, b.item(t, 1, 1, "first"))
	release := holdRow(t, b, 1)

	zombie := make(chan error, 1)
	batch := b.batch(b.item(t, 1, 2, "zombie"))
	batch.Next = b.off.Load()
	go func() {
		_, err := b.Apply(t.Context(), batch)
		zombie <- err
	}()
	waiting(t, b, 1) // inside its transaction, at the upsert

	other := open(t, b.cfg)
	type taken struct {
		ps  []replica.Position
		err error
	}
	got := make(chan taken, 1)
	go func() {
		ps, err := other.Positions.Take(t.Context(), group, "new", 2, []replica.Claim{{Source: src}})
		got <- taken{ps, err}
	}()
	waiting(t, b, 2)
	select {
	case g := <-got:
		t.Fatalf("taken while the zombie writes: %+v, %v", g.ps, g.err)
	default:
	}
	release()
	if err := testenv.Await(t, zombie); err != nil {
		t.Fatalf("the running batch: %v", err)
	}
	g := testenv.Await(t, got)
	if g.err != nil || g.ps[0].Fence != b.pos.Fence+1 || g.ps[0].Next != batch.Next {
		t.Fatalf("taken %+v, %v; want the zombie's position %d", g.ps, g.err, batch.Next)
	}
	if _, err := b.Apply(t.Context(), b.batch(b.item(t, 1, 3, "dead"))); !errors.Is(err, replica.ErrFenced) {
		t.Errorf("the zombie's next batch: %v, want ErrFenced", err)
	}
	b.wantRow(t, 1, "2:zombie")
}
