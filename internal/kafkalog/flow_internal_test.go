package kafkalog

import "testing"

// A line that was queued and is then seized, to be restarted, belongs to whoever seized it: a writer that pulled from it
// meanwhile would decode what is being dropped.
func TestSeizedLineIsNotTaken(t *testing.T) {
	s := &session{c: &Consumer{}, ready: make(chan *line, 1)}
	l := &line{feed: &feed{}, restartAt: -1}
	s.schedule(l)
	if !s.seize(l) {
		t.Fatal("the line is not free")
	}
	s.turn(t.Context(), <-s.ready) // would pull from a fetcher that is not there
	if !l.busy || l.queued {
		t.Errorf("busy %v, queued %v; want the line with whoever seized it", l.busy, l.queued)
	}
}

// A held line that needs no writer any more when its turn comes passes the writer on to the line behind it.
func TestHeldLinePassesTheWriterOn(t *testing.T) {
	s := &session{c: &Consumer{}, ready: make(chan *line, 3), share: 1, busy: map[string]int{"t": 1}, held: map[string][]*line{}}
	paused, behind := &line{feed: &feed{part: Partition{Topic: "t"}}, restartAt: -1}, &line{feed: &feed{part: Partition{Topic: "t", ID: 1}}, restartAt: -1}
	for _, l := range []*line{paused, behind} {
		s.schedule(l)
		s.turn(t.Context(), <-s.ready)
	}
	if n := len(s.held["t"]); n != 2 {
		t.Fatalf("%d lines are held, want 2", n)
	}
	paused.paused = true
	s.free("t")
	s.turn(t.Context(), <-s.ready)
	select {
	case l := <-s.ready:
		if l != behind {
			t.Error("the paused line was queued again")
		}
	default:
		t.Error("the line behind the paused one is not queued")
	}
}
