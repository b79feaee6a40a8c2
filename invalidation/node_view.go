package invalidation

import (
	"context"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/durations"
	"github.com/freshet/freshet/internal/tracecontext"
	"github.com/freshet/freshet/invalidation/lane"
)

// This file is the part of a node that does no I/O: what it knows of a lane, and what that lets it serve.

// numStripes is how many parts the cache keys are hashed into. Two keys of one part only cost each other a refused
// insert now and then.
const numStripes = 4096

// stripe guards the inserts of one part of the keys: an insert compares its stamp with at while it holds mu, and an
// invalidation raises at and drops entries while it holds mu. So no insert can slip in between.
type stripe struct {
	mu sync.Mutex
	at int64 // logical time of the last invalidation
}

// logical is a node's logical clock. It moves with each invalidation, so a fill that remembers the time at which it
// began can tell what happened meanwhile.
type logical struct {
	now     atomic.Int64
	seed    maphash.Seed
	stripes [numStripes]stripe
}

func (c *logical) stripe(name string) *stripe {
	return &c.stripes[maphash.String(c.seed, name)%numStripes]
}

// entryID is a lane entry's ID in numbers. The zero value is not an entry: a seq begins at 1.
type entryID struct{ seq, nonce uint64 }

func parseID(s string) entryID {
	seq, nonce, ok := lane.SplitID(s)
	if !ok {
		return entryID{}
	}
	return entryID{seq, nonce}
}

func (id entryID) String() string {
	return strconv.FormatUint(id.seq, 10) + "-" + strconv.FormatUint(id.nonce, 10)
}

// numRecent is how many of the newest entries a view remembers, to tell a message that comes late from a gap.
const numRecent = 64

// maxViewTags bounds the tags that a view remembers one by one.
const maxViewTags = 65_536

// flushReason is why everything of a lane was forgotten.
type flushReason uint8

const (
	flushStart flushReason = iota
	flushMismatch
	flushTrimmed
	flushMissing
	flushFlag
	flushUnread
	flushAsked
	numFlushReasons
)

// view is what a node knows of one lane. Reading (holds, age) takes no lock; everything else takes mu.
type view struct {
	clock *logical
	drop  func(name string, version int64) // drops local entries; called with the name's stripe locked

	flushedAt atomic.Int64 // logical time of the last flush: older stamps are void
	confirm   atomic.Int64 // monotonic time up to which all invalidations were seen; 0: none
	exists    atomic.Bool  // the lane exists as far as the last sync saw

	tags struct {
		sync.RWMutex
		at    map[string]int64
		floor int64 // counts for every tag that is not in at
	}

	mu       sync.Mutex
	last     entryID // the newest entry of the unbroken chain; zero until a head was adopted
	root     string
	recent   [numRecent]entryID
	advanced uint64           // how many entries the chain grew by since the start
	adopted  uint64           // advanced at the last adopt: older entries of recent belong to another chain
	pos      map[string]int64 // per source: all invalidations up to this offset were applied
	wake     chan struct{}    // closed when pos moves; nil when no one waits
	looks    int64            // of readers that wait
	jumps    int              // how often the clocks disagreed
	lately   *recent          // for caches without a shared tier; nil: there is none

	messages, items, gaps, caught atomic.Int64
	// ages counts how old the newest event of each entry was when the entry was applied; the last age is in delay, in nanoseconds.
	ages    durations.Histogram
	tracer  trace.Tracer // nil: none
	node    string       // for traces
	delay   atomic.Int64
	flushes [numFlushReasons]atomic.Int64
}

func newView(clock *logical, drop func(string, int64)) *view {
	v := &view{clock: clock, drop: drop, pos: map[string]int64{}}
	v.tags.at = map[string]int64{}
	return v
}

// holds reports whether an entry whose fill began at stamp, with these tags, is still good.
func (v *view) holds(stamp int64, tags []string) bool {
	if stamp < v.flushedAt.Load() {
		return false
	}
	if len(tags) == 0 {
		return true
	}
	v.tags.RLock()
	defer v.tags.RUnlock()
	for _, t := range tags {
		at, ok := v.tags.at[t]
		if !ok {
			at = v.tags.floor
		}
		if at > stamp {
			return false
		}
	}
	return true
}

// message applies what one entry says, however it came, and reports whether the view is still complete: false asks for a
// sync. prev is the entry before. Also an old, repeated or disordered entry is applied: that never does harm.
func (v *view) message(prev, id entryID, p *lane.Payload, unread bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.apply(p, unread)
	switch {
	case v.last == entryID{}:
		return false
	case prev == v.last:
		v.advance(id, p)
		return true
	case v.knows(id, v.adopted):
		return true
	}
	v.gaps.Add(1)
	return false
}

func (v *view) apply(p *lane.Payload, unread bool) {
	v.messages.Add(1)
	now := v.clock.now.Add(1) // one tick for all that the entry says: a fill begins before or after the whole of it
	if unread {
		v.flush(now, flushUnread)
	}
	if p.Flush {
		v.flush(now, flushFlag)
		clear(v.pos) // a watermark may have moved back with it; the next sync says
	}
	v.items.Add(int64(len(p.Items)))
	v.note(p)
	for i := range p.Items {
		it := &p.Items[i]
		s := v.clock.stripe(it.Key)
		s.mu.Lock()
		s.at = max(s.at, now) // another lane may have been here with a later tick
		v.drop(it.Key, it.Version)
		s.mu.Unlock()
	}
	if len(p.Tags) > 0 {
		v.stampTags(p.Tags, now)
	}
	v.trace(p)
	if p.Time > 0 {
		age := max(0, time.Since(time.UnixMilli(p.Time)))
		v.ages.Observe(age)
		v.delay.Store(int64(age))
	}
}

// trace records that what a change made stale is gone here, in each trace that the entry carries.
func (v *view) trace(p *lane.Payload) {
	if v.tracer == nil {
		return
	}
	for _, parent := range p.Traces {
		sc, ok := tracecontext.Parse(parent, "")
		if !ok {
			continue
		}
		_, span := v.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), sc), "freshet drop", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attribute.String("freshet.node", v.node)))
		span.End()
	}
}

func (v *view) stampTags(tags []string, now int64) {
	v.tags.Lock()
	defer v.tags.Unlock()
	if len(v.tags.at)+len(tags) > maxViewTags {
		clear(v.tags.at) // forget all: from now on each counts as stamped now
		v.tags.floor = now
	}
	for _, t := range tags {
		if _, ok := v.tags.at[t]; !ok {
			t = strings.Clone(t) // t is a part of the whole message
		}
		v.tags.at[t] = now
	}
}

// flush makes every entry void whose fill began before now.
func (v *view) flush(now int64, why flushReason) {
	v.flushedAt.Store(now)
	v.flushes[why].Add(1)
	if v.lately != nil {
		v.lately.flushed = v.lately.turn()
	}
}

// forgetLocal makes every entry void because someone asked for it.
func (v *view) forgetLocal() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.flush(v.clock.now.Add(1), flushAsked)
}

func (v *view) advance(id entryID, p *lane.Payload) {
	v.last = id
	v.recent[v.advanced%numRecent] = id
	v.advanced++
	if p.Source != "" {
		at, ok := v.pos[p.Source]
		switch {
		case !ok:
			v.pos[strings.Clone(p.Source)] = p.To
		case p.To > at:
			v.pos[p.Source] = p.To
		}
	}
	v.wakeAll()
}

// knows reports whether the chain went through id after it had grown by since.
func (v *view) knows(id entryID, since uint64) bool {
	from := max(since, v.adopted)
	if v.advanced > numRecent {
		from = max(from, v.advanced-numRecent)
	}
	for i := v.advanced; i > from; i-- {
		if v.recent[(i-1)%numRecent] == id {
			return true
		}
	}
	return false
}

// probe is what a view looked like when a sync asked for the lane's state.
type probe struct {
	sent     int64 // monotonic time before asking
	last     entryID
	advanced uint64
	jumps    int
}

func (v *view) probe(now int64) probe {
	v.mu.Lock()
	defer v.mu.Unlock()
	return probe{sent: now, last: v.last, advanced: v.advanced, jumps: v.jumps}
}

// settle compares the lane's state, asked for after p, with the view. If the chain ended at the lane's head at some
// moment since then, nothing up to p.sent is missing: that is confirmed and settle is true. Otherwise the entries after
// the view's last one are wanted, or, when there is none to continue from or the lane is missing, all is forgotten here.
func (v *view) settle(p probe, st *lane.State) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.settled(p, st)
}

// settled is settle; the mutex is held.
func (v *view) settled(p probe, st *lane.State) bool {
	head := parseID(st.Last)
	switch {
	case !st.Exists || head == entryID{}:
		// Once is enough: nothing is kept under a missing lane but what its load alone bounds, and adopting one flushes again.
		if v.exists.Swap(false) || v.last != (entryID{}) || v.flushes[flushMissing].Load() == 0 {
			v.flush(v.clock.now.Add(1), flushMissing)
		}
		v.last, v.adopted = entryID{}, v.advanced
		v.confirm.Store(0)
		clear(v.pos)
		return true
	case v.last == entryID{}:
		v.adopt(p, st, head, flushStart)
		return true
	case head == v.last:
		for s, wm := range st.Watermarks {
			v.pos[s] = wm // also when it is less: then Redis lost something, and so did our promise
		}
	case head == p.last && v.adopted <= p.advanced, v.knows(head, p.advanced):
		for s, wm := range st.Watermarks {
			v.pos[s] = max(wm, v.pos[s])
		}
	default:
		return false
	}
	v.root = st.Root
	v.confirmAt(p)
	v.wakeAll()
	return true
}

// forget gives up the chain and takes the lane's head as a new beginning, unless messages have led to that head since settle
// was called: they may arrive while the entries that are missing turn out to be trimmed.
func (v *view) forget(p probe, st *lane.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.settled(p, st) {
		return
	}
	head := parseID(st.Last)
	why := flushMismatch
	if st.Root == v.root && head.seq > v.last.seq {
		why = flushTrimmed
	}
	v.adopt(p, st, head, why)
}

func (v *view) adopt(p probe, st *lane.State, head entryID, why flushReason) {
	v.flush(v.clock.now.Add(1), why)
	v.exists.Store(true)
	v.root = st.Root
	v.adopted = v.advanced
	clear(v.pos)
	for s, wm := range st.Watermarks {
		v.pos[s] = wm
	}
	v.advance(head, &lane.Payload{})
	v.confirmAt(p)
}

func (v *view) confirmAt(p probe) {
	if p.jumps == v.jumps && p.sent > v.confirm.Load() {
		v.confirm.Store(p.sent)
	}
}

// rootNow is the lane's root as of the last look at it.
func (v *view) rootNow() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.root
}

// end is the newest entry of the chain.
func (v *view) end() entryID {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// suspect takes the confirmation back, also the one that a running sync would give.
func (v *view) suspect() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.jumps++
	v.confirm.Store(0)
}

// reached reports whether all invalidations of source up to offset were applied, and whether anything is known of source.
// The channel is closed when that may have changed.
func (v *view) reached(source string, offset int64) (done, known bool, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.looks++
	at, known := v.pos[source]
	if v.wake == nil {
		v.wake = make(chan struct{})
	}
	return known && at >= offset, known, v.wake
}

// heardOf reports whether an entry or a watermark of source was seen.
func (v *view) heardOf(source string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.pos[source]
	return ok
}

func (v *view) wakeAll() {
	if v.wake != nil {
		close(v.wake)
		v.wake = nil
	}
}
