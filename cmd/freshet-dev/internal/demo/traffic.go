package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/schemas"
)

// tick is how often writers and readers wake up.
const tick = 10 * time.Millisecond

// deletes is the share of changes of an existing record that delete it.
const deletes = 0.1

// kind is a dataset of the shop with the records that the demo uses.
type kind struct {
	dataset   *schemas.Dataset
	make      maker
	keys      []string
	cacheKeys []string
	states    []state // of the one goroutine that writes
}

// state is what the source knows of a record.
type state struct {
	version int64
	exists  bool
}

// traffic is the source: it changes records at a rate, each change under a greater version than the one before.
type traffic struct {
	kinds     []*kind
	publisher Publisher
	oracle    *Oracle
	log       func(msg string, args ...any)
	rate      float64
	first     int64
	rand      *rand.Rand
	zipf      *zipf
	// sample is offered every event before it is sent; what it returns, if not nil, learns of the outcome.
	sample func() func(schemas.Token, error)

	published, failed atomic.Int64
	stopped           atomic.Bool // what is wanted
	resting           atomic.Bool // stopped was seen: nothing more is sent
	pending           atomic.Int64

	mu    sync.Mutex
	token schemas.Token      // merged of all acknowledged events; guarded by mu
	acked map[string]settled // by cache key; guarded by mu
}

// settled is the newest acknowledged change of a record.
type settled struct {
	kind    *kind
	id      int
	version int64
}

func newTraffic(cfg Config, o *Oracle, first int64) (*traffic, error) {
	r := rand.New(rand.NewPCG(cfg.Seed, 1))
	t := &traffic{
		publisher: cfg.Publisher, oracle: o, log: cfg.Logger.Warn, rate: float64(cfg.Rate), first: first,
		rand: r, zipf: newZipf(r, cfg.Records), acked: map[string]settled{},
	}
	all := makers()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		d, ok := cfg.Datasets.Get(name)
		if !ok {
			return nil, fmt.Errorf("demo: dataset %s is not declared", name)
		}
		k := &kind{dataset: d, make: m, states: make([]state, cfg.Records)}
		for id := range cfg.Records {
			key, err := d.FormatKey(m.key(id)...)
			if err != nil {
				return nil, fmt.Errorf("demo: key of dataset %s: %w", name, err)
			}
			cacheKey, err := d.CacheKey(key)
			if err != nil {
				return nil, fmt.Errorf("demo: cache key of dataset %s: %w", name, err)
			}
			k.keys, k.cacheKeys = append(k.keys, key), append(k.cacheKeys, cacheKey)
		}
		t.kinds = append(t.kinds, k)
	}
	return t, nil
}

// run writes until ctx ends. Publishing that fails is counted: the record's next version makes it good.
func (t *traffic) run(ctx context.Context) error {
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for due := 0.0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-clock.C:
		}
		t.resting.Store(t.stopped.Load())
		if t.resting.Load() {
			due = 0
			continue
		}
		// What could not be sent while the publisher was blocked is not made up for.
		for due = min(due+t.rate*tick.Seconds(), t.rate); due >= 1 && ctx.Err() == nil; due-- {
			if err := t.change(ctx); err != nil {
				return err
			}
		}
	}
}

// change makes one change of one record and publishes it.
func (t *traffic) change(ctx context.Context) error {
	k, id := t.kinds[t.rand.IntN(len(t.kinds))], t.zipf.next()
	st := &k.states[id]
	ev := schemas.Event{
		Dataset: k.dataset.Name, Key: k.keys[id], Op: schemas.Upsert,
		Version: max(st.version+1, time.Now().UnixMicro()),
	}
	if st.exists && t.rand.Float64() < deletes {
		ev.Op = schemas.Delete
	} else {
		data, err := json.Marshal(k.make.data(t.rand, id, ev.Version))
		if err != nil {
			return fmt.Errorf("make event of dataset %s: %w", ev.Dataset, err)
		}
		ev.Data = data
	}
	row, err := k.dataset.Check(&ev)
	if err != nil {
		return fmt.Errorf("make event of dataset %s: %w", ev.Dataset, err)
	}
	st.version, st.exists = ev.Version, ev.Op == schemas.Upsert
	t.oracle.Published(k.cacheKeys[id], ev.Version, ev.Op == schemas.Delete, sum(k.dataset, row.Values))
	var sampled func(schemas.Token, error)
	if t.sample != nil {
		sampled = t.sample()
	}
	t.pending.Add(1)
	err = t.publisher.PublishAsync(ctx, ev, func(tok schemas.Token, err error) {
		defer t.pending.Add(-1)
		if sampled != nil {
			sampled(tok, err)
		}
		t.settle(k, id, ev.Version, tok, err)
	})
	if err != nil { // the callback does not come
		t.pending.Add(-1)
		if sampled != nil {
			sampled(schemas.Token{}, err)
		}
		if ctx.Err() == nil && t.failed.Add(1) == 1 {
			t.log("a change was not committed; further ones are counted", "error", err)
		}
	}
	return nil
}

func (t *traffic) settle(k *kind, id int, version int64, tok schemas.Token, err error) {
	if err != nil {
		t.failed.Add(1)
		return
	}
	t.published.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token = t.token.Merge(tok)
	if name := k.cacheKeys[id]; version > t.acked[name].version {
		t.acked[name] = settled{k, id, version}
	}
}

// quiet reports whether writing has stopped and the outcome of everything sent is known.
func (t *traffic) quiet() bool { return t.stopped.Load() && t.resting.Load() && t.pending.Load() == 0 }

// written returns a token that waits for everything acknowledged, and the newest acknowledged change of each record.
func (t *traffic) written() (schemas.Token, []settled) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]settled, 0, len(t.acked))
	for _, s := range t.acked {
		all = append(all, s)
	}
	return t.token, all
}

// sum hashes a row's values in a form that is the same before and after the database.
func sum(ds *schemas.Dataset, values []any) uint64 {
	h := fnv.New64a()
	for i, c := range ds.Replica.Columns {
		v := values[i]
		switch text, ok := v.(string); {
		case ok && c.Property.Kind == schemas.KindDateTime && strings.Contains(text, "."),
			ok && c.Property.Kind == schemas.KindDecimal && strings.Contains(text, "."):
			v = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		case ok && c.Property.Kind == schemas.KindJSON:
			var parsed any
			if err := json.Unmarshal([]byte(text), &parsed); err == nil {
				v = parsed // maps print in the order of their keys
			}
		}
		fmt.Fprintf(h, "%v\x00", v)
	}
	return h.Sum64()
}

// zipf chooses numbers below n, small ones most.
type zipf struct {
	z *rand.Zipf
}

func newZipf(r *rand.Rand, n int) *zipf {
	return &zipf{rand.NewZipf(r, 1.1, 4, uint64(max(n-1, 0)))}
}

func (z *zipf) next() int { return int(min(z.z.Uint64(), math.MaxInt32)) }
