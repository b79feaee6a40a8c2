package backfill

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/freshet/freshet/internal/mysql"
)

// The phases of a run, as freshet_backfill has them.
const (
	phaseRows      = "rows"
	phaseDeletions = "deletions"
	phaseDone      = "done"
)

const (
	sqlBegin   = "INSERT IGNORE INTO freshet_backfill (dataset, source_table, phase) VALUES (?, ?, 'rows')"
	sqlState   = "SELECT source_table, phase, after_key, loaded, invalid, deleted FROM freshet_backfill WHERE dataset = ? FOR UPDATE"
	sqlSave    = "UPDATE freshet_backfill SET phase = ?, after_key = ?, loaded = ?, invalid = ?, deleted = ? WHERE dataset = ?"
	sqlRestart = "UPDATE freshet_backfill SET source_table = ?, phase = 'rows', after_key = NULL, loaded = 0, invalid = 0, deleted = 0," +
		" started_at = CURRENT_TIMESTAMP(3) WHERE dataset = ?"
)

// state is the dataset's row of freshet_backfill, which is locked while it is used.
type state struct {
	table, phase              string
	after                     []byte
	loaded, invalid, deletion int64
}

func (l *Loader) lockState(ctx context.Context, c *mysql.Conn) (s state, err error) {
	err = c.QueryRow(ctx, sqlState, []any{l.cfg.Dataset.Name}, &s.table, &s.phase, &s.after, &s.loaded, &s.invalid, &s.deletion)
	return s, err
}

// current is lockState for a run that this process has joined.
func (l *Loader) current(ctx context.Context, c *mysql.Conn) (state, error) {
	s, err := l.lockState(ctx, c)
	if err == nil && s.table != l.source.label {
		err = fmt.Errorf("another process began the run again with table %s", s.table)
	}
	return s, err
}

func (l *Loader) saveState(ctx context.Context, c *mysql.Conn, s state) error {
	_, err := c.Exec(ctx, sqlSave, s.phase, s.after, s.loaded, s.invalid, s.deletion, l.cfg.Dataset.Name)
	return err
}

// begin continues the dataset's run or starts a new one.
func (l *Loader) begin(ctx context.Context) error {
	err := l.patiently(ctx, "begin", func(ctx context.Context, c *mysql.Conn) error {
		if _, err := c.Exec(ctx, sqlBegin, l.cfg.Dataset.Name, l.source.label); err != nil {
			return err
		}
		s, err := l.lockState(ctx, c)
		if err != nil {
			return err
		}
		if s.phase == phaseDone || l.cfg.Restart {
			if _, err := c.Exec(ctx, sqlRestart, l.source.label, l.cfg.Dataset.Name); err != nil {
				return err
			}
			s = state{table: l.source.label, phase: phaseRows}
		}
		if s.table != l.source.label {
			return fmt.Errorf("a backfill of %s from table %s is not finished; finish it, or pass --restart to begin again with %s", l.cfg.Dataset.Name, s.table, l.source.label)
		}
		l.note(s)
		return nil
	})
	l.cfg.Restart = false
	return err
}

// note takes a committed state into the progress.
func (l *Loader) note(s state) {
	l.p.Phase, l.p.Rows, l.p.Invalid, l.p.Deletions = s.phase, s.loaded, s.invalid, s.deletion
	l.p.Total = max(l.source.total, s.loaded+s.invalid)
}

// writeCursor writes key values as JSON; readCursor returns them with their types.
func writeCursor(values []any) ([]byte, error) {
	if values == nil {
		return nil, nil
	}
	b, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("write cursor: %w", err)
	}
	return b, nil
}

func readCursor(b []byte) ([]any, error) {
	if b == nil {
		return nil, nil
	}
	var values []any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&values); err != nil {
		return nil, fmt.Errorf("read cursor: %w", err)
	}
	for i, v := range values {
		n, ok := v.(json.Number)
		if !ok {
			continue
		}
		if signed, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
			values[i] = signed
		} else if unsigned, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
			values[i] = unsigned
		} else {
			return nil, fmt.Errorf("read cursor: %q is not an integer", n)
		}
	}
	return values, nil
}
