package replica_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// TestLockWaitRollsBackEverything: a lock wait that ends undoes its statement only (error 1205). What the transaction
// wrote before must go too, and the batch must succeed by itself once the lock is gone.
func TestLockWaitRollsBackEverything(t *testing.T) {
	b := newBed(t, replica.Config{MySQL: mysql.Config{Writers: 1, LockWait: time.Second}})
	b.apply(t, b.item(t, 1, 1, "a"), b.item(t, 2, 1, "a"))
	release := holdRow(t, b, 2)
	batch := b.batch(b.event(t, "names", 5, schemas.Upsert, `{"name":"x"}`), b.item(t, 2, 2, "b"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := b.Apply(ctx, batch)
		done <- err
	}()
	testenv.Eventually(t, 20*time.Second, func(context.Context) error {
		if b.Stats().Retries == 0 {
			return errors.New("no lock wait has ended yet")
		}
		return nil
	})
	if next := one[int64](t, b.db, "SELECT next_offset FROM freshet_position WHERE source = ?", src); next != 2 {
		t.Errorf("next_offset is %d: the transaction that was undone has moved it", next)
	}
	release()
	if err := testenv.Await(t, done); err != nil {
		t.Fatal(err)
	}
	b.wantRow(t, 2, "2:b")
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM names"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// TestKilledConnection: the server ends the connection in the middle of a transaction. The pinned connection is
// replaced, and the batch applied once more from its beginning.
func TestKilledConnection(t *testing.T) {
	b := newBed(t, replica.Config{MySQL: mysql.Config{Writers: 1}})
	b.apply(t, b.item(t, 1, 1, "a"))
	release := holdRow(t, b, 1)
	done := make(chan error, 1)
	go func() {
		_, err := b.Apply(t.Context(), b.batch(b.item(t, 1, 2, "b")))
		done <- err
	}()
	waiting(t, b, 1)
	victim := one[int64](t, b.db, "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"+mine)
	b.exec(t, fmt.Sprintf("KILL %d", victim))
	release()
	if err := testenv.Await(t, done); err != nil {
		t.Fatal(err)
	}
	b.wantRow(t, 1, "2:b")
	if s := b.Stats(); s.Repins != 1 || s.Retries != 1 {
		t.Errorf("stats %+v, want one connection replaced and one retry", s)
	}
}

// TestServerAway: an error of the infrastructure, no letter, and everything continues when the server is back.
func TestServerAway(t *testing.T) {
	srv := testenv.StartMySQL(t, testenv.MySQLOptions{})
	b := newBed(t, replica.Config{MySQL: mysql.Config{DSN: srv.NewDatabase(t), Writers: 1}})
	b.apply(t, b.item(t, 1, 1, "a"))
	srv.Kill(t)
	batch := b.batch(b.item(t, 1, 2, "b"))
	_, err := b.Apply(t.Context(), batch)
	var de *tables.DatasetError
	if err == nil || errors.As(err, &de) || errors.Is(err, replica.ErrFenced) {
		t.Fatalf("error %v, want an infrastructure fault", err)
	}
	srv.Restart(t)
	if _, err = b.Apply(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	b.wantRow(t, 1, "2:b")
	if ls := b.letters(t); len(ls) != 0 {
		t.Errorf("%d letters", len(ls))
	}
}

// TestDeadlineLeavesOutcomeOpen: a deadline cuts the connection and the statement continues at the server. The same batch
// again is right whatever became of it.
func TestDeadlineLeavesOutcomeOpen(t *testing.T) {
	b := newBed(t, replica.Config{MySQL: mysql.Config{Writers: 1}})
	b.apply(t, b.item(t, 1, 1, "a"))
	release := holdRow(t, b, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	batch := b.batch(b.item(t, 1, 2, "b"))
	done := make(chan error, 1)
	go func() {
		_, err := b.Apply(ctx, batch)
		done <- err
	}()
	waiting(t, b, 1)
	cancel(cause)
	if err := testenv.Await(t, done); err == nil {
		t.Fatal("applied although its context ended")
	}
	release()
	if _, err := b.Apply(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	b.wantRow(t, 1, "2:b")
}

// TestBlackHole: behind a link that lets nothing pass, Apply ends with the driver's time-out.
func TestBlackHole(t *testing.T) {
	srv := testenv.MySQL(t)
	proxy := testenv.NewProxy(t, srv.Addr)
	dsn, err := gomysql.ParseDSN(srv.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := gomysql.ParseDSN(srv.TCP(proxy.Addr, dsn.DBName))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ReadTimeout = 300 * time.Millisecond
	cfg.Timeout = 300 * time.Millisecond
	b := newBed(t, replica.Config{MySQL: mysql.Config{DSN: cfg.FormatDSN(), Writers: 1}})
	b.apply(t, b.item(t, 1, 1, "a"))
	proxy.Hold()
	batch := b.batch(b.item(t, 1, 2, "b"))
	began := time.Now()
	if _, err = b.Apply(t.Context(), batch); err == nil {
		t.Fatal("applied through a black hole")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	proxy.Release()
	testenv.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		_, err := b.Apply(ctx, batch)
		return err
	})
	b.wantRow(t, 1, "2:b")
}

// TestWritersOnTheSameKeys: batches of several partitions that hold the same records, which only a mistake or a change
// of the key would make, end with the newest versions and, since rows are sorted, without deadlocks.
func TestWritersOnTheSameKeys(t *testing.T) {
	b := newBed(t, replica.Config{})
	const writers, batches, keys = 4, 15, 120
	claims := make([]replica.Claim, writers)
	for i := range claims {
		claims[i].Source = fmt.Sprintf("freshet.items/kR3a_x/%d", i+1)
	}
	ps, err := b.Positions.Take(t.Context(), group, "a", 1, claims)
	if err != nil {
		t.Fatal(err)
	}
	all := make([][]*replica.Batch, writers)
	version := int64(0)
	for range batches {
		for w := range writers {
			batch := &replica.Batch{Source: ps[w].Source, Fence: ps[w].Fence, Next: version}
			version++
			for _, id := range rand.Perm(keys) {
				batch.Changes = append(batch.Changes, b.item(t, id+1, version, fmt.Sprint("v", version)))
			}
			all[w] = append(all[w], batch)
		}
	}
	var g errgroup.Group
	for _, mine := range all {
		g.Go(func() error {
			for _, batch := range mine {
				if _, err := b.Apply(t.Context(), batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM items WHERE _version = ? AND name = ?", version, fmt.Sprint("v", version)); n != keys {
		t.Errorf("%d rows have the newest version, want %d", n, keys)
	}
	if r := b.Stats().Retries; r > 0 {
		t.Errorf("%d transactions were in each other's way although rows are sorted", r)
	}
}
