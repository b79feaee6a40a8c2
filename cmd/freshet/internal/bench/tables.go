package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

const (
	// quiet is the share of a core below which the database counts as idle, and settleMost how long that is waited for: what a
	// turn leaves behind, such as pages to flush, must not be the next one's cost.
	quiet      = 0.05
	settleMost = 15 * time.Second
)

// fillTable has the rows that a table has before each turn.
func (b *rig) fillTable() string { return mysql.Quote(b.ds.Replica.Table + "_fill") }

// fill makes the rows of workloads that begin with a full table.
func (b *rig) fill(ctx context.Context, w *workload) error {
	if err := b.createPlain(ctx); err != nil || !w.filled() {
		return err
	}
	if err := b.exec(ctx, "CREATE TABLE "+b.fillTable()+" LIKE "+mysql.Quote(b.ds.Replica.Table)); err != nil {
		return err
	}
	ids := make([]int, w.records)
	for i := range ids {
		ids[i] = i
	}
	slices.SortFunc(ids, func(x, y int) int { return strings.Compare(recordID(x), recordID(y)) })
	const one = "(?,?,?,?,?,?,?,?,0,1,1)"
	for chunk := range slices.Chunk(ids, plainChunk) {
		var args []any
		for _, n := range chunk {
			r := w.row(n, n)
			args = append(args, r.values()...)
		}
		text := "INSERT INTO " + b.fillTable() + " (id, name, email, country, n, active, score, body, _deleted, _at, _version) VALUES " +
			one + strings.Repeat(","+one, len(chunk)-1)
		if err := b.exec(ctx, text, args...); err != nil {
			return err
		}
	}
	b.full = true
	return nil
}

// applyBefore applies all events once, for a workload that delivers them again.
func (b *rig) applyBefore(ctx context.Context, w *workload, f ApplyConfig) error {
	if !w.replayed() {
		return nil
	}
	if _, err := b.turn(ctx, f, TurnConfig{Rig: b.ds.Name, Consumer: ConsumerWorker, Turn: f.Turns}); err != nil {
		return fmt.Errorf("apply the events before they are delivered again: %w", err)
	}
	table := mysql.Quote(b.ds.Replica.Table)
	if err := b.exec(ctx, "CREATE TABLE "+b.fillTable()+" LIKE "+table); err != nil {
		return err
	}
	b.full = true
	return b.exec(ctx, "INSERT INTO "+b.fillTable()+" SELECT * FROM "+table)
}

// reset brings both tables, and what the database notes of a worker, into the state before a turn, and waits until the
// database is idle.
func (b *rig) reset(ctx context.Context) error {
	table := mysql.Quote(b.ds.Replica.Table)
	texts := []string{"TRUNCATE TABLE " + table, "TRUNCATE TABLE " + b.plainTable()}
	if b.full {
		texts = append(texts, "INSERT INTO "+table+" SELECT * FROM "+b.fillTable(),
			"INSERT INTO "+b.plainTable()+" SELECT id, name, email, country, n, active, score, body, _deleted, _version FROM "+b.fillTable())
	}
	for _, text := range texts {
		if err := b.exec(ctx, text); err != nil {
			return err
		}
	}
	if err := b.forget(ctx); err != nil {
		return err
	}
	return b.settle(ctx)
}

// forget removes what a worker noted of the rig's topic.
func (b *rig) forget(ctx context.Context) error {
	source := strings.NewReplacer("\\", "\\\\", "_", "\\_", "%", "\\%").Replace(b.ds.Topic) + "/%"
	for _, table := range []string{"freshet_position", "freshet_position_history", "freshet_displaced", "freshet_displaced_low", "freshet_lane"} {
		if err := b.exec(ctx, "DELETE FROM "+table+" WHERE source LIKE ?", []byte(source)); err != nil {
			return err
		}
	}
	return b.exec(ctx, "DELETE FROM freshet_tombstone WHERE dataset = ?", []byte(b.ds.Name))
}

func (b *rig) exec(ctx context.Context, text string, args ...any) error {
	if _, err := b.db.SQL().ExecContext(ctx, text, args...); err != nil {
		return mysql.Wrap("prepare tables of the benchmark", "", err)
	}
	return nil
}

// settle waits until the database is idle, as far as its process can be seen.
func (b *rig) settle(ctx context.Context) error {
	const step = 500 * time.Millisecond
	watch := newCPUWatch(ctx, b.cfg, b.db)
	tick := time.NewTicker(step)
	defer tick.Stop()
	for range settleMost / step {
		before := watch.read()["mysql"]
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if watch.read()["mysql"]-before < quiet*step.Seconds() {
			return nil
		}
	}
	return nil
}
