package replica

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/schemas"
)

// MySQL is a replica database, MySQL or MariaDB. It is safe for concurrent use.
//
// Whatever writes goes through a fixed number of pinned connections, each with its own prepared statements: the pool of
// database/sql would prepare them again and again.
type MySQL struct {
	cfg     Config
	db      *sql.DB
	dialect Dialect
	log     *slog.Logger
	writers chan *writer // as many as cfg.Writers, nil inside until first used

	mu     sync.Mutex
	tables map[*schemas.Dataset]*table // guarded by mu
	byName map[string]*table           // guarded by mu: the tables of Prepare, for letters
	noted  map[string]time.Time        // guarded by mu: source → when its history was last written
	closed bool                        // guarded by mu

	stats counters
}

type counters struct {
	batches, rows, refused, letters, superseded, statements, bisects, retries, repins atomic.Int64
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

// Open connects to the database and learns its dialect. Freshet's own tables need not exist yet.
func Open(ctx context.Context, cfg Config) (*MySQL, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	connector, err := cfg.connector()
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(cfg.Writers + cfg.ReadConns)
	db.SetMaxIdleConns(cfg.Writers + cfg.ReadConns)
	db.SetConnMaxLifetime(connLifetime)
	db.SetConnMaxIdleTime(connIdle)
	dialect, err := DetectDialect(ctx, db)
	if err != nil {
		_ = db.Close() // nothing was done with it
		return nil, err
	}
	m := &MySQL{
		cfg: cfg, db: db, dialect: dialect, log: cfg.Logger,
		writers: make(chan *writer, cfg.Writers),
		tables:  map[*schemas.Dataset]*table{}, byName: map[string]*table{}, noted: map[string]time.Time{},
	}
	for range cfg.Writers {
		m.writers <- nil
	}
	return m, nil
}

// DB is the pool behind m, for parts that share the database; it is closed by Close.
func (m *MySQL) DB() *sql.DB { return m.db }

// Dialect is the database's dialect.
func (m *MySQL) Dialect() Dialect { return m.dialect }

// Stats gives the counts so far.
func (m *MySQL) Stats() Stats {
	c := &m.stats
	return Stats{
		Batches: c.batches.Load(), Rows: c.rows.Load(), Letters: c.letters.Load(), Refused: c.refused.Load(),
		Superseded: c.superseded.Load(), Statements: c.statements.Load(), Bisects: c.bisects.Load(),
		Retries: c.retries.Load(), Repins: c.repins.Load(),
	}
}

// Ping asks the database for a sign of life.
func (m *MySQL) Ping(ctx context.Context) error {
	return doing("ping database", "", m.db.PingContext(ctx))
}

// Close waits for running transactions and closes every connection. Calling it again does nothing.
func (m *MySQL) Close() error {
	m.mu.Lock()
	again := m.closed
	m.closed = true
	m.mu.Unlock()
	if again {
		return nil
	}
	for range m.cfg.Writers {
		if w := <-m.writers; w != nil {
			w.close()
		}
	}
	close(m.writers)
	if err := m.db.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

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
