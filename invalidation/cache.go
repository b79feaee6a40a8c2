package invalidation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// Defaults of CacheConfig.
const (
	DefaultMaxEntries  = 100_000
	DefaultTTL         = lane.DefaultValueTTL
	DefaultJitter      = 0.1
	DefaultLoadTimeout = 5 * time.Second
	DefaultBusyWait    = 50 * time.Millisecond
)

// ErrNotFound: the record does not exist, or was deleted.
var ErrNotFound = errors.New("record not found")

// Source says where a loader reads, or has read.
type Source uint8

const (
	// Any is any source that lags less than the namespace's hold: a read-only secondary, for instance.
	Any Source = iota
	// Primary is a fresh read of the primary, never an older snapshot.
	Primary
)

// Loaded is what a loader found.
type Loaded[V any] struct {
	// Value of the record; ignored unless Found.
	Value V
	// Version of the record, also of a soft-deleted one; 0 if the loader cannot know it or there is no row. Without
	// versions an entry is not shared for as long as the hold after each change.
	Version int64
	// Found is false for a record that does not exist or was deleted; Get gives ErrNotFound then.
	Found bool
	// Tags of the entry, at most eight: an invalidation of any of them makes the entry stale.
	Tags []string
	// From says what was really read; a loader with several sources returns what it used, one that reads nothing but the
	// primary returns Primary always.
	From Source
}

// Codec writes values for the shared tier. Found values never encode to nothing: that is how absence is told.
type Codec[V any] interface {
	Encode(v V) ([]byte, error)
	// Decode must not keep data.
	Decode(data []byte) (V, error)
}

// JSON is the default Codec.
type JSON[V any] struct{}

// Encode gives v as JSON.
func (JSON[V]) Encode(v V) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	return b, nil
}

// Decode reads JSON.
func (JSON[V]) Decode(data []byte) (v V, err error) {
	if err := json.Unmarshal(data, &v); err != nil {
		return v, errDecode // the decoder's words may quote the value
	}
	return v, nil
}

// Raw is the Codec of values that are bytes already. An empty value cannot be shared; it is served only.
type Raw struct{}

// Encode gives v itself.
func (Raw) Encode(v []byte) ([]byte, error) { return v, nil }

// Decode gives a copy of data.
func (Raw) Decode(data []byte) ([]byte, error) { return bytes.Clone(data), nil }

var errDecode = errors.New("shared value cannot be decoded")

// CacheConfig of a Cache. The zero value of every field but Dataset and Load works.
type CacheConfig[V any] struct {
	// Dataset is the name of a dataset with a cache section; required.
	Dataset string
	// Derived makes the cache one of lookups: it names one of the dataset's cache.derived templates, "user:email:{email}"
	// for instance, and keys are those of schemas.Derived (here the mail address itself). A dataset may have a cache of its
	// records and one of each template. What a lookup gives has no version, whatever Load says: any change of a record that
	// has or had the name makes it stale, and for the hold after it only a load from the primary is kept.
	Derived string
	// Load reads one record from from, or better; required. Readers of a key share one load, unless the running one may
	// bring too little: it began before an invalidation, a flush or a write that was waited for, or GetAtLeast or
	// GetWithin want more. Then another begins beside it, so Load must stand several calls for one key at a time. It runs on
	// a goroutine of its own, with the values of a caller's context and LoadTimeout as its deadline, and runs on after its
	// callers gave up. Its error goes to all callers, wrapped.
	Load func(ctx context.Context, key string, from Source) (Loaded[V], error)
	// LoadMany reads several records at once for GetMany, at most MaxBatch; nil: GetMany calls Load for each. A key that the
	// answer lacks is a record that does not exist where it was told to read; if it cannot read there, it fails. Its error
	// goes to the readers of all these keys.
	LoadMany func(ctx context.Context, keys []string, from Source) (map[string]Loaded[V], error)
	// MaxEntries bounds the local tier; 0 means DefaultMaxEntries.
	MaxEntries int
	// TTL of shared entries; 0 means DefaultTTL.
	TTL time.Duration
	// LocalTTL of local entries; 0 means TTL. What is too old or stale occupies memory until it is evicted or filled anew.
	LocalTTL time.Duration
	// Jitter is the part of both TTLs that is left to chance, so that entries made together do not end together: below 1.
	// 0 means DefaultJitter; negative: none.
	Jitter float64
	// Codec writes values for the shared tier; nil means JSON. All programs of a namespace use the same.
	Codec Codec[V]
	// LoadTimeout bounds one fill, shared tier included; 0 means DefaultLoadTimeout. At most the node's LeaseTTL.
	LoadTimeout time.Duration
	// BusyWait is how long a reader waits for another node that is loading the same key before it loads itself, without
	// caching. 0 means DefaultBusyWait; negative: not at all.
	BusyWait time.Duration
}

// Cache gives records of one dataset, by their keys or by what one derived template makes of them: from this process, from the shared tier, or from the loader. It is safe for
// concurrent use. Values are shared by all callers: do not change them.
type Cache[V any] struct {
	cfg     CacheConfig[V]
	node    *Node
	dataset *dataset
	prefix  string // every name of the cache begins with it
	nameOf  func(key string) (string, error)
	store   *otter.Cache[string, *entry[V]]
	stats   cacheCounts

	mu      sync.Mutex // guards flights and orphans
	flights map[string]*flight[V]
	orphans map[string]string // by name: the token whose lease outlived a failed load

	watchers watchers
}

// entry is a local entry.
type entry[V any] struct {
	value   V
	version int64
	found   bool
	tags    []string
	stamp   int64 // logical time when its fill began
	expires int64 // monotonic, on the node's clock
	// dead: its key was invalidated. It is marked and not removed, which is several times cheaper; the store evicts it
	// early, since nobody reads it, or the next fill replaces it.
	dead atomic.Bool
}

// NewCache makes the cache of a dataset; a node has one for each. Errors wrap ErrConfig, or are ErrClosed.
func NewCache[V any](node *Node, cfg CacheConfig[V]) (*Cache[V], error) {
	if node == nil {
		return nil, fmt.Errorf("%w: node is nil", ErrConfig)
	}
	d, ok := node.datasets[cfg.Dataset]
	if !ok {
		return nil, fmt.Errorf("%w: Dataset %q is not declared or has no cache section", ErrConfig, cfg.Dataset)
	}
	if err := cfg.fill(node); err != nil {
		return nil, err
	}
	store, err := otter.New(&otter.Options[string, *entry[V]]{MaximumSize: cfg.MaxEntries, Logger: &otter.NoopLogger{}})
	if err != nil {
		return nil, fmt.Errorf("make local tier of dataset %s: %w", cfg.Dataset, err)
	}
	text, nameOf := d.declared.Cache.Key, d.declared.CacheKey
	if cfg.Derived != "" {
		v, err := d.declared.Derived(cfg.Derived)
		if err != nil {
			return nil, fmt.Errorf("%w: Derived of the cache of dataset %s: %w", ErrConfig, cfg.Dataset, err)
		}
		text, nameOf = cfg.Derived, v.Name
	}
	prefix, _, _ := strings.Cut(text, "{")
	c := &Cache[V]{
		cfg: cfg, node: node, dataset: d, prefix: prefix, nameOf: nameOf, store: store,
		flights: map[string]*flight[V]{}, orphans: map[string]string{},
	}
	if err := node.register(c); err != nil {
		return nil, err
	}
	return c, nil
}

func (cfg *CacheConfig[V]) fill(node *Node) error {
	bad := func(field string, value any, mend string) error {
		return fmt.Errorf("%w: %s of the cache of dataset %s is %v; %s", ErrConfig, field, cfg.Dataset, value, mend)
	}
	switch {
	case cfg.Load == nil:
		return bad("Load", "nil", "a cache needs a loader")
	case cfg.MaxEntries < 0:
		return bad("MaxEntries", cfg.MaxEntries, "it must not be negative")
	case cfg.TTL < 0 || cfg.TTL > 0 && cfg.TTL < time.Millisecond:
		return bad("TTL", cfg.TTL, "it is at least a millisecond")
	case cfg.LocalTTL < 0:
		return bad("LocalTTL", cfg.LocalTTL, "it must not be negative")
	case cfg.Jitter >= 1:
		return bad("Jitter", cfg.Jitter, "it is a part of the TTL, below 1")
	case cfg.LoadTimeout < 0:
		return bad("LoadTimeout", cfg.LoadTimeout, "it must not be negative")
	}
	cfg.MaxEntries = orElse(cfg.MaxEntries, DefaultMaxEntries)
	cfg.TTL = orElse(cfg.TTL, DefaultTTL)
	cfg.LocalTTL = orElse(cfg.LocalTTL, cfg.TTL)
	cfg.Jitter = max(orElse(cfg.Jitter, DefaultJitter), 0)
	if cfg.LoadTimeout == 0 {
		cfg.LoadTimeout = min(DefaultLoadTimeout, node.cfg.LeaseTTL)
	}
	if cfg.LoadTimeout > node.cfg.LeaseTTL {
		return bad("LoadTimeout", cfg.LoadTimeout, fmt.Sprintf("at most the node's LeaseTTL, which is %s", node.cfg.LeaseTTL))
	}
	cfg.BusyWait = max(orElse(cfg.BusyWait, DefaultBusyWait), 0)
	if cfg.Codec == nil {
		cfg.Codec = JSON[V]{}
	}
	return nil
}

func orElse[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Get gives the record with that key (Dataset.FormatKey), never staler than the node's MaxStaleness as long as Redis
// loses nothing. Errors: ErrNotFound; ErrClosed; one that wraps schemas.ErrInvalid for a key that cannot be; the
// loader's, wrapped; ctx's. Redis being away is no error.
func (c *Cache[V]) Get(ctx context.Context, key string) (V, error) {
	name, err := c.nameOf(key)
	if err != nil {
		var zero V
		return zero, fmt.Errorf("get record: %w", err)
	}
	if e := c.local(name, demand{within: anyAge}); e != nil {
		return e.answer()
	}
	return c.fly(ctx, key, name)
}

// anyAge: a local entry may be as old as the node's MaxStaleness lets it be.
const anyAge = time.Duration(math.MaxInt64)

// demand is what one read asks for beyond what every read gets.
type demand struct {
	least  int64         // the version
	within time.Duration // bounds how long ago the last invalidation may be that was surely seen
}

// local gives the entry of this process that meets d, or nil.
func (c *Cache[V]) local(name string, d demand) *entry[V] {
	now, l := c.node.now(), c.node.laneOf(name)
	if !l.fresh(now) || !c.dataset.lanes[l.n].agreed.Load() || d.within != anyAge && now-l.view.confirm.Load() > int64(d.within) {
		return nil
	}
	e, ok := c.store.GetIfPresent(name)
	if !ok || now >= e.expires || e.version < d.least || !c.usable(l, e) {
		return nil
	}
	c.stats.localHits.add(now)
	return e
}

// usable says whether e, whose key is in lane l, is still good.
func (c *Cache[V]) usable(l *follower, e *entry[V]) bool {
	return !e.dead.Load() && e.stamp >= c.dataset.lanes[l.n].since.Load() && l.view.holds(e.stamp, e.tags)
}

// insert keeps e unless its key was invalidated since the fill began; everything else that happened since is found by
// the stamp when the entry is read.
func (c *Cache[V]) insert(name string, e *entry[V]) {
	s := c.node.clock.stripe(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at > e.stamp {
		c.stats.refused[refusedGuard].Add(1)
		return
	}
	if old, ok := c.store.GetEntryQuietly(name); ok && old.Value.version > e.version && c.usable(c.node.laneOf(name), old.Value) {
		return
	}
	e.expires = c.node.now() + int64(c.spread(c.cfg.LocalTTL))
	c.store.Set(name, e)
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
	old, ok := c.store.GetEntryQuietly(name)
	if !ok || version > 0 && old.Value.version >= version || old.Value.dead.Swap(true) {
		return
	}
	c.stats.dropped.Add(1)
}

func (c *Cache[V]) title() string {
	if c.cfg.Derived != "" {
		return "dataset " + c.cfg.Dataset + " by " + c.cfg.Derived
	}
	return "dataset " + c.cfg.Dataset
}

// Invalidate makes the entries of these records stale on all nodes, although nothing changed them: see Node.Invalidate.
func (c *Cache[V]) Invalidate(ctx context.Context, keys ...string) (schemas.Token, error) {
	names := make([]string, 0, len(keys))
	for _, k := range keys {
		name, err := c.nameOf(k)
		if err != nil {
			return schemas.Token{}, fmt.Errorf("invalidate record: %w", err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return c.node.Invalidate(ctx, slices.Compact(names), nil)
}
