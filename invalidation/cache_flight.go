package invalidation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/freshet/freshet/invalidation/lane"
)

// errLoaderExit: the loader left its goroutine instead of returning.
var errLoaderExit = errors.New("loader did not return")

// flight is one fill of one key, which all who want it at the same time share.
type flight[V any] struct {
	key, name string
	lane      *follower
	stamp     int64 // logical time before anything was read
	began     int64 // monotonic, on the node's clock
	least     int64 // the version that someone wants: less is asked of the primary
	discarded bool  // what was stored under the key was of a wrong type and is removed
	held      bool  // without a shared tier: the key was invalidated within the hold, so only the primary will do
	done      chan struct{}

	// floor is the least version that the shared tier let pass; an older one is stale.
	floor atomic.Int64

	// Set by GetMany before the fill.
	asked  answer // what the shared tier said, if known
	known  bool
	loaded *prefetched[V] // what the loader returned after that
	stored *lane.Filling  // what the shared tier answered when it was to keep that

	// Set while the shared tier is filled behind the answer.
	early   *entry[V]         // what the local tier keeps unless the fill is refused
	request *lane.FillRequest // the fill, ready to be sent

	// Set before done is closed.
	value    V
	version  int64
	found    bool
	err      error
	panicked string
	ended    bool // guarded by the cache's mu

	trip trip[V] // of a flight that was begun alone
}

// wait returns what Get returns.
func (f *flight[V]) wait(ctx context.Context) (V, error) {
	var zero V
	select {
	case <-f.done:
	case <-ctx.Done():
		return zero, fmt.Errorf("get record: %w", context.Cause(ctx))
	}
	switch {
	case f.panicked != "":
		panic(f.panicked) // in the caller's goroutine, where someone may expect it
	case f.err != nil:
		return zero, f.err
	case !f.found:
		return zero, ErrNotFound
	}
	return f.value, nil
}

// flights are the fills that are under way.
type flights[V any] struct {
	*core[V]

	fills      *filler[V]
	loads      *loader[V]
	refreshing chan struct{} // a place for each refresh that may run

	mu     sync.Mutex // guards all below; a stripe's mutex may be taken under it
	byName map[string]*flight[V]
	trips  trips[V]
}

// board joins the flight of a key or begins one.
func (fs *flights[V]) board(ctx context.Context, key, name string, d demand) (*flight[V], error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get record: %w", context.Cause(ctx))
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.boarding(name, d); f != nil {
		return f, nil
	}
	if !fs.node.enter() {
		return nil, ErrClosed
	}
	f := fs.begin(key, name, d)
	fs.node.start(fs.departAlone(ctx, f))
	return f, nil
}

// boarding returns the flight under way that meets d, or nil; the caller holds mu.
func (fs *flights[V]) boarding(name string, d demand) *flight[V] {
	f, ok := fs.byName[name]
	if !ok || f.least < d.least || d.within != anyAge && fs.node.now()-f.began > int64(d.within) || !fs.joinable(f) {
		return nil
	}
	fs.stats.joined.Add(1)
	return f
}

// begin makes a flight that others can join; the caller holds mu and sees to it that it ends.
func (fs *flights[V]) begin(key, name string, d demand) *flight[V] {
	f := &flight[V]{key: key, name: name, lane: fs.node.laneOf(name), began: fs.node.now(), least: d.least, done: make(chan struct{})}
	f.stamp = fs.node.clock.now.Load()
	if fs.cfg.LocalOnly {
		f.stamp, f.held = f.lane.view.beginAlone(name)
	}
	fs.byName[name] = f
	return f
}

// departAlone begins the trip of one flight; the caller holds mu and has entered the node.
func (fs *flights[V]) departAlone(ctx context.Context, f *flight[V]) *trip[V] {
	t := &f.trip
	t.room[0] = f
	t.flights = t.room[:]
	fs.depart(ctx, t, f.began)
	return t
}

// joinable: a flight that began before an invalidation, or before someone had waited for a write, may bring what was
// true before it.
func (fs *flights[V]) joinable(f *flight[V]) bool {
	s := fs.node.clock.stripe(f.name)
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	return f.stamp >= max(at, fs.node.waited.Load(), fs.dataset.lanes[f.lane.n].since.Load(), f.lane.view.flushedAt.Load())
}

// carry fills a flight and ends it, whatever the loader does.
func (fs *flights[V]) carry(ctx context.Context, f *flight[V]) {
	var l Loaded[V]
	err, panicked := errLoaderExit, ""
	defer func() {
		if r := recover(); r != nil {
			panicked = fs.loads.panicText(r)
		}
		if !fs.end(f, l, err, panicked) && panicked != "" {
			fs.stats.warn(warnPanic, nil) // its readers are gone
		}
	}()
	l, err = fs.fills.fill(ctx, f)
}

// end returns a flight its result, unless it has one.
func (fs *flights[V]) end(f *flight[V], l Loaded[V], err error, panicked string) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.finish(f, l, err, panicked)
}

// finish is end; the caller holds mu.
func (fs *flights[V]) finish(f *flight[V], l Loaded[V], err error, panicked string) bool {
	if f.ended {
		return false
	}
	f.ended = true
	f.value, f.version, f.found, f.err, f.panicked = l.Value, l.Version, l.Found, err, panicked
	if fs.byName[f.name] == f {
		delete(fs.byName, f.name)
	}
	close(f.done)
	return true
}

// answer ends a flight whose trip continues: the shared tier is still to be filled.
func (fs *flights[V]) answer(f *flight[V], l Loaded[V]) { fs.end(f, l, nil, "") }

// boardMany joins the flights of these keys and begins those that are missing, together.
func (fs *flights[V]) boardMany(ctx context.Context, batch []wanted) ([]*flight[V], error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get records: %w", context.Cause(ctx))
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !fs.node.enter() {
		return nil, ErrClosed
	}
	all, began := make([]*flight[V], 0, len(batch)), make([]*flight[V], 0, len(batch))
	for _, w := range batch {
		f := fs.boarding(w.name, demand{within: anyAge})
		if f == nil {
			f = fs.begin(w.key, w.name, demand{})
			began = append(began, f)
		}
		all = append(all, f)
	}
	if len(began) == 0 {
		fs.node.leave()
		return all, nil
	}
	t := &trip[V]{flights: began}
	fs.depart(ctx, t, began[0].began)
	fs.node.start(t)
	return all, nil
}

func (fs *flights[V]) fillMany(ctx context.Context, flights []*flight[V]) {
	fs.fills.askMany(ctx, flights)
	var wg sync.WaitGroup
	if fs.cfg.LoadMany != nil {
		wg.Go(func() { // a loader or a codec that leaves its goroutine leaves this one
			fs.loads.loadFirst(ctx, flights)
			behind := !fs.cfg.LocalOnly && fs.fills.takePlace()
			if behind {
				defer fs.fills.late() // with this fill, not with the loads of other keys below
			}
			fs.fills.storeMany(ctx, flights, behind)
		})
		wg.Wait()
	}
	free := make(chan struct{}, parallelLoads)
	for _, f := range flights {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			fs.carry(ctx, f)
		})
	}
	wg.Wait()
}

// refresh begins a fill of an entry that is read often and soon ends, if no other is under way and not too many are. It is
// a fill like that of a reader, under the same lease and the same guards, only that no one waits for it.
func (fs *flights[V]) refresh(ctx context.Context, key string, e *entry[V], now int64) {
	at := e.early.Load()
	if now < at || int(e.reads.Add(1)) < fs.cfg.RefreshReads {
		return
	}
	// One reader wins. If the fill fails, half of what is left passes before the next one.
	if !e.early.CompareAndSwap(at, now+(e.expires-now)/2+1) {
		return
	}
	e.reads.Store(0)
	select {
	case fs.refreshing <- struct{}{}:
	default:
		fs.stats.refreshesSkipped.Add(1)
		return
	}
	f := fs.embark(ctx, key)
	if f == nil {
		<-fs.refreshing
		return
	}
	fs.stats.refreshes.Add(1)
	fs.node.start(&f.trip)
}

func (fs *flights[V]) carryRefresh(ctx context.Context, f *flight[V]) {
	defer func() { <-fs.refreshing }()
	defer func() { // also if the loader leaves its goroutine
		if f.panicked != "" {
			fs.stats.warn(warnPanic, nil) // its words may quote a value
		}
		if f.panicked != "" || f.err != nil {
			fs.stats.refreshErrors.Add(1)
		}
	}()
	fs.carry(ctx, f)
}

// embark begins a flight for no one, or returns nil if the key has one or the node is closed.
func (fs *flights[V]) embark(ctx context.Context, key string) *flight[V] {
	name, err := fs.nameOf(key)
	if err != nil {
		return nil
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f, ok := fs.byName[name]; ok && fs.joinable(f) || !fs.node.enter() {
		return nil
	}
	f := fs.begin(key, name, demand{})
	fs.departAlone(ctx, f).refresh = true
	return f
}
