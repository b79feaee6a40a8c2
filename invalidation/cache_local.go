package invalidation

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// entry is a local entry.
type entry[V any] struct {
	value   V
	version int64
	found   bool
	// plain: it is in the store under its key, and else under its cache key. Nothing that lies there is served as the
	// other kind, so a key that reads like someone's cache key only costs that one its place.
	plain   bool
	cost    uint32
	tags    []string
	lane    *follower
	stamp   int64 // logical time when its fill began
	expires int64 // monotonic, on the node's clock
	// proved is when a load from the primary by this process began, on the node's clock, and else 0. Such a value holds every
	// change from before, so MaxStaleness counts from there too, whatever is known of the lane.
	proved int64
	// early: from then on a read may ask for a refresh.
	early atomic.Int64
	reads atomic.Int32 // since early, about
	// dead: its key was invalidated. It is marked and not removed, which is several times cheaper; the store evicts it
	// early, since nothing reads it, or the next fill replaces it.
	dead atomic.Bool
}

// anyAge: a local entry may be as old as the node's MaxStaleness lets it be.
const anyAge = time.Duration(math.MaxInt64)

// demand is what one read asks for beyond what every read gets.
type demand struct {
	least  int64         // the version
	within time.Duration // bounds how long ago the last invalidation may be that was surely seen
}

// local is a cache's local tier.
type local[V any] struct {
	*core[V]

	// Every cache key of the cache begins with prefix; single: it is prefix, one value and suffix.
	prefix, suffix string
	single         bool
	store          *otter.Cache[string, *entry[V]] // by key or by cache key: see entry.plain
	encoded        atomic.Bool                     // there was an entry that is stored under its cache key
	watchers       watchers
}

// good reports whether e may be served at now.
func (lt *local[V]) good(e *entry[V], now int64) bool {
	return now < e.expires && (e.lane.fresh(now) && lt.usable(e) || lt.bounded(e, now))
}

// bounded reports whether e may be served at now although its lane proves nothing: its load from the primary began within
// MaxStaleness. What is known to have made it stale counts all the same. While the lane's cache section is another one or
// not known, an invalidation may name other keys, so entries from before the last WaitFor are not served either.
func (lt *local[V]) bounded(e *entry[V], now int64) bool {
	if e.proved == 0 || now-e.proved > int64(lt.node.cfg.MaxStaleness) || e.proved <= lt.node.suspended.Load() || e.dead.Load() ||
		!e.lane.view.holds(e.stamp, e.tags) {
		return false
	}
	agreed := &lt.dataset.lanes[e.lane.n]
	if agreed.agreed.Load() {
		return e.stamp >= agreed.since.Load()
	}
	return e.stamp >= lt.node.waited.Load()
}

// usable reports whether nothing is known that made e stale.
func (lt *local[V]) usable(e *entry[V]) bool {
	agreed := &lt.dataset.lanes[e.lane.n]
	return !e.dead.Load() && agreed.agreed.Load() && e.stamp >= agreed.since.Load() && e.lane.view.holds(e.stamp, e.tags)
}

// isPlain reports whether the entry of key is in the store under key.
func (lt *local[V]) isPlain(key, name string) bool {
	middle, ok := lt.middle(name)
	return ok && middle == key
}

// middle takes from a cache key what its template puts around a value. No two keys have the same middle, as long as they
// are what they are there: encoding changes a key and its result again, and a hash is not the name of itself.
func (lt *local[V]) middle(name string) (string, bool) {
	if !lt.single || len(name) < len(lt.prefix)+len(lt.suffix) || !strings.HasPrefix(name, lt.prefix) || !strings.HasSuffix(name, lt.suffix) {
		return "", false
	}
	return name[len(lt.prefix) : len(name)-len(lt.suffix)], true
}

// stored returns the entry of a cache key without the store taking it for a read.
func (lt *local[V]) stored(name string) (*entry[V], bool) {
	if middle, ok := lt.middle(name); ok {
		if e, ok := lt.store.GetEntryQuietly(middle); ok && e.Value.plain {
			return e.Value, true
		}
	}
	if lt.encoded.Load() {
		if e, ok := lt.store.GetEntryQuietly(name); ok && !e.Value.plain {
			return e.Value, true
		}
	}
	return nil, false
}

// keep puts what a fill gave into the local tier, unless its key was invalidated since the fill began; everything else that
// happened since is found by the stamp when the entry is read.
func (lt *local[V]) keep(f *flight[V], l Loaded[V]) *entry[V] {
	return lt.insert(f, l, lt.node.now()+int64(lt.spread(lt.cfg.LocalTTL)), true)
}

// keepBounded keeps what the shared tier did not accept, if it was loaded from the primary, for what is left of
// MaxStaleness since that load began: so Redis being away costs one load per key and bound.
func (lt *local[V]) keepBounded(f *flight[V], l Loaded[V]) {
	if l.From != Primary || l.began == 0 || l.Version < f.least {
		return
	}
	now := lt.node.now()
	expires := min(l.began+int64(lt.node.cfg.MaxStaleness), now+int64(lt.cfg.LocalTTL))
	if e, ok := lt.stored(f.name); ok && e.expires > expires && e.version >= l.Version && lt.good(e, now) {
		return // what is there is as new and lasts longer
	}
	if now < expires && lt.insert(f, l, expires, false) != nil {
		lt.stats.keptBounded.Add(1)
	}
}

// insert puts an entry into the local tier and returns it, or nil if it must not be there. Only one that may be refreshed asks
// for it before it ends.
func (lt *local[V]) insert(f *flight[V], l Loaded[V], expires int64, refreshed bool) *entry[V] {
	e := &entry[V]{
		value: l.Value, version: l.Version, found: l.Found, tags: l.Tags, stamp: f.stamp, lane: f.lane,
		plain: lt.isPlain(f.key, f.name), cost: lt.costOf(f.key, l), expires: expires,
	}
	if l.From == Primary {
		e.proved = l.began
	}
	s := lt.node.clock.stripe(f.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at > e.stamp {
		lt.stats.refused[refusedGuard].Add(1)
		return nil
	}
	if old, ok := lt.stored(f.name); ok && old.version > e.version && (lt.usable(old) || lt.bounded(old, lt.node.now())) {
		return nil
	}
	e.early.Store(math.MaxInt64)
	if refreshed && lt.cfg.RefreshAhead > 0 {
		e.early.Store(e.expires - int64(lt.cfg.RefreshAhead))
	}
	if e.plain {
		lt.store.Set(f.key, e)
		return e
	}
	lt.encoded.Store(true)
	lt.store.Set(f.name, e)
	return e
}

// overtaken reports whether the key of f was invalidated since f began.
func (lt *local[V]) overtaken(f *flight[V]) bool {
	s := lt.node.clock.stripe(f.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at > f.stamp
}

// costOf is what an entry counts for in MaxCost.
func (lt *local[V]) costOf(key string, l Loaded[V]) uint32 {
	if l.cost != 0 {
		return l.cost
	}
	if lt.cfg.Cost == nil || !l.Found {
		return 1
	}
	return uint32(min(max(lt.cfg.Cost(key, l.Value), 1), math.MaxUint32))
}

// spread shortens a TTL by chance.
func (lt *local[V]) spread(ttl time.Duration) time.Duration {
	if lt.cfg.Jitter == 0 {
		return ttl
	}
	return ttl - time.Duration(rand.Float64()*lt.cfg.Jitter*float64(ttl))
}

// drop is called with the stripe of name locked.
func (lt *local[V]) drop(name string, version int64) {
	if !strings.HasPrefix(name, lt.prefix) {
		return
	}
	lt.watchers.tell(name)
	if middle, ok := lt.middle(name); ok {
		lt.bury(middle, true, version)
	}
	if lt.encoded.Load() {
		lt.bury(name, false, version)
	}
}

// bury marks the entry that lies there, if it is of that kind and older than version.
func (lt *local[V]) bury(at string, plain bool, version int64) {
	e, ok := lt.store.GetEntryQuietly(at)
	if !ok || e.Value.plain != plain || version > 0 && e.Value.version >= version || e.Value.dead.Swap(true) {
		return
	}
	lt.stats.dropped.Add(1)
}

// spare returns the entry that StaleIfError lets serve in place of f, or nil.
func (lt *local[V]) spare(f *flight[V]) *entry[V] {
	if lt.cfg.StaleIfError == 0 || lt.node.ctx.Err() != nil {
		return nil
	}
	e, ok := lt.stored(f.name)
	if !ok || e.version < f.floor.Load() || !lt.usable(e) {
		return nil
	}
	now, confirm, bound := lt.node.now(), f.lane.view.confirm.Load(), int64(lt.cfg.StaleIfError)
	if confirm == 0 || now-confirm > bound || now-e.expires > bound {
		return nil
	}
	lt.stats.staleServed.Add(1)
	return e
}

// held is Peek for those who look at the node from outside: by cache key, without the value, and also what is not served.
func (lt *local[V]) held(name string) (Held, bool) {
	e, ok := lt.stored(name)
	if !ok {
		return Held{}, false
	}
	return Held{Name: name, Version: e.version, Found: e.found, Served: lt.good(e, lt.node.now())}, true
}
