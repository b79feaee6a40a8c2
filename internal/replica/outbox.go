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
// rows. Its publisher removes it afterwards; doubles do no harm.
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

// Outbox holds what writers of replica rows made stale until it is published. It is safe for concurrent use.
type Outbox struct{ pool *mysql.Pool }

// Older returns the outbox rows of a namespace that are older than age, oldest first, at most limit.
func (o *Outbox) Older(ctx context.Context, namespace string, age time.Duration, limit int) ([]Outgoing, error) {
	var payload []byte
	var out []Outgoing
	err := mysql.Each(ctx, o.pool.DB(), "read invalidation outbox", sqlOutgoing, []any{[]byte(namespace), age.Milliseconds(), limit}, func(scan func(...any) error) error {
		var one Outgoing
		err := scan(&one.ID, &payload)
		if v, broken := schemas.ParseInvalidation(payload); broken == nil {
			one.Invalidation = v
		}
		out = append(out, one)
		return err
	})
	return out, err
}

// Remove removes rows that were published, or that another has removed already.
func (o *Outbox) Remove(ctx context.Context, ids []int64) error {
	for len(ids) > 0 {
		n := min(len(ids), keyChunk)
		args := make([]any, n)
		for i, id := range ids[:n] {
			args[i] = id
		}
		ids = ids[n:]
		err := o.pool.Transact(ctx, "remove published invalidations", func(ctx context.Context, w *mysql.Conn) error {
			_, err := w.Plain().ExecContext(ctx, sqlRemoveOutgoing+strings.Repeat(", ?", n-1)+")", args...)
			return mysql.Wrap("remove published invalidations", "", err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
