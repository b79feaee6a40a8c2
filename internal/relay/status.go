package relay

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

// maxDeadRows is how many dead rows a Status has.
const maxDeadRows = 20

// Status is the state of an outbox as its database has it.
type Status struct {
	// Outbox identifies the outbox; Server is the server that was noted when the present relay began.
	Outbox string `json:"outbox"`
	Server string `json:"server"`
	// Owner is the active relay, "" for none.
	Owner string `json:"owner"`
	// High is the greatest id that was published.
	High int64 `json:"high"`
	// Backlog is the number of rows to publish, at most CountLimit, OldestSeconds the age of the oldest one.
	Backlog       int64   `json:"backlog"`
	OldestSeconds float64 `json:"oldest_seconds"`
	// Datasets has the backlog by dataset.
	Datasets []DatasetBacklog `json:"datasets"`
	// Dead is the number of dead rows, DeadRows the newest of them.
	Dead     int64     `json:"dead"`
	DeadRows []DeadRow `json:"dead_rows"`
	// Problems keep relays from publishing.
	Problems []string `json:"problems"`
}

// DatasetBacklog is the backlog of a dataset.
type DatasetBacklog struct {
	Dataset       string  `json:"dataset"`
	Rows          int64   `json:"rows"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

// DeadRow is a row that can never be published.
type DeadRow struct {
	ID        int64     `json:"id"`
	Dataset   string    `json:"dataset"`
	Key       string    `json:"key"`
	RefusedAt time.Time `json:"refused_at"`
	Reason    string    `json:"reason"`
}

// ReadStatus reads the state of an outbox.
func ReadStatus(ctx context.Context, pool *mysql.Pool) (Status, error) {
	s := Status{Datasets: []DatasetBacklog{}, DeadRows: []DeadRow{}, Problems: []string{}}
	db := pool.DB()
	if err := checkTables(ctx, db); err != nil {
		return s, err
	}
	srv, err := readServer(ctx, db, pool.Dialect())
	if err != nil {
		return s, err
	}
	if err := srv.fit(); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	st, err := readState(ctx, db)
	if err != nil {
		return s, err
	}
	if st.lost() {
		s.Problems = append(s.Problems, ErrMarker.Error())
	}
	s.Outbox, s.Server, s.High = st.outbox, st.server, st.high
	if st.until > st.now {
		s.Owner = st.owner
	}
	c, err := takeCensus(ctx, db)
	if err != nil {
		return s, err
	}
	s.Backlog, s.OldestSeconds, s.Dead = c.backlog, c.oldest.Seconds(), c.dead
	for name, d := range c.datasets {
		s.Datasets = append(s.Datasets, DatasetBacklog{name, d.rows, d.oldest.Seconds()})
	}
	slices.SortFunc(s.Datasets, func(a, b DatasetBacklog) int { return cmp.Compare(a.Dataset, b.Dataset) })
	s.DeadRows, err = mysql.Collect(ctx, db, "read dead rows", "SELECT id, dataset, record_key, CAST(UNIX_TIMESTAMP(refused_at) * 1000 AS SIGNED), reason"+
		" FROM freshet_outbox_dead ORDER BY id DESC LIMIT ?", []any{maxDeadRows}, func(d *DeadRow) []any {
		return []any{&d.ID, &d.Dataset, &d.Key, (*millis)(&d.RefusedAt), &d.Reason}
	})
	return s, err
}

// millis scans Unix ms into a time.
type millis time.Time

// Scan implements sql.Scanner.
func (m *millis) Scan(v any) error {
	n := sql.NullInt64{}
	if err := n.Scan(v); err != nil {
		return fmt.Errorf("scan a time: %w", err)
	}
	*m = millis(time.UnixMilli(n.Int64))
	return nil
}

// errUndo ends a transaction whose statements were only tried.
var errUndo = errors.New("undo")

// CheckGrants tries what a relay does, in a transaction that is rolled back.
func CheckGrants(ctx context.Context, pool *mysql.Pool) error {
	err := pool.Try(ctx, func(ctx context.Context, c *mysql.Conn) error {
		id, err := c.Insert(ctx, "INSERT INTO freshet_outbox (dataset, record_key, op) VALUES ('', '', 'delete')")
		if err != nil {
			return mysql.Wrap("insert into", "freshet_outbox", err)
		}
		for _, try := range []struct{ table, text string }{
			{"freshet_outbox", "UPDATE freshet_outbox SET record_key = 'x' WHERE id = ?"},
			{"freshet_outbox_dead", "REPLACE INTO freshet_outbox_dead (id, dataset, record_key, op, reason) SELECT id, dataset, record_key, op, '' FROM freshet_outbox WHERE id = ?"},
			{"freshet_outbox", "DELETE FROM freshet_outbox WHERE id = ?"},
			{"freshet_relay", "UPDATE freshet_relay SET `fence` = `fence` WHERE `one` = 1 AND ? > 0"},
		} {
			if _, err := c.Exec(ctx, try.text, id); err != nil {
				return mysql.Wrap("write", try.table, err)
			}
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}
