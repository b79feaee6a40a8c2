package admin

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// auditLog writes freshet_audit. It only ever inserts: a user whose grants on the table are INSERT and SELECT suffices.
type auditLog struct{ db *sql.DB }

// Entry is one line of the audit log. A change has two: one before it, without an outcome, and one after it that names
// the first.
type Entry struct {
	ID int64 `json:"id" doc:"number of the line"`
	// Of is the line that began what this one ends; 0 for a beginning.
	Of      int64          `json:"of,omitempty" doc:"the line that began what this one ends"`
	At      time.Time      `json:"at" doc:"by the database's clock"`
	Actor   string         `json:"actor" doc:"name of the token"`
	Role    string         `json:"role"`
	Action  string         `json:"action" doc:"operation id"`
	Target  string         `json:"target" doc:"path of the request"`
	Outcome int            `json:"outcome,omitempty" doc:"HTTP status; absent in a beginning"`
	Detail  map[string]any `json:"detail,omitempty" doc:"reason, filters, outcomes; of a replay what the newest dry run of the same choice counted"`
}

const maxTarget = 1000

const (
	sqlAudit = "INSERT INTO freshet_audit (begun, at, actor, role, action, target, outcome, detail) VALUES (?, " +
		"CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), ?, ?, ?, ?, ?, ?)"
	sqlReadAudit = "SELECT id, begun, at, actor, role, action, target, outcome, detail FROM freshet_audit WHERE id < ? ORDER BY id DESC LIMIT ?"
)

// errAudit hides the database's words.
var errAudit = errors.New("audit log cannot be written")

func (l auditLog) write(ctx context.Context, e Entry) (int64, error) {
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
	res, err := l.db.ExecContext(ctx, sqlAudit, e.Of, []byte(e.Actor), []byte(e.Role), []byte(e.Action), []byte(e.Target), e.Outcome, detail)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errAudit, err)
	}
	id, err := res.LastInsertId()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errAudit, err)
	}
	return id, nil
}

// read gives lines below a number, newest first; below 0 begins at the newest.
func (l auditLog) read(ctx context.Context, below int64, limit int) (entries []Entry, err error) {
	if below <= 0 {
		below = 1<<63 - 1
	}
	rows, err := l.db.QueryContext(ctx, sqlReadAudit, below, limit)
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	entries = []Entry{}
	for rows.Next() {
		var e Entry
		var at int64
		var actor, role, action, target, detail []byte
		if err := rows.Scan(&e.ID, &e.Of, &at, &actor, &role, &action, &target, &e.Outcome, &detail); err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		e.At, e.Actor, e.Role, e.Action, e.Target = instant(at), string(actor), string(role), string(action), string(target)
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

// note adds a fact to the request's line in the audit log. Outside of an audited request it does nothing.
func note(ctx context.Context, key string, value any) {
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
