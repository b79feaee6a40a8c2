package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/invalidation/readyours"
)

// hopFor is how long users hop; FRESHET_HOP asks for longer.
func hopFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("FRESHET_HOP")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("FRESHET_HOP: %v", err)
	}
	return d
}

// errOlder: a read gave less than its user wrote last.
var errOlder = errors.New("an older session")

// user is someone with a session. A browser keeps the token in a cookie; other clients send it in the header.
type user struct {
	url     string
	client  *http.Client
	browser bool
	token   string
	wrote   int // the n that was written last
	nodes   map[string]bool
	hops    int
	last    string
}

func (s *site) user(browser bool) *user {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	u := &user{url: s.url, browser: browser, nodes: map[string]bool{}}
	u.client = &http.Client{Jar: jar, Transport: s.transport(), Timeout: patience}
	if !browser {
		u.client.Jar = sessionOnly{jar}
	}
	return u
}

// call makes one request and returns the n of the session in its answer.
func (u *user) call(ctx context.Context, method, path string, body any) (status, n int, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.url+path, bytes.NewReader(b))
	if err != nil {
		return 0, 0, err
	}
	if !u.browser && u.token != "" {
		req.Header.Set(readyours.Header, u.token)
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, 0, err
	}
	if tok := resp.Header.Get(readyours.Header); tok != "" {
		u.token = tok
	}
	node := resp.Header.Get("Served-By")
	u.nodes[node] = true
	if node != u.last {
		u.hops++
	}
	u.last = node
	var out struct {
		Data struct {
			N int `json:"n"`
		} `json:"data"`
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, &out); err != nil {
			return 0, 0, fmt.Errorf("decode answer: %w", err)
		}
	}
	return resp.StatusCode, out.Data.N, nil
}

// write makes one request that must end with that status.
func (u *user) write(ctx context.Context, method, path string, body any, want int) error {
	status, _, err := u.call(ctx, method, path, body)
	if err == nil && status != want {
		err = fmt.Errorf("%s %s: status %d, want %d", method, path, status, want)
	}
	return err
}

// read reads the session; errOlder if it is not what was written last, or newer.
func (u *user) read(ctx context.Context) error {
	status, n, err := u.call(ctx, http.MethodGet, "/session", nil)
	switch {
	case err != nil:
		return err
	case status == http.StatusUnauthorized:
		return fmt.Errorf("%w: none, although n=%d was written", errOlder, u.wrote)
	case status != http.StatusOK:
		return fmt.Errorf("read: status %d", status)
	case n < u.wrote:
		return fmt.Errorf("%w: n=%d, although n=%d was written", errOlder, n, u.wrote)
	}
	return nil
}

// live logs in, changes and reads until the time is over, and logs out.
func (u *user) live(ctx context.Context, until time.Time) (reads int, err error) {
	if err := u.write(ctx, http.MethodPost, "/login", map[string]any{"user": "ada"}, http.StatusCreated); err != nil {
		return 0, err
	}
	for time.Now().Before(until) {
		for range 4 {
			if err := u.read(ctx); err != nil {
				return reads, err
			}
			reads++
		}
		if err := u.write(ctx, http.MethodPut, "/session", map[string]any{"n": u.wrote + 1}, http.StatusOK); err != nil {
			return reads, err
		}
		u.wrote++
	}
	if err := u.read(ctx); err != nil {
		return reads, err
	}
	return reads + 1, u.leave(ctx)
}

// leave logs out; with the cookie that it had before, the session must be gone everywhere.
func (u *user) leave(ctx context.Context) error {
	u.client.Jar = stubborn{u.client.Jar}
	if err := u.write(ctx, http.MethodDelete, "/session", nil, http.StatusNoContent); err != nil {
		return err
	}
	for range 3 {
		if err := u.write(ctx, http.MethodGet, "/session", nil, http.StatusUnauthorized); err != nil {
			return fmt.Errorf("after logout: %w", err)
		}
	}
	return nil
}

// Users whose every request goes to another node find what they wrote last, until they log out; then nothing.
func TestUsersHopBetweenNodes(t *testing.T) {
	s := newSite(t, nil)
	const users = 16
	until := time.Now().Add(hopFor(t))
	ctx, cancel := context.WithDeadline(t.Context(), until.Add(patience))
	defer cancel()
	var reads, writes, hops atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for i := range users {
		u := s.user(i%2 == 0)
		g.Go(func() error {
			n, err := u.live(ctx, until)
			reads.Add(int64(n))
			writes.Add(int64(u.wrote))
			hops.Add(int64(u.hops))
			if err == nil && (u.wrote == 0 || len(u.nodes) != 3) {
				err = fmt.Errorf("user %d wrote %d times and met %d nodes", i, u.wrote, len(u.nodes))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d users: %d writes, %d reads, %d hops, none older", users, writes.Load(), reads.Load(), hops.Load())
}

// Without the token the same users do find older sessions: what the test above looks for exists.
func TestWithoutTokensSessionsAreOlder(t *testing.T) {
	s := newSite(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			kept := r.CookiesNamed(sessionCookie)
			r.Header.Del(readyours.Header)
			r.Header.Del("Cookie")
			for _, c := range kept {
				r.AddCookie(c)
			}
			next.ServeHTTP(w, r)
		})
	})
	u := s.user(true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := u.live(ctx, time.Now().Add(patience)); !errors.Is(err, errOlder) {
		t.Errorf("got %v, want %v", err, errOlder)
	}
}
