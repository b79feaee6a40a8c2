package replica_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// Closed dead letters, audit lines and replays go after their retention, and nothing else does: open dead letters, and
// redriven ones that a rebuild may need, stay.
func TestOldRowsAreRemoved(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, b.item(t, 1, 9, "newer"), b.item(t, 2, 5, "redriven"))
	const old, young = 1000, "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
	for i, l := range []struct {
		state   replica.State
		key     string
		version int
		updated any
	}{
		{replica.StateSuperseded, "7", 1, old},
		{replica.StateDiscarded, "7", 1, old},
		{replica.StateRedriven, "1", 5, old},
		{replica.StateOpen, "7", 1, old},
		{replica.StateRedriven, "2", 5, old},
		{replica.StateSuperseded, "7", 1, young},
		{replica.StateRedriven, "1", 5, young},
	} {
		b.exec(t, fmt.Sprintf("INSERT INTO freshet_dead_letter (source, off, idx, dataset, record_key, version, op, reason, detail, size, broker_at, state, created_at, updated_at)"+
			" VALUES ('s', %d, 0, 'items', '%s', %d, %d, 'refused', '', 1, 1, '%s', 1, %v)", i, l.key, l.version, schemas.Upsert, l.state, l.updated))
	}
	for i, at := range []any{old, old, young} {
		b.exec(t, fmt.Sprintf("INSERT INTO freshet_audit (id, at, actor, role, action, target) VALUES (%d, %v, 'a', 'admin', 'x', 'y')", i+1, at))
	}
	for _, j := range []struct {
		id, state string
		updated   any
	}{{"done", "done", old}, {"failed", "failed", old}, {"running", "running", old}, {"young", "done", young}} {
		b.exec(t, fmt.Sprintf("INSERT INTO freshet_replay (id, spec, state, actor, created_at, updated_at) VALUES ('%s', '{}', '%s', 'a', 1, %v)", j.id, j.state, j.updated))
		b.exec(t, fmt.Sprintf("INSERT INTO freshet_replay_part (job, source, dataset, from_off, next_off, end_off) VALUES ('%s', 's', 'items', 0, 0, 1)", j.id))
	}
	for _, r := range []replica.Retention{{}, {DeadLetters: time.Hour, Audit: time.Hour, Replays: time.Hour}} {
		e := b.NewExpirer(r)
		if err := e.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if removed, _ := e.Removed(); r == (replica.Retention{}) != (removed == 0) {
			t.Errorf("%+v: %d rows removed", r, removed)
		}
	}
	for what, want := range map[string]int{
		"freshet_dead_letter": 4, "freshet_dead_letter WHERE off IN (3, 4, 5, 6)": 4,
		"freshet_audit": 1, "freshet_audit WHERE id = 3": 1,
		"freshet_replay": 2, "freshet_replay_part": 2, "freshet_replay_part WHERE job IN ('running', 'young')": 2,
	} {
		if n := one[int](t, b.db, "SELECT COUNT(*) FROM "+what); n != want {
			t.Errorf("%s: %d rows, want %d", what, n, want)
		}
	}
}

// More rows than one transaction removes go in one pass.
func TestManyOldRowsAreRemoved(t *testing.T) {
	b := newBed(t, replica.Config{})
	for i := range 1300 {
		b.exec(t, fmt.Sprintf("INSERT INTO freshet_audit (id, at, actor, role, action, target) VALUES (%d, 1, 'a', 'admin', 'x', 'y')", i+1))
	}
	e := b.NewExpirer(replica.Retention{Audit: time.Hour})
	if err := e.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_audit"); n != 0 {
		t.Errorf("%d lines are left", n)
	}
}

// A root that was replaced long ago is forgotten, one that was replaced just now or came back is not.
func TestOldLaneStartsAreRemoved(t *testing.T) {
	b := newBed(t, replica.Config{})
	l := b.Lanes("ns")
	start := func(root string, propose int64) int64 {
		t.Helper()
		at, err := l.Start(t.Context(), src, 0, root, propose)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	start("a", 1)
	start("b", 2)
	b.exec(t, "UPDATE freshet_lane SET replaced_at = 1 WHERE root = 'a'")
	if at := start("a", 9); at != 1 {
		t.Errorf("a root that came back begins at %d, want 1", at)
	}
	if at := start("c", 3); at != 3 {
		t.Errorf("a new root begins at %d, want 3", at)
	}
	if at := start("a", 9); at != 1 {
		t.Errorf("a root that was replaced just now begins at %d, want 1", at)
	}
	b.exec(t, "UPDATE freshet_lane SET replaced_at = 1 WHERE root = 'b'")
	start("d", 4)
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_lane WHERE root = 'b'"); n != 0 {
		t.Error("a root that was replaced long ago is kept")
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_lane"); n != 3 {
		t.Errorf("%d starts are kept, want 3", n)
	}
}
