package invalidation

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/freshet/freshet/invalidation/lane"
)

// LoadInfo tells CacheConfig.OnLoad of one call of a loader.
type LoadInfo struct {
	// Dataset and Derived are those of the cache: labels of bounded number, as metrics need them. It has no key.
	Dataset, Derived string
	// From is what was asked for.
	From Source
	// Keys is how many records: 1 for Load.
	Keys int
	// Took is how long the loader ran.
	Took time.Duration
	// Err is the loader's error; Panicked: it panicked instead of giving one.
	Err      error
	Panicked bool
}

// loader calls a cache's loaders.
type loader[V any] struct{ *core[V] }

// loading calls a loader, and reports it whatever becomes of it.
func (ld *loader[V]) loading(from Source, keys int, call func() error) error {
	info := LoadInfo{Dataset: ld.cfg.Dataset, Derived: ld.cfg.Derived, From: from, Keys: keys, Panicked: true}
	began := time.Now()
	defer func() {
		info.Took = time.Since(began)
		ld.stats.took.Observe(info.Took)
		if ld.cfg.OnLoad != nil {
			ld.cfg.OnLoad(info)
		}
	}()
	info.Err = call()
	info.Panicked = false
	return info.Err
}

// loadAtLeast loads a version of at least floor, from the primary if anything else is too old.
func (ld *loader[V]) loadAtLeast(ctx context.Context, f *flight[V], floor int64) (Loaded[V], error) {
	floor = max(floor, f.least)
	accepted := f.stored != nil && f.stored.Err == nil && f.stored.Status == lane.FillOK
	if ld.primaryOnly(floor) || f.lane.full.Load() && !accepted && f.early == nil { // what cannot be shared is kept only if the primary gave it
		return ld.first(ctx, f, Primary)
	}
	l, err := ld.first(ctx, f, Any)
	if err != nil || l.From == Primary || l.Version >= floor {
		return l, err
	}
	ld.stats.refused[refusedStale].Add(1)
	return ld.load(ctx, f.key, Primary)
}

// primaryOnly reports whether a load under that floor has to read the primary.
func (ld *loader[V]) primaryOnly(floor int64) bool {
	return floor == lane.PrimaryOnly || ld.node.cfg.Hold < 0
}

// first is a flight's first load, which GetMany may have made already. A load that read elsewhere than it should is repeated.
func (ld *loader[V]) first(ctx context.Context, f *flight[V], from Source) (Loaded[V], error) {
	p := f.loaded
	f.loaded = nil
	switch {
	case p == nil || p.asked < from:
		f.stored = nil // it is not what this load returns
		return ld.load(ctx, f.key, from)
	case p.panicked != "":
		panic(loaderPanic(p.panicked)) // it ends as the loader's own does
	}
	return p.loaded, p.err
}

func (ld *loader[V]) load(ctx context.Context, key string, from Source) (Loaded[V], error) {
	ld.stats.loads.Add(1)
	if from == Primary {
		ld.stats.primaryLoads.Add(1)
	}
	var l Loaded[V]
	began := ld.node.now()
	err := ld.loading(from, 1, func() (err error) {
		l, err = ld.cfg.Load(ctx, key, from)
		return err
	})
	if err != nil {
		return l, ld.loadError("load record", err)
	}
	l.began = began
	return ld.tidy(l), nil
}

func (ld *loader[V]) loadError(what string, err error) error {
	ld.stats.loadErrors.Add(1)
	if ld.node.ctx.Err() != nil {
		return ErrClosed
	}
	return fmt.Errorf("%s: %w", what, err)
}

// tidy takes from what a loader gave what it does not mean, and adds the dataset's common tag: a worker may stamp that in
// place of the keys, so no entry may lack it.
func (ld *loader[V]) tidy(l Loaded[V]) Loaded[V] {
	if !l.Found {
		var zero V
		l.Value = zero
	}
	if ld.cfg.Derived != "" {
		l.Version = 0 // versions of different records cannot be compared
	}
	if tag := ld.dataset.declared.Cache.Common; tag != "" && !slices.Contains(l.Tags, tag) {
		l.Tags = append(slices.Clip(l.Tags), tag) // the loader keeps its own list
	}
	return l
}

// unguardedPrimary reports whether a load that bypasses the shared tier for this reason reads the primary. While Redis is
// away only such a load can be kept, and every read would be a load otherwise.
func (ld *loader[V]) unguardedPrimary(why int) bool {
	switch why {
	case bypassUnconfirmed, bypassNoLane, bypassRedis:
		return true
	}
	return ld.node.waitedLately()
}

// prefetched is what a load for several keys gave one of them. asked is the source that was asked for.
type prefetched[V any] struct {
	asked    Source
	loaded   Loaded[V]
	err      error
	panicked string
}

// loadFirst makes the first load of all flights that need one: those that hold a lease and those that bypass. One that has
// to wait for another node may need none.
func (ld *loader[V]) loadFirst(ctx context.Context, flights []*flight[V]) {
	floors := map[*flight[V]]int64{}
	var primary, elsewhere []*flight[V]
	for _, f := range flights {
		a := &f.asked
		switch {
		case a.bypass == noBypass && a.reply.Status != lane.GetLease:
			continue
		case a.bypass != noBypass && ld.unguardedPrimary(a.bypass):
			floors[f] = lane.PrimaryOnly
		default:
			floors[f] = a.reply.Floor
		}
		if ld.primaryOnly(floors[f]) || f.lane.full.Load() {
			primary = append(primary, f)
		} else {
			elsewhere = append(elsewhere, f)
		}
	}
	ld.loadMany(ctx, elsewhere, Any)
	for _, f := range elsewhere {
		if p := f.loaded; p.err == nil && p.panicked == "" && p.loaded.From != Primary && p.loaded.Version < floors[f] {
			ld.stats.refused[refusedStale].Add(1)
			primary = append(primary, f)
		}
	}
	ld.loadMany(ctx, primary, Primary)
}

// loadMany calls LoadMany, if there is anything to load. Its panic goes to the readers of these keys.
func (ld *loader[V]) loadMany(ctx context.Context, flights []*flight[V], from Source) {
	if len(flights) == 0 {
		return
	}
	keys := make([]string, len(flights))
	for i, f := range flights {
		keys[i] = f.key
	}
	ld.stats.loads.Add(1)
	if from == Primary {
		ld.stats.primaryLoads.Add(1)
	}
	var loaded map[string]Loaded[V]
	var err error
	began := ld.node.now()
	panicked := func() (text string) {
		defer func() {
			if r := recover(); r != nil {
				text = ld.panicText(r)
			}
		}()
		err = ld.loading(from, len(keys), func() (err error) {
			loaded, err = ld.cfg.LoadMany(ctx, keys, from)
			return err
		})
		return ""
	}()
	if err != nil {
		err = ld.loadError("load records", err)
	}
	for _, f := range flights {
		l, ok := loaded[f.key]
		if !ok {
			l.From = from
		}
		l.began = began
		f.loaded = &prefetched[V]{asked: from, loaded: ld.tidy(l), err: err, panicked: panicked}
	}
}

func (ld *loader[V]) panicText(r any) string {
	if p, ok := r.(loaderPanic); ok {
		return string(p)
	}
	return fmt.Sprintf("loader of dataset %s: %v\n\n%s", ld.cfg.Dataset, r, debug.Stack())
}

// loaderPanic is a text that has everything in it already.
type loaderPanic string
