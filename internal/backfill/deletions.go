package backfill

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

const (
	replicaPage = 500
	// maxDeletions bounds the gaps that one transaction locks.
	maxDeletions = 20
	// leastDeletions is the smallest limit of Config.MaxDeletions.
	leastDeletions = 1000
)

// deletions walks through the replica and enqueues the deletion of each record that the source does not have. It returns when
// the run is no longer in this phase, also because another process ended it or began it again.
func (l *Loader) deletions(ctx context.Context) error {
	if l.cfg.Replica == nil || l.cfg.KeepMissing {
		return l.finish(ctx, nil)
	}
	after, err := l.deletionCursor(ctx)
	if err == nil {
		err = l.limitDeletions(ctx, after)
	}
	for err == nil && l.p.Phase == phaseDeletions {
		if after, err = l.deletePage(ctx, after); err != nil {
			break
		}
		if err = l.finish(ctx, after); err == nil && l.p.Phase == phaseDeletions {
			l.report(false)
			err = l.wait(ctx)
		}
	}
	return err
}

// limitDeletions counts what the source does not have before anything is deleted: the wrong table, or an empty one, must not
// empty the replica.
func (l *Loader) limitDeletions(ctx context.Context, after []any) error {
	limit := int64(l.cfg.MaxDeletions)
	switch {
	case limit < 0:
		return nil
	case limit == 0:
		limit = max(leastDeletions, l.p.Rows/10)
	}
	found := l.p.Deletions
	for l.p.Phase == phaseDeletions {
		missing, last, err := l.missingPage(ctx, after)
		if err != nil {
			return err
		}
		if found += int64(len(missing)); found > limit {
			return fmt.Errorf("backfill %s: %w: more than %d, and the source has %d; compare the table; then pass --max-deletions to delete them, --no-deletions to keep them, or --restart to load the rows again",
				l.cfg.Dataset.Name, ErrDeletions, limit, l.p.Rows)
		}
		if after = last; after == nil {
			return nil
		}
	}
	return nil
}

// deletePage handles the next page of the replica and returns where it ends; nil is the end of the replica.
func (l *Loader) deletePage(ctx context.Context, after []any) (last []any, err error) {
	missing, last, err := l.missingPage(ctx, after)
	for err == nil && len(missing) > 0 {
		n := min(len(missing), maxDeletions)
		err = l.delete(ctx, missing[:n])
		missing = missing[n:]
	}
	return last, err
}

// missingPage returns the deletions of those records of the next page that the source does not have, as of a read without locks.
func (l *Loader) missingPage(ctx context.Context, after []any) (missing []event, last []any, err error) {
	err = l.again(ctx, "look for records that the source does not have", func(ctx context.Context) (err error) {
		var rows []replica.LiveRow
		if rows, last, err = l.cfg.Replica.Page(ctx, l.cfg.Dataset, after, replicaPage); err != nil {
			return fmt.Errorf("read replica: %w", err)
		}
		versions := map[string]int64{}
		var keys []string
		for _, r := range rows {
			if !r.Deleted && r.Key != "" {
				keys = append(keys, r.Key)
				versions[r.Key] = r.Version
			}
		}
		keys, err = l.missing(ctx, l.cfg.Source.DB(), keys, "")
		missing = missing[:0]
		for _, key := range keys {
			ev := event{key: key, op: schemas.Delete}
			if l.cfg.Dataset.Version.Kind == schemas.VersionColumn {
				ev.version = versions[key] + 1 // as a deletion that carries the row; ids of the outbox are no versions of these records
			}
			missing = append(missing, ev)
		}
		return err
	})
	return missing, last, err
}

// deletionCursor returns how far an earlier process came.
func (l *Loader) deletionCursor(ctx context.Context) (after []any, err error) {
	err = l.patiently(ctx, "read cursor", func(ctx context.Context, c *mysql.Conn) error {
		s, err := l.current(ctx, c)
		if l.note(s); err != nil || s.phase != phaseDeletions {
			return err
		}
		after, err = readCursor(s.after)
		return err
	})
	return after, err
}

// finish moves the cursor of the replica; nil ends the run.
func (l *Loader) finish(ctx context.Context, after []any) error {
	return l.patiently(ctx, "move cursor", func(ctx context.Context, c *mysql.Conn) error {
		s, err := l.current(ctx, c)
		if err != nil {
			return err
		}
		if s.phase != phaseDeletions { // the cursor is no longer one of the replica
			l.note(s)
			return nil
		}
		if s.after, err = writeCursor(after); err != nil {
			return err
		}
		if after == nil {
			s.phase = phaseDone
		}
		l.note(s)
		return l.saveState(ctx, c, s)
	})
}

// missing returns those keys of which the source has no row. It compares the text of keys: a collation that ignores case
// would find the row of another record.
func (l *Loader) missing(ctx context.Context, q mysql.Querier, keys []string, lock string) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	d := l.cfg.Dataset
	var args []any
	for _, k := range keys {
		values, err := d.ParseKey(k)
		if err != nil {
			return nil, err //nolint:wrapcheck // it states the key's problem
		}
		args = append(args, values...)
	}
	present := make(map[string]bool, len(keys))
	err := l.source.eachKey(ctx, q, l.source.keysSQL(len(keys))+lock, args, d, func(key string) { present[key] = true })
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, k := range keys {
		if !present[k] {
			missing = append(missing, k)
		}
	}
	return missing, nil
}

// delete enqueues deletions of records that are still missing when their places in the index are locked. The isolation
// level is what makes the server lock the gap of a row that is not there.
func (l *Loader) delete(ctx context.Context, missing []event) error {
	return l.patientlyRepeatable(ctx, "enqueue deletions", func(ctx context.Context, c *mysql.Conn) error {
		s, err := l.current(ctx, c)
		if err != nil || s.phase != phaseDeletions {
			return err
		}
		var events []event
		for _, ev := range missing { // one by one: the server may read a list by a scan, and lock what it reads
			gone, err := l.missing(ctx, c, []string{ev.key}, " FOR UPDATE")
			if err != nil {
				return err
			}
			if len(gone) > 0 {
				events = append(events, ev)
			}
		}
		first, err := enqueue(ctx, c, l.cfg.Dataset.Name, events)
		if err != nil {
			return err
		}
		if err := l.checkVersions(ctx, events, first); err != nil {
			return err
		}
		s.deletion += int64(len(events))
		l.note(s)
		return l.saveState(ctx, c, s)
	})
}

// patientlyRepeatable is patiently at the isolation level that locks gaps.
func (l *Loader) patientlyRepeatable(ctx context.Context, what string, fn func(context.Context, *mysql.Conn) error) error {
	return l.again(ctx, what, func(ctx context.Context) error {
		return l.cfg.Source.Use(ctx, func(ctx context.Context, c *mysql.Conn) error { //nolint:wrapcheck // again states what was done
			if _, err := c.ExecOnce(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
				return err
			}
			if err := c.Begin(ctx); err != nil {
				return err
			}
			err := fn(ctx, c)
			if err == nil {
				return c.Commit(ctx)
			}
			return errors.Join(err, c.Rollback(ctx))
		})
	})
}
