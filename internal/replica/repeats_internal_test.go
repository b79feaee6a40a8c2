package replica

import "testing"

// A batch is expected to repeat after one that may have, for its own source only; wrong guesses become rare, and a right one is
// followed at once.
func TestWrongGuessesBecomeRare(t *testing.T) {
	m := &DB{repeating: map[string]expectation{}}
	b := &Batch{Source: "a", Changes: make([]*Change, 100)}
	// apply is a batch with that many late changes in its statements, of which the rows hold held.
	apply := func(beaten, held int) (read bool) {
		read = m.expectsRepeats(b)
		r := &repeats{expected: read, beaten: beaten}
		if read {
			r.held = held
		}
		m.expect(b, r)
		return read
	}
	for i, want := range []bool{false, true, true} {
		if got := apply(100, 100); got != want {
			t.Errorf("repetition %d: read first is %t", i, got)
		}
	}
	if m.expectsRepeats(&Batch{Source: "b", Changes: b.Changes}) || m.expectsRepeats(&Batch{Source: "a", Changes: b.Changes[:10]}) {
		t.Error("another source, or a small batch, is read first")
	}
	if !apply(0, 0) || apply(0, 0) || apply(50, 0) {
		t.Error("want one read after the last repetition, and none of batches that have few late changes")
	}
	reads := 0
	for range 20_000 {
		if apply(100, 1) {
			reads++
		}
	}
	if reads < 10 || reads > 40 {
		t.Errorf("%d of 20000 batches with a late change in each statement were read first", reads)
	}
	for range 1 << (repeatsRest + 1) {
		apply(100, 100)
	}
	if !m.expectsRepeats(b) {
		t.Error("a repetition after many wrong guesses is never found")
	}
}
