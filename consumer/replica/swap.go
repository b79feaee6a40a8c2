package replica

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	// swapLimit bounds how long live batches wait for a swap.
	swapLimit = 8 * time.Second
	// swapIdle is when the server ends the transaction that holds them, should nobody speak to it any more.
	swapIdle = 15 * time.Second
	// renameWait is how long the swap waits for readers of the table; new readers wait with it.
	renameWait = 2 * time.Second

	sqlHashHold = "SELECT value FROM freshet_meta WHERE name = ? FOR UPDATE"
	sqlAllNext  = "SELECT source, next_offset FROM freshet_position WHERE source >= ? AND source < ? ORDER BY source"
	sqlNoteHold = "SELECT value FROM freshet_meta WHERE name = ? LOCK IN SHARE MODE"
	sqlGrowPart = "INSERT INTO freshet_replay_part (job, source, dataset, from_off, next_off, end_off) VALUES (?, ?, ?, 0, 0, ?) ON DUPLICATE KEY UPDATE end_off = GREATEST(end_off, ?)"
)

// Swap puts the new table into the place of the dataset's one. Live batches of the dataset's topic wait meanwhile, since
// their positions are locked, and so do redrives and `freshet migrate datasets`, by the row of the dataset's hash. catchUp
// brings the new table up to the positions that it is given; it must not use m's own writers if live batches do. Then one
// RENAME TABLE does it.
//
// Nothing is lost should the locks break on the way, or the answer: what a live batch wrote into the former table after
// catchUp is in the topic below the positions that are read after the swap. Whoever finishes the rebuild applies it again.
//
// ErrJobMoved: the replay has another owner or state. A *DatasetError cannot be waited out. After any other error, Swapped
// tells.
func (m *MySQL) Swap(ctx context.Context, b *Rebuild, topicID, owner string, lease time.Duration, catchUp func(context.Context, map[string]int64) error) error {
	ctx, cancel := context.WithTimeout(ctx, swapLimit)
	defer cancel()
	w, err := m.pool.Connect(ctx)
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
	next, err := readPositions(ctx, w.Plain(), b.Dataset.Topic, topicID, " FOR UPDATE")
	if err != nil {
		return err
	}
	if err := catchUp(ctx, next); err != nil {
		return err
	}
	if err := m.checkShadow(ctx, b); err != nil {
		return err
	}
	if err := noteSwap(ctx, w, b, owner, lease); err != nil {
		return err
	}
	if err := m.rename(ctx, b, owner); err != nil {
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
	var hash []byte
	err := w.QueryRow(ctx, sqlHashHold, []any{metaDataset(ds.Name)}, &hash)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return mysql.Wrap("lock cache hash of dataset", ds.Name, err)
	}
	if problem := CheckSection(ds, string(hash)); problem != nil {
		return problem
	}
	return nil
}

// readPositions reads the positions of a topic's sources that were ever read.
func readPositions(ctx context.Context, q mysql.Querier, topic, id, lock string) (map[string]int64, error) {
	rows, err := q.QueryContext(ctx, sqlAllNext+lock, otherIDs(topic, id)[2:]...)
	if err != nil {
		return nil, mysql.Wrap("read positions of topic", topic, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	next := map[string]int64{}
	for rows.Next() {
		var source []byte
		var at int64
		if err := rows.Scan(&source, &at); err != nil {
			return nil, mysql.Wrap("read positions of topic", topic, err)
		}
		if at >= 0 {
			next[string(source)] = at
		}
	}
	return next, mysql.Wrap("read positions of topic", topic, rows.Err())
}

// Positions reads how far each source of a topic is applied; sources that were never read are absent.
func (m *MySQL) Positions(ctx context.Context, topic, id string) (next map[string]int64, err error) {
	err = m.pool.Transact(ctx, "read positions", func(ctx context.Context, w *mysql.Conn) error {
		next, err = readPositions(ctx, w.Plain(), topic, id, "")
		return err
	})
	return next, err
}

// noteSwap makes sure that the replay still is ours, and that it can only be finished from now on. Both rows stay locked
// until the swap is committed.
func noteSwap(ctx context.Context, w *mysql.Conn, b *Rebuild, owner string, lease time.Duration) error {
	value, err := json.Marshal(rebuildNote{Dataset: b.Dataset.Name, Shadow: b.Shadow.Replica.Table, Old: b.Old, Swapped: true})
	if err != nil {
		return fmt.Errorf("write note of rebuild: %w", err)
	}
	if _, err := w.Exec(ctx, sqlSetMeta, []byte(metaRebuild+b.Job), value, value); err != nil {
		return mysql.Wrap("note swap", "", err)
	}
	n, err := w.Exec(ctx, sqlExtend, lease.Milliseconds(), []byte(b.Job), []byte(owner))
	if err != nil {
		return mysql.Wrap("extend replay", "", err)
	}
	if n == 0 {
		return ErrJobMoved
	}
	return nil
}

func (m *MySQL) rename(ctx context.Context, b *Rebuild, owner string) error {
	conn, err := m.pool.Connect(ctx)
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

// swapped says whether the replay is a rebuild that can only be finished. The note stays as it is until this transaction
// ends.
func swapped(ctx context.Context, w *mysql.Conn, job string) (bool, error) {
	var value []byte
	err := w.QueryRow(ctx, sqlNoteHold, []any{[]byte(metaRebuild + job)}, &value)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, mysql.Wrap("read note of rebuild", "", err)
	}
	var note rebuildNote
	return json.Unmarshal(value, &note) == nil && note.Swapped, nil
}

// GrowJob lets a replay read each source up to the given offset at least. A source that the replay does not have yet
// is read from its beginning. ErrJobMoved: it has another owner or state.
func (m *MySQL) GrowJob(ctx context.Context, id, owner, dataset string, ends map[string]int64) error {
	return m.pool.Transact(ctx, "extend replay", func(ctx context.Context, w *mysql.Conn) error {
		var one int64
		err := w.QueryRow(ctx, "SELECT 1 FROM freshet_replay WHERE id = ? AND owner = ? AND state = 'running' FOR UPDATE", []any{[]byte(id), []byte(owner)}, &one)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrJobMoved
		}
		if err != nil {
			return mysql.Wrap("extend replay", "", err)
		}
		for source, end := range ends {
			if _, err := w.Exec(ctx, sqlGrowPart, []byte(id), []byte(source), []byte(dataset), end, end); err != nil {
				return mysql.Wrap("extend replay", "", err)
			}
		}
		return nil
	})
}

// SupersedeLetters marks the open letters of a dataset whose record has an event that is as new or newer.
func (m *MySQL) SupersedeLetters(ctx context.Context, ds *schemas.Dataset) (int64, error) {
	q := LetterQuery{Dataset: ds.Name, State: StateOpen, Limit: redrivenChunk}
	for all := int64(0); ; {
		letters, err := m.Letters(ctx, q)
		if err != nil || len(letters) == 0 {
			return all, err
		}
		open := make([]*letter, 0, len(letters))
		for i := range letters {
			open = append(open, &letter{Letter: &letters[i].Letter, source: letters[i].Source, t: m.table(ds)})
		}
		n, err := m.settleLetters(ctx, open)
		if err != nil {
			return all, err
		}
		all += n
		last := letters[len(letters)-1].ID()
		q.After = &last
	}
}
