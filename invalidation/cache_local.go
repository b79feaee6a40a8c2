package invalidation

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
)

// entry is a local entry.
type entry[V any] struct {
	value   V
	version int64
	found   bool
	// plain: it lies in the store under its key, and else under its cache key. Nothing that lies there is served as the
	// other kind, so a key that reads like somebody's cache key only costs that one its place.
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
	// early, since nobody reads it, or the next fill replaces it.
	dead atomic.Bool
}

// anyAge: a local entry may be as old as the node's MaxStaleness lets it be.
const anyAge = time.Duration(math.MaxInt64)

// demand is what one read asks for beyond what every read gets.
type demand struct {
	least  int64         // the version
	within time.Duration // bounds how long ago the last invalidation may be that was surely seen
}

// look gives the entry of this process that meets d, or nil and the cache key. Most keys are in their cache key as they
// are: those find their entry without making it.
func (c *Cache[V]) look(ctx context.Context, key string, d demand) (*entry[V], string, error) {
	e, ok := c.store.GetIfPresent(key)
	if ok && e.plain && c.serves(ctx, key, e, d) {
		return e, "", nil
	}
	name, err := c.nameOf(key)
	if err != nil || !c.encoded.Load() || c.isPlain(key, name) {
		return nil, name, err
	}
	if e, ok = c.store.GetIfPresent(name); ok && !e.plain && c.serves(ctx, key, e, d) {
		return e, name, nil
	}
	return nil, name, nil
}

// serves says whether e may be given to who demands d, and counts that it is.
func (c *Cache[V]) serves(ctx context.Context, key string, e *entry[V], d demand) bool {
	now := c.node.now()
	if !c.good(e, now) || e.version < d.least || d.within != anyAge && now-max(e.lane.view.confirm.Load(), e.proved) > int64(d.within) {
		return false
	}
	c.stats.localHits.add(now)
	if now >= e.early.Load() {
		c.refresh(ctx, key, e, now)
	}
	return true
}

// good says whether e may be served at now.
func (c *Cache[V]) good(e *entry[V], now int64) bool {
	return now < e.expires && (e.lane.fresh(now) && c.usable(e) || c.bounded(e, now))
}

// bounded reports whether e may be served at now although its lane proves nothing: its load from the primary began within
// MaxStaleness. What is known to have made it stale counts all the same. While the lane's cache section is another one or
// not known, an invalidation may name other keys, so entries from before the last WaitFor are not served either.
func (c *Cache[V]) bounded(e *entry[V], now int64) bool {
	if e.proved == 0 || now-e.proved > int64(c.node.cfg.MaxStaleness) || e.proved <= c.node.suspended.Load() || e.dead.Load() ||
		!e.lane.view.holds(e.stamp, e.tags) {
		return false
	}
	agreed := &c.dataset.lanes[e.lane.n]
	if agreed.agreed.Load() {
		return e.stamp >= agreed.since.Load()
	}
	return e.stamp >= c.node.waited.Load()
}

// usable says whether nothing is known that made e stale.
func (c *Cache[V]) usable(e *entry[V]) bool {
	agreed := &c.dataset.lanes[e.lane.n]
	return !e.dead.Load() && agreed.agreed.Load() && e.stamp >= agreed.since.Load() && e.lane.view.holds(e.stamp, e.tags)
}

// isPlain says whether the entry of key lies in the store under key.
func (c *Cache[V]) isPlain(key, name string) bool {
	middle, ok := c.middle(name)
	return ok && middle == key
}

// middle takes from a cache key what its template puts around a value. No two keys have the same middle, as long as they
// are what they are there: encoding changes a key and its result again, and a hash is not the name of itself.
func (c *Cache[V]) middle(name string) (string, bool) {
	if !c.single || len(name) < len(c.prefix)+len(c.suffix) || !strings.HasPrefix(name, c.prefix) || !strings.HasSuffix(name, c.suffix) {
		return "", false
	}
	return name[len(c.prefix) : len(name)-len(c.suffix)], true
}

// stored gives the entry of a cache key without the store taking it for a read.
func (c *Cache[V]) stored(name string) (*entry[V], bool) {
	if middle, ok := c.middle(name); ok {
		if e, ok := c.store.GetEntryQuietly(middle); ok && e.Value.plain {
			return e.Value, true
		}
	}
	if c.encoded.Load() {
		if e, ok := c.store.GetEntryQuietly(name); ok && !e.Value.plain {
			return e.Value, true
		}
	}
	return nil, false
}

// keep puts what a fill gave into the local tier, unless its key was invalidated since the fill began; everything else that
// happened since is found by the stamp when the entry is read.
func (c *Cache[V]) keep(f *flight[V], l Loaded[V]) {
	c.insert(f, l, c.node.now()+int64(c.spread(c.cfg.LocalTTL)), true)
}

// keepBounded keeps what the shared tier did not accept, if it was loaded from the primary, for what is left of
// MaxStaleness since that load began: so Redis being away costs one load per key and bound.
func (c *Cache[V]) keepBounded(f *flight[V], l Loaded[V]) {
	if l.From != Primary || l.began == 0 || l.Version < f.least {
		return
	}
	now := c.node.now()
	expires := min(l.began+int64(c.node.cfg.MaxStaleness), now+int64(c.cfg.LocalTTL))
	if e, ok := c.stored(f.name); ok && e.expires > expires && e.version >= l.Version && c.good(e, now) {
		return // what is there is as new and lasts longer
	}
	if now < expires && c.insert(f, l, expires, false) {
		c.stats.keptBounded.Add(1)
	}
}

// insert puts an entry into the local tier. Only one that may be refreshed asks for it before it ends.
func (c *Cache[V]) insert(f *flight[V], l Loaded[V], expires int64, refreshed bool) bool {
	e := &entry[V]{
		value: l.Value, version: l.Version, found: l.Found, tags: l.Tags, stamp: f.stamp, lane: f.lane,
		plain: c.isPlain(f.key, f.name), cost: c.costOf(f.key, l), expires: expires,
	}
	if l.From == Primary {
		e.proved = l.began
	}
	s := c.node.clock.stripe(f.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at > e.stamp {
		c.stats.refused[refusedGuard].Add(1)
		return false
	}
	if old, ok := c.stored(f.name); ok && old.version > e.version && (c.usable(old) || c.bounded(old, c.node.now())) {
		return false
	}
	e.early.Store(math.MaxInt64)
	if refreshed && c.cfg.RefreshAhead > 0 {
		e.early.Store(e.expires - int64(c.cfg.RefreshAhead))
	}
	if e.plain {
		c.store.Set(f.key, e)
		return true
	}
	c.encoded.Store(true)
	c.store.Set(f.name, e)
	return true
}

// costOf is what an entry counts for in MaxCost.
func (c *Cache[V]) costOf(key string, l Loaded[V]) uint32 {
	if c.cfg.Cost == nil || !l.Found {
		return 1
	}
	return uint32(min(max(c.cfg.Cost(key, l.Value), 1), math.MaxUint32))
}

// spread shortens a TTL by chance.
func (c *Cache[V]) spread(ttl time.Duration) time.Duration {
	if c.cfg.Jitter == 0 {
		return ttl
	}
	return ttl - time.Duration(rand.Float64()*c.cfg.Jitter*float64(ttl))
}

// drop is called with the stripe of name locked.
func (c *Cache[V]) drop(name string, version int64) {
	if !strings.HasPrefix(name, c.prefix) {
		return
	}
	c.watchers.tell(name)
	if middle, ok := c.middle(name); ok {
		c.bury(middle, true, version)
	}
	if c.encoded.Load() {
		c.bury(name, false, version)
	}
}

// bury marks the entry that lies there, if it is of that kind and older than version.
func (c *Cache[V]) bury(at string, plain bool, version int64) {
	e, ok := c.store.GetEntryQuietly(at)
	if !ok || e.Value.plain != plain || version > 0 && e.Value.version >= version || e.Value.dead.Swap(true) {
		return
	}
	c.stats.dropped.Add(1)
}
