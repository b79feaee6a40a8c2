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

// A browser's cookie does what the header does, and goes when no one can wait for it.
func TestTokenInACookie(t *testing.T) {
	t.Parallel()
	asked, other := schemas.NewToken(source(0), 7), schemas.NewToken(source(1), 4)
	var waited string
	gone := false
	m, err := readyours.New(readyours.Config{Cookie: "tok", Waiter: waiter(func(_ context.Context, tok schemas.Token) error {
		waited = tok.String()
		if gone {
			return invalidation.ErrTokenGone
		}
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	h := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "mine", Value: "1"})
		for n := range int64(3) {
			if err := readyours.Add(r.Context(), schemas.NewToken(source(0), 8+n)); err != nil {
				t.Error(err)
			}
		}
	}))
	call := func(cookie string) (status int, set map[string]*http.Cookie) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: "tok", Value: cookie})
		r.Header.Set(readyours.Header, other.String())
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		set = map[string]*http.Cookie{}
		for _, c := range w.Result().Cookies() {
			if set[c.Name] != nil {
				t.Errorf("cookie %s is set twice", c.Name)
			}
			set[c.Name] = c
		}
		return w.Code, set
	}
	status, set := call(asked.String())
	want := schemas.NewToken(source(0), 10).Merge(other).String()
	if c := set["tok"]; status != http.StatusOK || c == nil || c.Value != want || !c.HttpOnly || c.Path != "/" || set["mine"] == nil {
		t.Errorf("status %d, cookies %v, want %q", status, set, want)
	}
	if waited != asked.Merge(other).String() {
		t.Errorf("waited for %q", waited)
	}
	for name, cookie := range map[string]string{
		"garbage": "%%", "too long": strings.Repeat("A", readyours.MaxBytes+1), "gone": asked.String(),
	} {
		gone = true
		status, set := call(cookie)
		if c := set["tok"]; status < 400 || c == nil || c.MaxAge >= 0 || c.Value != "" {
			t.Errorf("%s: status %d, cookies %v: the cookie must be removed", name, status, set)
		}
	}
	if _, err := readyours.New(readyours.Config{Waiter: waiter(nil), Cookie: "a b"}); !errors.Is(err, readyours.ErrConfig) {
		t.Errorf("bad name: %v", err)
	}
}
