// Package replicabench measures what the guarantees of a batch cost: the rate of replica's Apply against a bare loop of
// the same prepared statement, over the same rows, in one run on one server. Rates depend on the machine; their ratio
// hardly does.
package replicabench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/schemas"
)

// Defaults of Config.
const (
	DefaultGroup   = "freshet-bench"
	DefaultRows    = 100_000
	DefaultBatch   = 1000
	DefaultConns   = 4
	DefaultBatches = 25
	DefaultRounds  = 5
)

// Table is the table that a run makes, and drops at its end.
const Table = "freshet_bench"

// Config of a run. The zero value of every field but Replica works.
type Config struct {
	// Replica says where the database is, which must have Freshet's own tables. Writers is set to Conns.
	Replica replica.Config
	// Group is the consumer group that the run pretends to be. A database that a group writes already refuses any other;
	// "" means DefaultGroup.
	Group string
	// Rows is the number of rows of the table, all of which exist beforehand; 0 means DefaultRows.
	Rows int
	// Batch is the number of rows of one transaction; 0 means DefaultBatch.
	Batch int
	// Conns is the number of connections that write at once; 0 means DefaultConns.
	Conns int
	// Batches is the number of batches of each connection and round; 0 means DefaultBatches.
	Batches int
	// Rounds is how often the two ways take turns; 0 means DefaultRounds.
	Rounds int
}

// Result is what a run measured.
type Result struct {
	// Apply and Bare are rows per second, the median of the rounds.
	Apply, Bare float64
	// Ratio is Apply / Bare, the median of the rounds' ratios.
	Ratio float64
	// Rows is the number of rows that each way wrote.
	Rows int
}

func (c Config) withDefaults() Config {
	set := func(n *int, def int) {
		if *n <= 0 {
			*n = def
		}
	}
	set(&c.Rows, DefaultRows)
	set(&c.Batch, DefaultBatch)
	set(&c.Conns, DefaultConns)
	set(&c.Batches, DefaultBatches)
	set(&c.Rounds, DefaultRounds)
	c.Batch = min(c.Batch, c.Rows)
	if c.Group == "" {
		c.Group = DefaultGroup
	}
	c.Replica.Writers = c.Conns
	c.Replica.ReadConns = c.Conns + 1
	return c
}

// bench is one run.
type bench struct {
	cfg       Config
	m         *replica.MySQL
	ds        *schemas.Dataset
	positions []replica.Position
	version   int64
	offset    int64
}

// Run makes the table, measures, and removes what it made.
func Run(ctx context.Context, cfg Config) (res Result, err error) {
	cfg = cfg.withDefaults()
	m, err := replica.Open(ctx, cfg.Replica)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	b := &bench{cfg: cfg, m: m, ds: dataset()}
	defer func() { err = errors.Join(err, b.remove(context.WithoutCancel(ctx))) }()
	if err = b.prepare(ctx); err != nil {
		return Result{}, err
	}
	var apply, bare, ratio []float64
	for range cfg.Rounds {
		a, err := b.measure(ctx, b.apply)
		if err != nil {
			return Result{}, err
		}
		l, err := b.measure(ctx, b.bare)
		if err != nil {
			return Result{}, err
		}
		apply, bare, ratio = append(apply, a), append(bare, l), append(ratio, a/l)
	}
	return Result{
		Apply: median(apply), Bare: median(bare), Ratio: median(ratio),
		Rows: cfg.Rounds * cfg.Conns * cfg.Batches * cfg.Batch,
	}, nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// dataset is a table of six columns, with rows of about 150 bytes.
func dataset() *schemas.Dataset {
	text := func(name string, n int) schemas.Column {
		return schemas.Column{Name: name, Property: schemas.Property{Name: name, Kind: schemas.KindString, MaxLength: n}}
	}
	whole := func(name string, key bool) schemas.Column {
		return schemas.Column{Name: name, Key: key, Property: schemas.Property{Name: name, Kind: schemas.KindInteger}}
	}
	return &schemas.Dataset{
		Name: "freshet-bench", Topic: "freshet.bench", Key: []string{"id"},
		Replica: &schemas.Replica{
			Table: Table, KeyColumns: 1,
			Columns: []schemas.Column{whole("id", true), text("email", 100), text("name", 100), text("note", 200), whole("org_id", false), whole("score", false)},
		},
	}
}

func (b *bench) prepare(ctx context.Context) error {
	if err := b.exec(ctx, "DROP TABLE IF EXISTS "+Table, replica.CreateTable(b.ds, b.m.Dialect())); err != nil {
		return err
	}
	claims := make([]replica.Claim, b.cfg.Conns)
	for i := range claims {
		claims[i].Source = fmt.Sprintf("%s/bench/%d", b.ds.Topic, i)
	}
	var err error
	if b.positions, err = b.m.Take(ctx, b.cfg.Group, "bench", 1, claims); err != nil {
		return err
	}
	for first := 0; first < b.cfg.Rows; first += b.cfg.Batch {
		ids := make([]int, 0, b.cfg.Batch)
		for id := first; id < min(first+b.cfg.Batch, b.cfg.Rows); id++ {
			ids = append(ids, id)
		}
		if _, err = b.m.Apply(ctx, b.batch(0, ids)); err != nil {
			return fmt.Errorf("fill table: %w", err)
		}
	}
	return nil
}

func (b *bench) remove(ctx context.Context) error {
	return b.exec(ctx, "DROP TABLE IF EXISTS "+Table,
		"DELETE FROM freshet_position_history WHERE source LIKE 'freshet.bench/bench/%'",
		"DELETE FROM freshet_position WHERE source LIKE 'freshet.bench/bench/%'")
}

func (b *bench) exec(ctx context.Context, texts ...string) error {
	for _, text := range texts {
		if _, err := b.m.DB().ExecContext(ctx, text); err != nil {
			return fmt.Errorf("set up bench: %w", err)
		}
	}
	return nil
}

func (b *bench) batch(conn int, ids []int) *replica.Batch {
	b.version++
	b.offset += int64(len(ids))
	batch := &replica.Batch{Source: b.positions[conn].Source, Fence: b.positions[conn].Fence, Next: b.offset}
	for _, id := range ids {
		batch.Changes = append(batch.Changes, &replica.Change{
			Dataset: b.ds, Version: b.version, At: b.offset, Offset: b.offset,
			Values: []any{
				int64(id), fmt.Sprintf("user%d@example.org", id), fmt.Sprintf("Name of %d at %d", id, b.version),
				"a note of some length, as people write them when a form has room", int64(id % 97), b.version,
			},
		})
	}
	return batch
}

// measure makes the batches first, of random rows, and gives the rows per second of writing them.
func (b *bench) measure(ctx context.Context, write func(context.Context, []*replica.Batch) error) (float64, error) {
	work := make([][]*replica.Batch, b.cfg.Conns)
	for range b.cfg.Batches {
		for conn := range work {
			work[conn] = append(work[conn], b.batch(conn, rand.Perm(b.cfg.Rows)[:b.cfg.Batch])) //nolint:gosec // any rows will do
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	began := time.Now()
	for _, batches := range work {
		g.Go(func() error { return write(gctx, batches) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return float64(b.cfg.Conns*b.cfg.Batches*b.cfg.Batch) / time.Since(began).Seconds(), nil
}

func (b *bench) apply(ctx context.Context, batches []*replica.Batch) error {
	for _, batch := range batches {
		if _, err := b.m.Apply(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// bare is the loop that Apply is measured against: one prepared guarded upsert of a whole batch, sorted by key, in a
// transaction of its own. No fence, no position, no letters.
func (b *bench) bare(ctx context.Context, batches []*replica.Batch) error {
	conn, err := b.m.DB().Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close() //nolint:errcheck // back to the pool
	if _, err = conn.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"); err != nil {
		return fmt.Errorf("set up session: %w", err)
	}
	stmt, err := conn.PrepareContext(ctx, replica.UpsertSQL(b.ds, b.m.Dialect(), b.cfg.Batch))
	if err != nil {
		return fmt.Errorf("prepare upsert: %w", err)
	}
	defer stmt.Close() //nolint:errcheck // the connection outlives it
	var args []any
	for _, batch := range batches {
		rows := slices.Clone(batch.Changes)
		slices.SortFunc(rows, func(x, y *replica.Change) int { return int(x.Values[0].(int64) - y.Values[0].(int64)) })
		args = args[:0]
		for _, c := range rows {
			args = append(args, c.Values...)
			args = append(args, int64(0), c.At, c.Version)
		}
		if err = inTx(ctx, conn, stmt, args); err != nil {
			return err
		}
	}
	return nil
}

func inTx(ctx context.Context, conn *sql.Conn, stmt *sql.Stmt, args []any) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if _, err = stmt.ExecContext(ctx, args...); err != nil {
		return errors.Join(fmt.Errorf("upsert: %w", err), tx.Rollback())
	}
	if err = tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
