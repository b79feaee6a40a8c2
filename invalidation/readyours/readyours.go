// Package readyours carries tokens over HTTP, so that who wrote through one node reads what it wrote through another.
//
//	tokens, err := readyours.New(readyours.Config{Waiter: node})
//	http.ListenAndServe(addr, tokens.Wrap(mux))
//
// A handler that publishes adds what it got, before it writes its answer:
//
//	token, err := producer.Publish(ctx, event)
//	err = readyours.Add(r.Context(), token)
//
// The answer's Header carries the request's token and those added. A client sends the last one it got with each request.
// Browsers do that by themselves with Config.Cookie.
package readyours

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

const (
	// Header carries a token's text form, in requests and answers.
	Header = "Freshet-Token"
	// MaxBytes is the longest token text that travels: proxies refuse long headers.
	MaxBytes = 4 << 10
	// DefaultWait is the default of Config.Wait.
	DefaultWait = 2 * time.Second
)

var (
	// ErrTooLarge: the merged token would have more than MaxBytes. It names too many partitions for a header.
	ErrTooLarge = errors.New("token is too large for a header: it names too many partitions")
	// ErrNotWrapped: the context is not of a request that came through Wrap.
	ErrNotWrapped = errors.New("request did not come through the token middleware")
	// ErrConfig comes, wrapped, from New.
	ErrConfig = errors.New("configuration refused")

	errSource = errors.New("the token has a source that cannot exist")
)

// Waiter waits until this process has seen what a token names; *invalidation.Node does. It may be called concurrently.
type Waiter interface {
	WaitFor(ctx context.Context, token schemas.Token) error
}

// Config of a Middleware.
type Config struct {
	// Waiter is the process's node; required.
	Waiter Waiter
	// Wait bounds how long a request waits for its token; 0 means DefaultWait.
	Wait time.Duration
	// Cookie names a cookie in which the token travels as well, for browsers; "" means none. It lives as long as the
	// browser's session and is taken back when no one can wait for it. A token is not a secret, but HTTP alone reads it.
	Cookie string
}

// Middleware makes handlers wait for their requests' tokens.
type Middleware struct{ cfg Config }

// New checks cfg. Errors wrap ErrConfig.
func New(cfg Config) (*Middleware, error) {
	if cfg.Waiter == nil {
		return nil, fmt.Errorf("%w: Waiter is nil; give the process's node", ErrConfig)
	}
	if cfg.Wait < 0 {
		return nil, fmt.Errorf("%w: Wait is %s; it must not be negative", ErrConfig, cfg.Wait)
	}
	if cfg.Cookie != "" && tokenCookie(cfg.Cookie, "", 0).Valid() != nil {
		return nil, fmt.Errorf("%w: Cookie %q is not a valid cookie name; use letters, digits and -", ErrConfig, cfg.Cookie)
	}
	if cfg.Wait == 0 {
		cfg.Wait = DefaultWait
	}
	return &Middleware{cfg: cfg}, nil
}

// Wrap returns next the requests whose tokens were seen here. Others are answered: 503 if that took longer than Config.Wait
// or the node is closed, 431 for a token above MaxBytes, 400 for one that no one can wait for; then the client drops it,
// and a cookie is removed.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &carrier{header: w.Header(), cookie: m.cfg.Cookie}
		token, err := m.sent(r)
		switch {
		case errors.Is(err, ErrTooLarge):
			c.refuse(w, err, http.StatusRequestHeaderFieldsTooLarge)
			return
		case err != nil:
			c.refuse(w, err, http.StatusBadRequest)
			return
		}
		if !token.IsZero() {
			if !m.wait(w, r, c, token) {
				return
			}
			if err := c.add(token); err != nil { // our text of it may be longer than the client's
				c.refuse(w, err, http.StatusRequestHeaderFieldsTooLarge)
				return
			}
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), carrierKey{}, c)))
	})
}

// sent returns the token that a request brings, by header, by cookie or by both.
func (m *Middleware) sent(r *http.Request) (schemas.Token, error) {
	texts := []string{r.Header.Get(Header)}
	if m.cfg.Cookie != "" {
		for _, c := range r.CookiesNamed(m.cfg.Cookie) {
			texts = append(texts, c.Value)
		}
	}
	var token schemas.Token
	for _, text := range texts {
		if text == "" {
			continue
		}
		if len(text) > MaxBytes {
			return token, ErrTooLarge
		}
		t, err := schemas.ParseToken(text)
		if err != nil {
			return token, err //nolint:wrapcheck // it is the client's answer
		}
		token = token.Merge(t)
	}
	return token, nil
}

// wait answers the request itself if the token was not seen.
func (m *Middleware) wait(w http.ResponseWriter, r *http.Request, c *carrier, token schemas.Token) bool {
	ctx, cancel := context.WithTimeout(r.Context(), m.cfg.Wait)
	defer cancel()
	err := m.cfg.Waiter.WaitFor(ctx, token)
	switch {
	case err == nil:
		return true
	case errors.Is(err, invalidation.ErrNoCache):
		c.refuse(w, invalidation.ErrNoCache, http.StatusBadRequest)
	case errors.Is(err, invalidation.ErrTokenGone):
		c.refuse(w, invalidation.ErrTokenGone, http.StatusBadRequest)
	case errors.Is(err, schemas.ErrInvalid):
		c.refuse(w, errSource, http.StatusBadRequest)
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "this node has not seen your last write yet", http.StatusServiceUnavailable)
	}
	return false
}

// Add merges token into the answer's header. It must come before the answer is begun, on the handler's goroutine or in
// its place. On an error the header stays as it was. Errors: ErrTooLarge, ErrNotWrapped.
func Add(ctx context.Context, token schemas.Token) error {
	c, ok := ctx.Value(carrierKey{}).(*carrier)
	if !ok {
		return ErrNotWrapped
	}
	return c.add(token)
}

type carrierKey struct{}

// carrier is the token of one answer.
type carrier struct {
	mu     sync.Mutex // guards all
	header http.Header
	cookie string // its name; "": none
	token  schemas.Token
}

// refuse answers a request whose token cannot be used. A browser would send its cookie permanently.
func (c *carrier) refuse(w http.ResponseWriter, err error, status int) {
	if c.cookie != "" {
		c.setCookie("", -1)
	}
	http.Error(w, err.Error(), status)
}

// setCookie puts the token's cookie into the answer, in place of one that is there.
func (c *carrier) setCookie(value string, maxAge int) {
	const set = "Set-Cookie"
	c.header[set] = slices.DeleteFunc(c.header[set], func(line string) bool { return strings.HasPrefix(line, c.cookie+"=") })
	c.header.Add(set, tokenCookie(c.cookie, value, maxAge).String())
}

// tokenCookie is sent without encryption, too: a token names places in the log and opens nothing.
func tokenCookie(name, value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, MaxAge: maxAge, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode} //nolint:gosec // as said
}

func (c *carrier) add(token schemas.Token) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	merged := c.token.Merge(token)
	if merged.IsZero() {
		return nil
	}
	text := merged.String()
	if len(text)+len(c.cookie) > MaxBytes { // browsers drop longer cookies
		return ErrTooLarge
	}
	c.token = merged
	c.header.Set(Header, text)
	if c.cookie != "" {
		c.setCookie(text, 0)
	}
	return nil
}
