package jobstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
)

// A RENAME that waits for readers continues at the server after its client is gone, and with it the transaction that kept the
// replay from being cancelled. So the owner of the rename holds a lock of the connection that renames, which ends with the statement,
// and looks at the replay's state under it; a caller that ends the replay takes the lock first.

const (
	sqlLockSwap = "SELECT GET_LOCK(?, ?)"
	sqlIsOwner  = "SELECT 1 FROM freshet_replay WHERE id = ? AND owner = ? AND state = 'running'"
	// lockWait is how long the lock is waited for, in seconds; a RENAME holds it for renameWait and its own time.
	lockWait = 5
)

var errSwapping = errors.New("the rebuilt table is being put into its place right now; try again")

// lockSwap takes the lock of a rebuild's swap for as long as the connection is open.
func lockSwap(ctx context.Context, w *mysql.Conn, job string) error {
	var got sql.NullInt64
	if err := w.QueryRow(ctx, sqlLockSwap, []any{"freshet:" + job, lockWait}, &got); err != nil {
		return mysql.Wrap("lock swap", "", err)
	}
	if got.Int64 != 1 {
		return errSwapping
	}
	return nil
}

// mayRename reports, under the lock, whether the replay still is its runner's.
func mayRename(ctx context.Context, w *mysql.Conn, job, owner string) error {
	var one int64
	err := w.QueryRow(ctx, sqlIsOwner, []any{[]byte(job), []byte(owner)}, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrMoved
	}
	return mysql.Wrap("read replay", "", err)
}

// withoutSwap calls fn while no swap of a rebuild can begin, with what is noted of the rebuild. swapped: it is in its place.
// For other replays fn is called as well.
func withoutSwap(ctx context.Context, pool *mysql.Pool, job string, fn func(swapped bool) error) error {
	note, noted, err := readRebuild(ctx, pool.DB(), job)
	if err != nil {
		return err
	}
	if !noted {
		return fn(false)
	}
	w, err := pool.Connect(ctx)
	if err != nil {
		return err
	}
	defer w.Close() // the server gives the lock back
	if err := lockSwap(ctx, w, job); err != nil {
		return err
	}
	shadow, err := tables.Find(ctx, pool.DB(), note.Shadow)
	if err != nil {
		return err
	}
	old, err := tables.Find(ctx, pool.DB(), note.Old)
	if err != nil {
		return err
	}
	return fn(!shadow.Exists && old.Exists)
}
