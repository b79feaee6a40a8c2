// Package migrations makes and upgrades Freshet's own tables, those whose names begin with freshet_. They live in the
// replica's database, beside the tables that mirror datasets; the latter are made by freshet migrate datasets.
//
// Every file under sql holds one statement each way, so a server that commits DDL by itself never stops half-way through
// a version. Names, keys and sources are VARBINARY: they are compared byte by byte whatever the server's collation is.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// Tables that the migrations themselves need.
const (
	// VersionTable lists the migrations that ran.
	VersionTable = "freshet_migrations"
	// LockTable holds the lease of the process that migrates.
	LockTable = "freshet_migrations_lock"
)

// DefaultLockWait is how long Up and Down wait for another migration to finish.
const DefaultLockWait = time.Minute

const (
	lockID   = 1
	lockPoll = time.Second
)

//go:embed sql/*.sql
var files embed.FS

// Config of the migrations. The zero value works.
type Config struct {
	// NoLock leaves out the lock that keeps two migrations of one database apart. It is meant for the embedded server
	// of the dev stack, which one process has to itself.
	NoLock bool
	// LockWait is the longest wait for another migration, in whole seconds; 0 means DefaultLockWait.
	LockWait time.Duration
	// Logger learns of each migration; nil discards.
	Logger *slog.Logger
}

// Step is one migration and whether it ran.
type Step struct {
	Version int64
	// Name is the migration's file name.
	Name string
	// Applied reports whether the database has it.
	Applied bool
}

// Migrations makes Freshet's tables in one database. Its methods may be called concurrently, also by several processes.
type Migrations struct {
	db       *sql.DB
	provider *goose.Provider
	store    database.Store
	noLock   bool
}

// New checks the configuration and reads the embedded files; it does not touch the database. The caller keeps db, which
// must be opened with the driver's parseTime unless NoLock is set, and closes it.
func New(db *sql.DB, cfg Config) (*Migrations, error) {
	if db == nil {
		return nil, errors.New("migrations: no database given")
	}
	if cfg.LockWait < 0 {
		return nil, fmt.Errorf("migrations: LockWait is %s; give a positive time, or 0 for %s", cfg.LockWait, DefaultLockWait)
	}
	if cfg.LockWait == 0 {
		cfg.LockWait = DefaultLockWait
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	sqlFiles, err := fs.Sub(files, "sql")
	if err != nil {
		return nil, fmt.Errorf("open embedded migrations: %w", err)
	}
	opts := []goose.ProviderOption{
		goose.WithTableName(VersionTable),
		goose.WithDisableGlobalRegistry(true),
		goose.WithSlog(cfg.Logger),
	}
	if !cfg.NoLock {
		tries := uint64(cfg.LockWait/lockPoll) + 1
		locker, err := lock.NewMySQLTableLocker(
			lock.WithTableName(LockTable),
			lock.WithTableLockID(lockID),
			lock.WithTableLockTimeout(lockPoll, tries),
			lock.WithTableLogger(cfg.Logger),
		)
		if err != nil {
			return nil, fmt.Errorf("make migration lock: %w", err)
		}
		opts = append(opts, goose.WithLocker(locker))
	}
	provider, err := goose.NewProvider(goose.DialectMySQL, db, sqlFiles, opts...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	store, err := database.NewStore(database.DialectMySQL, VersionTable)
	if err != nil {
		return nil, fmt.Errorf("open migration store: %w", err)
	}
	return &Migrations{db: db, provider: provider, store: store, noLock: cfg.NoLock}, nil
}

// ErrParseTime comes from Up and Down when the lock could not read times.
var ErrParseTime = errors.New("the database was opened without parseTime, which the lock of migrations needs")

// checkTimes finds a missing parseTime at once; the lock would try again and again until LockWait is over.
func (m *Migrations) checkTimes(ctx context.Context) error {
	if m.noLock {
		return nil
	}
	var now any
	if err := m.db.QueryRowContext(ctx, "SELECT NOW()").Scan(&now); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	if _, ok := now.(time.Time); !ok {
		return ErrParseTime
	}
	return nil
}

// Up runs every migration that the database lacks and returns those that ran, also when a later one failed. A database that
// is up to date is left alone.
func (m *Migrations) Up(ctx context.Context) ([]Step, error) {
	if err := m.checkTimes(ctx); err != nil {
		return nil, err
	}
	results, err := m.provider.Up(ctx)
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		results = partial.Applied
	}
	if err != nil {
		err = fmt.Errorf("run migrations: %w", err)
	}
	steps := make([]Step, 0, len(results))
	for _, r := range results {
		steps = append(steps, Step{Version: r.Source.Version, Name: r.Source.Path, Applied: true})
	}
	return steps, err
}

// Down takes back the newest migration and returns it; its table and everything in it is gone. ok is false when there was
// nothing to take back.
func (m *Migrations) Down(ctx context.Context) (step Step, ok bool, err error) {
	if err = m.checkTimes(ctx); err != nil {
		return Step{}, false, err
	}
	r, err := m.provider.Down(ctx)
	if errors.Is(err, goose.ErrNoNextVersion) {
		return Step{}, false, nil
	}
	if err != nil {
		return Step{}, false, fmt.Errorf("take back migration: %w", err)
	}
	return Step{Version: r.Source.Version, Name: r.Source.Path}, true, nil
}

// Status gives every migration of this program, oldest first, and whether the database has it. It changes nothing, so it
// also works before the first Up.
func (m *Migrations) Status(ctx context.Context) ([]Step, error) {
	applied, err := m.applied(ctx)
	if err != nil {
		return nil, fmt.Errorf("read migration status: %w", err)
	}
	sources := m.provider.ListSources()
	steps := make([]Step, 0, len(sources))
	for _, s := range sources {
		steps = append(steps, Step{Version: s.Version, Name: s.Path, Applied: applied[s.Version]})
	}
	return steps, nil
}

// applied reads the version table through goose's store. The provider's own Status would make the table first, and it
// reads times, which needs a driver setting (parseTime) that the replica's connections do not have.
func (m *Migrations) applied(ctx context.Context) (map[int64]bool, error) {
	var there int
	err := m.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
		VersionTable).Scan(&there)
	if err != nil || there == 0 {
		return nil, err
	}
	rows, err := m.store.ListMigrations(ctx, m.db)
	if err != nil {
		return nil, err
	}
	applied := make(map[int64]bool, len(rows))
	for _, r := range rows {
		applied[r.Version] = r.IsApplied
	}
	return applied, nil
}

// Tables returns the names of the tables that the migrations make, without the two that they need themselves, in the order in which they
// are made.
func Tables() []string {
	const create = "\nCREATE TABLE "
	var names []string
	steps, err := files.ReadDir("sql")
	if err != nil {
		return nil // an embedded folder is there
	}
	for _, step := range steps {
		text, _ := files.ReadFile("sql/" + step.Name())
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		if _, rest, found := strings.Cut(up, create); found {
			name, _, _ := strings.Cut(rest, " ")
			names = append(names, name)
		}
	}
	return names
}
