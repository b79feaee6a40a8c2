package invalidation

import (
	"fmt"
	"hash/maphash"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/freshet/freshet/invalidation/lane"
)

// laneModel is a lane as Redis keeps it, one goroutine, no Redis: what the view is compared with.
type laneModel struct {
	exists bool
	root   string
	stream []modelEntry // oldest first; may have lost its beginning
	last   entryID
	wm     map[string]int64
}

type modelEntry struct {
	prev, id entryID
	p        lane.Payload
}

func (l *laneModel) clone() laneModel {
	c := *l
	c.stream = slices.Clone(l.stream)
	c.wm = map[string]int64{"s": l.wm["s"]}
	return c
}

func (l *laneModel) state() lane.State {
	if !l.exists {
		return lane.State{}
	}
	return lane.State{Exists: true, Root: l.root, Last: l.last.String(), Watermarks: map[string]int64{"s": l.wm["s"]}}
}

// world is a lane, the truth that it reports, a node's view, and the messages under way.
type world struct {
	lane   laneModel
	older  []laneModel // what the lane may fall back to
	lost   bool        // it did: only the end is judged
	view   *view
	local  map[string]modelLocal
	truth  map[string]int64   // newest version by key
	tagged map[string]int64   // by tag: how often it was invalidated
	since  map[string][]stamp // when each version was emitted
	under  []modelEntry
	fills  []modelFill
	time   int64
	nonce  uint64
	offset int64
}

type stamp struct{ time, version int64 }

type modelLocal struct {
	version, tagVersion, stamp int64
	tags                       []string
}

type modelFill struct {
	key   string
	stamp int64
	got   bool
	entry modelLocal
}

func modelKeys() []string { return []string{"user:1", "user:2", "user:3", "user:4"} }

const modelTag = "org:1" // every entry with an odd key has it

func newWorld() *world {
	w := &world{
		local: map[string]modelLocal{}, truth: map[string]int64{}, tagged: map[string]int64{}, since: map[string][]stamp{},
		lane: laneModel{wm: map[string]int64{}}, time: 1,
	}
	clock := &logical{seed: maphash.MakeSeed()}
	w.view = newView(clock, func(name string, version int64) {
		if e, ok := w.local[name]; ok && (version == 0 || e.version < version) {
			delete(w.local, name)
		}
	})
	return w
}

func (w *world) append(p lane.Payload) {
	w.nonce++
	prev := w.lane.last
	id := entryID{prev.seq + 1, w.nonce}
	w.lane.stream = append(w.lane.stream, modelEntry{prev, id, p})
	w.lane.last = id
	if p.Source != "" {
		w.lane.wm["s"] = max(w.lane.wm["s"], p.To)
	}
	w.under = append(w.under, modelEntry{prev, id, p})
	if len(w.lane.stream) > 6 {
		w.lane.stream = slices.Clone(w.lane.stream[1:])
	}
}

func (w *world) create() {
	w.lane = laneModel{exists: true, wm: map[string]int64{"s": 0}}
	w.root(true)
}

// root flushes the lane. repaired: the repair that follows names everything that could be missing; here that is all.
func (w *world) root(repaired bool) {
	w.nonce++
	w.lane.root = fmt.Sprint(w.nonce)
	w.append(lane.Payload{Flush: true})
	if repaired {
		w.append(w.repair())
	}
}

func (w *world) repair() lane.Payload {
	p := lane.Payload{Source: "s", From: 0, To: w.offset, Tags: []string{modelTag}}
	for k, v := range w.truth {
		p.Items = append(p.Items, lane.Item{Key: k, Version: v})
	}
	return p
}

func (w *world) emit(t *rapid.T) {
	if !w.lane.exists {
		return
	}
	w.older = append(w.older, w.lane.clone())
	w.offset++
	p := lane.Payload{Source: "s", From: w.offset, To: w.offset}
	for _, k := range rapid.SliceOfDistinct(rapid.SampledFrom(modelKeys()), rapid.ID[string]).Draw(t, "keys") {
		w.truth[k]++
		w.since[k] = append(w.since[k], stamp{w.time, w.truth[k]})
		item := lane.Item{Key: k, Version: w.truth[k]}
		if rapid.IntRange(0, 3).Draw(t, "derived") == 0 {
			item.Version = 0
		}
		p.Items = append(p.Items, item)
	}
	if rapid.IntRange(0, 4).Draw(t, "tag") == 0 {
		w.tagged[modelTag]++
		w.since[modelTag] = append(w.since[modelTag], stamp{w.time, w.tagged[modelTag]})
		p.Tags = []string{modelTag}
	}
	w.append(p)
}

func (w *world) deliver(t *rapid.T) bool {
	if len(w.under) == 0 {
		return true
	}
	i := rapid.IntRange(0, min(2, len(w.under)-1)).Draw(t, "message")
	m := w.under[i]
	if rapid.IntRange(0, 4).Draw(t, "again") > 0 {
		w.under = slices.Delete(w.under, i, i+1)
	}
	return w.view.message(m.prev, m.id, &m.p, false)
}

// sync does what Node.compare does; between its steps messages arrive and the lane moves.
func (w *world) sync(t *rapid.T, meanwhile func()) {
	for range 3 {
		p := w.view.probe(w.time)
		st := w.lane.state()
		meanwhile()
		if w.view.settle(p, &st) {
			return
		}
		prev := w.view.end()
		at := slices.IndexFunc(w.lane.stream, func(e modelEntry) bool { return e.id == prev })
		if !w.lane.exists || at < 0 {
			w.view.forget(p, &st)
			return
		}
		for _, e := range w.lane.stream[at+1:] {
			w.view.message(prev, e.id, &e.p, false)
			prev = e.id
			meanwhile()
		}
	}
}

func (w *world) read(key string) (modelLocal, bool) {
	e, ok := w.local[key]
	if !ok || !w.view.exists.Load() || !w.view.holds(e.stamp, e.tags) {
		return e, false
	}
	return e, true
}

// judge: what would be served reflects all that was emitted until the view was confirmed.
func (w *world) judge(t *rapid.T, until int64) {
	for _, k := range modelKeys() {
		e, ok := w.read(k)
		if !ok {
			continue
		}
		for _, s := range w.since[k] {
			if s.time < until && s.version > e.version {
				t.Fatalf("%s is served at version %d; version %d was emitted at %d, confirmed is %d", k, e.version, s.version, s.time, until)
			}
		}
		for _, tag := range e.tags {
			for _, s := range w.since[tag] {
				if s.time < until && s.version > e.tagVersion {
					t.Fatalf("%s is served although its tag was invalidated at %d, confirmed is %d", k, s.time, until)
				}
			}
		}
	}
}

func (w *world) beginFill(t *rapid.T) {
	w.fills = append(w.fills, modelFill{key: rapid.SampledFrom(modelKeys()).Draw(t, "key"), stamp: w.view.clock.now.Load()})
}

// stepFill: first the shared tier and the loader, then the insert.
func (w *world) stepFill(t *rapid.T) {
	if len(w.fills) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.fills)-1).Draw(t, "fill")
	f := &w.fills[i]
	if !f.got {
		if !w.lane.exists { // no lane, no lease
			w.fills = slices.Delete(w.fills, i, i+1)
			return
		}
		f.got = true
		f.entry = modelLocal{version: w.truth[f.key], stamp: f.stamp}
		if f.key == "user:1" || f.key == "user:3" {
			f.entry.tags, f.entry.tagVersion = []string{modelTag}, w.tagged[modelTag]
		}
		return
	}
	if w.view.clock.stripe(f.key).at <= f.stamp {
		if old, ok := w.read(f.key); !ok || old.version <= f.entry.version {
			w.local[f.key] = f.entry
		}
	}
	w.fills = slices.Delete(w.fills, i, i+1)
}

// step does one thing by chance; half of them are the everyday ones.
func (w *world) step(t *rapid.T, lossy bool) {
	meanwhile := func() {
		w.time++
		switch rapid.IntRange(0, 6).Draw(t, "meanwhile") {
		case 0:
			w.emit(t)
		case 1, 2:
			w.deliver(t)
		case 3, 4:
			w.stepFill(t)
		}
	}
	switch rapid.IntRange(0, 19).Draw(t, "step") {
	case 0, 1, 2:
		w.emit(t)
	case 3, 4, 5, 6:
		if !w.deliver(t) && rapid.IntRange(0, 3).Draw(t, "sync at once") == 0 {
			w.sync(t, func() {})
		}
	case 7:
		if len(w.under) > 0 {
			i := rapid.IntRange(0, len(w.under)-1).Draw(t, "lost")
			w.under = slices.Delete(w.under, i, i+1)
		}
	case 8, 9, 10:
		w.beginFill(t)
	case 11, 12, 13, 14, 15:
		w.stepFill(t)
	case 16, 17:
		w.sync(t, meanwhile)
	case 18:
		if !w.lane.exists {
			w.create()
		} else if rapid.IntRange(0, 3).Draw(t, "flush") == 0 {
			w.root(false)
		}
	case 19:
		if lossy {
			w.lose(t)
		}
	}
}

// lose: a promoted replica had less, or had nothing. Workers emit again what was lost.
func (w *world) lose(t *rapid.T) {
	w.lost = true
	if len(w.older) == 0 || rapid.IntRange(0, 3).Draw(t, "all") == 0 {
		w.lane, w.older = laneModel{wm: map[string]int64{}}, nil
		return
	}
	w.lane = w.older[rapid.IntRange(max(0, len(w.older)-8), len(w.older)-1).Draw(t, "back to")].clone()
	w.append(w.repair())
}

func TestViewAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.create()
		w.sync(t, func() {})
		lossy := rapid.Bool().Draw(t, "lossy")
		for range rapid.IntRange(20, 150).Draw(t, "steps") {
			w.time++
			w.step(t, lossy)
			if !w.lost {
				w.judge(t, w.view.confirm.Load())
			}
		}
		if !w.lane.exists {
			w.create()
		}
		w.sync(t, func() {})
		w.judge(t, w.time+1)
		if w.view.end() != w.lane.last {
			t.Fatalf("after a sync the view ends at %s, the lane at %s", w.view.end(), w.lane.last)
		}
		if done, _, _ := w.view.reached("s", w.lane.wm["s"]); !done {
			t.Fatal("after a sync the view does not know the lane's watermark")
		}
		if done, _, _ := w.view.reached("s", w.lane.wm["s"]+1); done {
			t.Fatal("after a sync the view claims more than the lane's watermark")
		}
	})
}

// The cases below pin what chance may not find often.

func TestViewKnowsLateMessages(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.create()
	w.view.settle(w.view.probe(1), ptr(w.lane.state()))
	w.under = nil
	for range 3 {
		w.append(lane.Payload{})
	}
	prev := w.view.end()
	for _, e := range w.under {
		w.view.message(prev, e.id, &e.p, false)
		prev = e.id
	}
	for i, e := range w.under {
		if !w.view.message(e.prev, e.id, &e.p, false) {
			t.Errorf("message %d came late and was taken for a gap", i)
		}
	}
	if got := w.view.gaps.Load(); got != 0 {
		t.Errorf("%d gaps, want none", got)
	}
	stranger := entryID{prev.seq, 1 << 40}
	if w.view.message(entryID{prev.seq - 1, 1 << 41}, stranger, &lane.Payload{}, false) {
		t.Error("an entry with a known seq and another nonce was taken for a known one")
	}
}

// Messages arrive after a look at the lane, up to its head or beyond, while the entries that were missing turn out to be
// trimmed: nothing is unproved, and nothing is forgotten.
func TestViewGapClosedByMessages(t *testing.T) {
	t.Parallel()
	for name, beyond := range map[string]int{"up to the head": 0, "beyond it": 2} {
		w := newWorld()
		w.create()
		w.view.settle(w.view.probe(1), ptr(w.lane.state()))
		stamp := w.view.clock.now.Load()
		w.under = nil
		for range 3 {
			w.append(lane.Payload{})
		}
		p, st := w.view.probe(2), w.lane.state()
		if w.view.settle(p, &st) {
			t.Fatalf("%s: a lane that is ahead was taken for complete", name)
		}
		for range beyond {
			w.append(lane.Payload{})
		}
		for _, e := range w.under {
			w.view.message(e.prev, e.id, &e.p, false)
		}
		w.view.forget(p, &st)
		if !w.view.holds(stamp, nil) || w.view.confirm.Load() != 2 {
			t.Errorf("%s: entries are forgotten, or the look confirms nothing", name)
		}
		if end := w.view.end(); end != w.lane.last {
			t.Errorf("%s: the chain ends at %v, want %v", name, end, w.lane.last)
		}
	}
}

func TestViewAnotherHistory(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.create()
	w.view.settle(w.view.probe(1), ptr(w.lane.state()))
	first := w.lane
	w.append(lane.Payload{Source: "other", From: 1, To: 5})
	w.view.message(first.last, w.lane.last, &lane.Payload{Source: "other", From: 1, To: 5}, false)
	if w.view.settle(w.view.probe(2), ptr(first.state())) {
		t.Error("a lane that fell back to an older entry was taken for complete")
	}
	stamp, gone := w.view.clock.now.Load(), w.lane.last
	second := first
	second.last = entryID{first.last.seq + 1, 77}
	w.view.forget(w.view.probe(3), ptr(second.state()))
	if w.view.holds(stamp, nil) {
		t.Error("entry survived the change of history")
	}
	if _, known, _ := w.view.reached("other", 5); known {
		t.Error("position of the other history is still believed")
	}
	if w.view.message(first.last, gone, &lane.Payload{}, false) {
		t.Error("an entry of the other history counts as known")
	}
	if w.view.settle(w.view.probe(4), ptr(first.state())) {
		t.Error("the head of the other history counts as known")
	}
}

func TestViewFlushFlag(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.create()
	w.view.settle(w.view.probe(1), ptr(w.lane.state()))
	stamp := w.view.clock.now.Load()
	w.view.message(w.lane.last, entryID{9, 9}, &lane.Payload{Flush: true}, false)
	if w.view.holds(stamp, nil) {
		t.Error("entry survived a flush")
	}
	if !w.view.holds(w.view.clock.now.Load(), nil) {
		t.Error("entry made after the flush is void")
	}
}

func TestViewFlushesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.create()
	w.view.settle(w.view.probe(1), ptr(w.lane.state()))
	before := w.view.clock.now.Load()
	if !w.view.holds(before, nil) {
		t.Fatal("entry is void before anything happened")
	}
	id := entryID{w.lane.last.seq + 1, 99}
	if !w.view.message(w.lane.last, id, &lane.Payload{}, true) {
		t.Error("an unreadable entry in order was taken for a gap")
	}
	if w.view.holds(before, nil) {
		t.Error("entry survived an unreadable message")
	}
}

func TestViewTagTableOverflows(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.create()
	w.view.settle(w.view.probe(1), ptr(w.lane.state()))
	stamp := w.view.clock.now.Load()
	if !w.view.holds(stamp, []string{"never:stamped"}) {
		t.Fatal("entry with an unknown tag is void")
	}
	for i := 0; i <= maxViewTags; i += lane.MaxTags {
		p := lane.Payload{}
		for j := range lane.MaxTags {
			p.Tags = append(p.Tags, fmt.Sprintf("tag:%d", i+j))
		}
		w.view.apply(&p, false)
	}
	if len(w.view.tags.at) > maxViewTags {
		t.Errorf("%d tags are remembered, more than %d", len(w.view.tags.at), maxViewTags)
	}
	if w.view.holds(stamp, []string{"never:stamped"}) || w.view.holds(stamp, []string{"tag:0"}) {
		t.Error("overflow kept an entry that it cannot vouch for")
	}
	if !w.view.holds(w.view.clock.now.Load(), []string{"tag:0", "never:stamped"}) {
		t.Error("an entry made after the overflow is void")
	}
}

func TestViewSuspectOutlivesRunningSync(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.create()
	p, st := w.view.probe(7), w.lane.state()
	w.view.suspect() // the machine slept between asking and the answer
	w.view.settle(p, &st)
	if got := w.view.confirm.Load(); got != 0 {
		t.Errorf("confirmed at %d by a sync that began before the sleep", got)
	}
	w.view.settle(w.view.probe(9), &st)
	if got := w.view.confirm.Load(); got != 9 {
		t.Errorf("confirmed at %d, want 9", got)
	}
}

func TestViewForgetsPositionsThatRedisLost(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.create()
	w.view.settle(w.view.probe(1), ptr(w.lane.state()))
	w.view.message(w.lane.last, entryID{9, 9}, &lane.Payload{Source: "s", From: 1, To: 50}, false)
	if done, _, _ := w.view.reached("s", 50); !done {
		t.Fatal("offset of an applied message is not reached")
	}
	w.lane.last = entryID{9, 9}
	w.lane.wm["s"] = 20
	w.view.settle(w.view.probe(2), ptr(w.lane.state()))
	if done, known, _ := w.view.reached("s", 50); done || !known {
		t.Error("an offset that Redis lost still counts as reached")
	}
}

func ptr[T any](v T) *T { return &v }

func TestInvalidationDoesNotAllocate(t *testing.T) {
	w := newWorld()
	w.create()
	w.view.settle(w.view.probe(1), ptr(w.lane.state()))
	p := lane.Payload{Source: "s", From: 1, To: 1}
	for i := range lane.MaxKeys {
		p.Items = append(p.Items, lane.Item{Key: fmt.Sprintf("user:%d", i), Version: 7})
	}
	p.Tags = []string{"org:1"}
	prev := w.lane.last
	step := func() {
		next := entryID{prev.seq + 1, 5}
		if !w.view.message(prev, next, &p, false) {
			t.Fatal("chain broke")
		}
		prev = next
	}
	step()
	if got := testing.AllocsPerRun(100, step); got != 0 {
		t.Errorf("%v allocations per message of 100 keys, want none", got)
	}
}

func TestClocksParted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		before, after time.Duration
		want          bool
	}{
		{0, 0, false},
		{0, maxDrift, false},
		{0, maxDrift + 1, true},
		{time.Hour, time.Hour - maxDrift - 1, true}, // set back
		{time.Hour, time.Hour + time.Second, false},
	} {
		if got := parted(tc.before, tc.after); got != tc.want {
			t.Errorf("parted(%s, %s) = %t", tc.before, tc.after, got)
		}
	}
}
