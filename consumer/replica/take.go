package replica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
)

const (
	sqlClaim   = "INSERT INTO freshet_position (source, grp, owner) VALUES (?, ?, '') ON DUPLICATE KEY UPDATE source = source"
	sqlForeign = "SELECT grp FROM freshet_position WHERE grp <> ? LIMIT 1"
	sqlHold    = "SELECT grp, fence, gen, next_offset, touched_at, " + mysql.NowMillis + " FROM freshet_position WHERE source = ? FOR UPDATE"
	sqlReached = "SELECT source, fence, next_offset FROM freshet_position WHERE source IN (?"
	// lockPrimary makes a read one that proxies send to the primary: of LOCK IN SHARE MODE ProxySQL's usual rules know nothing.
	lockPrimary = " FOR UPDATE"
	sqlOwn      = "UPDATE freshet_position SET fence = ?, gen = ?, owner = ?, next_offset = GREATEST(next_offset, ?), touched_at = " + mysql.NowMillis + " WHERE source = ?"
)

// Take makes owner the only one whose batches count for these sources, by raising the fence of each. The rows are locked
// in one order, so two members that take the same sources wait for each other and do not deadlock; a running batch of
// the former owner holds its row until it ends. Positions come in the order of the claims.
//
// ErrLate: a newer generation holds a source and was alive within SessionTimeout by the database's clock; nothing was
// taken. ErrForeignGroup: another group has a position in this database.
func (m *MySQL) Take(ctx context.Context, group, owner string, generation int32, claims []Claim) ([]Position, error) {
	sources := make([]string, 0, len(claims))
	first := make(map[string]int64, len(claims))
	for _, c := range claims {
		sources = append(sources, c.Source)
		first[c.Source] = c.First
	}
	slices.Sort(sources)
	sources = slices.Compact(sources)
	if err := m.addPositions(ctx, group, sources); err != nil {
		return nil, err
	}
	taken := make(map[string]Position, len(sources))
	err := m.pool.Transact(ctx, "take sources", func(ctx context.Context, w *mysql.Conn) error {
		if err := alone(ctx, w, group); err != nil {
			return err
		}
		for _, source := range sources {
			p, err := m.take(ctx, w, group, owner, generation, Claim{Source: source, First: first[source]})
			if err != nil {
				return err
			}
			taken[source] = p
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

// alone gives ErrForeignGroup if another group has a position.
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

// addPositions makes the rows that are missing, each by itself: a row must exist before it can be locked. A group that
// is refused leaves none behind.
func (m *MySQL) addPositions(ctx context.Context, group string, sources []string) error {
	return m.pool.Use(ctx, func(ctx context.Context, w *mysql.Conn) error {
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

func (m *MySQL) take(ctx context.Context, w *mysql.Conn, group, owner string, generation int32, c Claim) (Position, error) {
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
	if gen > int64(generation) && now-touched < m.cfg.SessionTimeout.Milliseconds() {
		return Position{}, ErrLate
	}
	p := Position{Source: source, Fence: fence + 1, Next: next}
	if next < 0 {
		p.Next, p.Fresh = c.First, true
	} else if _, err = w.Exec(ctx, sqlNoteAt, []byte(source), next, touched); err != nil { // see noteEnd
		return Position{}, mysql.Wrap("note position of", source, err)
	}
	if _, err = w.Exec(ctx, sqlOwn, p.Fence, int64(generation), []byte(owner), p.Next, []byte(source)); err != nil {
		return Position{}, mysql.Wrap("take", source, err)
	}
	return p, nil
}

// PositionsOf returns the fence and position of each source, in no order. Sources without a row are absent. With locked, the
// read locks the rows: it waits for batches that are being written, and a proxy that splits reads sends it to the primary.
func (m *MySQL) PositionsOf(ctx context.Context, sources []string, locked bool) ([]Position, error) {
	tail := ")"
	if locked {
		tail += lockPrimary
	}
	out := make([]Position, 0, len(sources))
	for chunk := range slices.Chunk(sources, keyChunk) {
		args := make([]any, len(chunk))
		for i, s := range chunk {
			args[i] = []byte(s)
		}
		rows, err := m.db.QueryContext(ctx, sqlReached+strings.Repeat(", ?", len(chunk)-1)+tail, args...)
		if err != nil {
			return nil, mysql.Wrap("read positions", "", err)
		}
		if out, err = scanPositions(rows, out); err != nil {
			return nil, mysql.Wrap("read positions", "", err)
		}
	}
	return out, nil
}

func scanPositions(rows *sql.Rows, out []Position) ([]Position, error) {
	defer func() { _ = rows.Close() }() // rows.Err reports what is wrong
	for rows.Next() {
		var p Position
		var source []byte
		if err := rows.Scan(&source, &p.Fence, &p.Next); err != nil {
			return nil, err
		}
		p.Source = string(source)
		out = append(out, p)
	}
	return out, rows.Err()
}
