// Package retry holds the rules by which Freshet tries again: exponential backoff with jitter, no end but the context's,
// and no sleep that cannot be interrupted. Nothing outside it calls the backoff library.
package retry

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Policy is how long to wait between tries. The zero value works.
type Policy struct {
	// First is the wait after the first failure; 0 means 50ms.
	First time.Duration
	// Max is the longest wait, before jitter; 0 means 5s.
	Max time.Duration
	// Notify, if not nil, learns of each failure and of the wait that follows.
	Notify func(err error, wait time.Duration)
}

// permanent marks an error that ends Do.
type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

// Permanent marks err as one that trying again cannot fix; Do returns err itself. nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// Do runs op until it returns nil or a Permanent error, or until ctx ends: then it returns ctx's cause joined with the
// last error of op. op gets ctx and is not called once ctx is done.
func Do(ctx context.Context, p Policy, op func(context.Context) error) error {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(cmp.Or(p.First, 50*time.Millisecond)),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxInterval(cmp.Or(p.Max, 5*time.Second)),
		backoff.WithMaxElapsedTime(0),
	)
	var last error
	try := func() error {
		if err := ctx.Err(); err != nil {
			return backoff.Permanent(context.Cause(ctx))
		}
		last = op(ctx)
		var stop *permanent
		if errors.As(last, &stop) {
			last = nil
			return backoff.Permanent(stop.err)
		}
		return last
	}
	err := backoff.RetryNotify(try, backoff.WithContext(b, ctx), p.Notify)
	if err != nil && ctx.Err() != nil && last != nil && !errors.Is(err, last) {
		return errors.Join(err, last)
	}
	return err
}
