package replica

import (
	"context"
	"errors"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
)

// A deleted row stays in its table, so that an older event of its record, which may still come, does not bring it back. Each
// deletion is also noted in freshet_tombstone, by which the row is found when its retention is over: an index for that on the
// table itself would cost every update of every row. Rows of datasets with on_delete: keep are the user's and stay.

const (
	tombstoneChunk = 500

	sqlTombstones = "SELECT deleted_at, record_key FROM freshet_tombstone WHERE dataset = ? AND deleted_at < ? AND (deleted_at > ? OR deleted_at = ? AND record_key > ?)" +
		" ORDER BY deleted_at, record_key LIMIT ?"
)

// tombstone is a noted deletion.
type tombstone struct {
	at  int64 // when the database took it, in Unix ms
	key []byte
}

// bury notes the deletions among changes that the table took, by the database's clock: where a topic is read from its beginning,
// old events of a record may come long after its deletion, from another partition.
func (r *run) bury(ctx context.Context, t *table, changes []*Change) error {
	if t.ds.KeepOnDelete {
		return nil
	}
	var keys []string
	for _, c := range changes {
		if !c.Deleted {
			continue
		}
		if key := recordKey(t, c); key != "" {
			keys = append(keys, key)
		}
	}
	return inChunks(keys, tombstoneChunk, func(key string) int { return len(key) }, func(chunk []string) error {
		args := make([]any, 0, 2*len(chunk))
		for _, key := range chunk {
			args = append(args, []byte(t.ds.Name), []byte(key))
		}
		return r.insertMany(ctx, "tombstones", "INSERT INTO freshet_tombstone (dataset, deleted_at, record_key) VALUES ", "(?, "+mysql.NowMillis+", ?)",
			" ON DUPLICATE KEY UPDATE dataset = dataset", len(chunk), args)
	})
}

// deletedRows removes the rows of deletions that are older than keep, in ms, by the database's clock. Rows that live again
// stay, and so do those of records with an open or redriven dead letter: a redrive, or a rebuild, must find that its record is
// newer.
func (e *Expirer) deletedRows(ctx context.Context, keep int64) error {
	now, err := mysql.Now(ctx, e.m.pool.DB())
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range e.m.tables.prepared() {
		if !t.ds.KeepOnDelete {
			errs = append(errs, e.deletedRowsOf(ctx, t, now-keep))
		}
	}
	return errors.Join(errs...)
}

// deletedRowsOf removes the rows of one table that are deleted since before the given time.
func (e *Expirer) deletedRowsOf(ctx context.Context, t *table, before int64) error {
	after := tombstone{at: -1}
	for range expireMost {
		found, err := e.tombstones(ctx, t, before, after)
		if err != nil || len(found) == 0 {
			return err
		}
		after = found[len(found)-1]
		err = e.m.pool.Transact(ctx, "remove deleted rows", func(ctx context.Context, w *mysql.Conn) error {
			return e.unbury(ctx, w, t, found, before)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Expirer) tombstones(ctx context.Context, t *table, before int64, after tombstone) ([]tombstone, error) {
	args := []any{[]byte(t.ds.Name), before, after.at, after.at, after.key, tombstoneChunk}
	return mysql.Collect(ctx, e.m.pool.DB(), "read tombstones", sqlTombstones, args, func(g *tombstone) []any { return []any{&g.at, &g.key} })
}

// unbury removes rows that are deleted since before the given time, and their tombstones.
func (e *Expirer) unbury(ctx context.Context, w *mysql.Conn, t *table, graves []tombstone, before int64) error {
	keys := make([]any, 0, len(graves))
	for _, g := range graves {
		keys = append(keys, g.key)
	}
	list := "(?" + strings.Repeat(", ?", len(keys)-1) + ")"
	open, err := mysql.Texts(ctx, w.Plain(), "read dead letters of deleted rows", "SELECT record_key FROM freshet_dead_letter WHERE dataset = ? AND state IN ('open', 'redriven') AND record_key IN "+list, append([]any{[]byte(t.ds.Name)}, keys...)...)
	if err != nil {
		return err
	}
	kept := make(map[string]bool, len(open))
	for _, key := range open {
		kept[key] = true
	}
	where, args := "", []any(nil)
	keys = keys[:0]
	for _, g := range graves {
		if kept[string(g.key)] {
			continue
		}
		keys = append(keys, g.key)
		values, err := t.ds.ParseKey(string(g.key))
		if err != nil {
			continue // the declaration's key changed: no row has this one
		}
		where += " OR (" + strings.Join(t.keyNames(), " = ? AND ") + " = ?)"
		args = append(args, values...)
	}
	if len(args) > 0 {
		text := "DELETE FROM " + t.name + " WHERE (" + strings.TrimPrefix(where, " OR ") + ") AND " + tables.ColDeleted + " = 1 AND " + tables.ColAt + " < ?"
		n, err := w.ExecOnce(ctx, text, append(args, before)...)
		if err != nil {
			return mysql.Wrap("remove deleted rows of", t.name, err)
		}
		e.removed.Add(n)
	}
	if len(keys) == 0 {
		return nil
	}
	list = "(?" + strings.Repeat(", ?", len(keys)-1) + ")"
	args = append([]any{[]byte(t.ds.Name), graves[0].at, graves[len(graves)-1].at}, keys...)
	_, err = w.ExecOnce(ctx, "DELETE FROM freshet_tombstone WHERE dataset = ? AND deleted_at >= ? AND deleted_at <= ? AND record_key IN "+list, args...)
	return mysql.Wrap("remove tombstones", "", err)
}
