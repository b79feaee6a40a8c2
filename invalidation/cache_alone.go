package invalidation

import (
	"hash/maphash"
	"math/bits"

	"github.com/freshet/freshet/invalidation/lane"
)

// This file replaces the shared tier where there is none. There, a floor and a tag's stamp keep a load that read a
// lagging source from being kept; here a node remembers itself what was invalidated lately, and loads that from the primary.

// recentBits is the size of one generation over all lanes. At four bits a name, 300 000 names give about 0.4 % of others that look
// like one of them; those only cost a load from the primary.
const recentBits = 1 << 22

// minRecentBits is the least size of one generation of a lane.
const minRecentBits = 1 << 16

// recent remembers for at least span which names were added: two Bloom filters that take turns. It never forgets sooner,
// and may take a name for another. Its view's mu guards it.
type recent struct {
	now        func() int64
	span       int64
	seed       maphash.Seed
	young, old []uint64
	turned     int64 // when young began
	flushed    int64 // when everything was invalidated
}

func newRecent(now func() int64, span int64, lanes int) *recent {
	size := max(recentBits/lanes, minRecentBits)
	size = 1 << (bits.Len(uint(size)) - 1)
	t := now()
	return &recent{
		now: now, span: span, seed: maphash.MakeSeed(), turned: t, flushed: t,
		young: make([]uint64, size/64), old: make([]uint64, size/64),
	}
}

// turn begins a new generation when the young one is as old as span, and returns the time.
func (r *recent) turn() int64 {
	now := r.now()
	if age := now - r.turned; age >= r.span {
		r.young, r.old = r.old, r.young
		clear(r.young)
		if age >= 2*r.span {
			clear(r.old)
		}
		r.turned = now
	}
	return now
}

// kinds of names: a tag may be called like a key.
const (
	aKey = 0
	aTag = 1
)

// each calls f with the four places of a name until one says false.
func (r *recent) each(kind uint64, name string, f func(word, bit uint64) bool) bool {
	h := maphash.String(r.seed, name) ^ kind*0x9E3779B97F4A7C15
	step := h>>32 | 1
	mask := uint64(len(r.young))*64 - 1
	for range 4 {
		if at := h & mask; !f(at/64, 1<<(at%64)) {
			return false
		}
		h += step
	}
	return true
}

func (r *recent) add(kind uint64, name string) {
	r.each(kind, name, func(w, b uint64) bool { r.young[w] |= b; return true })
}

func (r *recent) has(kind uint64, name string) bool {
	in := func(g []uint64) bool {
		return r.each(kind, name, func(w, b uint64) bool { return g[w]&b != 0 })
	}
	return in(r.young) || in(r.old)
}

// rememberRecent lets each lane remember what is invalidated; what was before counts as a flush.
func (n *Node) rememberRecent() {
	if n.cfg.Hold < 0 {
		return // every load reads the primary
	}
	for _, f := range n.lanes {
		f.view.remember(n.now, int64(n.cfg.Hold+n.cfg.LeaseTTL), len(n.lanes))
	}
}

func (v *view) remember(now func() int64, span int64, lanes int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lately == nil {
		v.lately = newRecent(now, span, lanes)
	}
}

// note remembers what one entry says; the caller holds mu.
func (v *view) note(p *lane.Payload) {
	if v.lately == nil {
		return
	}
	v.lately.turn()
	for i := range p.Items {
		v.lately.add(aKey, p.Items[i].Key)
	}
	for _, t := range p.Tags {
		v.lately.add(aTag, t)
	}
}

// beginAlone returns the logical time before or after the whole of any message that is being applied, and whether a load of
// name that begins now must read the primary.
func (v *view) beginAlone(name string) (stamp int64, held bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r := v.lately; r != nil {
		now := r.turn()
		held = now-r.flushed <= r.span || r.has(aKey, name)
	}
	return v.clock.now.Load(), held
}

// tagged reports whether one of these tags was invalidated lately.
func (v *view) tagged(tags []string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lately == nil {
		return false
	}
	v.lately.turn()
	for _, t := range tags {
		if v.lately.has(aTag, t) {
			return true
		}
	}
	return false
}

// alone is the shared tier's answer where there is none.
func (f *flight[V]) alone() answer {
	a := answer{bypass: noBypass, reply: lane.GetReply{Status: lane.GetLease}}
	if f.held || !f.lane.fresh(f.lane.node.now()) { // only what the primary gave can be served before the lane is proved again

		a.reply.Floor = lane.PrimaryOnly
	}
	return a
}
