package readyours_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/readyours"
	"github.com/freshet/freshet/schemas"
)

var _ readyours.Waiter = (*invalidation.Node)(nil)

type waiter func(ctx context.Context, token schemas.Token) error

func (w waiter) WaitFor(ctx context.Context, token schemas.Token) error { return w(ctx, token) }

func source(n int) string { return fmt.Sprintf("freshet.users/dG9waWMtb25l/%d", n) }

// serve answers one request with that token; the handler adds add.
func serve(t *testing.T, wait waiter, token string, add ...schemas.Token) (*httptest.ResponseRecorder, error) {
	t.Helper()
	m, err := readyours.New(readyours.Config{Waiter: wait, Wait: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var added error
	h := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, a := range add {
			added = errors.Join(added, readyours.Add(r.Context(), a))
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if token != "" {
		r.Header.Set(readyours.Header, token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w, added
}

func TestTokenIsWaitedForAndMerged(t *testing.T) {
	t.Parallel()
	asked := schemas.NewToken(source(0), 7)
	var waited []string
	w, err := serve(t, func(_ context.Context, tok schemas.Token) error {
		waited = append(waited, tok.String())
		return nil
	}, asked.String(), schemas.NewToken(source(1), 3), schemas.NewToken(source(0), 9))
	want := schemas.NewToken(source(0), 9).Merge(schemas.NewToken(source(1), 3)).String()
	if err != nil || w.Code != http.StatusNoContent || w.Header().Get(readyours.Header) != want {
		t.Errorf("%v, status %d, token %q, want %q", err, w.Code, w.Header().Get(readyours.Header), want)
	}
	if len(waited) != 1 || waited[0] != asked.String() {
		t.Errorf("waited for %q", waited)
	}
	if w, _ = serve(t, nil, ""); w.Code != http.StatusNoContent || w.Header().Get(readyours.Header) != "" {
		t.Errorf("without token: status %d, token %q", w.Code, w.Header().Get(readyours.Header))
	}
}

func TestTokenIsRefused(t *testing.T) {
	t.Parallel()
	tok := schemas.NewToken(source(0), 7).String()
	fail := func(err error) waiter {
		return func(context.Context, schemas.Token) error { return fmt.Errorf("wait: %w", err) }
	}
	for name, tc := range map[string]struct {
		wait  waiter
		token string
		want  int
	}{
		"never seen": {func(ctx context.Context, _ schemas.Token) error { <-ctx.Done(); return ctx.Err() }, tok, http.StatusServiceUnavailable},
		"closed":     {fail(invalidation.ErrClosed), tok, http.StatusServiceUnavailable},
		"gone":       {fail(invalidation.ErrTokenGone), tok, http.StatusBadRequest},
		"no cache":   {fail(invalidation.ErrNoCache), tok, http.StatusBadRequest},
		"garbage":    {nil, "%%%", http.StatusBadRequest},
		"too long":   {nil, strings.Repeat("A", readyours.MaxBytes+1), http.StatusRequestHeaderFieldsTooLarge},
	} {
		if w, _ := serve(t, tc.wait, tc.token); w.Code != tc.want {
			t.Errorf("%s: status %d, want %d", name, w.Code, tc.want)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	var big schemas.Token
	for i := range 200 {
		big = big.Merge(schemas.NewToken(source(i), 1))
	}
	small := schemas.NewToken(source(0), 7)
	w, err := serve(t, nil, "", small, big)
	if !errors.Is(err, readyours.ErrTooLarge) || w.Header().Get(readyours.Header) != small.String() {
		t.Errorf("%v, token %q", err, w.Header().Get(readyours.Header))
	}
	if err := readyours.Add(t.Context(), small); !errors.Is(err, readyours.ErrNotWrapped) {
		t.Errorf("outside of a request: %v", err)
	}
	for _, cfg := range []readyours.Config{{}, {Waiter: waiter(nil), Wait: -1}} {
		if _, err := readyours.New(cfg); !errors.Is(err, readyours.ErrConfig) {
			t.Errorf("New: %v, want ErrConfig", err)
		}
	}
}
