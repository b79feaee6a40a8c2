package replica

import (
	"context"
	"database/sql"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// MySQL is a replica database, MySQL or MariaDB. It is safe for concurrent use.
type MySQL struct {
	cfg     Config
	pool    *mysql.Pool
	db      *sql.DB
	dialect mysql.Dialect
	log     *slog.Logger

	mu     sync.Mutex
	tables map[*schemas.Dataset]*table // guarded by mu
	byName map[string]*table           // guarded by mu: the tables of Prepare, for letters
	noted  map[string]time.Time        // guarded by mu: source → when its history was last written

	stats counters
}

type counters struct {
	batches, rows, refused, letters, superseded, statements, bisects atomic.Int64
}

// Stats counts what a MySQL did since Open.
type Stats struct {
	// Batches and Rows were committed; Letters were written with them, Refused of them because the table refused a row.
	Batches, Rows, Letters, Refused int64
	// Superseded letters were overtaken by a newer change of their record.
	Superseded int64
	// Statements is the number of upserts sent, Bisects how many of them were halved because of a bad row.
	Statements, Bisects int64
	// Retries is the number of transactions begun again, Repins that of connections given up.
	Retries, Repins int64
}

// Open connects to the database and asks for its dialect. Freshet's own tables need not exist yet.
func Open(ctx context.Context, cfg Config) (*MySQL, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	pool, err := mysql.Open(ctx, cfg.MySQL)
	if err != nil {
		return nil, err
	}
	return &MySQL{
		cfg: cfg, pool: pool, db: pool.DB(), dialect: pool.Dialect(), log: cfg.MySQL.Logger,
		tables: map[*schemas.Dataset]*table{}, byName: map[string]*table{}, noted: map[string]time.Time{},
	}, nil
}

// DB is the pool behind m, for parts that share the database; it is closed by Close.
func (m *MySQL) DB() *sql.DB { return m.db }

// Dialect is the database's dialect.
func (m *MySQL) Dialect() mysql.Dialect { return m.dialect }

// Stats gives the counts so far.
func (m *MySQL) Stats() Stats {
	c, pool := &m.stats, m.pool.Stats()
	return Stats{
		Batches: c.batches.Load(), Rows: c.rows.Load(), Letters: c.letters.Load(), Refused: c.refused.Load(),
		Superseded: c.superseded.Load(), Statements: c.statements.Load(), Bisects: c.bisects.Load(),
		Retries: pool.Retries, Repins: pool.Repins,
	}
}

// Ping asks the database for a sign of life.
func (m *MySQL) Ping(ctx context.Context) error {
	return mysql.Wrap("ping database", "", m.db.PingContext(ctx))
}

// Close waits for running transactions and closes every connection. Calling it again does nothing.
func (m *MySQL) Close() error { return m.pool.Close() }

// table gives what is prepared once per dataset.
func (m *MySQL) table(ds *schemas.Dataset) *table {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tables[ds]
	if !ok {
		t = newTable(ds, m.dialect)
		m.tables[ds] = t
	}
	return t
}

func (m *MySQL) tableByName(dataset string) *table {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byName[dataset]
}

// prepared returns the tables of the datasets that Prepare was given, in the order of their names.
func (m *MySQL) prepared() []*table {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*table, 0, len(m.byName))
	for _, name := range slices.Sorted(maps.Keys(m.byName)) {
		out = append(out, m.byName[name])
	}
	return out
}
