package group

import (
	"testing"

	"github.com/freshet/freshet/internal/kafkalog"
)

// A feed that was queued and is then seized, to be restarted, belongs to the process that seized it: a writer that pulled from it
// meanwhile would decode what is being dropped.
func TestSeizedFeedIsNotTaken(t *testing.T) {
	s := &session{c: &Consumer{}, ready: make(chan *feed, 1)}
	d := &feed{restartAt: -1}
	s.schedule(d)
	if !s.seize(d) {
		t.Fatal("the feed is not free")
	}
	s.turn(t.Context(), <-s.ready) // would pull from a fetcher that is not there
	if !d.busy || d.queued {
		t.Errorf("busy %v, queued %v; want the feed with the process that seized it", d.busy, d.queued)
	}
}

// A held feed that needs no writer any more when its turn comes passes the writer on to the feed behind it.
func TestHeldFeedPassesTheWriterOn(t *testing.T) {
	s := &session{c: &Consumer{}, ready: make(chan *feed, 3), share: 1, busy: map[string]int{"t": 1}, held: map[string][]*feed{}}
	paused, behind := &feed{part: kafkalog.Partition{Topic: "t"}, restartAt: -1}, &feed{part: kafkalog.Partition{Topic: "t", ID: 1}, restartAt: -1}
	for _, l := range []*feed{paused, behind} {
		s.schedule(l)
		s.turn(t.Context(), <-s.ready)
	}
	if n := len(s.held["t"]); n != 2 {
		t.Fatalf("%d feeds are held, want 2", n)
	}
	paused.paused = true
	s.free("t")
	s.turn(t.Context(), <-s.ready)
	select {
	case l := <-s.ready:
		if l != behind {
			t.Error("the paused feed was queued again")
		}
	default:
		t.Error("the feed behind the paused one is not queued")
	}
}
