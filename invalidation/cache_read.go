package invalidation

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// MaxBatch is how many records GetMany fetches at a time, and the most that LoadMany is asked for.
	MaxBatch = 100
	// parallelLoads is how many of a batch are filled at a time.
	parallelLoads = 16
)

// look returns the entry of this process that meets d at now, or nil and the cache key. Most keys are part of their cache key
// unchanged: those find their entry without making it.
func (c *Cache[V]) look(ctx context.Context, key string, d demand, now int64) (*entry[V], string, error) {
	e, ok := c.local.store.GetIfPresent(key)
	if ok && e.plain && c.serves(ctx, key, e, d, now) {
		return e, "", nil
	}
	name, err := c.nameOf(key)
	if err != nil || !c.local.encoded.Load() || c.local.isPlain(key, name) {
		return nil, name, err
	}
	if e, ok = c.local.store.GetIfPresent(name); ok && !e.plain && c.serves(ctx, key, e, d, now) {
		return e, name, nil
	}
	return nil, name, nil
}

// serves reports whether a reader that demands d may have e at now, and counts that it has.
func (c *Cache[V]) serves(ctx context.Context, key string, e *entry[V], d demand, now int64) bool {
	if !c.local.good(e, now) || e.version < d.least || d.within != anyAge && now-max(e.lane.view.confirm.Load(), e.proved) > int64(d.within) {
		return false
	}
	c.stats.localHits.add(now)
	if now >= e.early.Load() {
		c.flights.refresh(ctx, key, e, now)
	}
	return true
}

// impatience is what ends a reader's wait after StaleAfter.
type impatience struct {
	over  chan struct{} // is closed then; nil without StaleAfter
	timer *time.Timer
}

// patience begins the wait of a reader, who must release what it returns.
func (c *Cache[V]) patience() (w impatience) {
	if c.cfg.StaleAfter == 0 {
		return w
	}
	over := make(chan struct{})
	return impatience{over, time.AfterFunc(c.cfg.StaleAfter, func() { close(over) })}
}

func (w impatience) release() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// settle waits for a flight. If it failed, or is not done when impatient is closed, an older entry may serve.
func (c *Cache[V]) settle(ctx context.Context, f *flight[V], impatient <-chan struct{}) (V, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
	case <-impatient:
		if e := c.local.spare(f); e != nil {
			return e.answer()
		}
	}
	v, err := f.wait(ctx)
	if err != nil {
		if e := c.rescue(f); e != nil {
			return e.answer()
		}
	}
	return v, err
}

// rescue returns the entry that may be served instead of f's error: one that nothing is known to have made stale, neither to
// this node nor to the shared tier if it answered, and that is not further past its TTL, nor its lane longer without proof,
// than StaleIfError.
func (c *Cache[V]) rescue(f *flight[V]) *entry[V] {
	select {
	case <-f.done:
	default:
		return nil // its reader gave up, it did not
	}
	if f.err == nil || errors.Is(f.err, ErrClosed) {
		return nil
	}
	return c.local.spare(f)
}

// Peek returns what Get would serve from this process's memory just now, and false if Get would have to ask elsewhere. It
// loads nothing and counts nothing. A record that is known not to exist has Found false.
func (c *Cache[V]) Peek(key string) (Loaded[V], bool) {
	name, err := c.nameOf(key)
	if err != nil {
		return Loaded[V]{}, false
	}
	e, ok := c.local.stored(name)
	if !ok || !c.local.good(e, c.node.now()) {
		return Loaded[V]{}, false
	}
	return Loaded[V]{Value: e.value, Version: e.version, Found: e.found, Tags: e.tags}, true
}

// GetMany returns the records with these keys, as Get does for each: those of this process at once, the others in batches of
// MaxBatch, each with one round trip to the shared tier and, with CacheConfig.LoadMany, one or two loads and one more round
// trip that stores what they returned. Records that do not exist are missing in the answer, and a repeated key is asked for once. It is not a snapshot: records may be of different moments.
//
// A key that cannot be returns an error that wraps schemas.ErrInvalid, and nothing is read. Any other error comes with what could
// be had all the same; it wraps the first of the keys' errors and tells how many failed. If ctx ends or the node closes, nothing further is asked.
func (c *Cache[V]) GetMany(ctx context.Context, keys []string) (map[string]V, error) {
	got := make(map[string]V, len(keys))
	var away []wanted
	var asked map[string]bool // the keys of away
	now := c.node.now()       // once: it takes as long as the rest of a hit
	for _, key := range keys {
		e, name, err := c.look(ctx, key, demand{within: anyAge}, now)
		switch {
		case err != nil:
			return nil, fmt.Errorf("get records: %w", err)
		case e != nil && e.found:
			got[key] = e.value
		case e == nil && !asked[key]:
			if asked == nil {
				asked = make(map[string]bool)
			}
			asked[key] = true
			away = append(away, wanted{key, name})
		}
	}
	var first error
	failed := 0
	for len(away) > 0 {
		batch := away[:min(MaxBatch, len(away))]
		away = away[len(batch):]
		flights, err := c.flights.boardMany(ctx, batch)
		if err != nil {
			return got, err
		}
		impatient := c.patience()
		defer impatient.release() // a few batches at most
		for i, f := range flights {
			v, err := c.settle(ctx, f, impatient.over)
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
		return got, fmt.Errorf("get records: %d of %d: %w", failed, len(keys), first)
	}
	return got, nil
}

// wanted is a key with its cache key.
type wanted struct{ key, name string }
