package invalidation

import (
	"runtime"
	"strconv"
	"testing"
	"time"
)

func TestRecentForgetsNoSoonerThanItMay(t *testing.T) {
	t.Parallel()
	var now int64
	const span = int64(time.Minute)
	r := newRecent(func() int64 { return now }, span, 1)
	name := func(i int) string { return "user:" + strconv.Itoa(i) }
	for i := range 1000 { // one a second
		now = int64(i) * int64(time.Second)
		r.turn()
		r.add(aKey, name(i))
		for back := 0; back <= 60 && back <= i; back++ {
			if !r.has(aKey, name(i-back)) {
				t.Fatalf("forgot a name after %d seconds", back)
			}
		}
	}
	wrong := 0
	for i := range 800 {
		if r.has(aKey, name(i)) {
			wrong++
		}
	}
	if wrong > 40 {
		t.Errorf("%d of 800 names are remembered far too long", wrong)
	}
	if r.has(aTag, name(999)) {
		t.Error("a key was taken for a tag of that name")
	}
	now += 2 * span
	r.turn()
	if r.has(aKey, name(999)) {
		t.Error("a name survived two generations")
	}
}

// A fill that begins while a message is applied begins after the whole of it.
func TestBeginAloneWaitsForTheMessage(t *testing.T) {
	t.Parallel()
	v := newView(&logical{}, func(string, int64) {})
	v.remember(func() int64 { return int64(time.Hour) }, 1, 1)
	for range 200 {
		v.mu.Lock()
		within := v.clock.now.Add(1)
		running, stamp := make(chan struct{}), make(chan int64)
		go func() {
			close(running)
			s, _ := v.beginAlone("user:1")
			stamp <- s
		}()
		<-running
		for range 20 {
			runtime.Gosched() // let it come as far as it gets
		}
		v.clock.now.Add(1)
		v.mu.Unlock()
		if got := <-stamp; got != within+1 {
			t.Fatalf("began at %d, within the message, want %d", got, within+1)
		}
	}
}
