package replica_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/testenv"
)

// The runner of a rebuild dies while its RENAME waits for a reader, and the statement continues at the server. A caller that cancels
// the replay then either prevents the swap or is refused: a cancelled rebuild is never swapped in.
func TestCancelWhileRenameGoesThrough(t *testing.T) {
	b := newBed(t, replica.Config{})
	items, _ := b.set.Get("items")
	job, _, err := b.Jobs.Add(t.Context(), jobstore.Job{Spec: jobstore.Spec{Dataset: "items", Action: jobstore.ActionRebuild, Reason: "a test"}, Actor: "a"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Jobs.Claim(t.Context(), "runner", time.Minute); err != nil {
		t.Fatal(err)
	}
	rebuild := jobstore.NewRebuild(items, job)
	if err := b.Rebuilds.Begin(t.Context(), rebuild, true); err != nil {
		t.Fatal(err)
	}
	reader, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ExecContext(t.Context(), "SELECT COUNT(*) FROM items"); err != nil {
		t.Fatal(err)
	}
	ctx, die := context.WithCancel(t.Context())
	swap := make(chan error, 1)
	go func() {
		swap <- b.Rebuilds.Swap(ctx, rebuild, "topic", "runner", time.Minute, func(context.Context, map[string]int64) error { return nil })
	}()
	b.runs(t, "RENAME TABLE%", 1)
	die()
	if err := <-swap; err == nil {
		t.Fatal("the swap was not cut off")
	}
	other := open(t, replica.Config{MySQL: mysql.Config{DSN: b.cfg.MySQL.DSN}})
	cancel := make(chan error, 1)
	go func() { cancel <- other.Jobs.Set(t.Context(), job, jobstore.Running, jobstore.Cancelled) }()
	var cancelled error
	over := false
	testenv.Eventually(t, time.Minute, func(ctx context.Context) error { // it has begun to wait, or is done
		select {
		case cancelled = <-cancel:
			over = true
		default:
		}
		if n := b.running(ctx, t, "SELECT GET_LOCK%"); n == 0 && !over {
			return errors.New("the replay is not being cancelled")
		}
		return nil
	})
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	if !over {
		cancelled = <-cancel
	}
	b.runs(t, "RENAME TABLE%", 0)
	swapped, err := b.Rebuilds.Swapped(t.Context(), rebuild)
	if err != nil {
		t.Fatal(err)
	}
	if swapped == (cancelled == nil) {
		t.Errorf("swapped is %v, and cancelling gave %v", swapped, cancelled)
	}
	if cancelled != nil && !errors.Is(cancelled, jobstore.ErrMoved) {
		t.Error(cancelled)
	}
}

func (b *bed) running(ctx context.Context, t *testing.T, statement string) (n int) {
	err := b.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE ? AND info NOT LIKE '%processlist%'", statement).Scan(&n)
	if err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	return n
}

func (b *bed) runs(t *testing.T, statement string, want int) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func(ctx context.Context) error {
		if n := b.running(ctx, t, statement); n != want {
			return fmt.Errorf("%d statements %s run, want %d", n, statement, want)
		}
		return nil
	})
}
