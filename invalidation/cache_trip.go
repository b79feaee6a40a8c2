package invalidation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// loaderGrace is how long after its deadline a loader may still return an error of its own.
const loaderGrace = 50 * time.Millisecond

// trip is what fills one flight or several together, in a goroutine of its own. The mutex of the cache's flights guards
// prev, next and over; all else does not change.
type trip[V any] struct {
	fs         *flights[V]
	refresh    bool // no one waits for it
	ctx        loadContext
	flights    []*flight[V]
	room       [1]*flight[V] // of flights, if it is one
	prev, next *trip[V]
	over       bool // it is not in the list any more, and the node does not wait for it
}

// trips are those under way, in the order in which they began: that is also the order in which their deadlines pass, so
// one timer serves all.
type trips[V any] struct {
	first, last *trip[V]
	timer       *time.Timer // nil until there was a trip
	armed       bool
	closed      time.Time // when the node was closed; zero before
}

// depart begins a trip with LoadTimeout as its deadline; the caller holds mu and has entered the node. ctx is the one of the
// reader that wants it; only its values count.
func (fs *flights[V]) depart(ctx context.Context, t *trip[V], now int64) {
	t.fs, t.ctx.reader = fs, ctx
	t.ctx.until = fs.node.began.Add(time.Duration(now) + fs.cfg.LoadTimeout)
	if t.prev = fs.trips.last; t.prev == nil {
		fs.trips.first = t
	} else {
		t.prev.next = t
	}
	fs.trips.last = t
	if !fs.trips.armed {
		fs.arm(fs.cfg.LoadTimeout + loaderGrace)
	}
}

// run makes the trip.
func (t *trip[V]) run() {
	defer t.fs.arrive(t) // also if the loader leaves its goroutine
	switch {
	case t.refresh:
		t.fs.carryRefresh(&t.ctx, t.flights[0])
	case t.flights[0] == t.room[0]:
		t.fs.carry(&t.ctx, t.flights[0])
	default:
		t.fs.fillMany(&t.ctx, t.flights)
	}
}

// arrive ends a trip, unless it was given up before.
func (fs *flights[V]) arrive(t *trip[V]) {
	t.ctx.end()
	fs.mu.Lock()
	over := t.over
	if !over {
		fs.remove(t)
	}
	fs.mu.Unlock()
	if !over {
		fs.node.leave()
	}
}

// remove takes a trip from the list; the caller holds mu.
func (fs *flights[V]) remove(t *trip[V]) {
	t.over = true
	if t.prev == nil {
		fs.trips.first = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		fs.trips.last = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.prev, t.next = nil, nil
}

// arm lets giveUp look after d; the caller holds mu.
func (fs *flights[V]) arm(d time.Duration) {
	fs.trips.armed = true
	if fs.trips.timer == nil {
		fs.trips.timer = time.AfterFunc(d, fs.giveUp)
		return
	}
	fs.trips.timer.Reset(d)
}

// giveUp ends the flights of loaders that did not return in time although their context has ended: the node does not wait
// for them any more. It is called when the oldest trip may be overdue.
func (fs *flights[V]) giveUp() {
	fs.mu.Lock()
	now := time.Now()
	fs.trips.armed = false
	gone, abandoned := 0, false
	for t := fs.trips.first; t != nil; t = fs.trips.first {
		if wait := fs.latest(t).Sub(now); wait > 0 {
			fs.arm(wait)
			break
		}
		err := fmt.Errorf("load record: loader did not return within LoadTimeout, which is %s: %w", fs.cfg.LoadTimeout, context.DeadlineExceeded)
		if !fs.trips.closed.IsZero() {
			err = ErrClosed
		}
		if slices.ContainsFunc(t.flights, func(f *flight[V]) bool { return !f.ended }) {
			abandoned = true
			fs.stats.abandoned.Add(1)
		}
		for _, f := range t.flights {
			fs.finish(f, Loaded[V]{}, err, "")
		}
		fs.remove(t)
		gone++
	}
	fs.mu.Unlock()
	if abandoned {
		fs.stats.warn(warnAbandoned, nil)
	}
	for range gone {
		fs.node.leave()
	}
}

// latest returns when a trip is given up; the caller holds mu.
func (fs *flights[V]) latest(t *trip[V]) time.Time {
	at := t.ctx.until
	if c := fs.trips.closed; !c.IsZero() && c.Before(at) {
		at = c
	}
	return at.Add(loaderGrace)
}

// close ends the context of every trip: the node is closed, so none begins any more.
func (fs *flights[V]) close() {
	fs.mu.Lock()
	var all []*trip[V]
	for t := fs.trips.first; t != nil; t = t.next {
		all = append(all, t)
	}
	fs.trips.closed = time.Now()
	switch {
	case len(all) > 0:
		fs.arm(loaderGrace)
	case fs.trips.timer != nil:
		fs.trips.timer.Stop()
	}
	fs.mu.Unlock()
	for _, t := range all {
		t.ctx.end()
	}
}

// loadContext is what loaders are given: the values of the reader that began the load, and an end of its own. Few loaders
// that return at once ever wait for that end, so what it takes to announce it is made when one asks.
type loadContext struct {
	until time.Time

	mu     sync.Mutex      // guards all below
	reader context.Context //nolint:containedctx // this is a context
	values context.Context //nolint:containedctx // the reader's without its end; nil until it is needed
	err    error           // why it ended, as long as full is nil
	full   context.Context //nolint:containedctx // has the values and the end; nil until Done is called
	cancel context.CancelFunc
}

var _ context.Context = (*loadContext)(nil)

// Deadline returns when LoadTimeout is over.
func (c *loadContext) Deadline() (time.Time, bool) { return c.until, true }

// Done returns a channel that is closed when LoadTimeout is over, the load has returned or the node is closed.
func (c *loadContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full == nil {
		if errors.Is(c.err, context.Canceled) { // the deadline may be over too by now, but that is not why it ended
			c.full, c.cancel = context.WithCancel(c.valued())
			c.cancel()
		} else {
			c.full, c.cancel = context.WithDeadline(c.valued(), c.until)
		}
	}
	return c.full.Done()
}

// Err returns why the context ended, nil before.
func (c *loadContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full != nil {
		return c.full.Err() //nolint:wrapcheck // it is a context's
	}
	if c.err == nil && !time.Now().Before(c.until) {
		c.err = context.DeadlineExceeded
	}
	return c.err
}

// Value returns a value of the reader's context. Package context asks by it for what can tell children of the end.
func (c *loadContext) Value(key any) any {
	c.mu.Lock()
	from := c.full
	if from == nil {
		from = c.valued()
	}
	c.mu.Unlock()
	return from.Value(key)
}

// valued returns the reader's context without its end; the caller holds mu.
func (c *loadContext) valued() context.Context {
	if c.values == nil {
		c.values = context.WithoutCancel(c.reader)
	}
	return c.values
}

// end ends the context, unless it has ended.
func (c *loadContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.full != nil:
		c.cancel()
	case c.err == nil:
		c.err = context.Canceled
	}
}
