package replica

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

const (
	sqlStart    = "SELECT start, replaced_at FROM freshet_lane WHERE source = ? AND ns = ? AND lane = ? AND root = ?"
	sqlHasLanes = "SELECT COUNT(*) FROM freshet_lane WHERE ns = ?"
	sqlAddStart = "INSERT INTO freshet_lane (source, ns, lane, root, start) VALUES (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE replaced_at = 0"
	// A root that was replaced may come back, with a replica of Redis that lagged or a backup, so its row is kept for keepRoots.
	sqlReplaced = "UPDATE freshet_lane SET replaced_at = " + mysql.NowMillis + " WHERE source = ? AND ns = ? AND lane = ? AND root <> ? AND replaced_at = 0"
	sqlOldRoots = "DELETE FROM freshet_lane WHERE source = ? AND ns = ? AND lane = ? AND replaced_at > 0 AND replaced_at < " + mysql.NowMillis + " - ? LIMIT ?"

	// The newest note that is old enough; without one, history begins within the time asked for.
	sqlWindow = "SELECT `off` FROM freshet_position_history WHERE source = ? AND committed_at <= " + mysql.NowMillis + " - ? ORDER BY `off` DESC LIMIT 1"
	sqlOldest = "SELECT `off` FROM freshet_position_history WHERE source = ? ORDER BY `off` LIMIT 1"

	sqlLow       = "SELECT `off` FROM freshet_displaced_low WHERE source = ?"
	sqlRaiseLow  = "INSERT INTO freshet_displaced_low (source, `off`) VALUES (?, ?) ON DUPLICATE KEY UPDATE `off` = GREATEST(`off`, ?)"
	sqlPurgeUpTo = "SELECT `off` FROM freshet_displaced WHERE source = ? AND `off` < ? AND created_at < ? ORDER BY `off` LIMIT ?"
	sqlPurge     = "DELETE FROM freshet_displaced WHERE source = ? AND `off` <= ? AND created_at < ?"
	// The newest note before the time stays: it is where the time begins.
	sqlHistoryKeep  = "SELECT `off` FROM freshet_position_history WHERE source = ? AND committed_at < ? ORDER BY `off` DESC LIMIT 1"
	sqlNoteAt       = "INSERT INTO freshet_position_history (source, `off`, committed_at) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE source = source"
	sqlHistoryPurge = "DELETE FROM freshet_position_history WHERE source = ? AND `off` < ?"

	sqlDisplaced = "SELECT `off`, kind, name FROM freshet_displaced WHERE source = ? AND `off` >= ? AND `off` <= ? ORDER BY `off`, kind, name"
)

// purgeChunk is the number of displaced names that one purging transaction looks at.
const purgeChunk = 1000

// LaneLog is what a worker must remember about the lanes of one namespace beyond Redis' memory. It is safe for
// concurrent use.
type LaneLog struct {
	pool *mysql.Pool
	ns   string
}

// Displaced returns the displaced names of the offsets from … to. It is a statement of its own, so that it sees what an earlier
// owner committed.
func (l *LaneLog) Displaced(ctx context.Context, source string, from, to int64) ([]Name, error) {
	var names []Name
	err := mysql.Each(ctx, l.pool.DB(), "read displaced names", sqlDisplaced, []any{[]byte(source), from, to}, func(scan func(...any) error) error {
		var n Name
		var kind string
		err := scan(&n.Offset, &kind, &n.Name)
		if len(kind) == 1 {
			n.Kind = kind[0]
		}
		names = append(names, n)
		return err
	})
	return names, err
}

// Known reports whether the namespace ever had lanes, as far as their notes were not purged.
func (l *LaneLog) Known(ctx context.Context) (bool, error) {
	var n int
	err := l.pool.DB().QueryRowContext(ctx, sqlHasLanes, []byte(l.ns)).Scan(&n)
	return n > 0, mysql.Wrap("read lanes", "", err)
}

// keepRoots is how long the start of a source in a root is kept after the root was replaced.
const keepRoots = 30 * 24 * time.Hour

// Start returns the first offset that source emits into that root of the lane. If nothing is noted yet, propose is noted
// durably and returned; of two workers that propose at once, both get the first one's. Starts in roots that were replaced
// more than 30 days ago are removed.
func (l *LaneLog) Start(ctx context.Context, source string, n int, root string, propose int64) (int64, error) {
	lane := []any{[]byte(source), []byte(l.ns), int64(n)}
	id := append(lane[:len(lane):len(lane)], []byte(root))
	start, replaced, err := l.start(ctx, id)
	if err == nil && replaced == 0 {
		return start, nil
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, mysql.Wrap("read lane start", "", err)
	}
	if _, err = l.pool.DB().ExecContext(ctx, sqlAddStart, append(id[:len(id):len(id)], propose)...); err != nil {
		return 0, mysql.Wrap("note lane start", "", err)
	}
	if _, err = l.pool.DB().ExecContext(ctx, sqlReplaced, id...); err != nil {
		return 0, mysql.Wrap("note replaced roots", "", err)
	}
	if _, err = l.pool.DB().ExecContext(ctx, sqlOldRoots, append(lane[:len(lane):len(lane)], keepRoots.Milliseconds(), int64(expireChunk))...); err != nil {
		return 0, mysql.Wrap("remove old lane starts", "", err)
	}
	start, _, err = l.start(ctx, id)
	return start, mysql.Wrap("read lane start", "", err)
}

func (l *LaneLog) start(ctx context.Context, id []any) (start, replaced int64, err error) {
	err = l.pool.DB().QueryRowContext(ctx, sqlStart, id...).Scan(&start, &replaced)
	return start, replaced, err
}

// Window returns the first offset of source that was committed to MySQL within the last d, never more than next. History
// is noted now and then only, so it may return an earlier offset, never a later one.
func (l *LaneLog) Window(ctx context.Context, source string, d time.Duration, next int64) (int64, error) {
	const what = "read position history"
	var off int64
	found, err := mysql.One(ctx, l.pool.DB(), what, sqlWindow, []any{[]byte(source), d.Milliseconds()}, &off)
	if err == nil && !found {
		found, err = mysql.One(ctx, l.pool.DB(), what, sqlOldest, []any{[]byte(source)}, &off)
	}
	if err != nil || !found {
		return next, err
	}
	return min(off, next), nil
}

// Low returns the highest offset of source whose displaced names may be gone, -1 if none.
func (l *LaneLog) Low(ctx context.Context, source string) (int64, error) {
	low := int64(-1)
	_, err := mysql.One(ctx, l.pool.DB(), "read displaced low", sqlLow, []any{[]byte(source)}, &low)
	return low, err
}

// Purge removes displaced names of source below offset below and history, both older than keep, a bounded number at a
// time. Low is raised in the transaction that removes, so no reader can miss a name without knowing. It also notes how far the
// history is.
func (l *LaneLog) Purge(ctx context.Context, source string, below int64, keep time.Duration) error {
	for {
		var found int
		err := l.pool.Transact(ctx, "purge displaced names", func(ctx context.Context, w *mysql.Conn) (err error) {
			found, err = purgeSome(ctx, w, []byte(source), below, keep)
			return err
		})
		if err != nil || found < purgeChunk {
			return err
		}
	}
}

func purgeSome(ctx context.Context, w *mysql.Conn, source []byte, below int64, keep time.Duration) (int, error) {
	now, err := mysql.Now(ctx, w)
	if err != nil {
		return 0, err
	}
	before := now - keep.Milliseconds()
	if err := noteEnd(ctx, w, source, now); err != nil {
		return 0, err
	}
	ends, err := mysql.Collect(ctx, w, "read displaced names", sqlPurgeUpTo, []any{source, below, before, int64(purgeChunk)}, func(off *int64) []any { return []any{off} })
	if err != nil {
		return 0, err
	}
	found := len(ends)
	if found > 0 {
		upTo := ends[found-1]
		if _, err = w.Exec(ctx, sqlRaiseLow, source, upTo, upTo); err != nil {
			return 0, mysql.Wrap("raise displaced low", "", err)
		}
		if _, err = w.Exec(ctx, sqlPurge, source, upTo, before); err != nil {
			return 0, mysql.Wrap("purge displaced names", "", err)
		}
	}
	var off int64
	err = w.QueryRow(ctx, sqlHistoryKeep, []any{source, before}, &off)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return found, nil
	case err == nil:
		_, err = w.Exec(ctx, sqlHistoryPurge, source, off)
	}
	return found, mysql.Wrap("purge position history", "", err)
}

// noteEnd notes that every offset from the position on is committed later than now, which was read before the position.
// Batches note where they begin, and now and then only. Without the end of the last one, a source that fell quiet would
// permanently seem to have committed a moment ago what came behind its last note.
func noteEnd(ctx context.Context, w *mysql.Conn, source []byte, now int64) error {
	var next int64
	err := w.QueryRow(ctx, sqlNextOffset, []any{source}, &next)
	if errors.Is(err, sql.ErrNoRows) || err == nil && next < 0 {
		return nil
	}
	if err == nil {
		_, err = w.Exec(ctx, sqlNoteAt, source, next, now)
	}
	return mysql.Wrap("note position", "", err)
}
