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
package readyours

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	if cfg.Wait == 0 {
		cfg.Wait = DefaultWait
	}
	return &Middleware{cfg: cfg}, nil
}

// Wrap gives next the requests whose tokens were seen here. Others are answered: 503 if that took longer than Config.Wait
// or the node is closed, 431 for a token above MaxBytes, 400 for one that nobody can wait for; then the client drops it.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := r.Header.Get(Header)
		if len(text) > MaxBytes {
			http.Error(w, ErrTooLarge.Error(), http.StatusRequestHeaderFieldsTooLarge)
			return
		}
		c := &carrier{header: w.Header()}
		if text != "" {
			token, err := schemas.ParseToken(text)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if !m.wait(w, r, token) {
				return
			}
			if err := c.add(token); err != nil { // our text of it may be longer than the client's
				http.Error(w, err.Error(), http.StatusRequestHeaderFieldsTooLarge)
				return
			}
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), carrierKey{}, c)))
	})
}

// wait answers the request itself if the token was not seen.
func (m *Middleware) wait(w http.ResponseWriter, r *http.Request, token schemas.Token) bool {
	ctx, cancel := context.WithTimeout(r.Context(), m.cfg.Wait)
	defer cancel()
	err := m.cfg.Waiter.WaitFor(ctx, token)
	switch {
	case err == nil:
		return true
	case errors.Is(err, invalidation.ErrNoCache):
		http.Error(w, invalidation.ErrNoCache.Error(), http.StatusBadRequest)
	case errors.Is(err, invalidation.ErrTokenGone):
		http.Error(w, invalidation.ErrTokenGone.Error(), http.StatusBadRequest)
	case errors.Is(err, schemas.ErrInvalid):
		http.Error(w, "the token names a source that cannot be", http.StatusBadRequest)
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
	token  schemas.Token
}

func (c *carrier) add(token schemas.Token) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	merged := c.token.Merge(token)
	if merged.IsZero() {
		return nil
	}
	text := merged.String()
	if len(text) > MaxBytes {
		return ErrTooLarge
	}
	c.token = merged
	c.header.Set(Header, text)
	return nil
}
