package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// Defaults of Config.
const (
	DefaultMaxBacklog = 50_000
	DefaultMaxRunning = 24
	DefaultRest       = 3
)

// Replica reads the replica's rows; *replica.Rows does.
type Replica interface {
	// Page reads rows in the order of their key.
	Page(ctx context.Context, ds *schemas.Dataset, after []any, n int) (rows []replica.LiveRow, last []any, err error)
	// Versions reads the versions of records, those of deleted ones too.
	Versions(ctx context.Context, ds *schemas.Dataset, keys []string) (map[string]int64, error)
}

// Config of a Loader. Source and Dataset are required.
type Config struct {
	// Source is the database that has the table and the outbox.
	Source *mysql.Pool
	// Dataset is the dataset whose rows are enqueued. Its versions must be the outbox's or a column's.
	Dataset *schemas.Dataset
	// Table is the source table, "table" or "database.table"; "" means the name of the replica table.
	Table string
	// Columns maps properties to columns of the source table; a property that is missing here is in the column that has its
	// name.
	Columns map[string]string
	// Replica is where records are looked for that the source does not have, and for versions that the outbox would not
	// exceed; nil does neither.
	Replica Replica
	// MaxDeletions is how many records that the source does not have a run may delete: if there are more, it deletes none and
	// returns ErrDeletions. 0 means a tenth of the rows, but at least 1000; a negative number means no limit.
	MaxDeletions int
	// KeepMissing leaves records alone that the source does not have.
	KeepMissing bool
	// Rate is the greatest number of rows a second; 0 means no limit.
	Rate float64
	// Rest is how long the Loader waits after a chunk, in multiples of the time that the chunk took; 0 means DefaultRest, and a
	// negative number no rest.
	Rest float64
	// MaxBacklog pauses the Loader while the outbox has more rows; 0 means DefaultMaxBacklog.
	MaxBacklog int
	// MaxRunning pauses the Loader while the server runs more threads (Threads_running); 0 means DefaultMaxRunning.
	MaxRunning int
	// SkipInvalid counts rows that the dataset's schema refuses, and continues; else the first one ends Run.
	SkipInvalid bool
	// Restart forgets the cursor and begins with the first row.
	Restart bool
	// Report is called about once a second and at the end, from the goroutine of Run; nil for none.
	Report func(Progress)
	// Logger receives pauses and skipped rows, without their content; nil discards.
	Logger *slog.Logger
}

// Progress is how far a Loader came. The counts are those of the whole run, also over restarts of the process.
type Progress struct {
	// Phase is "rows", "deletions" or "done".
	Phase string `json:"phase"`
	// Rows were enqueued, Invalid ones were skipped, and Deletions were enqueued for records that the source does not have.
	Rows      int64 `json:"rows"`
	Invalid   int64 `json:"invalid"`
	Deletions int64 `json:"deletions"`
	// Total is the server's estimate of the table's rows.
	Total int64 `json:"total"`
	// RowsPerSecond is the rate of this process since it began.
	RowsPerSecond float64 `json:"rows_per_second"`
	// Remaining is the estimated time until all rows are enqueued; 0 when it is unknown or all are.
	Remaining time.Duration `json:"remaining_ns"`
	// Paused is why the Loader waits; "" while it reads.
	Paused string `json:"paused,omitempty"`
}

// ErrInvalidRow is returned when the dataset's schema refuses a row of the source.
var ErrInvalidRow = errors.New("the source has a row that is not valid")

// ErrDeletions is returned when the replica has more records that the source does not have than may be deleted.
var ErrDeletions = errors.New("the replica has many records that the source does not have")

// ErrVersions is returned when the replica has versions that those of the outbox would not exceed.
var ErrVersions = errors.New("the replica has greater versions than the outbox")

// Loader enqueues the rows of one table. Use one goroutine.
type Loader struct {
	cfg     Config
	source  *source
	limiter *rate.Limiter
	began   time.Time
	loaded  int64 // by this process
	reached bool  // a transaction of this process succeeded
	next    time.Time
	p       Progress
	pace    pace
	log     *slog.Logger
}

// New returns a Loader. It reads the table's columns and refuses a table that cannot be mapped to the dataset.
func New(ctx context.Context, cfg Config) (*Loader, error) {
	if cfg.Source == nil || cfg.Dataset == nil {
		return nil, errors.New("backfill: Source and Dataset are required")
	}
	cfg.MaxBacklog = cmp.Or(cfg.MaxBacklog, DefaultMaxBacklog)
	cfg.Rest = cmp.Or(cfg.Rest, DefaultRest)
	cfg.MaxRunning = cmp.Or(cfg.MaxRunning, DefaultMaxRunning)
	if cfg.Rate < 0 || cfg.MaxBacklog < 0 || cfg.MaxRunning < 0 {
		return nil, errors.New("backfill: Rate, MaxBacklog and MaxRunning must not be negative")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dataset.Format != schemas.FormatCloudEvents {
		return nil, fmt.Errorf("backfill: dataset %s has the format %s, which only the capture tool writes: the relay publishes no event of it; use the tool's own snapshot", cfg.Dataset.Name, cfg.Dataset.Format)
	}
	if k := cfg.Dataset.Version.Kind; k == schemas.VersionOffset {
		return nil, fmt.Errorf("backfill: dataset %s takes its versions from the place in the topic, which an outbox does not have; set version: event", cfg.Dataset.Name)
	}
	if err := checkOutbox(ctx, cfg.Source); err != nil {
		return nil, err
	}
	src, err := findSource(ctx, cfg)
	if err != nil {
		return nil, err
	}
	limit := rate.Inf
	if cfg.Rate > 0 {
		limit = rate.Limit(cfg.Rate)
	}
	p := newPace(src.rowBytes, cfg.Rate)
	return &Loader{
		cfg: cfg, source: src, limiter: rate.NewLimiter(limit, p.most), pace: p,
		log: cfg.Logger.With("component", "backfill", "dataset", cfg.Dataset.Name),
	}, nil
}

// Run enqueues what is left and returns nil when everything is enqueued. After an error, or when ctx ends, another Run
// continues where this one stopped.
func (l *Loader) Run(ctx context.Context) error {
	l.began = time.Now()
	if err := l.begin(ctx); err != nil {
		return err
	}
	for l.p.Phase != phaseDone { // another process may have begun the run again
		step := l.deletions
		if l.p.Phase == phaseRows {
			step = l.chunk
		}
		if err := l.wait(ctx); err != nil {
			return err
		}
		if err := step(ctx); err != nil {
			return err
		}
		l.report(false)
	}
	l.report(true)
	return nil
}

// report computes the rate and calls Report, at most once a second.
func (l *Loader) report(now bool) {
	if l.cfg.Report == nil || !now && time.Now().Before(l.next) {
		return
	}
	l.next = time.Now().Add(time.Second)
	l.p.RowsPerSecond, l.p.Remaining = 0, 0
	if took := time.Since(l.began).Seconds(); took > 0 && l.loaded > 0 {
		l.p.RowsPerSecond = float64(l.loaded) / took
		if left := l.p.Total - l.p.Rows - l.p.Invalid; left > 0 && l.p.Phase == phaseRows {
			l.p.Remaining = time.Duration(float64(left) / l.p.RowsPerSecond * float64(time.Second))
		}
	}
	l.cfg.Report(l.p)
}
