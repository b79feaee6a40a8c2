package invalidation

import "testing"

func TestWatchersAreAllWoken(t *testing.T) {
	t.Parallel()
	var w watchers
	w.tell("a") // no one
	w.join("a")
	w.join("a")
	first, second := w.next("a"), w.next("a")
	w.tell("b")
	select {
	case <-first:
		t.Fatal("woken by another name")
	default:
	}
	w.tell("a")
	<-first
	<-second
	select {
	case <-w.next("a"):
		t.Fatal("woken twice by one invalidation")
	default:
	}
	w.leave("a")
	w.leave("a")
	if len(w.named) != 0 || w.some.Load() != 0 {
		t.Errorf("after all left: %d names, %d", len(w.named), w.some.Load())
	}
}
