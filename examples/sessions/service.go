package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/readyours"
	"github.com/freshet/freshet/schemas"
)

const (
	sessionCookie = "session"
	tokenCookie   = "freshet-token"
	maxBody       = 64 << 10
)

// service answers HTTP requests about the session that a request's cookie names.
type service struct {
	store    *store
	draining *atomic.Bool
	log      *slog.Logger
}

// noWait lets writes begin at once: they lock the row in the service's own table and read no cache.
type noWait struct{}

// WaitFor returns nil.
func (noWait) WaitFor(context.Context, schemas.Token) error { return nil }

// handler returns the routes. Each read waits until this node has seen what its token names, so a user who comes from
// another node finds here what was written there. The token of a write's answer includes that of its request.
func (s *service) handler(node *invalidation.Node) (http.Handler, error) {
	reads, err := readyours.New(readyours.Config{Waiter: node, Cookie: tokenCookie})
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is wrong
	}
	writes, err := readyours.New(readyours.Config{Waiter: noWait{}, Cookie: tokenCookie})
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is wrong
	}
	mux := http.NewServeMux()
	mux.Handle("POST /login", writes.Wrap(http.HandlerFunc(s.login)))
	mux.Handle("GET /session", reads.Wrap(http.HandlerFunc(s.read)))
	mux.Handle("PUT /session", writes.Wrap(http.HandlerFunc(s.change)))
	mux.Handle("DELETE /session", writes.Wrap(http.HandlerFunc(s.logout)))
	ready := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.Handle("GET /readyz", s.unlessDraining(ready))
	mux.Handle("GET /cachez", s.unlessDraining(node.CheckHandler()))
	return mux, nil
}

// unlessDraining fails a balancer's check while the process ends, so that no new requests come.
func (s *service) unlessDraining(check http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		check.ServeHTTP(w, r)
	})
}

// login begins a session. A real service asks for more than a name.
func (s *service) login(w http.ResponseWriter, r *http.Request) {
	var in struct {
		User string `json:"user"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil || in.User == "" || len(in.User) > 100 {
		http.Error(w, `the body must be {"user":"…"} with a name of at most 100 bytes`, http.StatusBadRequest)
		return
	}
	v, token, err := s.store.create(r.Context(), in.User)
	if !s.wrote(r.Context(), w, token, err) {
		return
	}
	setSession(w, r, v.ID, 0)
	s.answer(w, http.StatusCreated, v)
}

func (s *service) read(w http.ResponseWriter, r *http.Request) {
	v, err := s.store.cache.Get(r.Context(), idOf(r))
	if err != nil {
		s.fail(w, err)
		return
	}
	s.answer(w, http.StatusOK, v)
}

func (s *service) change(w http.ResponseWriter, r *http.Request) {
	var data map[string]any
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&data); err != nil || data == nil {
		http.Error(w, "the body must be a JSON object of at most 64 KiB: the session's whole data", http.StatusBadRequest)
		return
	}
	body, err := json.Marshal(data)
	if err != nil {
		s.fail(w, err)
		return
	}
	v, token, err := s.store.change(r.Context(), idOf(r), body)
	if s.wrote(r.Context(), w, token, err) {
		s.answer(w, http.StatusOK, v)
	}
}

func (s *service) logout(w http.ResponseWriter, r *http.Request) {
	token, err := s.store.end(r.Context(), idOf(r))
	if s.wrote(r.Context(), w, token, err) {
		setSession(w, r, "", -1)
		w.WriteHeader(http.StatusNoContent)
	}
}

// wrote puts a write's token into the answer, or answers that there was none.
func (s *service) wrote(ctx context.Context, w http.ResponseWriter, token schemas.Token, err error) bool {
	if err == nil {
		err = readyours.Add(ctx, token)
	}
	if err != nil {
		s.fail(w, err)
	}
	return err == nil
}

func (s *service) answer(w http.ResponseWriter, status int, v session) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	out := struct {
		User string          `json:"user"`
		Data json.RawMessage `json:"data"`
	}{v.User, v.Data}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		s.log.Info("answer was not taken", "error", err)
	}
}

func (s *service) fail(w http.ResponseWriter, err error) {
	if errors.Is(err, invalidation.ErrNotFound) || errors.Is(err, schemas.ErrInvalid) {
		http.Error(w, "no such session: log in", http.StatusUnauthorized)
		return
	}
	s.log.Error("request failed", "error", err)
	w.Header().Set("Retry-After", "1")
	http.Error(w, "try again", http.StatusServiceUnavailable)
}

// setSession sets the session's cookie; a client that came over TLS sends it only over TLS. The balancer reports how they came.
func setSession(w http.ResponseWriter, r *http.Request, id string, maxAge int) {
	secure := r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
	//nolint:gosec // not Secure where there is no encryption to begin with
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: id, MaxAge: maxAge, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure,
	})
}

// idOf returns the session that a request names; what is not a session's id finds none.
func idOf(r *http.Request) string {
	if c, err := r.Cookie(sessionCookie); err == nil && c.Value != "" {
		return c.Value
	}
	return "-"
}
