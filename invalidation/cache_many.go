package invalidation

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/freshet/freshet/invalidation/lane"
)

const (
	// MaxBatch is how many records GetMany fetches at a time, and the most that LoadMany is asked for.
	MaxBatch = 100
	// parallelLoads is how many of a batch are filled at a time.
	parallelLoads = 16
)

// prefetched is what a load for several keys gave one of them. asked is the source that was asked for.
type prefetched[V any] struct {
	asked    Source
	loaded   Loaded[V]
	err      error
	panicked string
}

// GetMany gives the records with these keys, as Get does for each: those of this process at once, the others in batches of
// MaxBatch, each with one round trip to the shared tier and, with CacheConfig.LoadMany, one or two loads. Records that do
// not exist are missing in the answer, and a repeated key is read once. It is no snapshot: records may be of different moments.
//
// A key that cannot be gives an error that wraps schemas.ErrInvalid, and nothing is read. Any other error comes with what could
// be had all the same; it wraps the first of the keys' errors and tells how many failed. If ctx ends or the node closes, nothing further is asked.
func (c *Cache[V]) GetMany(ctx context.Context, keys []string) (map[string]V, error) {
	got := make(map[string]V, len(keys))
	away := make([]wanted, 0, len(keys))
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		e, name, err := c.look(ctx, key, demand{within: anyAge})
		switch {
		case err != nil:
			return nil, fmt.Errorf("get records: %w", err)
		case e == nil:
			away = append(away, wanted{key, name})
		case e.found:
			got[key] = e.value
		}
	}
	var first error
	failed := 0
	for len(away) > 0 {
		batch := away[:min(MaxBatch, len(away))]
		away = away[len(batch):]
		flights, err := c.boardMany(ctx, batch)
		if err != nil {
			return got, err
		}
		impatient, release := c.patience()
		defer release() // a few batches at most
		for i, f := range flights {
			v, err := c.settle(ctx, f, impatient)
			switch {
			case err == nil:
				got[batch[i].key] = v
			case errors.Is(err, ErrNotFound):
			case ctx.Err() != nil || errors.Is(err, ErrClosed):
				return got, err
			default:
				failed++
				if first == nil {
					first = err
				}
			}
		}
	}
	if first != nil {
		return got, fmt.Errorf("get records: %d of %d: %w", failed, len(seen), first)
	}
	return got, nil
}

// wanted is a key with its cache key.
type wanted struct{ key, name string }

// boardMany joins the flights of these keys and begins those that are missing, together.
func (c *Cache[V]) boardMany(ctx context.Context, batch []wanted) ([]*flight[V], error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get records: %w", context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.node.enter() {
		return nil, ErrClosed
	}
	all, began := make([]*flight[V], 0, len(batch)), make([]*flight[V], 0, len(batch))
	for _, w := range batch {
		f := c.boarding(w.name, demand{within: anyAge})
		if f == nil {
			f = c.begin(w.key, w.name, demand{})
			began = append(began, f)
		}
		all = append(all, f)
	}
	if len(began) == 0 {
		c.node.leave()
		return all, nil
	}
	go c.runMany(context.WithoutCancel(ctx), began)
	return all, nil
}

func (c *Cache[V]) runMany(ctx context.Context, flights []*flight[V]) {
	c.within(ctx, flights, func(ctx context.Context) { c.fillMany(ctx, flights) })
}

func (c *Cache[V]) fillMany(ctx context.Context, flights []*flight[V]) {
	c.askMany(ctx, flights)
	var wg sync.WaitGroup
	if c.cfg.LoadMany != nil {
		wg.Go(func() { c.loadFirst(ctx, flights) }) // a loader that leaves its goroutine leaves this one
		wg.Wait()
	}
	free := make(chan struct{}, parallelLoads)
	for _, f := range flights {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			c.carry(ctx, f)
		})
	}
	wg.Wait()
}

// askMany asks the shared tier for all flights in one round trip.
func (c *Cache[V]) askMany(ctx context.Context, flights []*flight[V]) {
	var lookups []lane.Lookup
	var asking []*flight[V]
	for _, f := range flights {
		if why := c.passed(f); why != noBypass {
			f.asked = &answer{bypass: why}
			continue
		}
		if c.cfg.LocalOnly {
			a := f.alone()
			f.asked = &a
			continue
		}
		lookups = append(lookups, lane.Lookup{Key: f.name, Token: c.token(f.name)})
		asking = append(asking, f)
	}
	if len(lookups) == 0 {
		return
	}
	c.node.scripts.GetMany(ctx, lookups)
	for i, f := range asking {
		a := c.answered(f, lookups[i].Token, lookups[i].Reply, lookups[i].Err)
		f.asked = &a
	}
}

// loadFirst makes the first load of all flights that need one: those that hold a lease and those that bypass. One that has
// to wait for another node may need none.
func (c *Cache[V]) loadFirst(ctx context.Context, flights []*flight[V]) {
	floors := map[*flight[V]]int64{}
	var primary, elsewhere []*flight[V]
	for _, f := range flights {
		a := f.asked
		switch {
		case a.bypass == noBypass && a.reply.Status != lane.GetLease:
			continue
		case a.bypass != noBypass && c.unguardedPrimary(a.bypass):
			floors[f] = lane.PrimaryOnly
		default:
			floors[f] = a.reply.Floor
		}
		if c.primaryOnly(floors[f]) || f.lane.full.Load() {
			primary = append(primary, f)
		} else {
			elsewhere = append(elsewhere, f)
		}
	}
	c.loadMany(ctx, elsewhere, Any)
	for _, f := range elsewhere {
		if p := f.loaded; p.err == nil && p.panicked == "" && p.loaded.From != Primary && p.loaded.Version < floors[f] {
			c.stats.refused[refusedStale].Add(1)
			primary = append(primary, f)
		}
	}
	c.loadMany(ctx, primary, Primary)
}

// loadMany calls LoadMany, if there is anything to load. Its panic goes to the readers of these keys.
func (c *Cache[V]) loadMany(ctx context.Context, flights []*flight[V], from Source) {
	if len(flights) == 0 {
		return
	}
	keys := make([]string, len(flights))
	for i, f := range flights {
		keys[i] = f.key
	}
	c.stats.loads.Add(1)
	if from == Primary {
		c.stats.primaryLoads.Add(1)
	}
	var loaded map[string]Loaded[V]
	var err error
	began := c.node.now()
	panicked := func() (text string) {
		defer func() {
			if r := recover(); r != nil {
				text = c.panicText(r)
			}
		}()
		err = c.loading(from, len(keys), func() (err error) {
			loaded, err = c.cfg.LoadMany(ctx, keys, from)
			return err
		})
		return ""
	}()
	if err != nil {
		err = c.loadError("load records", err)
	}
	for _, f := range flights {
		l, ok := loaded[f.key]
		if !ok {
			l.From = from
		}
		l.began = began
		f.loaded = &prefetched[V]{asked: from, loaded: c.tidy(l), err: err, panicked: panicked}
	}
}
