package replica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

// Positions are the fences of sources and how far each is applied. It is safe for concurrent use.
type Positions struct {
	pool           *mysql.Pool
	sessionTimeout time.Duration
}

const (
	sqlClaim       = "INSERT INTO freshet_position (source, grp, owner) VALUES (?, ?, '') ON DUPLICATE KEY UPDATE source = source"
	sqlForeign     = "SELECT grp FROM freshet_position WHERE grp <> ? LIMIT 1"
	sqlHold        = "SELECT grp, fence, gen, next_offset, touched_at, " + mysql.NowMillis + " FROM freshet_position WHERE source = ? FOR UPDATE"
	sqlRewind      = "UPDATE freshet_position SET next_offset = ?, touched_at = " + mysql.NowMillis + " WHERE source = ? AND fence = ?"
	sqlForgetNotes = "DELETE FROM freshet_position_history WHERE source = ? AND `off` >= ?"
	sqlNextOffset  = "SELECT next_offset FROM freshet_position WHERE source = ?"
	sqlAllNext     = "SELECT source, next_offset FROM freshet_position WHERE source >= ? AND source < ? ORDER BY source"
	sqlReached     = "SELECT source, fence, next_offset FROM freshet_position WHERE source IN (?"
	// lockPrimary makes a read one that proxies send to the primary: of LOCK IN SHARE MODE ProxySQL's usual rules know nothing.
	lockPrimary = " FOR UPDATE"
	sqlOwn      = "UPDATE freshet_position SET fence = ?, gen = ?, owner = ?, next_offset = GREATEST(next_offset, ?), touched_at = " + mysql.NowMillis + " WHERE source = ?"
)

// Take makes owner the only one whose batches count for these sources, by raising the fence of each. The rows are locked
// in one order, so two members that take the same sources wait for each other and do not deadlock; a running batch of
// the previous owner holds its row until it ends. Positions come in the order of the claims.
//
// ErrLate: a newer generation holds a source and was alive within SessionTimeout by the database's clock; nothing was
// taken. ErrForeignGroup: another group has a position in this database.
func (p *Positions) Take(ctx context.Context, group, owner string, generation int32, claims []Claim) ([]Position, error) {
	sources := make([]string, 0, len(claims))
	first := make(map[string]int64, len(claims))
	for _, c := range claims {
		sources = append(sources, c.Source)
		first[c.Source] = c.First
	}
	slices.Sort(sources)
	sources = slices.Compact(sources)
	if err := p.add(ctx, group, sources); err != nil {
		return nil, err
	}
	taken := make(map[string]Position, len(sources))
	err := p.pool.Transact(ctx, "take sources", func(ctx context.Context, w *mysql.Conn) error {
		if err := alone(ctx, w, group); err != nil {
			return err
		}
		for _, source := range sources {
			at, err := p.take(ctx, w, group, owner, generation, Claim{Source: source, First: first[source]})
			if err != nil {
				return err
			}
			taken[source] = at
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	positions := make([]Position, 0, len(claims))
	for _, c := range claims {
		positions = append(positions, taken[c.Source])
	}
	return positions, nil
}

// alone returns ErrForeignGroup if another group has a position.
func alone(ctx context.Context, w *mysql.Conn, group string) error {
	var foreign []byte
	switch err := w.QueryRow(ctx, sqlForeign, []any{[]byte(group)}, &foreign); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return mysql.Wrap("look for other groups", "", err)
	}
	return foreignGroup(string(foreign), group)
}

func foreignGroup(theirs, ours string) error {
	return fmt.Errorf("%w: its positions are those of group %q, this worker is in group %q; set kafka.group: %[2]s, or use another database",
		ErrForeignGroup, theirs, ours)
}

// add makes the rows that are missing, each by itself: a row must exist before it can be locked. A group that
// is refused leaves none behind.
func (p *Positions) add(ctx context.Context, group string, sources []string) error {
	return p.pool.Use(ctx, func(ctx context.Context, w *mysql.Conn) error {
		if err := alone(ctx, w, group); err != nil {
			return err
		}
		for _, source := range sources {
			if _, err := w.Exec(ctx, sqlClaim, []byte(source), []byte(group)); err != nil {
				return mysql.Wrap("add position", "", err)
			}
		}
		return nil
	})
}

func (p *Positions) take(ctx context.Context, w *mysql.Conn, group, owner string, generation int32, c Claim) (Position, error) {
	source := c.Source
	var grp []byte
	var fence, gen, next, touched, now int64
	err := w.QueryRow(ctx, sqlHold, []any{[]byte(source)}, &grp, &fence, &gen, &next, &touched, &now)
	if errors.Is(err, sql.ErrNoRows) {
		return Position{}, fmt.Errorf("lock position of %s: its row is gone", source)
	}
	if err != nil {
		return Position{}, mysql.Wrap("lock position of", source, err)
	}
	if string(grp) != group {
		return Position{}, foreignGroup(string(grp), group)
	}
	if gen > int64(generation) && now-touched < p.sessionTimeout.Milliseconds() {
		return Position{}, ErrLate
	}
	at := Position{Source: source, Fence: fence + 1, Next: next}
	if next < 0 {
		at.Next, at.Fresh = c.First, true
	} else if _, err = w.Exec(ctx, sqlNoteAt, []byte(source), next, touched); err != nil { // see noteEnd
		return Position{}, mysql.Wrap("note position of", source, err)
	}
	if _, err = w.Exec(ctx, sqlOwn, at.Fence, int64(generation), []byte(owner), at.Next, []byte(source)); err != nil {
		return Position{}, mysql.Wrap("take", source, err)
	}
	return at, nil
}

// Of returns the fence and position of each source, in no order. Sources without a row are absent. With locked, the read
// locks the rows: it waits for batches that are being written, and a proxy that splits reads sends it to the primary.
func (p *Positions) Of(ctx context.Context, sources []string, locked bool) ([]Position, error) {
	tail := ")"
	if locked {
		tail += lockPrimary
	}
	out := make([]Position, 0, len(sources))
	for chunk := range slices.Chunk(sources, keyChunk) {
		text := sqlReached + strings.Repeat(", ?", len(chunk)-1) + tail
		some, err := mysql.Collect(ctx, p.pool.DB(), "read positions", text, mysql.Args(chunk), func(at *Position) []any {
			return []any{&at.Source, &at.Fence, &at.Next}
		})
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// Next returns a source's position, -1 if it was never read.
func (p *Positions) Next(ctx context.Context, source string) (int64, error) {
	next := int64(-1)
	_, err := mysql.One(ctx, p.pool.DB(), "read position", sqlNextOffset, []any{[]byte(source)}, &next)
	return next, err
}

// readPositions reads the positions of a topic's sources that were ever read.
func readPositions(ctx context.Context, q mysql.Querier, topic, id, lock string) (map[string]int64, error) {
	next := map[string]int64{}
	return next, mysql.Each(ctx, q, "read positions of topic "+topic, sqlAllNext+lock, otherIDs(topic, id)[2:], func(scan func(...any) error) error {
		var source string
		var at int64
		err := scan(&source, &at)
		if at >= 0 {
			next[source] = at
		}
		return err
	})
}

// lockPositions is readPositions with a lock on them until w's transaction ends.
func lockPositions(ctx context.Context, w *mysql.Conn, topic, id string) (map[string]int64, error) {
	return readPositions(ctx, w.Plain(), topic, id, " FOR UPDATE")
}

// Rewind sets a position back, which no batch does: for a log that was cut and whose offsets are given out again. What is
// noted of the history from there on counts no more. ErrFenced: another owner took the source.
func (p *Positions) Rewind(ctx context.Context, source string, fence, at int64) error {
	return p.pool.Transact(ctx, "rewind source", func(ctx context.Context, w *mysql.Conn) error {
		var next int64
		err := w.QueryRow(ctx, sqlPosition, []any{source, fence}, &next)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrFenced
		}
		if err != nil {
			return mysql.Wrap("read position", "", err)
		}
		if _, err = w.Exec(ctx, sqlRewind, at, source, fence); err != nil {
			return mysql.Wrap("set position back", "", err)
		}
		_, err = w.Exec(ctx, sqlForgetNotes, source, at)
		return mysql.Wrap("forget position history", "", err)
	})
}

// OfTopic returns how far each source of a topic is applied; sources that were never read are absent.
func (p *Positions) OfTopic(ctx context.Context, topic, id string) (next map[string]int64, err error) {
	err = p.pool.Transact(ctx, "read positions", func(ctx context.Context, w *mysql.Conn) error {
		next, err = readPositions(ctx, w.Plain(), topic, id, "")
		return err
	})
	return next, err
}
