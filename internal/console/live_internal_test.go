package console

import "testing"

// One person's live pages leave room for others.
func TestLivePagesAreShared(t *testing.T) {
	var l livePages
	for range maxPersonLive {
		if !l.enter("ada") {
			t.Fatal("refused below the limit")
		}
	}
	if l.enter("ada") {
		t.Error("one person takes more than their share")
	}
	if !l.enter("bob") {
		t.Error("another person is refused")
	}
	l.leave("ada")
	if !l.enter("ada") {
		t.Error("a page that was closed still counts")
	}
	for i := 0; l.all < maxLive; i++ {
		l.enter(string(rune('c' + i)))
	}
	if l.enter("last") {
		t.Error("there is no limit for all")
	}
}
