package invalidation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/freshet/freshet/invalidation/lane"
)

// maxOrphans bounds the unused leases that a cache remembers.
const maxOrphans = 1024

// errWrongType: another program stored something else than a string under a cache key.
var errWrongType = errors.New("shared entry is not a string")

// errEncode: the codec cannot write the value.
var errEncode = errors.New("encode value")

// noBypass: the shared tier can be asked, or was.
const noBypass = -1

// answer is what came of asking the shared tier: why it could not be used, or its reply to token.
type answer struct {
	bypass int
	token  string
	reply  lane.GetReply
	wrong  bool // what is stored under the key is not a string
}

// filler fills entries from the shared tier or the loader, under the rules of both tiers.
type filler[V any] struct {
	*core[V]

	local *local[V]
	loads *loader[V]
	mark  string // of the cache's shared entries: see markOf

	answer func(f *flight[V], l Loaded[V]) // gives the readers of a flight their answer

	mu      sync.Mutex        // guards orphans; taken alone
	orphans map[string]string // by name: the token whose lease was not used
}

// ask asks the shared tier, if it is of use.
func (fl *filler[V]) ask(ctx context.Context, f *flight[V]) answer {
	a := answer{bypass: fl.passed(f)}
	if a.bypass != noBypass {
		return a
	}
	if fl.cfg.LocalOnly {
		return f.alone()
	}
	a.token = fl.token(f.name)
	r, err := fl.shared(ctx, f.name, a.token)
	return fl.answered(f, a.token, r, err)
}

// answered makes an answer of a reply or its error.
func (fl *filler[V]) answered(f *flight[V], token string, r lane.GetReply, err error) answer {
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
		// The lane was recreated or flushed since this node last looked, perhaps for other cache sections: what it loads
		// could bear another record's name, or lack a tag. The lease is used once the node has looked.
		signal(f.lane.now)
		fl.orphan(f.name, token)
		a.bypass = bypassNewRoot
	case r.Status == lane.GetHit && r.Root != f.lane.view.rootNow():
		signal(f.lane.now) // likewise: the node that stored it may have another cache section
		a.bypass = bypassNewRoot
	case !fl.dataset.lanes[f.lane.n].agreed.Load(): // it has looked meanwhile
		a.bypass = bypassDataset
	}
	return a
}

// passed reports why the shared tier is not asked, or noBypass.
func (fl *filler[V]) passed(f *flight[V]) int {
	switch {
	case !f.lane.view.exists.Load():
		return bypassNoLane
	case !fl.dataset.lanes[f.lane.n].agreed.Load():
		return bypassDataset
	}
	switch {
	case fl.cfg.LocalOnly:
		if !f.lane.fresh(fl.node.now()) {
			fl.stats.bypassed[bypassUnconfirmed].Add(1) // what is loaded is kept, and served once the lane is confirmed
		}
		return noBypass
	case !f.lane.fresh(fl.node.now()): // nothing proves that what the shared tier answers is within the bound
		return bypassUnconfirmed
	case f.lane.troubled():
		return bypassRedis
	}
	return noBypass
}

// fill asks the shared tier and, if need be, the loader. Only what the shared tier accepted is kept in the local tier.
func (fl *filler[V]) fill(ctx context.Context, f *flight[V]) (Loaded[V], error) {
	if !f.known || f.asked.bypass == noBypass && f.asked.reply.Status == lane.GetBusy {
		f.asked, f.known = fl.ask(ctx, f), true
	}
	if f.asked.wrong {
		f.discarded = true // a second time it is the lane's own keys that are of another type
		fl.replace(ctx, f, errWrongType)
	}
	for tries := 0; f.asked.bypass == noBypass && f.asked.reply.Status == lane.GetHit; tries++ {
		l, err := fl.decode(f.asked.reply)
		switch {
		case err == nil:
			fl.stats.sharedHits.Add(1)
			fl.local.keep(f, l)
			if l.Version < f.least {
				return fl.loads.load(ctx, f.key, Primary) // the worker has not emitted the change yet; there is no lease to keep this under
			}
			return l, nil
		case tries > 0: // it came back
			return fl.bypass(ctx, f, bypassCodec)
		}
		fl.replace(ctx, f, err)
	}
	a := &f.asked
	if !fl.cfg.LocalOnly {
		f.floor.Store(max(f.floor.Load(), a.reply.Floor))
	}
	switch {
	case a.bypass != noBypass:
		fl.stats.bypassed[a.bypass].Add(1)
		return fl.unguarded(ctx, f, a.bypass, a.reply.Floor)
	case a.reply.Status == lane.GetBusy:
		fl.stats.bypassed[bypassBusy].Add(1)
		return fl.unguarded(ctx, f, bypassBusy, a.reply.Floor)
	}
	return fl.lease(ctx, f, a.token, a.reply.Floor)
}

// replace removes a shared entry that this cache cannot read, and asks again. Removing one is always safe, and a bypass
// would last as long as the entry. Nodes of two codecs do that to each other, once per fill.
func (fl *filler[V]) replace(ctx context.Context, f *flight[V], why error) {
	fl.stats.foreign.Add(1)
	what := warnDecode // the codec's words may quote the value
	switch {
	case errors.Is(why, errOtherForm):
		what = warnForm
	case errors.Is(why, errWrongType):
		what = warnType
	}
	fl.stats.warn(what, nil)
	f.floor.Store(max(f.asked.reply.Version, 1)) // what it held is at least as new as a local entry of a lesser version
	if err := fl.node.scripts.Discard(ctx, f.name); err != nil {
		f.lane.heard(err)
		f.asked = answer{bypass: bypassRedis}
		return
	}
	f.asked = fl.ask(ctx, f)
}

// token names a fill attempt. After a load that failed or was not shared it is the one that still holds the lease: otherwise
// no process could share the record until the lease ends. That lease is as good as a new one, since any invalidation would have ended it.
func (fl *filler[V]) token(name string) string {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if t, ok := fl.orphans[name]; ok {
		delete(fl.orphans, name)
		return t
	}
	return fl.node.token()
}

func (fl *filler[V]) orphan(name, token string) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if len(fl.orphans) >= maxOrphans {
		clear(fl.orphans) // those leases end by themselves
	}
	fl.orphans[name] = token
}

// shared asks the shared tier and gives another node that is loading a little time.
func (fl *filler[V]) shared(ctx context.Context, name, token string) (lane.GetReply, error) {
	until := fl.node.now() + int64(fl.cfg.BusyWait)
	for wait := 2 * time.Millisecond; ; wait *= 2 {
		r, err := fl.node.scripts.Get(ctx, name, token)
		if err != nil {
			return r, fmt.Errorf("ask shared tier: %w", err)
		}
		left := time.Duration(until - fl.node.now())
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
func (fl *filler[V]) lease(ctx context.Context, f *flight[V], token string, floor int64) (Loaded[V], error) {
	spent := fl.cfg.LocalOnly
	defer func() { // Also when the loader panics: a lease that nothing uses would keep the record from being shared until it ends.
		if !spent {
			fl.orphan(f.name, token)
		}
	}()
	l, err := fl.loads.loadAtLeast(ctx, f, floor)
	if err != nil {
		return l, err
	}
	if fl.loads.primaryOnly(floor) && l.From != Primary {
		fl.stats.refused[refusedPrimary].Add(1)
		fl.stats.blameSource()
		return l, nil // the loader could not reach the primary
	}
	if fl.cfg.LocalOnly {
		return fl.keepAlone(ctx, f, l)
	}
	if fl.early(f, token, floor, &l) {
		defer fl.late()
		fl.answer(f, l)
	}
	for {
		s, err := fl.store(ctx, f, token, l)
		if err != nil || s != lane.FillOK {
			f.retract()
		}
		switch {
		case errors.Is(err, errEncode):
			fl.stats.refused[refusedCodec].Add(1)
			fl.stats.warn(warnEncode, nil)
			return l, nil // the reader gets its value; that it is not kept is counted
		case errors.Is(err, lane.ErrFill):
			fl.stats.refused[refusedInvalid].Add(1)
			fl.stats.warn(warnLoaded, err)
			return l, nil
		case err != nil:
			fl.stats.refused[refusedRedis].Add(1)
			f.lane.full.Store(true)
			return fl.unshared(ctx, f, l)
		case s == lane.FillOK:
			spent = true
			f.lane.filled()
			if f.early == nil {
				fl.local.keep(f, l)
			}
			return l, nil
		case s == lane.FillLost:
			spent = true
			fl.stats.refused[refusedLost].Add(1)
			return fl.unshared(ctx, f, l)
		case s == lane.FillStale:
			fl.stats.refused[refusedStale].Add(1)
			if l.From == Primary {
				fl.stats.blameVersion(l.Version, floor)
			}
		case s == lane.FillPrimary:
			f.floor.Store(lane.PrimaryOnly) // a tag of it was invalidated lately: nothing from before will do
			fl.stats.refused[refusedPrimary].Add(1)
		}
		if l.From == Primary {
			return l, nil // no version, or the primary is behind what was emitted: serve, do not cache
		}
		if l, err = fl.loads.load(ctx, f.key, Primary); err != nil || l.From != Primary {
			if err == nil {
				fl.stats.blameSource()
			}
			return l, err
		}
	}
}

// unshared returns l, which the shared tier did not accept. After a WaitFor it reads the primary instead.
func (fl *filler[V]) unshared(ctx context.Context, f *flight[V], l Loaded[V]) (Loaded[V], error) {
	if l.From != Primary && fl.node.waitedLately() {
		var err error
		if l, err = fl.loads.load(ctx, f.key, Primary); err != nil {
			return l, err
		}
	}
	fl.local.keepBounded(f, l)
	return l, nil
}

// bypass loads without any cache.
func (fl *filler[V]) bypass(ctx context.Context, f *flight[V], why int) (Loaded[V], error) {
	fl.stats.bypassed[why].Add(1)
	return fl.unguarded(ctx, f, why, 0)
}

// unguarded loads what no fill will check. It reads the primary after a WaitFor, and where nothing else can be kept.
func (fl *filler[V]) unguarded(ctx context.Context, f *flight[V], why int, floor int64) (Loaded[V], error) {
	if fl.loads.unguardedPrimary(why) {
		floor = lane.PrimaryOnly
	}
	l, err := fl.loads.loadAtLeast(ctx, f, floor)
	if err == nil && why != bypassDataset {
		fl.local.keepBounded(f, l)
	}
	return l, err
}

// keepAlone keeps what was loaded if nothing that was invalidated lately can have been missed.
func (fl *filler[V]) keepAlone(ctx context.Context, f *flight[V], l Loaded[V]) (Loaded[V], error) {
	if l.From != Primary && len(l.Tags) > 0 && f.lane.view.tagged(l.Tags) {
		fl.stats.refused[refusedPrimary].Add(1)
		var err error
		if l, err = fl.loads.load(ctx, f.key, Primary); err != nil || l.From != Primary {
			if err == nil {
				fl.stats.blameSource()
			}
			return l, err
		}
	}
	fl.local.keep(f, l)
	return l, nil
}
