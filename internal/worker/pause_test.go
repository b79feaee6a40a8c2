package worker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
)

// A dataset whose table cannot be written is paused and continues by itself when it can; with a single writer the
// others flow meanwhile.
func TestBrokenTableStandsAside(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, spoil, fix, reason string }{
		{"a column is missing", "ALTER TABLE items DROP COLUMN n", "ALTER TABLE items ADD COLUMN n BIGINT NULL", "mysql error 1054"},
		{"the table is missing", "RENAME TABLE items TO away", "RENAME TABLE away TO items", "mysql error 1146"},
		{
			"the server refuses it in a way that no one has a rule for",
			"CREATE TRIGGER refuse BEFORE INSERT ON items FOR EACH ROW SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1114",
			"DROP TRIGGER refuse", "mysql error 1114",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, servers{})
			w := b.start(func(cfg *worker.Config, _ *replica.Config) {
				cfg.Consumer.Writers, cfg.PauseAfter = 1, 200*time.Millisecond
			})
			b.putMany("items", 5)
			b.awaitDone("items")
			b.exec(c.spoil)
			b.put("items", "k1", 2)
			awaitReason(t, w, "dataset items is paused", c.reason)
			b.putMany("others", 50)
			b.awaitDone("others")
			if n := b.count("freshet_dead_letter"); n != 0 {
				t.Errorf("%d dead letters of a fault that is not an event's", n)
			}
			b.exec(c.fix)
			b.awaitRow("items", "k1", 2)
			b.awaitDone("items")
			awaitReady(t, w)
		})
	}
}

// A partition that was paused is tried again although another one of its topic, which came later, continues already.
func TestEveryPartitionIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.split("items", 2)
	w := b.start(func(cfg *worker.Config, _ *replica.Config) { cfg.ProbeInterval = 3 * time.Second })
	b.put("items", "k1", 1)
	b.awaitRow("items", "k1", 1)
	b.exec("RENAME TABLE items TO away")
	b.put("items", "k1", 2)
	awaitReason(t, w, "dataset items is paused", "mysql error 1146")
	b.exec("RENAME TABLE away TO items")
	b.putAt(1, "items", "k2", 1)
	b.awaitRow("items", "k2", 1)
	b.awaitRow("items", "k1", 2)
	b.awaitDone("items")
	awaitReady(t, w)
}

// What only an inspection finds delays its dataset alone, also when the worker starts with it.
func TestUnfitTableAtStart(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.exec("CREATE UNIQUE INDEX second ON items (name)")
	w := b.start(nil)
	b.put("items", "k1", 1)
	b.putMany("others", 5)
	b.awaitDone("others")
	awaitReason(t, w, "dataset items is paused", "secondary unique index second")
	if n := b.count("items"); n != 0 {
		t.Errorf("%d rows were written to a table that is not fit", n)
	}
	b.exec("DROP INDEX second ON items")
	b.awaitDone("items")
	awaitReady(t, w)
}

// What a worker said of partitions that it lost to others is not its to say any more.
func TestReadinessForgetsWhatIsNotOwned(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	// The member that has both keeps the topic that comes first.
	broken, other := "items", "others"
	if b.dataset("items").Topic < b.dataset("others").Topic {
		broken, other = other, broken
	}
	b.exec("ALTER TABLE " + broken + " DROP COLUMN n")
	first := b.start(nil)
	b.put(broken, "k1", 1)
	awaitReason(t, first, "dataset "+broken+" is paused")
	second := b.start(nil)
	testenv.Eventually(t, patience, func(context.Context) error {
		// As a rule the second, but a slow machine may hand out the partitions more than once.
		of, not := whys(second), whys(first)
		if len(of) == 0 {
			of, not = not, of
		}
		if len(not) > 0 || len(of) != 1 || !strings.Contains(of[0], "dataset "+broken+" is paused") {
			return fmt.Errorf("one is to say that the dataset is paused, the other nothing: %q, %q", of, not)
		}
		return nil
	})
	b.exec("ALTER TABLE " + broken + " ADD COLUMN n BIGINT NULL")
	b.awaitDone(broken)
	b.put(other, "k1", 1)
	b.awaitDone(other)
	awaitReady(t, first)
	awaitReady(t, second)
}

// A pause whose batch is gone from the log ends by itself, although no next batch reports that the partition continues.
func TestPauseWithoutANextBatchEnds(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 3)
	b.awaitDone("items")
	w.PauseIdle(b.dataset("items").Topic)
	awaitReady(t, w)
	b.put("items", "k1", 2)
	b.awaitRow("items", "k1", 2)
}
