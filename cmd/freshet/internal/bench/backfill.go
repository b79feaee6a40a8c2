package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/backfill"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
)

// BackfillConfig is the size of the benchmark Backfill. All fields but Rest are required.
type BackfillConfig struct {
	Rows       int           // rows of the source table
	Size       int           // approximate bytes of an event's data
	Partitions int           // partitions of the topic
	Rate       int           // changes a second of the writers
	Writers    int           // connections that change records
	Duration   time.Duration // how long the writers are timed alone
	Rest       float64       // backfill.Config.Rest
}

// BackfillResult is the result of Backfill. Times are in milliseconds.
type BackfillResult struct {
	Rows    int                `json:"rows"`
	Loaded  float64            `json:"loaded_rows_per_second"`
	Seconds float64            `json:"seconds"`
	Alone   map[string]float64 `json:"writers_alone_ms"`
	Beside  map[string]float64 `json:"writers_beside_ms"`
	Ratio   float64            `json:"ratio_p99"`
}

// Print prints the result as text.
func (r *BackfillResult) Print(w io.Writer) {
	fmt.Fprintf(w, "loaded    %d rows in %.1f s: %.0f rows/s\n", r.Rows, r.Seconds, r.Loaded)
	for _, row := range []latencyRow{{"alone", r.Alone}, {"beside the backfill", r.Beside}} {
		fmt.Fprintf(w, "writers   %-20s p50 %.2f ms, p99 %.2f ms a transaction\n", row.what, row.ms["p50"], row.ms["p99"])
	}
	fmt.Fprintf(w, "ratio_p99=%.2f\n", r.Ratio)
}

// sourceTable is the table that is loaded.
const (
	sourceTable = "freshet_outbox_bench_source"
	intoSource  = "INSERT INTO " + sourceTable + " VALUES "
)

// backfillRig is a source database with a table of records.
type backfillRig struct {
	*outboxRig
	f    BackfillConfig
	work *workload
}

// Backfill measures how fast existing rows are loaded through the outbox while writers change them at a rate and a relay
// publishes, and what that costs the writers. It makes the outbox's tables in the database of relay.dsn and drops them.
func Backfill(ctx context.Context, c config.Config, f BackfillConfig, log *slog.Logger) (*BackfillResult, error) {
	o, err := openOutboxRig(ctx, c, RelayConfig{Partitions: f.Partitions, Writers: f.Writers, Size: f.Size}, log)
	if err != nil {
		return nil, err
	}
	b := &backfillRig{outboxRig: o, f: f, work: newWorkload("update", o.name, f.Rows, f.Rows, f.Size)}
	res, err := b.measure(ctx)
	_, dropErr := o.db.ExecContext(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+sourceTable)
	return res, errors.Join(err, dropErr, o.Close())
}

func (b *backfillRig) measure(ctx context.Context) (*BackfillResult, error) {
	if err := b.fillSource(ctx); err != nil {
		return nil, err
	}
	res := &BackfillResult{Rows: b.f.Rows}
	err := b.withRelay(ctx, func(*relay.Relay) error {
		alone, cancel := context.WithTimeout(ctx, b.f.Duration)
		defer cancel()
		times, err := b.change(ctx, alone)
		if err != nil {
			return err
		}
		res.Alone = times.quantiles()
		g, ctx := errgroup.WithContext(ctx)
		loading, loaded := context.WithCancel(ctx)
		g.Go(func() error {
			defer loaded()
			began := time.Now()
			err := b.load(ctx)
			res.Seconds = time.Since(began).Seconds()
			return err
		})
		g.Go(func() error {
			times, err := b.change(ctx, loading)
			res.Beside = times.quantiles()
			return err
		})
		return g.Wait()
	})
	res.Loaded = float64(b.f.Rows) / max(res.Seconds, 0.001)
	if res.Alone["p99"] > 0 {
		res.Ratio = res.Beside["p99"] / res.Alone["p99"]
	}
	return res, err
}

// fillSource makes the source table, in the order of its key: a table that grew has its pages in order, too.
func (b *backfillRig) fillSource(ctx context.Context) error {
	_, err := b.db.ExecContext(ctx, "CREATE TABLE "+sourceTable+" (id VARCHAR(32) NOT NULL PRIMARY KEY, name VARCHAR(100), email VARCHAR(100), country VARCHAR(2),"+
		" n BIGINT, active TINYINT(1), score DOUBLE, body VARCHAR(4000)) ENGINE=InnoDB CHARACTER SET utf8mb4")
	if err != nil {
		return fmt.Errorf("make the source table: %w", err)
	}
	const one = "(?,?,?,?,?,?,?,?)"
	for from := 0; from < b.f.Rows; from += fillRows {
		var args []any
		for i := from; i < min(from+fillRows, b.f.Rows); i++ {
			r := b.work.row(i, i)
			args = append(args, r.values()...)
		}
		if _, err := b.db.ExecContext(ctx, intoSource+one+strings.Repeat(","+one, len(args)/8-1), args...); err != nil {
			return fmt.Errorf("fill the source table: %w", err)
		}
	}
	return nil
}

func (b *backfillRig) load(ctx context.Context) error {
	mc, err := connect.Source(b.cfg, b.log)
	if err != nil {
		return err
	}
	pool, err := mysql.Open(ctx, mc)
	if err != nil {
		return err
	}
	defer pool.Close()
	ds, _ := b.set.Get(b.name)
	l, err := backfill.New(ctx, backfill.Config{Source: pool, Dataset: ds, Table: sourceTable, Rest: b.f.Rest, Logger: b.log})
	if err != nil {
		return err
	}
	return l.Run(ctx)
}

// change changes random records at the rate until the second context ends, and returns how long each transaction took.
func (b *backfillRig) change(ctx, until context.Context) (*timings, error) {
	times := &timings{}
	limit := rate.NewLimiter(rate.Limit(b.f.Rate), b.f.Writers)
	g, ctx := errgroup.WithContext(ctx)
	for w := range b.f.Writers {
		r := rand.New(rand.NewPCG(uint64(w), 1))
		g.Go(func() error {
			for limit.Wait(until) == nil {
				began := time.Now()
				if err := b.changeOne(ctx, r.IntN(b.f.Rows), r.IntN(1<<30)); err != nil {
					return err
				}
				times.add(time.Since(began))
			}
			return nil
		})
	}
	return times, g.Wait()
}

// changeOne is a service's transaction.
func (b *backfillRig) changeOne(ctx context.Context, record, n int) error {
	state := b.work.row(record, n)
	data, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("make event: %w", err)
	}
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	_, err = tx.ExecContext(ctx, "UPDATE "+sourceTable+" SET n = ?, active = ?, score = ? WHERE id = ?", state.N, state.Active, state.Score, state.ID)
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO "+intoOutbox+" VALUES (?, ?, 'upsert', ?)", b.name, state.ID, string(data)); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
