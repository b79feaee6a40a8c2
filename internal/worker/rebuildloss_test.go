package worker_test

import (
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/replica/jobstore"
)

// spoil makes the topic and the table of items differ: k1 is newer in the table, as after a late event of which compaction
// kept nothing else; loaded is in the table alone, as after an initial load. gone is a deletion that the topic no longer has, and
// placeholder a row that is none.
func (b *bed) spoil() {
	b.t.Helper()
	b.putMany("items", 1)
	b.put("items", "k1", 3)
	b.awaitDone("items")
	b.exec("UPDATE items SET _version = 9, name = 'newest' WHERE id = 'k1'")
	b.exec("INSERT INTO items (id, name, n, _version, _deleted, _at) VALUES ('loaded', 'loaded', 1, 1, 0, 1), ('gone', NULL, NULL, 4, 1, 1), ('placeholder', NULL, NULL, 0, 1, 0)")
}

const wouldLose = "1 rows are newer than what the topic holds of them, and 1 live rows are not in the topic"

// A rebuild that would take a row back, or drop one that the topic lacks, is refused at the swap and leaves the table.
func TestRebuildThatLosesIsRefused(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(nil)
	b.spoil()
	b.losesNothing = true
	job, tables := b.rebuild(w, nil, nil)
	if job.State != jobstore.Failed || !strings.Contains(job.Problem, wouldLose) || !strings.Contains(job.Problem, "accept_loss") {
		t.Fatalf("rebuild: %s %q", job.State, job.Problem)
	}
	b.awaitRow("items", "k1", 9)
	b.awaitRow("items", "loaded", 1)
	if n := b.count("information_schema.tables WHERE table_schema = DATABASE() AND table_name = '" + tables.Old + "'"); n != 0 {
		t.Error("tables were swapped")
	}
	b.put("items", "after", 1)
	b.awaitRow("items", "after", 1) // live batches continue

	b.losesNothing = false
	if job, _ := b.rebuild(w, nil, nil); job.State != jobstore.Done {
		t.Fatalf("rebuild that accepts the loss: %s %q", job.State, job.Problem)
	}
	b.awaitRow("items", "k1", 3)
	b.awaitRow("items", "loaded", 0)
}

// A dry run shows what would be lost, also where nothing would be.
func TestDryRunOfRebuildShowsLosses(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(nil)
	b.losesNothing, b.dryRun = true, true
	b.putMany("items", 30)
	b.awaitDone("items")
	const none = "0 rows are newer than what the topic holds of them, and 0 live rows are not in the topic"
	if job, _ := b.rebuild(w, nil, nil); job.State != jobstore.Done || job.Problem != none {
		t.Errorf("dry run of a sound table: %s %q", job.State, job.Problem)
	}
	b.spoil()
	if job, _ := b.rebuild(w, nil, nil); job.State != jobstore.Done || !strings.Contains(job.Problem, wouldLose) {
		t.Errorf("dry run: %s %q", job.State, job.Problem)
	}
	b.awaitRow("items", "loaded", 1)
}

// What live batches change while the tables are compared is not a loss.
func TestRebuildBesideLiveChangesLosesNothing(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(nil)
	b.losesNothing = true
	b.putMany("items", 30)
	b.awaitDone("items")
	job, _ := b.rebuild(w, nil, func(_, point string) {
		if point == jobs.PointRebuildBatch {
			b.put("items", "k1", 7)
			b.put("items", "new", 7)
			b.awaitRow("items", "new", 7)
		}
	})
	if job.State != jobstore.Done {
		t.Fatalf("rebuild: %s %q", job.State, job.Problem)
	}
	b.awaitRow("items", "k1", 7)
	b.awaitRow("items", "new", 7)
}
