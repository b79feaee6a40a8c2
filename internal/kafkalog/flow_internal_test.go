package kafkalog

import "testing"

// A line that was queued and is then seized, to be restarted, belongs to whoever seized it: a writer that pulled from it
// meanwhile would decode what is being dropped.
func TestSeizedLineIsNotTaken(t *testing.T) {
	s := &session{c: &Consumer{}, ready: make(chan *line, 1)}
	l := &line{restartAt: -1}
	s.schedule(l)
	if !s.seize(l) {
		t.Fatal("the line is not free")
	}
	s.turn(t.Context(), <-s.ready) // would pull from a fetcher that is not there
	if !l.busy || l.queued {
		t.Errorf("busy %v, queued %v; want the line with whoever seized it", l.busy, l.queued)
	}
}
