package replica

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// BareUpserts writes batches with nothing but the guarded prepared upsert, over conns connections: no fence, no position,
// no letters, one commit a batch. It is the limit that benchmarks compare Apply with, and is of no other use. Rows of a
// batch are in key order, one per record.
func (m *DB) BareUpserts(ctx context.Context, ds *schemas.Dataset, batches [][]*Change, conns int) error {
	t := m.tables.of(ds)
	feed := make(chan []*Change)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(feed)
		for _, b := range batches {
			select {
			case feed <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range conns {
		g.Go(func() error {
			w, err := m.pool.Connect(ctx)
			if err != nil {
				return err
			}
			defer w.Close()
			for b := range feed {
				if err := bare(ctx, w, t, b); err != nil {
					return mysql.Wrap("write bare batch", t.name, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// bare writes one batch: a statement that commits by itself if one is enough, else a transaction.
func bare(ctx context.Context, w *mysql.Conn, t *table, rows []*Change) error {
	if t.chunk(rows) == len(rows) {
		return upsertChunks(ctx, w, t, rows)
	}
	if err := w.Begin(ctx); err != nil {
		return err
	}
	if err := upsertChunks(ctx, w, t, rows); err != nil {
		_ = w.Rollback(ctx)
		return err
	}
	return w.Commit(ctx)
}

func upsertChunks(ctx context.Context, w *mysql.Conn, t *table, rows []*Change) error {
	var args []any
	for len(rows) > 0 {
		n := t.chunk(rows)
		args = args[:0]
		for _, c := range rows[:n] {
			args = t.args(args, c)
		}
		if _, err := w.ExecSized(ctx, mysql.StatementID{Of: t, Rows: n, Kind: upserts}, t.upsertSQL, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}
