package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

// versionHeader is in the answer of a write, and in a read that must see it.
const versionHeader = "Orders-Version"

const (
	maxBody = 64 << 10
	// longestRead bounds how long a read waits for a version.
	longestRead = 10 * time.Second
)

// order is the dataset's record.
type order struct {
	ID       int64  `json:"id"`
	Customer string `json:"customer"`
	Total    string `json:"total"`
	Status   string `json:"status"`
}

// service answers HTTP requests: writes go to its own database, reads come through the cache.
type service struct {
	own     *sql.DB
	box     *outbox.Outbox
	cache   *invalidation.Cache[order]
	log     *slog.Logger
	closers []func() error
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.create)
	mux.HandleFunc("PUT /orders/{id}/status", s.change)
	mux.HandleFunc("GET /orders/{id}", s.read)
	return mux
}

func (s *service) create(w http.ResponseWriter, r *http.Request) {
	var in order
	if !decode(w, r, &in) {
		return
	}
	s.answer(w, http.StatusCreated)(s.write(r.Context(), func(ctx context.Context, tx *sql.Tx) (int64, error) {
		res, err := tx.ExecContext(ctx, "INSERT INTO orders (customer, total) VALUES (?, ?)", in.Customer, in.Total)
		if err != nil {
			return 0, err
		}
		return res.LastInsertId()
	}))
}

func (s *service) change(w http.ResponseWriter, r *http.Request) {
	var in order
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		http.Error(w, "the id of an order is a number", http.StatusBadRequest)
		return
	}
	if !decode(w, r, &in) {
		return
	}
	s.answer(w, http.StatusOK)(s.write(r.Context(), func(ctx context.Context, tx *sql.Tx) (int64, error) {
		_, err := tx.ExecContext(ctx, "UPDATE orders SET status = ? WHERE id = ?", in.Status, id)
		return id, err
	}))
}

// write changes an order and enqueues what it has become, in one transaction. The order of the steps matters: change locks
// the row, so the event's version follows the order of commits, and its state is read behind the lock.
func (s *service) write(ctx context.Context, change func(context.Context, *sql.Tx) (id int64, err error)) (o order, version int64, err error) {
	tx, err := s.own.BeginTx(ctx, nil)
	if err != nil {
		return o, 0, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	id, err := change(ctx, tx)
	if err != nil {
		return o, 0, fmt.Errorf("change order: %w", err)
	}
	row := tx.QueryRowContext(ctx, "SELECT id, customer, total, status FROM orders WHERE id = ? FOR UPDATE", id)
	switch err := row.Scan(&o.ID, &o.Customer, &o.Total, &o.Status); {
	case errors.Is(err, sql.ErrNoRows):
		return o, 0, invalidation.ErrNotFound
	case err != nil:
		return o, 0, fmt.Errorf("read order: %w", err)
	}
	data, err := json.Marshal(o)
	if err != nil {
		return o, 0, fmt.Errorf("write event: %w", err)
	}
	versions, err := s.box.Enqueue(ctx, tx, schemas.Event{Dataset: "orders", Key: strconv.FormatInt(o.ID, 10), Op: schemas.Upsert, Data: data})
	if err != nil {
		return o, 0, err
	}
	if err := tx.Commit(); err != nil {
		return o, 0, fmt.Errorf("commit: %w", err)
	}
	return o, versions[0], nil
}

// read answers from the cache: at least in the version that the request names.
func (s *service) read(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), longestRead)
	defer cancel()
	version := int64(0)
	if text := r.Header.Get(versionHeader); text != "" {
		var err error
		if version, err = strconv.ParseInt(text, 10, 64); err != nil || version < 1 {
			http.Error(w, versionHeader+" is not a version", http.StatusBadRequest)
			return
		}
	}
	var o order
	var err error
	if version > 0 {
		o, err = s.cache.GetAtLeast(ctx, r.PathValue("id"), version)
	} else {
		o, err = s.cache.Get(ctx, r.PathValue("id"))
	}
	s.answer(w, http.StatusOK)(o, version, err)
}

// answer returns a function that writes an order, or what prevented it.
func (s *service) answer(w http.ResponseWriter, status int) func(order, int64, error) {
	return func(o order, version int64, err error) {
		switch {
		case errors.Is(err, invalidation.ErrNotFound):
			http.Error(w, "there is no such order", http.StatusNotFound)
		case errors.Is(err, schemas.ErrInvalid):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case err != nil:
			s.log.Error("request failed", "error", err)
			http.Error(w, "the service has a problem; try again", http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set(versionHeader, strconv.FormatInt(version, 10))
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(o) // the client is gone, or has it
		}
	}
}

func decode(w http.ResponseWriter, r *http.Request, o *order) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(o); err != nil {
		http.Error(w, `the body must be JSON, such as {"customer":"ada","total":"12.50"} or {"status":"paid"}`, http.StatusBadRequest)
		return false
	}
	return true
}

// loader reads one order from the replica. A missing or deleted row is not an error.
func loader(replica *sql.DB) func(context.Context, string, invalidation.Source) (invalidation.Loaded[order], error) {
	return func(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[order], error) {
		l := invalidation.Loaded[order]{From: invalidation.Primary}
		var customer, total, status sql.NullString // NULL in a deleted row
		var deleted bool
		err := replica.QueryRowContext(ctx, "SELECT id, customer, total, status, _version, _deleted FROM orders WHERE id = ?", key).
			Scan(&l.Value.ID, &customer, &total, &status, &l.Version, &deleted)
		if errors.Is(err, sql.ErrNoRows) {
			return l, nil
		}
		l.Value.Customer, l.Value.Total, l.Value.Status = customer.String, total.String, status.String
		l.Found = err == nil && !deleted
		return l, err
	}
}
