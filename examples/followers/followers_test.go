package followers_test

import (
	"os/exec"
	"testing"
	"time"
)

// A follower loses its connections, messages, the lane, Redis and its data. Whatever it serves, nothing that was told of
// longer ago than its bound is missing (world.read checks each answer), and after each fault it serves everything from its
// memory again, in its newest version.
func TestFollowersNeverServeWhatIsStalePastTheirBound(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, l language, command func(args ...string) *exec.Cmd) {
		w := newWorld(t, l, command)
		w.settle("the start")
		w.traffic(300)
		w.settle("traffic")
		if w.hits < w.reads/10 {
			t.Errorf("%d of %d reads served from memory: it hardly caches", w.hits, w.reads)
		}

		w.overtake = true
		for r := range records {
			w.change(r)
			w.tell(w.emitter, r)
			w.read(r)
		}
		w.overtake = false
		w.settle("loads that changes overtook")

		for range 3 {
			if err := w.rdb.Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
				t.Fatal(err)
			}
			w.traffic(20)
		}
		w.settle("cut connections")

		for r := range records {
			w.change(r)
			w.tell(w.silent, r)
		}
		w.settle("lost messages")

		if err := w.rdb.Del(t.Context(), w.keys.Meta, w.keys.Stream, w.keys.Floors0, w.keys.Floors1).Err(); err != nil {
			t.Fatal(err)
		}
		w.dark(time.Now().Add(2 * poll)) // a poll in flight may still have seen it
		w.repair()
		w.settle("a deleted lane")

		w.loneMaster("1")
		w.dark(time.Now().Add(2 * poll))
		w.loneMaster("0")
		w.repair()
		w.settle("a master that lost its replicas")

		w.server.Stop(t)
		w.dark(time.Now())
		w.server.Cont(t)
		w.repair()
		w.settle("a Redis that stood still")

		w.server.RestartEmpty(t)
		w.dark(time.Now())
		w.repair()
		w.settle("a Redis that lost everything")
		w.traffic(50)
		w.settle("it all")
	})
}

// dark: nothing can be told of since then, but records change.
func (w *world) dark(since time.Time) {
	w.t.Helper()
	for r := range records {
		w.change(r)
	}
	w.blind(since)
}

// loneMaster "1" makes Redis a master that lost its replicas: it answers reads, and may be one that was replaced.
func (w *world) loneMaster(least string) {
	w.t.Helper()
	if err := w.rdb.ConfigSet(w.t.Context(), "min-replicas-to-write", least).Err(); err != nil {
		w.t.Fatal(err)
	}
}
