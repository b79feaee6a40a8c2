package invalidation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/schemas"
)

// Errors of GetAtLeast.
var (
	// ErrNotYetVisible: neither a cache nor the primary had the version before ctx ended.
	ErrNotYetVisible = errors.New("version is not visible yet")
	// ErrNoVersions: what a cache of lookups holds has no version. WaitFor serves it too.
	ErrNoVersions = errors.New("cache of lookups knows no versions: wait for the token instead")
)

// firstLook is how soon GetAtLeast looks again; then each time twice as late, up to the node's PollInterval. The
// invalidation itself wakes it at once, if it comes here.
const firstLook = 20 * time.Millisecond

// GetAtLeast returns the record with that key in this version or a greater one: from this process or the shared tier if
// they have it, else from the primary, else it waits until the version is there. Give ctx a deadline: what never comes is
// waited for until then, and the error wraps ErrNotYetVisible and ctx's. A record whose deletion has such a version is
// ErrNotFound; a loader that knows no versions, or finds no row, never shows one.
//
// For a single record it is better than WaitFor: it costs nothing where the version is cached already, and it needs no
// worker where the primary has it.
func (c *Cache[V]) GetAtLeast(ctx context.Context, key string, version int64) (V, error) {
	var zero V
	if c.cfg.Derived != "" {
		return zero, ErrNoVersions
	}
	if version < 1 || version > schemas.MaxVersion {
		return zero, fmt.Errorf("get record at a version: %w: it is from 1 to %d", schemas.ErrInvalid, schemas.MaxVersion)
	}
	d := demand{least: version, within: anyAge}
	e, name, err := c.look(ctx, key, d, c.node.now())
	switch {
	case e != nil:
		return e.answer()
	case err != nil:
		return zero, fmt.Errorf("get record: %w", err)
	}
	defer c.local.watchers.leave(c.local.watchers.join(name))
	for wait := firstLook; ; wait = min(2*wait, c.node.cfg.PollInterval) {
		told := c.local.watchers.next(name)
		f, err := c.flights.board(ctx, key, name, d)
		if err != nil {
			return zero, notYet(err, wait > firstLook)
		}
		v, err := f.wait(ctx)
		switch {
		case err != nil && !errors.Is(err, ErrNotFound):
			return zero, notYet(err, ctx.Err() != nil && wait > firstLook)
		case f.version >= version:
			return v, err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-c.node.ctx.Done():
			err = ErrClosed
		case <-told:
			err = nil
		case <-t.C:
			err = nil
		}
		t.Stop()
		if err != nil {
			return zero, notYet(fmt.Errorf("get record: %w", err), !errors.Is(err, ErrClosed))
		}
	}
}

// notYet adds that the version was looked for in vain.
func notYet(err error, looked bool) error {
	if looked && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("%w: %w", ErrNotYetVisible, err)
	}
	return err
}

// GetWithin is Get with a bound of its own: a local entry is served only if every invalidation up to maxStaleness ago is
// known to have been seen, and no fill is shared that began before then. 0 passes the local tier by; more than the node's
// MaxStaleness asks for nothing. The bound is of what was emitted: where Redis cannot be asked, the loader alone decides.
func (c *Cache[V]) GetWithin(ctx context.Context, key string, maxStaleness time.Duration) (V, error) {
	var zero V
	d := demand{within: max(maxStaleness, 0)}
	var e *entry[V]
	var name string
	var err error
	if d.within > 0 {
		e, name, err = c.look(ctx, key, d, c.node.now())
	} else {
		name, err = c.nameOf(key)
	}
	switch {
	case e != nil:
		return e.answer()
	case err != nil:
		return zero, fmt.Errorf("get record: %w", err)
	}
	f, err := c.flights.board(ctx, key, name, d)
	if err != nil {
		return zero, err
	}
	return f.wait(ctx)
}

// answer is what Get returns for an entry.
func (e *entry[V]) answer() (V, error) {
	if !e.found {
		return e.value, ErrNotFound
	}
	return e.value, nil
}

// watchers are the readers that wait for an invalidation of a cache key.
type watchers struct {
	some  atomic.Int64 // len(named), so that invalidations need no lock when no one waits
	mu    sync.Mutex   // guards named; taken with a stripe locked, so nothing is locked under it
	named map[string]*watch
}

// watch is one cache key that someone waits for.
type watch struct {
	readers int
	told    chan struct{} // closed at the next invalidation
}

// join registers a reader, who must leave.
func (w *watchers) join(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.named[name]
	if x == nil {
		if w.named == nil {
			w.named = map[string]*watch{}
		}
		x = &watch{told: make(chan struct{})}
		w.named[name] = x
		w.some.Store(int64(len(w.named)))
	}
	x.readers++
	return name
}

func (w *watchers) leave(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.named[name]
	if x.readers--; x.readers == 0 {
		delete(w.named, name)
		w.some.Store(int64(len(w.named)))
	}
}

// next is closed at the next invalidation of a name that the caller has joined.
func (w *watchers) next(name string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.named[name].told
}

// tell wakes all who wait for name.
func (w *watchers) tell(name string) {
	if w.some.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if x := w.named[name]; x != nil {
		close(x.told)
		x.told = make(chan struct{})
	}
}
