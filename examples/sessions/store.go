package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// ownTable is the service's own: what a session is, is decided here. The replica table belongs to the worker.
const ownTable = `CREATE TABLE IF NOT EXISTS own_sessions (
	id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,
	version BIGINT NOT NULL, user VARCHAR(100) CHARACTER SET utf8mb4 NOT NULL, data LONGTEXT CHARACTER SET utf8mb4 NOT NULL)`

// session is the dataset's record.
type session struct {
	ID      string          `json:"id"`
	User    string          `json:"user"`
	Data    json.RawMessage `json:"data"`
	Version int64           `json:"-"`
}

// publisher is the part of *producer.Producer that the store needs.
type publisher interface {
	Publish(ctx context.Context, events ...schemas.Event) (schemas.Token, error)
}

// store keeps sessions: writes go to its own table and are published, reads go through the cache.
type store struct {
	own       *sql.DB
	publisher publisher
	cache     *invalidation.Cache[session]
}

// create begins a session.
func (s *store) create(ctx context.Context, user string) (session, schemas.Token, error) {
	v := session{ID: rand.Text(), User: user, Data: json.RawMessage("{}"), Version: 1}
	_, err := s.own.ExecContext(ctx, "INSERT INTO own_sessions (id, version, user, data) VALUES (?, 1, ?, '{}')", v.ID, user)
	if err != nil {
		return v, schemas.Token{}, fmt.Errorf("insert session: %w", err)
	}
	token, err := s.tell(ctx, &v, schemas.Upsert)
	return v, token, err
}

// change replaces a session's data. The row's version counts its changes, in the order in which they are committed.
func (s *store) change(ctx context.Context, id string, data json.RawMessage) (session, schemas.Token, error) {
	v := session{ID: id, Data: data}
	err := s.locked(ctx, &v, nil, "UPDATE own_sessions SET version = version + 1, data = ? WHERE id = ?", string(data), id)
	if err != nil {
		return v, schemas.Token{}, err
	}
	token, err := s.tell(ctx, &v, schemas.Upsert)
	return v, token, err
}

// end removes a session. It publishes that before it commits, while the row is locked: no later change would publish it, so the row
// stays until Kafka has it, and a user who got no answer can ask again.
func (s *store) end(ctx context.Context, id string) (token schemas.Token, err error) {
	v := session{ID: id}
	err = s.locked(ctx, &v, func() (err error) {
		token, err = s.tell(ctx, &v, schemas.Delete)
		return err
	}, "DELETE FROM own_sessions WHERE id = ?", id)
	return token, err
}

// locked runs before, if it is not nil, and then a statement while the session's row is locked. v has its user and its next version by then.
func (s *store) locked(ctx context.Context, v *session, before func() error, statement string, args ...any) error {
	tx, err := s.own.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin change of session: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	err = tx.QueryRowContext(ctx, "SELECT user, version + 1 FROM own_sessions WHERE id = ? FOR UPDATE", v.ID).Scan(&v.User, &v.Version)
	if errors.Is(err, sql.ErrNoRows) {
		return invalidation.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("lock session: %w", err)
	}
	if before != nil {
		if err := before(); err != nil {
			return err
		}
	}
	if _, err = tx.ExecContext(ctx, statement, args...); err != nil {
		return fmt.Errorf("write session: %w", err)
	}
	if err = tx.Commit(); err != nil {
		return fmt.Errorf("commit session: %w", err)
	}
	return nil
}

// tell publishes what a session has become. Between the commit of a change and this the process may die; the user then has no answer
// and the next change, or the end, publishes the whole state. Where that is not enough, write the event to a table in the same transaction
// and publish from there.
func (s *store) tell(ctx context.Context, v *session, op schemas.Op) (schemas.Token, error) {
	ev := schemas.Event{Dataset: "sessions", Key: v.ID, Op: op, Version: v.Version}
	if op == schemas.Upsert {
		body, err := json.Marshal(v)
		if err != nil {
			return schemas.Token{}, fmt.Errorf("encode session: %w", err)
		}
		ev.Data = body
	}
	token, err := s.publisher.Publish(ctx, ev)
	if err != nil {
		return token, fmt.Errorf("publish session: %w", err)
	}
	return token, nil
}

// loader reads the replica's primary.
func loader(replica *sql.DB) func(context.Context, string, invalidation.Source) (invalidation.Loaded[session], error) {
	return func(ctx context.Context, id string, _ invalidation.Source) (invalidation.Loaded[session], error) {
		l := invalidation.Loaded[session]{Value: session{ID: id}, From: invalidation.Primary}
		var user sql.NullString
		var data []byte
		var deleted bool
		err := replica.QueryRowContext(ctx, "SELECT user, data, _version, _deleted FROM sessions WHERE id = ?", id).
			Scan(&user, &data, &l.Version, &deleted)
		if errors.Is(err, sql.ErrNoRows) {
			return l, nil
		}
		if err != nil {
			return l, fmt.Errorf("read session: %w", err)
		}
		l.Found, l.Value.User, l.Value.Data = !deleted, user.String, data
		return l, nil
	}
}
