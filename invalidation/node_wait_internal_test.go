package invalidation

import (
	"fmt"
	"testing"

	"github.com/freshet/freshet/invalidation/lane"
)

// An entry that brings nothing of what a reader waits for costs it one look, however much its token names.
func TestWaiterLooksOncePerEntry(t *testing.T) {
	t.Parallel()
	const lanes, sources, entries = 8, 50, 100
	w := waiter{offsets: map[string]int64{}}
	for n := range lanes {
		v := newView(&logical{}, func(string, int64) {})
		v.settle(v.probe(1), &lane.State{Exists: true, Last: "1-1", Root: "1"})
		w.lanes = append(w.lanes, &follower{n: n, view: v})
	}
	for i := range sources {
		w.offsets[fmt.Sprintf("freshet.users/aWQ/%d", i)] = 10
	}
	looks := func() (sum int64) {
		for _, f := range w.lanes {
			sum += f.view.looks
		}
		return sum
	}
	changed := w.missing()
	if got := looks(); got != lanes*sources {
		t.Fatalf("the first look looked at %d sources of lanes, want %d", got, lanes*sources)
	}
	before, v := looks(), w.lane.view
	for i := range entries {
		prev := v.end()
		v.message(prev, entryID{prev.seq + 1, 1}, &lane.Payload{Source: "freshet.orders/aWQ/0", From: int64(i), To: int64(i)}, false)
		select {
		case <-changed:
			changed = w.look()
		default:
			t.Fatal("the entry woke no reader")
		}
	}
	if got := looks() - before; got != entries {
		t.Errorf("%d entries cost %d looks, want one each", entries, got)
	}
	for _, f := range w.lanes { // and nothing is overlooked: each source in each lane
		for s := range w.offsets {
			if w.lane == nil {
				t.Fatal("it is done before everything has come")
			}
			prev := f.view.end()
			f.view.message(prev, entryID{prev.seq + 1, 1}, &lane.Payload{Source: s, From: 0, To: 10}, false)
			w.look()
		}
	}
	if w.lane != nil {
		t.Errorf("%s is missing in lane %d", w.source, w.lane.n)
	}
}
