package invalidation

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/maypok86/otter/v2"
)

// CacheConfig of a Cache. The zero value of every field but Dataset and Load works.
type CacheConfig[V any] struct {
	// Dataset is the name of a dataset with a cache section; required.
	Dataset string
	// Derived makes the cache one of lookups: it names one of the dataset's cache.derived templates, "user:email:{email}"
	// for instance, and keys are those of schemas.Derived (here the mail address itself). A dataset may have a cache of its
	// records and one of each template. What a lookup returns has no version, whatever Load says: any change of a record that
	// has or had the name makes it stale, and for the hold after it only a load from the primary is kept.
	Derived string
	// Load reads one record from from, or better; required. Readers of a key share one load, unless the running one may
	// bring too little: it began before an invalidation, a flush or a write that was waited for, or GetAtLeast or
	// GetWithin want more. Then another begins beside it, so Load must stand several calls for one key at a time. It runs on
	// a goroutine of its own, with the values of a caller's context and LoadTimeout as its deadline, and runs on after its
	// callers gave up. Its error goes to all callers, wrapped.
	Load func(ctx context.Context, key string, from Source) (Loaded[V], error)
	// LoadMany reads several records at once for GetMany, at most MaxBatch; nil: GetMany calls Load for each. A key that the
	// answer lacks is a record that does not exist in the source that it was asked to read; if it cannot read there, it fails. Its error
	// goes to the readers of all these keys.
	LoadMany func(ctx context.Context, keys []string, from Source) (map[string]Loaded[V], error)
	// OnLoad is notified of every call of Load and LoadMany once it has returned, refreshes included: how long it took, from
	// where, and its error. Stats counts them too, with their durations. It runs where the loader
	// ran, with no lock held and several at a time; the readers of the record wait for it, so it must not block. nil: no one is
	// notified.
	OnLoad func(LoadInfo)
	// MaxEntries bounds the local tier; 0 means DefaultMaxEntries, with Cost no bound.
	MaxEntries int
	// MaxCost bounds the sum of what Cost says of the local entries. 0: no such bound, and Cost must be nil.
	MaxCost int64
	// Cost is what a value counts for in MaxCost, in any unit: its bytes, for instance. Less than 1 counts as 1, and so does
	// a record that does not exist. With MaxEntries too, an entry counts for at least its share, MaxCost/MaxEntries. What
	// costs more than MaxCost is served and not kept. Needs MaxCost.
	Cost func(key string, value V) int64
	// LocalOnly leaves the shared tier out: this process's entries are filled by its own loads and follow the lanes all the
	// same. What was invalidated less than the node's Hold ago is loaded from the primary, and so is all that much after a
	// start or a flush. Not with TTL, Codec, Form and BusyWait, which are the shared tier's.
	LocalOnly bool
	// TTL of shared entries; 0 means DefaultTTL. Not with LocalOnly.
	TTL time.Duration
	// LocalTTL of local entries; 0 means TTL. What is too old or stale occupies memory until it is evicted or filled again.
	LocalTTL time.Duration
	// Jitter is the part of both TTLs that is left to chance, so that entries made together do not end together: below 1.
	// 0 means DefaultJitter; negative: none.
	Jitter float64
	// RefreshAhead is how long before the end of its LocalTTL an entry that is read often is filled again in the background,
	// so that its readers do not wait. Below the shortest LocalTTL that Jitter leaves. 0: never.
	RefreshAhead time.Duration
	// RefreshReads is how many reads within RefreshAhead make an entry one that is read often; 0 means
	// DefaultRefreshReads. Needs RefreshAhead.
	RefreshReads int
	// MaxRefreshes bounds how many refreshes run at a time; what finds no place is not refreshed, or later. 0 means
	// DefaultMaxRefreshes. Needs RefreshAhead.
	MaxRefreshes int
	// StaleIfError lets Get and GetMany serve a local entry instead of an error when the loader fails: one that is past its
	// LocalTTL by at most that much, or whose lane was last proved complete at most that long ago, also if that is more than
	// the node's MaxStaleness. Never one that is known to have been invalidated. 0: never.
	StaleIfError time.Duration
	// StaleAfter is how long Get and GetMany wait for a fill before they serve the entry that StaleIfError would allow; the fill
	// continues and its value is kept. Needs StaleIfError, and is less than LoadTimeout. 0: they wait for the fill to fail.
	StaleAfter time.Duration
	// Codec writes values for the shared tier; nil means JSON. All programs of a namespace use the same: an entry of another
	// is a miss. Not with LocalOnly.
	Codec Codec[V]
	// Form names what values look like, so that programs with other types do not read each other's shared entries: a field that the one lacks
	// would be lost without an error. Entries of another form are a miss and are replaced, so two forms side by side load more often. 1 to 32 of
	// letters, digits, hyphen, underscore and dot. "": it follows from V, whatever its name: every field, tag and type counts, so a release whose
	// struct gains a field has another form; a V without any struct has none. Set it where programs with different types may share, and change it
	// when they may not any more. FormNone: entries carry no form, as programs in other languages write them. Not with LocalOnly.
	Form string
	// LoadTimeout bounds one fill, shared tier included; 0 means DefaultLoadTimeout. At most the node's LeaseTTL. Readers, and
	// Close, wait no longer for a loader that does not heed its context: its goroutine stays until it returns.
	LoadTimeout time.Duration
	// BusyWait is how long a reader waits for another node that is loading the same key before it loads itself, without
	// caching. 0 means DefaultBusyWait; negative: not at all. Not with LocalOnly.
	BusyWait time.Duration
}

// check refuses what cannot be. What it knows of two fields together is the table in docs/caches.md.
func (cfg *CacheConfig[V]) check(node *Node) error {
	share := max(cmp.Or(cfg.LocalTTL, cmp.Or(cfg.TTL, DefaultTTL)), 0)
	share -= time.Duration(float64(share) * max(cmp.Or(cfg.Jitter, DefaultJitter), 0))
	for _, r := range []struct {
		broken     bool
		field      string
		value, fix any
	}{
		{cfg.Load == nil, "Load", "nil", "a cache needs a loader"},
		{cfg.MaxEntries < 0, "MaxEntries", cfg.MaxEntries, "it must not be negative"},
		{cfg.MaxCost < 0, "MaxCost", cfg.MaxCost, "it must not be negative"},
		{cfg.TTL < 0 || cfg.TTL > 0 && cfg.TTL < time.Millisecond, "TTL", cfg.TTL, "it is at least a millisecond"},
		{cfg.LocalTTL < 0, "LocalTTL", cfg.LocalTTL, "it must not be negative"},
		{cfg.Jitter >= 1, "Jitter", cfg.Jitter, "it is a part of the TTL, below 1"},
		{cfg.RefreshAhead < 0, "RefreshAhead", cfg.RefreshAhead, "it must not be negative"},
		{cfg.RefreshReads < 0, "RefreshReads", cfg.RefreshReads, "it must not be negative"},
		{cfg.MaxRefreshes < 0, "MaxRefreshes", cfg.MaxRefreshes, "it must not be negative"},
		{cfg.StaleIfError < 0, "StaleIfError", cfg.StaleIfError, "it must not be negative"},
		{cfg.LoadTimeout < 0, "LoadTimeout", cfg.LoadTimeout, "it must not be negative"},
		{cfg.StaleAfter < 0, "StaleAfter", cfg.StaleAfter, "it must not be negative"},
		{cfg.StaleAfter > 0 && cfg.StaleIfError == 0, "StaleAfter", cfg.StaleAfter, "StaleIfError is 0, so nothing old is served: set it too, or neither"},
		{
			cfg.StaleAfter > 0 && cfg.StaleAfter >= cmp.Or(cfg.LoadTimeout, min(DefaultLoadTimeout, node.cfg.LeaseTTL)), "StaleAfter", cfg.StaleAfter,
			"it must be less than LoadTimeout, after which the fill has failed: shorten it, or lengthen LoadTimeout",
		},

		{cfg.Cost != nil && cfg.MaxCost == 0, "Cost", "set", "it counts for MaxCost, which is 0: give a MaxCost, or no Cost"},
		{cfg.MaxCost > 0 && cfg.Cost == nil, "MaxCost", cfg.MaxCost, "it needs Cost, which is nil: say what a value costs, or give MaxEntries alone"},
		{
			cfg.MaxCost > 0 && int64(cfg.MaxEntries) > cfg.MaxCost, "MaxEntries", cfg.MaxEntries,
			fmt.Sprintf("an entry costs at least 1, so it never matters beside MaxCost, which is %d: leave it out, or use a smaller unit", cfg.MaxCost),
		},
		{cfg.LocalOnly && cfg.TTL != 0, "TTL", cfg.TTL, "LocalOnly is set and leaves out the tier that it is for: set LocalTTL instead"},
		{cfg.LocalOnly && cfg.Codec != nil, "Codec", "set", "LocalOnly is set and nothing is encoded then: leave one of them out"},
		{cfg.LocalOnly && cfg.Form != "", "Form", cfg.Form, "LocalOnly is set and nothing is shared then: leave one of them out"},
		{cfg.LocalOnly && cfg.BusyWait > 0, "BusyWait", cfg.BusyWait, "LocalOnly is set and no other node can be waited for: leave one of them out"},
		{cfg.RefreshAhead == 0 && cfg.RefreshReads > 0, "RefreshReads", cfg.RefreshReads, "RefreshAhead is 0, so nothing is refreshed: set it too, or neither"},
		{cfg.RefreshAhead == 0 && cfg.MaxRefreshes > 0, "MaxRefreshes", cfg.MaxRefreshes, "RefreshAhead is 0, so nothing is refreshed: set it too, or neither"},
		{
			cfg.RefreshAhead > 0 && cfg.RefreshAhead >= share, "RefreshAhead", cfg.RefreshAhead,
			fmt.Sprintf("it must be less than LocalTTL after Jitter, which may be %s: shorten it, or lengthen LocalTTL", share),
		},
		{
			cfg.LoadTimeout > node.cfg.LeaseTTL, "LoadTimeout", cfg.LoadTimeout,
			fmt.Sprintf("at most the node's LeaseTTL, which is %s: shorten it, or lengthen Config.LeaseTTL", node.cfg.LeaseTTL),
		},
	} {
		if r.broken {
			return fmt.Errorf("%w: %s of the cache of dataset %s is %v; %s", ErrConfig, r.field, cfg.Dataset, r.value, r.fix)
		}
	}
	return nil
}

func (cfg *CacheConfig[V]) fill(node *Node) error {
	if err := cfg.check(node); err != nil {
		return err
	}
	if cfg.MaxCost == 0 {
		cfg.MaxEntries = cmp.Or(cfg.MaxEntries, DefaultMaxEntries)
	}
	cfg.TTL = cmp.Or(cfg.TTL, DefaultTTL)
	cfg.LocalTTL = cmp.Or(cfg.LocalTTL, cfg.TTL)
	cfg.Jitter = max(cmp.Or(cfg.Jitter, DefaultJitter), 0)
	cfg.RefreshReads = cmp.Or(cfg.RefreshReads, DefaultRefreshReads)
	cfg.MaxRefreshes = cmp.Or(cfg.MaxRefreshes, DefaultMaxRefreshes)
	cfg.LoadTimeout = cmp.Or(cfg.LoadTimeout, min(DefaultLoadTimeout, node.cfg.LeaseTTL))
	cfg.BusyWait = max(cmp.Or(cfg.BusyWait, DefaultBusyWait), 0)
	if cfg.Codec == nil {
		cfg.Codec = JSON[V]{}
	}
	switch cfg.Form {
	case "":
		cfg.Form = formOf(reflect.TypeFor[V]())
	case FormNone:
		cfg.Form = ""
	}
	if err := checkForm(cfg.Form); err != nil {
		return err
	}
	return checkName(cfg.Codec.Name())
}

// store makes the local tier. It takes one bound, so with two each entry weighs at least as much as makes the other one hold.
func (cfg *CacheConfig[V]) store() (*otter.Cache[string, *entry[V]], error) {
	o := &otter.Options[string, *entry[V]]{MaximumSize: cfg.MaxEntries, Logger: &otter.NoopLogger{}}
	if cfg.MaxCost > 0 {
		least := int64(1)
		if n := int64(cfg.MaxEntries); n > 0 {
			least = (cfg.MaxCost + n - 1) / n
		}
		o.MaximumSize, o.MaximumWeight = 0, uint64(cfg.MaxCost)
		o.Weigher = func(_ string, e *entry[V]) uint32 { return uint32(min(max(int64(e.cost), least), math.MaxUint32)) }
	}
	s, err := otter.New(o)
	if err != nil {
		return nil, fmt.Errorf("make local tier of dataset %s: %w", cfg.Dataset, err)
	}
	return s, nil
}
