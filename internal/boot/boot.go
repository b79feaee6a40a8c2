// Package boot is the time before a process can work. Each step of a start is tried until the servers allow it, and readiness, metrics
// and the log have what is waited for.
package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/invalidation"
)

// tryLimit bounds one try of a step, such as with a server that accepts connections and does not answer.
const tryLimit = 30 * time.Second

// Boot has the steps of a start that are waited for. It is safe for concurrent use.
type Boot struct {
	log      *slog.Logger
	failFast bool

	mu    sync.Mutex
	waits map[string]wait // by step; guarded by mu
}

type wait struct {
	since time.Time
	err   error
}

// New returns a Boot without steps. With failFast the first failure of a step is its end.
func New(log *slog.Logger, failFast bool) *Boot {
	return &Boot{log: log, failFast: failFast, waits: map[string]wait{}}
}

// Until tries a step until it succeeds, until ctx ends, or until it fails in a way that only another configuration can heal. With
// failFast the first failure is returned.
func (b *Boot) Until(ctx context.Context, what string, step func(ctx context.Context) error) error {
	b.note(what, errors.New("it is being asked for the first time"))
	err := retry.Do(ctx, retry.Policy{Notify: func(err error, _ time.Duration) { b.note(what, err) }}, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, tryLimit)
		defer cancel()
		err := step(ctx)
		if b.failFast && err != nil {
			err = fmt.Errorf("%s: %w", what, err) // a supervisor shows this line alone
		}
		if b.failFast || incurable(err) {
			return retry.Permanent(err)
		}
		return err
	})
	if err == nil {
		b.done(what)
	}
	return err
}

// incurable reports whether an error of a step stays as long as this process has its configuration.
func incurable(err error) bool {
	return errors.Is(err, replica.ErrForeignNamespace) || errors.Is(err, replica.ErrForeignGroup) || errors.Is(err, invalidation.ErrOtherSettings)
}

func (b *Boot) note(what string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w, known := b.waits[what]
	if !known {
		w.since = time.Now()
	} else if w.err.Error() != err.Error() {
		b.log.Warn("waiting for the infrastructure", "step", what, "error", err)
	}
	w.err = err
	b.waits[what] = w
}

func (b *Boot) done(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if waited := time.Since(b.waits[what].since); waited > time.Second {
		b.log.Info("continuing", "step", what, "duration_seconds", waited)
	}
	delete(b.waits, what)
}

// Waiting lists what is waited for, in the words of a worker's NotReady.
func (b *Boot) Waiting() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, what := range slices.Sorted(maps.Keys(b.waits)) {
		w := b.waits[what]
		out = append(out, fmt.Sprintf("waiting since %s for %s: %v", w.since.UTC().Format(time.RFC3339), what, w.err))
	}
	return out
}

// Lasting is how long each step is waited for.
func (b *Boot) Lasting() map[string]time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[string]time.Duration, len(b.waits))
	for what, w := range b.waits {
		out[what] = time.Since(w.since)
	}
	return out
}
