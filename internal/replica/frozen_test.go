package replica_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
)

// TestFrozenInTransaction: a worker is stopped in the middle of its transaction, as when its process is stopped or its
// machine loses power, and its connection stays open at the server. The next owner gets the source all the same, and what
// the first one had written is undone.
func TestFrozenInTransaction(t *testing.T) {
	var once sync.Once
	inside, goOn := make(chan struct{}), make(chan struct{})
	hold := func() {
		once.Do(func() {
			close(inside)
			<-goOn
		})
	}
	b := newBed(t, replica.Config{MySQL: mysql.Config{Writers: 1, LockWait: time.Second}, SessionTimeout: 2 * time.Second, BeforeCommit: hold})
	done := make(chan error, 1)
	go func() {
		_, err := b.Apply(t.Context(), b.batch(b.item(t, 1, 1, "frozen")))
		done <- err
	}()
	testenv.Await(t, inside)
	next := open(t, replica.Config{MySQL: mysql.Config{DSN: b.cfg.MySQL.DSN, LockWait: time.Second}, SessionTimeout: 2 * time.Second})
	testenv.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		_, err := next.Positions.Take(ctx, group, "b", 2, []replica.Claim{{Source: src}})
		return err
	})
	close(goOn)
	if err := testenv.Await(t, done); !errors.Is(err, replica.ErrFenced) {
		t.Errorf("the frozen owner gets %v, want ErrFenced", err)
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM items"); n != 0 {
		t.Errorf("%d rows of the frozen transaction are there", n)
	}
}

// TestLockedTable: a session that locks a replica table as a whole (LOCK TABLES, ALTER TABLE) makes a batch wait, with a limit.
func TestLockedTable(t *testing.T) {
	b := newBed(t, replica.Config{MySQL: mysql.Config{Writers: 1, LockWait: time.Second}})
	conn, err := b.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err = conn.ExecContext(t.Context(), "LOCK TABLES items WRITE"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := b.Apply(t.Context(), b.batch(b.item(t, 1, 1, "a")))
		done <- err
	}()
	testenv.Eventually(t, 20*time.Second, func(context.Context) error {
		if b.Stats().Retries == 0 {
			return errors.New("the batch waits without a limit")
		}
		return nil
	})
	if _, err = conn.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	if err = testenv.Await(t, done); err != nil {
		t.Fatal(err)
	}
	b.wantRow(t, 1, "1:a")
}
