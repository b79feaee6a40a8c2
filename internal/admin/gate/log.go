package gate

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/freshet/freshet/admin/api"
)

// Log is the audit log, freshet_audit. It only ever inserts: a user whose grants on the table are INSERT and SELECT suffices.
type Log struct{ DB *sql.DB }

const maxTarget = 1000

const (
	sqlAudit = "INSERT INTO freshet_audit (begun, at, actor, role, action, target, outcome, detail) VALUES (?, " +
		"CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), ?, ?, ?, ?, ?, ?)"
	sqlReadAudit = "SELECT id, begun, at, actor, role, action, target, outcome, detail FROM freshet_audit WHERE id < ? ORDER BY id DESC LIMIT ?"
)

// errAudit hides the database's words.
var errAudit = errors.New("audit log cannot be written")

func (l Log) write(ctx context.Context, e api.Entry) (int64, error) {
	var detail []byte
	if len(e.Detail) > 0 {
		var err error
		if detail, err = json.Marshal(e.Detail); err != nil {
			return 0, fmt.Errorf("write audit log: %w", err)
		}
	}
	if len(e.Target) > maxTarget {
		e.Target = e.Target[:maxTarget]
	}
	res, err := l.DB.ExecContext(ctx, sqlAudit, e.Of, []byte(e.Actor), []byte(e.Role), []byte(e.Action), []byte(e.Target), e.Outcome, detail)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errAudit, err)
	}
	id, err := res.LastInsertId()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errAudit, err)
	}
	return id, nil
}

// Read returns lines below a number, newest first; below 0 begins at the newest.
func (l Log) Read(ctx context.Context, below int64, limit int) (entries []api.Entry, err error) {
	if below <= 0 {
		below = 1<<63 - 1
	}
	rows, err := l.DB.QueryContext(ctx, sqlReadAudit, below, limit)
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	entries = []api.Entry{}
	for rows.Next() {
		var e api.Entry
		var at int64
		var actor, role, action, target, detail []byte
		if err := rows.Scan(&e.ID, &e.Of, &at, &actor, &role, &action, &target, &e.Outcome, &detail); err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		e.At, e.Actor, e.Role, e.Action, e.Target = api.Instant(at), string(actor), string(role), string(action), string(target)
		if len(detail) > 0 {
			if err := json.Unmarshal(detail, &e.Detail); err != nil {
				return nil, fmt.Errorf("read audit log: line %d: %w", e.ID, err)
			}
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return entries, nil
}

// notes gathers what a handler wants the audit log to know of a request.
type notes struct {
	mu sync.Mutex
	m  map[string]any
}

type notesKey struct{}

// Note adds a fact to the request's line in the audit log. Outside of an audited request it does nothing.
func Note(ctx context.Context, key string, value any) {
	n, ok := ctx.Value(notesKey{}).(*notes)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.m[key] = value
}

func (n *notes) all() map[string]any {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.m)
}
