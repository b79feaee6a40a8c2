package invalidation

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// loaderGrace is how long after its deadline a loader may still return an error of its own.
const loaderGrace = 50 * time.Millisecond

// errLoaderExit: the loader left its goroutine instead of returning.
var errLoaderExit = errors.New("loader did not return")

// flight is one fill of one key, which all who want it at the same time share.
type flight[V any] struct {
	key, name string
	lane      *follower
	stamp     int64 // logical time before anything was read
	began     int64 // monotonic, on the node's clock
	least     int64 // the version that somebody wants: less is asked of the primary
	discarded bool  // what was stored under the key was of a wrong type and is removed
	held      bool  // without a shared tier: the key was invalidated within the hold, so only the primary will do
	done      chan struct{}

	// floor is the least version that the shared tier let pass; an older one is stale.
	floor atomic.Int64

	// Set by GetMany before the fill.
	asked  *answer        // what the shared tier said
	loaded *prefetched[V] // what the loader said after that

	// Set before done is closed.
	value    V
	version  int64
	found    bool
	err      error
	panicked string
	ended    bool // guarded by the cache's mu
}

// patience returns a channel that is closed once a reader has waited for StaleAfter, and a function that releases it.
func (c *Cache[V]) patience() (<-chan struct{}, func()) {
	if c.cfg.StaleAfter == 0 {
		return nil, func() {}
	}
	over := make(chan struct{})
	t := time.AfterFunc(c.cfg.StaleAfter, func() { close(over) })
	return over, func() { t.Stop() }
}

// settle waits for a flight. If it failed, or is not done when impatient is closed, an older entry may serve.
func (c *Cache[V]) settle(ctx context.Context, f *flight[V], impatient <-chan struct{}) (V, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
	case <-impatient:
		if e := c.spare(f); e != nil {
			return e.answer()
		}
	}
	v, err := f.wait(ctx)
	if err != nil {
		if e := c.rescue(f); e != nil {
			return e.answer()
		}
	}
	return v, err
}

// wait gives what Get gives.
func (f *flight[V]) wait(ctx context.Context) (V, error) {
	var zero V
	select {
	case <-f.done:
	case <-ctx.Done():
		return zero, fmt.Errorf("get record: %w", context.Cause(ctx))
	}
	switch {
	case f.panicked != "":
		panic(f.panicked) // in the caller's goroutine, where somebody may expect it
	case f.err != nil:
		return zero, f.err
	case !f.found:
		return zero, ErrNotFound
	}
	return f.value, nil
}

// board joins the flight of a key or begins one.
func (c *Cache[V]) board(ctx context.Context, key, name string, d demand) (*flight[V], error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get record: %w", context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.boarding(name, d); f != nil {
		return f, nil
	}
	if !c.node.enter() {
		return nil, ErrClosed
	}
	f := c.begin(key, name, d)
	go c.run(context.WithoutCancel(ctx), f)
	return f, nil
}

// boarding gives the flight under way that meets d, or nil; the caller holds mu.
func (c *Cache[V]) boarding(name string, d demand) *flight[V] {
	f, ok := c.flights[name]
	if !ok || f.least < d.least || d.within != anyAge && c.node.now()-f.began > int64(d.within) || !c.joinable(f) {
		return nil
	}
	c.stats.joined.Add(1)
	return f
}

// begin makes a flight that others can join; the caller holds mu and sees to it that it ends.
func (c *Cache[V]) begin(key, name string, d demand) *flight[V] {
	f := &flight[V]{key: key, name: name, lane: c.node.laneOf(name), began: c.node.now(), least: d.least, done: make(chan struct{})}
	f.stamp = c.node.clock.now.Load()
	if c.cfg.LocalOnly {
		f.stamp, f.held = f.lane.view.beginAlone(name)
	}
	c.flights[name] = f
	return f
}

// joinable: a flight that began before an invalidation, or before somebody had waited for a write, may bring what was
// true before it.
func (c *Cache[V]) joinable(f *flight[V]) bool {
	s := c.node.clock.stripe(f.name)
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	return f.stamp >= max(at, c.node.waited.Load(), c.dataset.lanes[f.lane.n].since.Load(), f.lane.view.flushedAt.Load())
}

func (c *Cache[V]) run(ctx context.Context, f *flight[V]) {
	c.within(ctx, []*flight[V]{f}, func(ctx context.Context) { c.carry(ctx, f) })
}

// within calls fill with LoadTimeout as its deadline, after which these flights are over even if a loader does not heed its
// context: they end with an error then, and the node does not wait for it any more. The caller has entered the node.
func (c *Cache[V]) within(ctx context.Context, flights []*flight[V], fill func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.LoadTimeout)
	defer cancel()
	defer context.AfterFunc(c.node.ctx, cancel)() //nolint:contextcheck // the node's life ends the load too
	leave := sync.OnceFunc(c.node.leave)
	defer leave()
	returned := make(chan struct{})
	defer close(returned)
	defer context.AfterFunc(ctx, func() {
		t := time.NewTimer(loaderGrace)
		defer t.Stop()
		select {
		case <-returned:
			return
		case <-t.C:
		}
		err := fmt.Errorf("load record: loader did not return within LoadTimeout, which is %s: %w", c.cfg.LoadTimeout, context.DeadlineExceeded)
		if c.node.ctx.Err() != nil {
			err = ErrClosed
		}
		abandoned := false
		for _, f := range flights {
			abandoned = c.end(f, Loaded[V]{}, err, "") || abandoned
		}
		if abandoned {
			c.stats.abandoned.Add(1)
			c.warn(warnAbandoned, nil)
		}
		leave()
	})()
	fill(ctx)
}

// carry fills a flight and ends it, whatever the loader does.
func (c *Cache[V]) carry(ctx context.Context, f *flight[V]) {
	var l Loaded[V]
	err, panicked := errLoaderExit, ""
	defer func() {
		if r := recover(); r != nil {
			panicked = c.panicText(r)
		}
		if !c.end(f, l, err, panicked) && panicked != "" {
			c.warn(warnPanic, nil) // its readers are gone
		}
	}()
	l, err = c.fill(ctx, f)
}

// end gives a flight its result, unless it has one.
func (c *Cache[V]) end(f *flight[V], l Loaded[V], err error, panicked string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.ended {
		return false
	}
	f.ended = true
	f.value, f.version, f.found, f.err, f.panicked = l.Value, l.Version, l.Found, err, panicked
	if c.flights[f.name] == f {
		delete(c.flights, f.name)
	}
	close(f.done)
	return true
}

func (c *Cache[V]) panicText(r any) string {
	if p, ok := r.(loaderPanic); ok {
		return string(p)
	}
	return fmt.Sprintf("loader of dataset %s: %v\n\n%s", c.cfg.Dataset, r, debug.Stack())
}

// loaderPanic is a text that has everything in it already.
type loaderPanic string
