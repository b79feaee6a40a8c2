package invalidation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/freshet/freshet/invalidation/lane"
)

// maxOrphans bounds the unused leases that a cache remembers.
const maxOrphans = 1024

// errWrongType: another program stored something else than a string under a cache key.
var errWrongType = errors.New("shared entry is not a string")

// noBypass: the shared tier can be asked, or was.
const noBypass = -1

// answer is what came of asking the shared tier: why it could not be used, or its reply to token.
type answer struct {
	bypass int
	token  string
	reply  lane.GetReply
	wrong  bool // what is stored under the key is not a string
}

// ask asks the shared tier, if it is of use.
func (c *Cache[V]) ask(ctx context.Context, f *flight[V]) answer {
	a := answer{bypass: c.passed(f)}
	if a.bypass != noBypass {
		return a
	}
	if c.cfg.LocalOnly {
		return f.alone()
	}
	a.token = c.token(f.name)
	r, err := c.shared(ctx, f.name, a.token)
	return c.answered(f, a.token, r, err)
}

// answered makes an answer of a reply or its error.
func (c *Cache[V]) answered(f *flight[V], token string, r lane.GetReply, err error) answer {
	a := answer{bypass: noBypass, token: token, reply: r}
	if lane.IsWrongType(err) && !f.discarded {
		a.wrong = true // of this key alone, as far as is known
		return a
	}
	f.lane.heard(err)
	switch {
	case err != nil:
		a.bypass = bypassRedis
	case r.Status == lane.GetNoLane:
		signal(f.lane.now)
		a.bypass = bypassNoLane
	case r.Status == lane.GetLease && r.Root != f.lane.view.rootNow():
		// The lane was made anew or flushed since this node last looked, perhaps for other cache sections: what it loads
		// could bear another record's name, or lack a tag. The lease is used once the node has looked.
		signal(f.lane.now)
		c.orphan(f.name, token)
		a.bypass = bypassNewRoot
	case r.Status == lane.GetHit && r.Root != f.lane.view.rootNow():
		signal(f.lane.now) // likewise: the node that stored it may have another cache section
		a.bypass = bypassNewRoot
	case !c.dataset.lanes[f.lane.n].agreed.Load(): // it has looked meanwhile
		a.bypass = bypassDataset
	}
	return a
}

// passed says why the shared tier is not asked, or noBypass.
func (c *Cache[V]) passed(f *flight[V]) int {
	switch {
	case !f.lane.view.exists.Load():
		return bypassNoLane
	case !c.dataset.lanes[f.lane.n].agreed.Load():
		return bypassDataset
	}
	switch {
	case c.cfg.LocalOnly:
		if !f.lane.fresh(c.node.now()) {
			c.stats.bypassed[bypassUnconfirmed].Add(1) // what is loaded is kept, and served once the lane is confirmed
		}
		return noBypass
	case !f.lane.fresh(c.node.now()): // nothing proves that what the shared tier answers is within the bound
		return bypassUnconfirmed
	case f.lane.troubled():
		return bypassRedis
	}
	return noBypass
}

// fill asks the shared tier and, if need be, the loader. Only what the shared tier accepted is kept in the local tier.
func (c *Cache[V]) fill(ctx context.Context, f *flight[V]) (Loaded[V], error) {
	if f.asked == nil || f.asked.bypass == noBypass && f.asked.reply.Status == lane.GetBusy {
		a := c.ask(ctx, f)
		f.asked = &a
	}
	if f.asked.wrong {
		f.discarded = true // a second time it is the lane's own keys that are of another type
		c.replace(ctx, f, errWrongType)
	}
	for tries := 0; f.asked.bypass == noBypass && f.asked.reply.Status == lane.GetHit; tries++ {
		l, err := c.decode(f.asked.reply)
		switch {
		case err == nil:
			c.stats.sharedHits.Add(1)
			c.keep(f, l)
			if l.Version < f.least {
				return c.load(ctx, f.key, Primary) // the worker has not told yet; there is no lease to keep this under
			}
			return l, nil
		case tries > 0: // it came back
			return c.bypass(ctx, f, bypassCodec)
		}
		c.replace(ctx, f, err)
	}
	a := f.asked
	if !c.cfg.LocalOnly {
		f.floor.Store(max(f.floor.Load(), a.reply.Floor))
	}
	switch {
	case a.bypass != noBypass:
		c.stats.bypassed[a.bypass].Add(1)
		return c.unguarded(ctx, f, a.bypass, a.reply.Floor)
	case a.reply.Status == lane.GetBusy:
		c.stats.bypassed[bypassBusy].Add(1)
		return c.unguarded(ctx, f, bypassBusy, a.reply.Floor)
	}
	return c.lease(ctx, f, a.token, a.reply.Floor)
}

// replace removes a shared entry that this cache cannot read, and asks again. Removing one is always safe, and a bypass
// would last as long as the entry. Nodes of two codecs do that to each other, once per fill.
func (c *Cache[V]) replace(ctx context.Context, f *flight[V], why error) {
	c.stats.foreign.Add(1)
	what := warnDecode // the codec's words may quote the value
	switch {
	case errors.Is(why, errOtherForm):
		what = warnForm
	case errors.Is(why, errWrongType):
		what = warnType
	}
	c.warn(what, nil)
	f.floor.Store(max(f.asked.reply.Version, 1)) // what it held is at least as new as a local entry of a lesser version
	if err := c.node.scripts.Discard(ctx, f.name); err != nil {
		f.lane.heard(err)
		f.asked = &answer{bypass: bypassRedis}
		return
	}
	a := c.ask(ctx, f)
	f.asked = &a
}

// token names a fill attempt. After a load that failed or was not shared it is the one that still holds the lease: otherwise
// no process could share the record until the lease ends. That lease is as good as a new one, since any invalidation would have ended it.
func (c *Cache[V]) token(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.orphans[name]; ok {
		delete(c.orphans, name)
		return t
	}
	return c.node.token()
}

func (c *Cache[V]) orphan(name, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.orphans) >= maxOrphans {
		clear(c.orphans) // those leases end by themselves
	}
	c.orphans[name] = token
}

// shared asks the shared tier and gives another node that is loading a little time.
func (c *Cache[V]) shared(ctx context.Context, name, token string) (lane.GetReply, error) {
	until := c.node.now() + int64(c.cfg.BusyWait)
	for wait := 2 * time.Millisecond; ; wait *= 2 {
		r, err := c.node.scripts.Get(ctx, name, token)
		if err != nil {
			return r, fmt.Errorf("ask shared tier: %w", err)
		}
		left := time.Duration(until - c.node.now())
		if r.Status != lane.GetBusy || left <= 0 {
			return r, nil
		}
		t := time.NewTimer(min(wait, left))
		select {
		case <-ctx.Done():
			t.Stop()
			return r, nil
		case <-t.C:
		}
	}
}

// lease loads under a lease and shares the result.
func (c *Cache[V]) lease(ctx context.Context, f *flight[V], token string, floor int64) (Loaded[V], error) {
	spent := c.cfg.LocalOnly
	defer func() { // Also when the loader panics: a lease that nothing uses would keep the record from being shared until it ends.
		if !spent {
			c.orphan(f.name, token)
		}
	}()
	l, err := c.loadAtLeast(ctx, f, floor)
	if err != nil {
		return l, err
	}
	if c.primaryOnly(floor) && l.From != Primary {
		c.stats.refused[refusedPrimary].Add(1)
		c.blameSource()
		return l, nil // the loader could not reach the primary
	}
	if c.cfg.LocalOnly {
		return c.keepAlone(ctx, f, l)
	}
	data, err := c.encode(l)
	if err != nil {
		c.stats.refused[refusedCodec].Add(1)
		c.warn(warnEncode, nil)
		return l, nil // the reader gets its value; that it is not kept is counted
	}
	for {
		s, err := c.node.scripts.Fill(ctx, lane.FillRequest{
			Key: f.name, Token: token, Version: l.Version, Value: data, Tags: l.Tags,
			TTL: c.spread(c.cfg.TTL), Primary: l.From == Primary,
		})
		switch {
		case errors.Is(err, lane.ErrFill):
			c.stats.refused[refusedInvalid].Add(1)
			c.warn(warnLoaded, err)
			return l, nil
		case err != nil:
			c.stats.refused[refusedRedis].Add(1)
			f.lane.full.Store(true)
			return c.unshared(ctx, f, l)
		case s == lane.FillOK:
			spent = true
			f.lane.filled()
			c.keep(f, l)
			return l, nil
		case s == lane.FillLost:
			spent = true
			c.stats.refused[refusedLost].Add(1)
			return c.unshared(ctx, f, l)
		case s == lane.FillStale:
			c.stats.refused[refusedStale].Add(1)
			if l.From == Primary {
				c.blameVersion(l.Version, floor)
			}
		case s == lane.FillPrimary:
			f.floor.Store(lane.PrimaryOnly) // a tag of it was invalidated lately: nothing from before will do
			c.stats.refused[refusedPrimary].Add(1)
		}
		if l.From == Primary {
			return l, nil // no version, or the primary is behind what was emitted: serve, do not cache
		}
		if l, err = c.load(ctx, f.key, Primary); err != nil || l.From != Primary {
			if err == nil {
				c.blameSource()
			}
			return l, err
		}
		if data, err = c.encode(l); err != nil {
			c.stats.refused[refusedCodec].Add(1)
			return l, nil // as above
		}
	}
}

// unshared returns l, which the shared tier did not accept. After a WaitFor it reads the primary instead.
func (c *Cache[V]) unshared(ctx context.Context, f *flight[V], l Loaded[V]) (Loaded[V], error) {
	if l.From != Primary && c.node.waitedLately() {
		var err error
		if l, err = c.load(ctx, f.key, Primary); err != nil {
			return l, err
		}
	}
	c.keepBounded(f, l)
	return l, nil
}

// bypass loads without any cache.
func (c *Cache[V]) bypass(ctx context.Context, f *flight[V], why int) (Loaded[V], error) {
	c.stats.bypassed[why].Add(1)
	return c.unguarded(ctx, f, why, 0)
}

// unguarded loads what no fill will check. It reads the primary after a WaitFor, and where nothing else can be kept.
func (c *Cache[V]) unguarded(ctx context.Context, f *flight[V], why int, floor int64) (Loaded[V], error) {
	if c.unguardedPrimary(why) {
		floor = lane.PrimaryOnly
	}
	l, err := c.loadAtLeast(ctx, f, floor)
	if err == nil && why != bypassDataset {
		c.keepBounded(f, l)
	}
	return l, err
}

// unguardedPrimary reports whether a load that bypasses the shared tier for this reason reads the primary. While Redis is
// away only such a load can be kept, and every read would be a load otherwise.
func (c *Cache[V]) unguardedPrimary(why int) bool {
	switch why {
	case bypassUnconfirmed, bypassNoLane, bypassRedis:
		return true
	}
	return c.node.waitedLately()
}

// loadAtLeast loads a version of at least floor, from the primary if anything else is too old.
func (c *Cache[V]) loadAtLeast(ctx context.Context, f *flight[V], floor int64) (Loaded[V], error) {
	floor = max(floor, f.least)
	if c.primaryOnly(floor) || f.lane.full.Load() { // what cannot be shared is kept only if the primary gave it
		return c.first(ctx, f, Primary)
	}
	l, err := c.first(ctx, f, Any)
	if err != nil || l.From == Primary || l.Version >= floor {
		return l, err
	}
	c.stats.refused[refusedStale].Add(1)
	return c.load(ctx, f.key, Primary)
}

// primaryOnly says whether a load under that floor has to read the primary.
func (c *Cache[V]) primaryOnly(floor int64) bool {
	return floor == lane.PrimaryOnly || c.node.cfg.Hold < 0
}

// first is a flight's first load, which GetMany may have made already. One that read elsewhere than it should now is made anew.
func (c *Cache[V]) first(ctx context.Context, f *flight[V], from Source) (Loaded[V], error) {
	p := f.loaded
	f.loaded = nil
	switch {
	case p == nil || p.asked < from:
		return c.load(ctx, f.key, from)
	case p.panicked != "":
		panic(loaderPanic(p.panicked)) // it ends as the loader's own does
	}
	return p.loaded, p.err
}

func (c *Cache[V]) load(ctx context.Context, key string, from Source) (Loaded[V], error) {
	c.stats.loads.Add(1)
	if from == Primary {
		c.stats.primaryLoads.Add(1)
	}
	var l Loaded[V]
	began := c.node.now()
	err := c.loading(from, 1, func() (err error) {
		l, err = c.cfg.Load(ctx, key, from)
		return err
	})
	if err != nil {
		return l, c.loadError("load record", err)
	}
	l.began = began
	return c.tidy(l), nil
}

func (c *Cache[V]) loadError(what string, err error) error {
	c.stats.loadErrors.Add(1)
	if c.node.ctx.Err() != nil {
		return ErrClosed
	}
	return fmt.Errorf("%s: %w", what, err)
}

// tidy takes from what a loader gave what it does not mean, and adds the dataset's common tag: a worker may stamp that in
// place of the keys, so no entry may lack it.
func (c *Cache[V]) tidy(l Loaded[V]) Loaded[V] {
	if !l.Found {
		var zero V
		l.Value = zero
	}
	if c.cfg.Derived != "" {
		l.Version = 0 // versions of different records cannot be compared
	}
	if tag := c.dataset.declared.Cache.Common; tag != "" && !slices.Contains(l.Tags, tag) {
		l.Tags = append(slices.Clip(l.Tags), tag) // the loader keeps its own list
	}
	return l
}

// encode gives a value's shared form; nothing at all for an absent record.
func (c *Cache[V]) encode(l Loaded[V]) ([]byte, error) {
	if !l.Found {
		return nil, nil
	}
	data, err := c.cfg.Codec.Encode(l.Value)
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	if data = mark(c.mark, data); len(data) == 0 {
		return nil, errors.New("value encodes to nothing, which means absent")
	}
	return data, nil
}

func (c *Cache[V]) decode(r lane.GetReply) (Loaded[V], error) {
	l := Loaded[V]{Version: r.Version, Tags: r.Tags, Found: len(r.Value) > 0}
	if !l.Found {
		return l, nil
	}
	data, ok := unmark(c.mark, r.Value)
	if !ok {
		return Loaded[V]{}, errOtherForm
	}
	var err error
	if l.Value, err = c.cfg.Codec.Decode(data); err != nil {
		return Loaded[V]{}, fmt.Errorf("decode shared value: %w", err)
	}
	return l, nil
}
