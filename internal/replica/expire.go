package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

// Retention is how long rows that have no further use are kept, by the database's clock since they last changed. A duration
// of 0 keeps them permanently.
type Retention struct {
	// DeadLetters is for dead letters that were superseded or discarded, and for redriven ones whose record has a newer
	// version by now: the event of any other redriven dead letter may be nowhere else, and a rebuild needs it.
	DeadLetters time.Duration
	// Audit is for lines of the audit log.
	Audit time.Duration
	// Tombstones is for rows of deleted records, and their tombstones. It must be longer than an event may be late, or be
	// delivered again from its source: an event older than the deletion brings the row back once it is removed.
	Tombstones time.Duration
	// Replays is for replays that are done, failed or cancelled.
	Replays time.Duration
}

const (
	errnoTableDenied = 1142

	// expireEvery is the time between two passes.
	expireEvery = 10 * time.Minute
	// expireChunk is how many rows one transaction removes, expireMost how many chunks one pass removes of each kind.
	expireChunk = 500
	expireMost  = 100

	sqlExpireLock    = "SELECT GET_LOCK(CONCAT('freshet:expire:', LEFT(DATABASE(), 49)), 0)"
	sqlExpireUnlock  = "DO RELEASE_LOCK(CONCAT('freshet:expire:', LEFT(DATABASE(), 49)))"
	sqlLetterSets    = "SELECT DISTINCT dataset FROM freshet_dead_letter"
	sqlExpireLetters = "SELECT source, `off`, idx FROM freshet_dead_letter WHERE dataset = ? AND state = ? AND updated_at < " + mysql.NowMillis + " - ? LIMIT ? FOR UPDATE"
	// The log grows at its end, so only its first lines are looked at.
	sqlExpireAudit  = "DELETE FROM freshet_audit WHERE id <= (SELECT MAX(id) FROM (SELECT id, at FROM freshet_audit ORDER BY id LIMIT ?) f WHERE at < " + mysql.NowMillis + " - ?)"
	sqlOldReplays   = "SELECT id FROM freshet_replay WHERE state IN ('done', 'failed', 'cancelled') AND updated_at < " + mysql.NowMillis + " - %d LIMIT %d"
	sqlExpireReplay = "DELETE FROM freshet_replay WHERE id = ?"
	sqlExpireParts  = "DELETE FROM freshet_replay_part WHERE job = ?"
)

// Expirer removes rows after their retention, a bounded number in each transaction. Of several processes that run one for a
// database, one works at a time.
type Expirer struct {
	m   *DB
	r   Retention
	log *slog.Logger

	removed atomic.Int64
	failed  atomic.Int64
	after   *LetterID // the last redriven letter that was looked at; nil begins again
}

// NewExpirer makes an Expirer. Its log is m's.
func (m *DB) NewExpirer(r Retention) *Expirer { return &Expirer{m: m, r: r, log: m.log} }

// Removed is the number of rows removed so far, and Failed the number of passes that ended with an error.
func (e *Expirer) Removed() (removed, failed int64) { return e.removed.Load(), e.failed.Load() }

// Run removes rows now and every ten minutes until ctx ends; it then returns nil. An error is logged and counted, and the
// next pass continues.
func (e *Expirer) Run(ctx context.Context) error {
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		if err := e.Pass(ctx); err != nil && ctx.Err() == nil {
			e.failed.Add(1)
			e.log.WarnContext(ctx, "old rows could not be removed; the next pass tries again", "component", "replica", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Pass removes what is due, unless another process is doing so. It is not safe for concurrent use.
func (e *Expirer) Pass(ctx context.Context) error {
	lock, err := e.m.pool.Connect(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	var got *int64
	if err := lock.QueryRow(ctx, sqlExpireLock, nil, &got); err != nil {
		return mysql.Wrap("lock old rows", "", err)
	}
	if got == nil || *got != 1 {
		return nil
	}
	defer func() {
		// The server releases the lock with the connection too, but only after Pass has returned.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = lock.Plain().ExecContext(end, sqlExpireUnlock)
	}()
	var errs []error // what is wrong with one kind of rows must not keep the others
	for _, step := range []struct {
		keep time.Duration
		do   func(ctx context.Context, keep int64) error
	}{
		{e.r.DeadLetters, e.closedLetters}, {e.r.DeadLetters, e.redrivenLetters}, {e.r.Tombstones, e.deletedRows}, {e.r.Replays, e.replays}, {e.r.Audit, e.audit},
	} {
		if step.keep <= 0 {
			continue
		}
		errs = append(errs, step.do(ctx, step.keep.Milliseconds()))
	}
	return errors.Join(errs...)
}

// repeat calls fn, which removes at most a chunk and returns how many rows it removed, until there is less to remove.
func (e *Expirer) repeat(ctx context.Context, what string, fn func(context.Context, *mysql.Conn) (int64, error)) error {
	for range expireMost {
		var n int64
		err := e.m.pool.Transact(ctx, what, func(ctx context.Context, w *mysql.Conn) (err error) {
			n, err = fn(ctx, w)
			return err
		})
		if err != nil {
			return err
		}
		e.removed.Add(n)
		if n < expireChunk {
			return nil
		}
	}
	return nil
}

func (e *Expirer) closedLetters(ctx context.Context, keep int64) error {
	const what = "remove old dead letters"
	sets, err := mysql.Texts(ctx, e.m.pool.DB(), what, sqlLetterSets)
	if err != nil {
		return err
	}
	for _, dataset := range sets {
		for _, state := range []State{StateSuperseded, StateDiscarded} {
			err := e.repeat(ctx, what, func(ctx context.Context, w *mysql.Conn) (int64, error) {
				return removeLetters(ctx, w, []byte(dataset), []byte(state), keep, expireChunk)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// redrivenLetters goes through them page by page, since most of them may have to stay.
func (e *Expirer) redrivenLetters(ctx context.Context, keep int64) error {
	for range expireMost {
		letters, err := e.m.Letters.List(ctx, LetterQuery{State: StateRedriven, After: e.after, Limit: expireChunk})
		if err != nil {
			return err
		}
		err = e.m.pool.Transact(ctx, "remove old dead letters", func(ctx context.Context, w *mysql.Conn) error {
			now, err := mysql.Now(ctx, w)
			if err != nil {
				return err
			}
			for i := range letters {
				if now-letters[i].Updated.UnixMilli() <= keep {
					continue
				}
				if err := e.redriven(ctx, w, &letters[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(letters) < expireChunk {
			e.after = nil
			return nil
		}
		last := letters[len(letters)-1].ID()
		e.after = &last
	}
	return nil
}

// redriven removes a redriven letter if its record has a newer version.
func (e *Expirer) redriven(ctx context.Context, w *mysql.Conn, l *StoredLetter) error {
	version, found, err := rowVersion(ctx, w, &letter{Letter: &l.Letter, source: l.Source, t: e.m.tables.named(l.Dataset)}, "")
	if err != nil || !found || version <= l.Version {
		return err
	}
	if err := removeLetter(ctx, w, l.ID()); err != nil {
		return err
	}
	e.removed.Add(1)
	return nil
}

// removeLetters removes closed letters with their records, and returns how many.
func removeLetters(ctx context.Context, w *mysql.Conn, args ...any) (int64, error) {
	ids, err := mysql.Collect(ctx, w, "read old dead letters", sqlExpireLetters, args, func(l *LetterID) []any { return []any{&l.Source, &l.Offset, &l.Index} })
	if err != nil {
		return 0, err
	}
	for _, l := range ids {
		if err := removeLetter(ctx, w, l); err != nil {
			return 0, err
		}
	}
	return int64(len(ids)), nil
}

func (e *Expirer) audit(ctx context.Context, keep int64) error {
	err := e.repeat(ctx, "remove old audit lines", func(ctx context.Context, w *mysql.Conn) (int64, error) {
		return w.Exec(ctx, sqlExpireAudit, expireChunk, keep)
	})
	if n, _ := mysql.Errno(err); n == errnoTableDenied { // the log may be append-only for this user on purpose
		return fmt.Errorf("grant DELETE on freshet_audit to the worker's user, or set retention.audit to 0s: %w", err)
	}
	return err
}

func (e *Expirer) replays(ctx context.Context, keep int64) error {
	return e.repeat(ctx, "remove old replays", func(ctx context.Context, w *mysql.Conn) (n int64, err error) {
		ids, err := mysql.Texts(ctx, w.Plain(), "read old replays", fmt.Sprintf(sqlOldReplays, keep, expireChunk))
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			if _, err := w.Exec(ctx, sqlExpireParts, []byte(id)); err != nil {
				return 0, mysql.Wrap("remove old replay", "", err)
			}
			if _, err := w.Exec(ctx, sqlExpireReplay, []byte(id)); err != nil {
				return 0, mysql.Wrap("remove old replay", "", err)
			}
		}
		return int64(len(ids)), nil
	})
}
