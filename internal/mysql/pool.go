// Package mysql opens MySQL and MariaDB databases as Freshet's statements need them: with fixed session variables, errors
// that hold no values, and a pool of pinned connections that keep their prepared statements.
package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/retry"
)

const (
	// maxTries bounds the tries of one transaction against conflicts; after them the caller decides.
	maxTries = 8
	// maxLockWaits is maxTries for waits that already took LockWait: meanwhile other datasets lack the connection.
	maxLockWaits = 2
	// A broken connection reports that the server may be away: once more, since it may also have been idle too long.
	maxReconnects = 1
	conflictFirst = 20 * time.Millisecond
	conflictMax   = time.Second
)

// Pool is a database with two kinds of connections. Transactions have a fixed number of pinned ones, each with its own
// prepared statements, since the pool of database/sql would prepare them again and again. Everything else shares those of
// DB. It is safe for concurrent use.
type Pool struct {
	cfg     Config
	db      *sql.DB
	dialect Dialect
	log     *slog.Logger
	pinned  chan *Conn // as many as cfg.Writers, nil inside until first used
	closed  atomic.Bool

	retries, repins atomic.Int64
}

// Stats counts what a Pool did since Open.
type Stats struct {
	// Retries is the number of transactions begun again, Repins that of pinned connections given up.
	Retries, Repins int64
}

// Open connects to the database and asks for its dialect.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
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
	p := &Pool{cfg: cfg, db: db, dialect: dialect, log: cfg.Logger, pinned: make(chan *Conn, cfg.Writers)}
	for range cfg.Writers {
		p.pinned <- nil
	}
	return p, nil
}

// DB returns the connections that are not pinned. They are closed by Close.
func (p *Pool) DB() *sql.DB { return p.db }

// Dialect returns the server's dialect.
func (p *Pool) Dialect() Dialect { return p.dialect }

// Stats returns the counts so far.
func (p *Pool) Stats() Stats {
	return Stats{Retries: p.retries.Load(), Repins: p.repins.Load()}
}

// Close waits for running transactions and closes every connection. Calling it again does nothing.
func (p *Pool) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	for range p.cfg.Writers {
		if c := <-p.pinned; c != nil {
			c.Close()
		}
	}
	close(p.pinned)
	if err := p.db.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

func (p *Pool) acquire(ctx context.Context) (*Conn, error) {
	var c *Conn
	var open bool
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case c, open = <-p.pinned:
		if !open {
			return nil, ErrClosed
		}
	}
	if p.closed.Load() {
		p.pinned <- c
		return nil, ErrClosed
	}
	if c != nil && (time.Since(c.born) > connLifetime || time.Since(c.used) > p.cfg.Idle) {
		c.Close()
		c = nil
	}
	if c == nil {
		var err error
		if c, err = p.Connect(ctx); err != nil {
			p.pinned <- nil
			return nil, err
		}
	}
	return c, nil
}

func (p *Pool) release(c *Conn, broken bool) {
	if broken {
		p.repins.Add(1)
		c.Close()
		c = nil
	} else {
		c.used = time.Now()
	}
	p.pinned <- c
}

// Use runs fn on a pinned connection without a transaction: each statement commits by itself.
func (p *Pool) Use(ctx context.Context, fn func(context.Context, *Conn) error) error {
	c, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	broken := true // also when fn panics
	defer func() { p.release(c, broken) }()
	err = fn(ctx, c)
	broken = err != nil && (ended(ctx, err) || Classify(err) == ClassConnection)
	return err
}

// Try runs fn in one transaction on a pinned connection and commits. Any error rolls everything back first: after a lock
// wait the server has undone the statement only, and a commit would keep the earlier ones.
func (p *Pool) Try(ctx context.Context, fn func(context.Context, *Conn) error) error {
	c, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	broken := true // also when fn panics
	defer func() { p.release(c, broken) }()
	if err = c.Begin(ctx); err != nil {
		return err
	}
	if err = fn(ctx, c); err == nil {
		if err = c.Commit(ctx); err != nil {
			return err
		}
		broken = false
		return nil
	}
	rollbackErr := c.Rollback(ctx)
	broken = rollbackErr != nil || ended(ctx, err) || Classify(err) == ClassConnection
	return err
}

// Transact is Try, again after conflicts and once after a broken connection; what names the operation in errors. Its bounds
// leave the long patience to the caller, who knows whether anything still waits.
func (p *Pool) Transact(ctx context.Context, what string, fn func(context.Context, *Conn) error) error {
	tries, waits, reconnects := 0, 0, 0
	return retry.Do(ctx, retry.Policy{First: conflictFirst, Max: conflictMax}, func(ctx context.Context) error {
		err := p.Try(ctx, fn)
		if err == nil {
			return nil
		}
		again := false
		switch classifyOwn(err) {
		case ClassConflict:
			tries++
			if IsLockWait(err) {
				waits++
			}
			again = tries < maxTries && waits < maxLockWaits
		case ClassConnection:
			reconnects++
			again = reconnects <= maxReconnects
		case ClassInfrastructure, ClassPoison, ClassDataset, ClassUnknown:
		}
		if ended(ctx, err) {
			again = false
		}
		if !again {
			return retry.Permanent(Wrap(what, "", err))
		}
		p.retries.Add(1)
		p.log.DebugContext(ctx, "transaction begun again", "component", "replica", "step", what, "error", err)
		return err
	})
}
