package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	sqlAddOutgoing    = "INSERT INTO freshet_invalidation_outbox (ns, payload, created_at) VALUES (?, ?, " + mysql.NowMillis + ")"
	sqlOutgoing       = "SELECT id, payload FROM freshet_invalidation_outbox WHERE ns = ? AND created_at <= " + mysql.NowMillis + " - ? ORDER BY id LIMIT ?"
	sqlRemoveOutgoing = "DELETE FROM freshet_invalidation_outbox WHERE id IN (?"
)

// Outgoing is a row of the invalidation outbox: what a writer of replica rows made stale, noted in the transaction of its
// rows. Whoever publishes it removes it afterwards; doubles do no harm.
type Outgoing struct {
	ID int64
	// Invalidation names nothing if the row's payload cannot be read.
	Invalidation schemas.Invalidation
}

// addOutgoing notes v, in as many rows as its size needs.
func addOutgoing(ctx context.Context, w *mysql.Conn, namespace string, v schemas.Invalidation) ([]Outgoing, error) {
	parts := v.Split()
	out := make([]Outgoing, 0, len(parts))
	for _, part := range parts {
		payload, err := json.Marshal(part)
		if err != nil {
			return nil, fmt.Errorf("encode invalidation: %w", err)
		}
		id, err := w.Insert(ctx, sqlAddOutgoing, []byte(namespace), payload)
		if err != nil {
			return nil, mysql.Wrap("note invalidation", "", err)
		}
		out = append(out, Outgoing{ID: id, Invalidation: part})
	}
	return out, nil
}

// Outgoing gives the outbox rows of a namespace that are older than age, oldest first, at most limit.
func (m *MySQL) Outgoing(ctx context.Context, namespace string, age time.Duration, limit int) (out []Outgoing, err error) {
	rows, err := m.db.QueryContext(ctx, sqlOutgoing, []byte(namespace), age.Milliseconds(), limit)
	if err != nil {
		return nil, mysql.Wrap("read invalidation outbox", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var o Outgoing
		var payload []byte
		if err = rows.Scan(&o.ID, &payload); err != nil {
			return nil, mysql.Wrap("read invalidation outbox", "", err)
		}
		if v, err := schemas.ParseInvalidation(payload); err == nil {
			o.Invalidation = v
		}
		out = append(out, o)
	}
	return out, mysql.Wrap("read invalidation outbox", "", rows.Err())
}

// RemoveOutgoing removes rows that were published, or that another has removed already.
func (m *MySQL) RemoveOutgoing(ctx context.Context, ids []int64) error {
	for len(ids) > 0 {
		n := min(len(ids), keyChunk)
		args := make([]any, n)
		for i, id := range ids[:n] {
			args[i] = id
		}
		ids = ids[n:]
		err := m.pool.Transact(ctx, "remove published invalidations", func(ctx context.Context, w *mysql.Conn) error {
			_, err := w.Plain().ExecContext(ctx, sqlRemoveOutgoing+strings.Repeat(", ?", n-1)+")", args...)
			return mysql.Wrap("remove published invalidations", "", err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
