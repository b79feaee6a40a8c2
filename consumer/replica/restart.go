package replica

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

const (
	metaRestart    = "restart:"
	sqlSetMeta     = "INSERT INTO freshet_meta (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = ?"
	sqlRemoveMeta  = "DELETE FROM freshet_meta WHERE name = ?"
	sqlRewind      = "UPDATE freshet_position SET next_offset = ?, touched_at = " + mysql.NowMillis + " WHERE source = ? AND fence = ?"
	sqlForgetNotes = "DELETE FROM freshet_position_history WHERE source = ? AND `off` >= ?"
	sqlNextOffset  = "SELECT next_offset FROM freshet_position WHERE source = ?"
)

// Restart is somebody's decision where a source goes on that stands still, because records are lost or a batch cannot be
// read.
type Restart struct {
	At    int64     `json:"at"`
	Who   string    `json:"who"`
	Since time.Time `json:"since"`
}

// NoteRestart notes a decision for the worker that owns the source, now or later; the newest counts.
func (m *MySQL) NoteRestart(ctx context.Context, source string, at int64, who string) error {
	var now int64
	if err := m.db.QueryRowContext(ctx, sqlNow).Scan(&now); err != nil {
		return mysql.Wrap("read clock", "", err)
	}
	value, err := json.Marshal(Restart{At: at, Who: who, Since: time.UnixMilli(now).UTC()})
	if err != nil {
		return fmt.Errorf("encode restart: %w", err)
	}
	_, err = m.db.ExecContext(ctx, sqlSetMeta, []byte(metaRestart+source), value, value)
	return mysql.Wrap("note restart of source", "", err)
}

// Restarts gives the decisions in force, by source. One that cannot be read is left out.
func (m *MySQL) Restarts(ctx context.Context) (map[string]Restart, error) {
	values, err := m.metaOf(ctx, metaRestart)
	if err != nil {
		return nil, mysql.Wrap("read restarts of sources", "", err)
	}
	restarts := make(map[string]Restart, len(values))
	for source, value := range values {
		var r Restart
		if json.Unmarshal(value, &r) == nil {
			restarts[source] = r
		}
	}
	return restarts, nil
}

// RestartDone removes a decision that was carried out.
func (m *MySQL) RestartDone(ctx context.Context, source string) error {
	_, err := m.db.ExecContext(ctx, sqlRemoveMeta, []byte(metaRestart+source))
	return mysql.Wrap("remove restart of source", "", err)
}

// Rewind sets a position back, which no batch does: for a log that was cut and whose offsets are given out again. What is
// noted of the history from there on counts no more. ErrFenced: another owner took the source.
func (m *MySQL) Rewind(ctx context.Context, source string, fence, at int64) error {
	return m.pool.Transact(ctx, "rewind source", func(ctx context.Context, w *mysql.Conn) error {
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

// Next gives a source's position, -1 if it was never read.
func (m *MySQL) Next(ctx context.Context, source string) (next int64, err error) {
	err = m.db.QueryRowContext(ctx, sqlNextOffset, []byte(source)).Scan(&next)
	if errors.Is(err, sql.ErrNoRows) {
		return -1, nil
	}
	return next, mysql.Wrap("read position", "", err)
}
