package invalidation

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// errLoaderExit: the loader left its goroutine instead of returning.
var errLoaderExit = errors.New("loader did not return")

// flight is one fill of one key, which all who want it at the same time share.
type flight[V any] struct {
	key, name string
	lane      *follower
	stamp     int64 // logical time before anything was read
	began     int64 // monotonic, on the node's clock
	least     int64 // the version that somebody wants: less is asked of the primary
	held      bool  // without a shared tier: the key was invalidated within the hold, so only the primary will do
	done      chan struct{}

	// Set by GetMany before the fill.
	asked  *answer        // what the shared tier said
	loaded *prefetched[V] // what the loader said after that

	// Set before done is closed.
	floor    int64 // the least version that the shared tier let pass; an older one is stale
	value    V
	version  int64
	found    bool
	err      error
	panicked string
}

// settle waits for a flight, and if it failed, for nothing: then an older entry may serve.
func (c *Cache[V]) settle(ctx context.Context, f *flight[V]) (V, error) {
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
	defer c.node.leave()
	c.fly(ctx, f)
}

// fly carries a flight within LoadTimeout.
func (c *Cache[V]) fly(ctx context.Context, f *flight[V]) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.LoadTimeout)
	defer cancel()
	defer context.AfterFunc(c.node.ctx, cancel)() //nolint:contextcheck // the node's life ends the load too
	c.carry(ctx, f)
}

// carry fills a flight and ends it, whatever the loader does.
func (c *Cache[V]) carry(ctx context.Context, f *flight[V]) {
	f.err = errLoaderExit
	defer func() {
		if r := recover(); r != nil {
			f.panicked = c.panicText(r)
		}
		c.mu.Lock()
		if c.flights[f.name] == f {
			delete(c.flights, f.name)
		}
		c.mu.Unlock()
		close(f.done)
	}()
	l, err := c.fill(ctx, f)
	f.value, f.version, f.found, f.err = l.Value, l.Version, l.Found, err
}

func (c *Cache[V]) panicText(r any) string {
	if p, ok := r.(loaderPanic); ok {
		return string(p)
	}
	return fmt.Sprintf("loader of dataset %s: %v\n\n%s", c.cfg.Dataset, r, debug.Stack())
}

// loaderPanic is a text that has everything in it already.
type loaderPanic string
