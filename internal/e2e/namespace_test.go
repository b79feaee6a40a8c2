package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
)

// A worker with another namespace does not start on a database that belongs to one, until the operator moves the database.
func TestMigrateNamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t), map[string]string{"items.json": itemSchema, "items.yaml": fmt.Sprintf(itemDataset, testenv.Kafka(t).Topic(t))})
	worker := w.startWorker()
	w.reaches(5, "SELECT COUNT(*) FROM freshet_position WHERE next_offset >= 0") // four partitions, and the invalidations'
	worker.Kill(t)
	other := []string{"--namespace", w.ns + "x", "--kafka-group", w.ns + "x"}
	_, stderr, code := w.run("", append([]string{"worker"}, other...)...)
	if code == 0 || !strings.Contains(stderr, fmt.Sprintf("it is bound to namespace %q, this process has namespace %q", w.ns, w.ns+"x")) {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	w.mustRun(append([]string{"migrate", "namespace", "--dry-run"}, other...)...)
	if n, err := w.number(t.Context(), "SELECT COUNT(*) FROM freshet_meta WHERE name = 'namespace' AND value = ?", w.ns); err != nil || n != 1 {
		t.Fatalf("a dry run moved the database: %d, %v", n, err)
	}
	if out := w.mustRun(append([]string{"migrate", "namespace"}, other...)...); !strings.Contains(out, "moved to namespace") {
		t.Error(out)
	}
	w.ns += "x"
	if out := w.mustRun("migrate", "namespace", "--kafka-group", w.ns); !strings.Contains(out, "nothing to do") {
		t.Error(out)
	}
	if n, err := w.number(t.Context(), "SELECT COUNT(*) FROM freshet_position WHERE grp <> ?", w.ns); err != nil || n != 0 {
		t.Errorf("%d positions of another group, %v", n, err)
	}
}
