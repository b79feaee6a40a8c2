package jobstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

const (
	// swapLimit bounds how long live batches wait for a swap.
	swapLimit = 8 * time.Second
	// swapIdle is when the server ends the transaction that holds them, should no client speak to it any more.
	swapIdle = 15 * time.Second
	// renameWait is how long the swap waits for readers of the table; new readers wait with it.
	renameWait = 2 * time.Second

	sqlGrowPart = "INSERT INTO freshet_replay_part (job, source, dataset, from_off, next_off, end_off) VALUES (?, ?, ?, 0, 0, ?) ON DUPLICATE KEY UPDATE end_off = GREATEST(end_off, ?)"
)

// Swap puts the new table into the place of the dataset's one. Live batches of the dataset's topic wait meanwhile, since
// their positions are locked, and so do redrives and `freshet migrate datasets`, by the row of the dataset's hash. catchUp
// brings the new table up to the positions that it is given; it must not use the DB's own writers if live batches do. Then one
// RENAME TABLE does it.
//
// Nothing is lost should the locks break on the way, or the answer: what a live batch wrote into the previous table after
// catchUp is in the topic below the positions that are read after the swap. The process that finishes the rebuild applies it again.
//
// ErrMoved: the replay has another owner or state. A *DatasetError cannot be waited out. After any other error, ask
// Swapped.
func (r *Rebuilds) Swap(ctx context.Context, b *Rebuild, topicID, owner string, lease time.Duration, catchUp func(context.Context, map[string]int64) error) error {
	ctx, cancel := context.WithTimeout(ctx, swapLimit)
	defer cancel()
	w, err := r.pool.Connect(ctx)
	if err != nil {
		return err
	}
	defer w.Close() // the server rolls back what was not committed
	if _, err := w.Plain().ExecContext(ctx, fmt.Sprintf("SET SESSION wait_timeout = %d", int(swapIdle/time.Second))); err != nil {
		return mysql.Wrap("set up session", "", err)
	}
	if err := w.Begin(ctx); err != nil {
		return err
	}
	if err := holdHash(ctx, w, b.Dataset); err != nil {
		return err
	}
	next, err := r.lock(ctx, w, b.Dataset.Topic, topicID)
	if err != nil {
		return err
	}
	if err := catchUp(ctx, next); err != nil {
		return err
	}
	if err := r.checkShadow(ctx, b); err != nil {
		return err
	}
	if err := noteSwap(ctx, w, b, owner, lease); err != nil {
		return err
	}
	if err := r.rename(ctx, b, owner); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// holdHash is the dataset's lock against redrives and changes of templates. Datasets without a cache section have neither
// templates nor a row for sure.
func holdHash(ctx context.Context, w *mysql.Conn, ds *schemas.Dataset) error {
	if ds.Cache == nil {
		return nil
	}
	hash, _, err := meta.Read(ctx, w, "lock cache hash of dataset "+ds.Name, meta.Hash+ds.Name, meta.ForUpdate)
	if err != nil {
		return err
	}
	if problem := tables.CheckSection(ds, string(hash)); problem != nil {
		return problem
	}
	return nil
}

// noteSwap makes sure that the replay still is ours, and that it can only be finished from now on. Both rows stay locked
// until the swap is committed.
func noteSwap(ctx context.Context, w *mysql.Conn, b *Rebuild, owner string, lease time.Duration) error {
	value, err := json.Marshal(rebuildNote{Dataset: b.Dataset.Name, Shadow: b.Shadow.Replica.Table, Old: b.Old, Swapped: true})
	if err != nil {
		return fmt.Errorf("write note of rebuild: %w", err)
	}
	if _, err := w.Exec(ctx, meta.SQLSet, []byte(meta.Rebuild+b.Job), value); err != nil {
		return mysql.Wrap("note swap", "", err)
	}
	n, err := w.Exec(ctx, sqlExtend, lease.Milliseconds(), []byte(b.Job), []byte(owner))
	if err != nil {
		return mysql.Wrap("extend replay", "", err)
	}
	if n == 0 {
		return ErrMoved
	}
	return nil
}

func (r *Rebuilds) rename(ctx context.Context, b *Rebuild, owner string) error {
	conn, err := r.pool.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Plain().ExecContext(ctx, fmt.Sprintf("SET SESSION lock_wait_timeout = %d", int(renameWait/time.Second))); err != nil {
		return mysql.Wrap("set up session", "", err)
	}
	if err := lockSwap(ctx, conn, b.Job); err != nil {
		return err
	}
	if err := mayRename(ctx, conn, b.Job, owner); err != nil {
		return err
	}
	live := mysql.Quote(b.Dataset.Replica.Table)
	_, err = conn.Plain().ExecContext(ctx, "RENAME TABLE "+live+" TO "+mysql.Quote(b.Old)+", "+mysql.Quote(b.Shadow.Replica.Table)+" TO "+live)
	return ddlError(b, "rename table", err)
}

// swapped reports whether the replay is a rebuild that can only be finished. The note stays unchanged until this transaction
// ends.
func swapped(ctx context.Context, w *mysql.Conn, job string) (bool, error) {
	note, ok, err := readRebuild(ctx, w, job, meta.ForShare)
	return ok && note.Swapped, err
}
