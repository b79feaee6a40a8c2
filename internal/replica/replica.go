package replica

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// Defaults of Config.
const (
	DefaultSessionTimeout = 10 * time.Second
	DefaultHistoryEvery   = 10 * time.Second
)

// Config of a replica database. MySQL states where it is; everything else may be zero.
type Config struct {
	// MySQL are its connections. Writers is the number of batches that are written at the same time. Idle 0 means half of
	// SessionTimeout.
	MySQL mysql.Config
	// SessionTimeout is the consumer group's: Take believes an owner of a newer generation alive for that long; 0 means
	// DefaultSessionTimeout.
	SessionTimeout time.Duration
	// HistoryEvery is the time between two notes of a source's position; 0 means DefaultHistoryEvery.
	HistoryEvery time.Duration
	// BeforeCommit, if not nil, is called inside each batch's transaction when everything is written; fault tests stop the
	// process there. It is nil in production.
	BeforeCommit func()
}

func (c Config) withDefaults() (Config, error) {
	if c.SessionTimeout < 0 || c.HistoryEvery < 0 {
		return c, fmt.Errorf("replica: SessionTimeout is %v and HistoryEvery %v; give positive values, or 0 for the defaults", c.SessionTimeout, c.HistoryEvery)
	}
	c.SessionTimeout = cmp.Or(c.SessionTimeout, DefaultSessionTimeout)
	c.HistoryEvery = cmp.Or(c.HistoryEvery, DefaultHistoryEvery)
	c.MySQL.Idle = cmp.Or(c.MySQL.Idle, c.SessionTimeout/2)
	if c.MySQL.Logger == nil {
		c.MySQL.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// DB is a replica database, MySQL or MariaDB. Its own methods write replica tables; its fields keep what workers and operators
// remember beside them. It is safe for concurrent use.
type DB struct {
	// Positions are the fences of sources and how far each is applied, Topics the identities of topics.
	Positions *Positions
	Topics    *Topics
	// Rows reads replica tables.
	Rows *Rows
	// Letters are the dead letters.
	Letters *Letters
	// Jobs are the replays, Rebuilds the tables of those that rebuild one.
	Jobs     *jobstore.Jobs
	Rebuilds *jobstore.Rebuilds
	// Declarations are what is noted of datasets, Binding what the database belongs to.
	Declarations *Declarations
	Binding      *Bindings
	// Pauses and Restarts are decisions of operators, and of workers.
	Pauses   *Pauses
	Restarts *Restarts
	// Outbox holds invalidations until they are published.
	Outbox *Outbox

	cfg    Config
	pool   *mysql.Pool
	log    *slog.Logger
	tables *registry

	mu    sync.Mutex
	noted map[string]time.Time // guarded by mu: source → when its history was last written
	// repeating is guarded by mu: source → whether its next batch is expected to repeat what the rows have.
	repeating map[string]expectation

	stats counters
}

type counters struct {
	batches, rows, refused, letters, superseded, statements, bisects atomic.Int64
}

// Stats counts what a DB did since Open.
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
func Open(ctx context.Context, cfg Config) (*DB, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	pool, err := mysql.Open(ctx, cfg.MySQL)
	if err != nil {
		return nil, err
	}
	known := newRegistry(pool)
	topics, jobs := &Topics{pool}, jobstore.NewJobs(pool)
	return &DB{
		Positions: &Positions{pool, cfg.SessionTimeout}, Topics: topics, Rows: &Rows{pool, known, topics}, Letters: &Letters{pool, known},
		Jobs: jobs, Rebuilds: jobstore.NewRebuilds(pool, jobs, lockPositions, known.forget), Declarations: &Declarations{pool}, Binding: &Bindings{pool},
		Pauses: &Pauses{pool}, Restarts: &Restarts{pool}, Outbox: &Outbox{pool},
		cfg: cfg, pool: pool, log: cfg.MySQL.Logger, tables: known, noted: map[string]time.Time{}, repeating: map[string]expectation{},
	}, nil
}

// Prepare compares the tables of datasets with the database, before anything is written to them, and remembers the
// datasets so that Apply knows the tables of their letters. It returns one DatasetError per dataset that must not be
// written as things are, and nothing is: every batch with rows of it looks at the table again first. err is an
// infrastructure fault.
func (m *DB) Prepare(ctx context.Context, datasets []*schemas.Dataset) (broken []*tables.DatasetError, err error) {
	return m.tables.prepare(ctx, datasets)
}

// Lanes returns the log of a namespace's lanes.
func (m *DB) Lanes(namespace string) *LaneLog { return &LaneLog{m.pool, namespace} }

// SQL returns the connections behind m, for parts that share the database; they are closed by Close.
func (m *DB) SQL() *sql.DB { return m.pool.DB() }

// Dialect returns the database's dialect.
func (m *DB) Dialect() mysql.Dialect { return m.pool.Dialect() }

// Stats returns the counts so far.
func (m *DB) Stats() Stats {
	c, pool := &m.stats, m.pool.Stats()
	return Stats{
		Batches: c.batches.Load(), Rows: c.rows.Load(), Letters: c.letters.Load(), Refused: c.refused.Load(),
		Superseded: c.superseded.Load(), Statements: c.statements.Load(), Bisects: c.bisects.Load(),
		Retries: pool.Retries, Repins: pool.Repins,
	}
}

// Ping asks the database for a sign of life.
func (m *DB) Ping(ctx context.Context) error {
	return mysql.Wrap("ping database", "", m.pool.DB().PingContext(ctx))
}

// Close waits for running transactions and closes every connection. Calling it again does nothing.
func (m *DB) Close() error { return m.pool.Close() }
