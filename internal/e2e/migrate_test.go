package e2e_test

import (
	"strings"
	"testing"
)

// migrate down takes nothing back without --apply.
func TestMigrateDownAsksFirst(t *testing.T) {
	t.Parallel()
	w := itemWorld(t)
	tables := func() int {
		return w.number1("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name LIKE 'freshet%'")
	}
	before := tables()
	out := w.mustRun("migrate", "down")
	if !strings.Contains(out, "would be taken back 000") || !strings.Contains(out, "nothing was changed: --apply does it") || tables() != before {
		t.Errorf("a dry run changes %d columns to %d and prints\n%s", before, tables(), out)
	}
	status := w.mustRun("migrate", "status")
	if strings.Contains(status, "pending") {
		t.Errorf("after a dry run:\n%s", status)
	}
	name := strings.Fields(strings.TrimPrefix(out, "would be taken back"))[0]
	if out := w.mustRun("migrate", "down", "--apply"); !strings.Contains(out, "taken back") || !strings.Contains(out, name) {
		t.Errorf("migrate down --apply prints\n%s", out)
	}
	if status := w.mustRun("migrate", "status"); !strings.Contains(status, "pending    "+name) || strings.Count(status, "pending") != 1 {
		t.Errorf("after migrate down --apply:\n%s", status)
	}
	if _, errOut, code := w.run("", "migrate", "down", "--apply", "--dry-run"); code == 0 {
		t.Errorf("both flags: exit code %d, %s", code, errOut)
	}
}
