package invalidation

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/freshet/freshet/invalidation/lane"
)

// errLoaderExit: the loader left its goroutine instead of returning.
var errLoaderExit = errors.New("loader did not return")

// maxOrphans bounds the leases of failed loads that a cache remembers.
const maxOrphans = 1024

// flight is one fill of one key, which all who want it at the same time share.
type flight[V any] struct {
	key, name string
	lane      *follower
	stamp     int64 // logical time before anything was read
	done      chan struct{}

	// Set before done is closed.
	value    V
	found    bool
	err      error
	panicked string
}

// fly joins the flight of a key or begins one, and waits for it.
func (c *Cache[V]) fly(ctx context.Context, key, name string) (V, error) {
	var zero V
	if err := ctx.Err(); err != nil {
		return zero, fmt.Errorf("get record: %w", context.Cause(ctx))
	}
	f, err := c.board(ctx, key, name)
	if err != nil {
		return zero, err
	}
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

func (c *Cache[V]) board(ctx context.Context, key, name string) (*flight[V], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.flights[name]; ok && c.joinable(f) {
		c.stats.joined.Add(1)
		return f, nil
	}
	if !c.node.enter() {
		return nil, ErrClosed
	}
	f := &flight[V]{key: key, name: name, lane: c.node.laneOf(name), stamp: c.node.clock.now.Load(), done: make(chan struct{})}
	c.flights[name] = f
	go c.run(context.WithoutCancel(ctx), f)
	return f, nil
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
	ctx, cancel := context.WithTimeout(ctx, c.cfg.LoadTimeout)
	defer cancel()
	defer context.AfterFunc(c.node.ctx, cancel)() //nolint:contextcheck // the node's life ends the load too
	f.err = errLoaderExit
	defer func() {
		if r := recover(); r != nil {
			f.panicked = fmt.Sprintf("loader of dataset %s: %v\n\n%s", c.cfg.Dataset, r, debug.Stack())
		}
		c.mu.Lock()
		if c.flights[f.name] == f {
			delete(c.flights, f.name)
		}
		c.mu.Unlock()
		close(f.done)
	}()
	l, err := c.fill(ctx, f)
	f.value, f.found, f.err = l.Value, l.Found, err
}

// fill asks the shared tier and, if need be, the loader. Only what the shared tier accepted is kept in the local tier.
func (c *Cache[V]) fill(ctx context.Context, f *flight[V]) (Loaded[V], error) {
	switch {
	case !f.lane.view.exists.Load():
		return c.bypass(ctx, f, bypassNoLane)
	case !c.dataset.lanes[f.lane.n].agreed.Load():
		return c.bypass(ctx, f, bypassDataset)
	}
	if !f.lane.fresh(c.node.now()) {
		c.stats.bypassed[bypassUnconfirmed].Add(1) // the local tier only
	}
	if f.lane.trouble.Load() >= maxTrouble {
		return c.bypass(ctx, f, bypassRedis)
	}
	token := c.token(f.name)
	r, err := c.shared(ctx, f.name, token)
	f.lane.heard(err)
	switch {
	case err != nil:
		return c.bypass(ctx, f, bypassRedis)
	case r.Status == lane.GetNoLane:
		signal(f.lane.now)
		return c.bypass(ctx, f, bypassNoLane)
	case r.Status == lane.GetBusy:
		c.stats.bypassed[bypassBusy].Add(1)
		return c.unguarded(ctx, f.key, r.Floor)
	case r.Status == lane.GetLease:
		return c.lease(ctx, f, token, r.Floor)
	}
	l, err := c.decode(r)
	if err != nil {
		c.warn(warnDecode, nil) // the codec's words may quote the value
		return c.bypass(ctx, f, bypassCodec)
	}
	c.stats.sharedHits.Add(1)
	c.keep(f, l)
	return l, nil
}

// token names a fill attempt. After a load that failed it is the one that still holds the lease: otherwise nobody could
// share the record until the lease ends. That lease is as good as a new one, since any invalidation would have ended it.
func (c *Cache[V]) token(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.orphans[name]; ok {
		delete(c.orphans, name)
		return t
	}
	return c.node.token()
}

func (c *Cache[V]) orphan(name, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.orphans) >= maxOrphans {
		clear(c.orphans) // those leases end by themselves
	}
	c.orphans[name] = token
}

// shared asks the shared tier and gives another node that is loading a little time.
func (c *Cache[V]) shared(ctx context.Context, name, token string) (lane.GetReply, error) {
	until := c.node.now() + int64(c.cfg.BusyWait)
	for wait := 2 * time.Millisecond; ; wait *= 2 {
		r, err := c.node.scripts.Get(ctx, name, token)
		if err != nil {
			return r, fmt.Errorf("ask shared tier: %w", err)
		}
		left := time.Duration(until - c.node.now())
		if r.Status != lane.GetBusy || left <= 0 {
			return r, nil
		}
		t := time.NewTimer(min(wait, left))
		select {
		case <-ctx.Done():
			t.Stop()
			return r, nil
		case <-t.C:
		}
	}
}

// lease loads under a lease and shares the result.
func (c *Cache[V]) lease(ctx context.Context, f *flight[V], token string, floor int64) (Loaded[V], error) {
	l, err := c.loadAtLeast(ctx, f.key, floor)
	if err != nil {
		c.orphan(f.name, token)
		return l, err
	}
	if (floor == lane.PrimaryOnly || c.node.cfg.Hold < 0) && l.From != Primary {
		c.stats.refused[refusedPrimary].Add(1)
		return l, nil // the loader could not reach the primary
	}
	data, err := c.encode(l)
	if err != nil {
		c.stats.refused[refusedCodec].Add(1)
		c.warn(warnEncode, nil)
		return l, nil //nolint:nilerr // the reader gets its value; that it is not kept is counted
	}
	for {
		s, err := c.node.scripts.Fill(ctx, lane.FillRequest{
			Key: f.name, Token: token, Version: l.Version, Value: data, Tags: l.Tags,
			TTL: c.spread(c.cfg.TTL), Primary: l.From == Primary,
		})
		switch {
		case errors.Is(err, lane.ErrFill):
			c.stats.refused[refusedInvalid].Add(1)
			c.warn(warnLoaded, err)
			return l, nil
		case err != nil:
			c.stats.refused[refusedRedis].Add(1)
			return c.unshared(ctx, f.key, l)
		case s == lane.FillOK:
			c.keep(f, l)
			return l, nil
		case s == lane.FillLost:
			c.stats.refused[refusedLost].Add(1)
			return c.unshared(ctx, f.key, l)
		case s == lane.FillStale:
			c.stats.refused[refusedStale].Add(1)
		case s == lane.FillPrimary:
			c.stats.refused[refusedPrimary].Add(1)
		}
		if l.From == Primary {
			return l, nil // no version, or the primary is behind what was emitted: serve, do not cache
		}
		if l, err = c.load(ctx, f.key, Primary); err != nil || l.From != Primary {
			return l, err
		}
		if data, err = c.encode(l); err != nil {
			c.stats.refused[refusedCodec].Add(1)
			return l, nil //nolint:nilerr // as above
		}
	}
}

// unshared: l was not accepted by the shared tier. Who has waited for a write gets a read of the primary instead.
func (c *Cache[V]) unshared(ctx context.Context, key string, l Loaded[V]) (Loaded[V], error) {
	if l.From == Primary || !c.node.waitedLately() {
		return l, nil
	}
	return c.load(ctx, key, Primary)
}

// bypass loads without any cache.
func (c *Cache[V]) bypass(ctx context.Context, f *flight[V], why int) (Loaded[V], error) {
	c.stats.bypassed[why].Add(1)
	return c.unguarded(ctx, f.key, 0)
}

// unguarded loads what no fill will check: from the primary, if somebody relies on having waited for a write.
func (c *Cache[V]) unguarded(ctx context.Context, key string, floor int64) (Loaded[V], error) {
	if c.node.waitedLately() {
		return c.load(ctx, key, Primary)
	}
	return c.loadAtLeast(ctx, key, floor)
}

// loadAtLeast loads a version of at least floor, from the primary if anything else is too old.
func (c *Cache[V]) loadAtLeast(ctx context.Context, key string, floor int64) (Loaded[V], error) {
	if floor == lane.PrimaryOnly || c.node.cfg.Hold < 0 {
		return c.load(ctx, key, Primary)
	}
	l, err := c.load(ctx, key, Any)
	if err != nil || l.From == Primary || l.Version >= floor {
		return l, err
	}
	c.stats.refused[refusedStale].Add(1)
	return c.load(ctx, key, Primary)
}

func (c *Cache[V]) load(ctx context.Context, key string, from Source) (Loaded[V], error) {
	c.stats.loads.Add(1)
	if from == Primary {
		c.stats.primaryLoads.Add(1)
	}
	l, err := c.cfg.Load(ctx, key, from)
	if err != nil {
		c.stats.loadErrors.Add(1)
		if c.node.ctx.Err() != nil {
			return l, ErrClosed
		}
		return l, fmt.Errorf("load record: %w", err)
	}
	if !l.Found {
		var zero V
		l.Value = zero
	}
	if c.cfg.Derived != "" {
		l.Version = 0 // versions of different records cannot be compared
	}
	return l, nil
}

// keep puts what the shared tier holds into the local tier.
func (c *Cache[V]) keep(f *flight[V], l Loaded[V]) {
	c.insert(f.name, &entry[V]{value: l.Value, version: l.Version, found: l.Found, tags: l.Tags, stamp: f.stamp})
}

// encode gives a value's shared form; nothing at all for an absent record.
func (c *Cache[V]) encode(l Loaded[V]) ([]byte, error) {
	if !l.Found {
		return nil, nil
	}
	data, err := c.cfg.Codec.Encode(l.Value)
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	if len(data) == 0 {
		return nil, errors.New("value encodes to nothing, which means absent")
	}
	return data, nil
}

func (c *Cache[V]) decode(r lane.GetReply) (Loaded[V], error) {
	l := Loaded[V]{Version: r.Version, Tags: r.Tags, Found: len(r.Value) > 0}
	if !l.Found {
		return l, nil
	}
	var err error
	if l.Value, err = c.cfg.Codec.Decode(r.Value); err != nil {
		return Loaded[V]{}, fmt.Errorf("decode shared value: %w", err)
	}
	return l, nil
}
