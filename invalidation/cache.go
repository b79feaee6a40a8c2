package invalidation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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

	DefaultRefreshReads = 3
	DefaultMaxRefreshes = 16
)

// ErrNotFound: the record does not exist, or was deleted.
var ErrNotFound = errors.New("record not found")

// Source is where a loader reads, or has read.
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
	// Found is false for a record that does not exist or was deleted; Get returns ErrNotFound then.
	Found bool
	// Tags of the entry, at most eight: an invalidation of any of them makes the entry stale. A dataset's cache.common is one
	// of the eight and is added by the cache.
	Tags []string
	// From is what was really read; a loader with several sources returns what it used, one that reads nothing but the
	// primary returns Primary always.
	From Source

	began int64  // monotonic, on the node's clock: when the load began; 0 for what was not loaded by this process
	cost  uint32 // what it counts for in MaxCost; 0 until that was asked
}

// Cache returns records of one dataset, by their keys or by what one derived template makes of them: from this process, from
// the shared tier, or from the loader. It is safe for concurrent use. Values are shared by all callers: do not change them.
type Cache[V any] struct {
	*core[V]

	local   *local[V]
	flights *flights[V]
}

// core is what the parts of a cache have in common. Nothing of it changes after NewCache.
type core[V any] struct {
	cfg     CacheConfig[V]
	node    *Node
	dataset *dataset
	nameOf  func(key string) (string, error)
	stats   *cacheCounts
}

// NewCache makes the cache of a dataset; a node has one for each. Errors wrap ErrConfig, or are ErrClosed. Options that
// exclude each other are refused, and the error names both.
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
	store, err := cfg.store()
	if err != nil {
		return nil, err
	}
	text, nameOf := d.declared.Cache.Key, d.declared.CacheKey
	if cfg.Derived != "" {
		v, err := d.declared.Derived(cfg.Derived)
		if err != nil {
			return nil, fmt.Errorf("%w: Derived of the cache of dataset %s: %w", ErrConfig, cfg.Dataset, err)
		}
		text, nameOf = cfg.Derived, v.Name
	}
	prefix, rest, _ := strings.Cut(text, "{")
	_, suffix, _ := strings.Cut(rest, "}")
	k := &core[V]{cfg: cfg, node: node, dataset: d, nameOf: nameOf, stats: &cacheCounts{
		now: node.now, log: node.log.With("dataset", cfg.Dataset), derived: cfg.Derived != "",
		mark: markOf(cfg.Codec.Name(), cfg.Form), loadTimeout: cfg.LoadTimeout,
	}}
	lt := &local[V]{core: k, store: store, prefix: prefix, suffix: suffix, single: !strings.Contains(suffix, "{")}
	ld := &loader[V]{k}
	fl := &filler[V]{core: k, local: lt, loads: ld, mark: k.stats.mark, orphans: map[string]string{}}
	fs := &flights[V]{core: k, fills: fl, loads: ld, refreshing: make(chan struct{}, cfg.MaxRefreshes), byName: map[string]*flight[V]{}}
	fl.answer = fs.answer
	c := &Cache[V]{core: k, local: lt, flights: fs}
	if cfg.LocalOnly {
		node.rememberRecent()
	}
	if err := node.register(c); err != nil {
		return nil, err
	}
	context.AfterFunc(node.ctx, fs.close) // the node's life ends the loads too
	return c, nil
}

// Get returns the record with that key (Dataset.FormatKey), never staler than the node's MaxStaleness as long as Redis
// loses nothing. Errors: ErrNotFound; ErrClosed; one that wraps schemas.ErrInvalid for a key that cannot be; the
// loader's, wrapped; ctx's. Redis being away is not an error.
func (c *Cache[V]) Get(ctx context.Context, key string) (V, error) {
	var zero V
	e, name, err := c.look(ctx, key, demand{within: anyAge}, c.node.now())
	switch {
	case e != nil:
		return e.answer()
	case err != nil:
		return zero, fmt.Errorf("get record: %w", err)
	}
	f, err := c.flights.board(ctx, key, name, demand{within: anyAge})
	if err != nil {
		return zero, err
	}
	impatient := c.patience()
	defer impatient.release()
	return c.settle(ctx, f, impatient.over)
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

// drop is part of localTier.
func (c *Cache[V]) drop(name string, version int64) { c.local.drop(name, version) }

// held is part of localTier.
func (c *Cache[V]) held(name string) (Held, bool) { return c.local.held(name) }
