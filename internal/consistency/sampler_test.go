package consistency_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// found is what a test wants to know of an alarm.
type found struct {
	tier, node, key  string
	version, replica int64
}

func finds(s *consistency.Sampler) map[found]bool {
	out := map[found]bool{}
	for _, x := range s.Stats().Stale {
		out[found{x.Tier, x.Node, x.Key, x.Version, x.Replica}] = true
	}
	return out
}

// wantFound waits until the alarms are exactly these.
func wantFound(t *testing.T, s *consistency.Sampler, want ...found) {
	t.Helper()
	all := map[found]bool{}
	for _, f := range want {
		all[f] = true
	}
	testenv.Eventually(t, patience, func(context.Context) error {
		if diff := cmp.Diff(all, finds(s), cmp.AllowUnexported(found{})); diff != "" {
			return fmt.Errorf("alarms (-want +got):\n%s", diff)
		}
		return nil
	})
}

// An entry that someone made stale is found on each tier, told without its key, and forgotten when it is fixed.
func TestStaleEntriesAreFound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 20 {
		r.change(fmt.Sprintf("key-%02d", i), 7)
	}
	_, a := r.node("a")
	_, b := r.node("b")
	s := r.sampler(consistency.Config{Records: 5})

	r.plant("key-03", 4)
	wantFound(t, s, found{"shared", "", "key-03", 4, 7})

	r.plant("key-11", 5)
	r.holds(a, "key-11", 5) // it believes the shared entry
	r.unplant("key-11")
	r.holds(b, "key-11", 7)
	wantFound(t, s, found{"shared", "", "key-03", 4, 7}, found{"local", "a", "key-11", 5, 7})

	st := s.Stats()
	if n := st.Alarms["shared"]; n != 1 && n != 2 || st.Alarms["local"] != 1 { // two if the plant of key-11 lasted
		t.Errorf("alarms counted: %v", st.Alarms)
	}
	for _, tier := range []string{"shared", "local"} {
		if w := window(t, st, tier, 2); w.Violations == 0 || w.Waiting != 0 || w.Checks < w.Violations {
			t.Errorf("%s: %+v", tier, w)
		}
	}
	r.plant("key-15", 9)
	wantFound(t, s, found{"shared", "", "key-03", 4, 7}, found{"local", "a", "key-11", 5, 7}, found{"shared", "", "key-15", 9, 7})
	r.unplant("key-15")
	if text := r.log.String(); !strings.Contains(text, "older than the replica") || !strings.Contains(text, "tier=local node=a") || strings.Contains(text, "key-") {
		t.Errorf("the log names a key, or no alarm:\n%s", text)
	}

	r.emit(lane.Item{Key: "item:key-03"}, lane.Item{Key: "item:key-11"})
	wantFound(t, s)
}

// An emission that lost a name on its way is found where it matters: in the copies.
func TestLostEmissionIsFound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, c := r.node("a")
	r.change("x", 1)
	r.holds(c, "x", 1)
	s := r.sampler(consistency.Config{})
	r.apply("x", 2)
	s.Changed(r.items, 1, func(int) string { return "x" })
	r.emit() // without the name
	wantFound(t, s, found{"shared", "", "x", 1, 2}, found{"local", "a", "x", 1, 2})
}

// What is old and not served, or on its way, is not an alarm.
func TestWhatIsNoAlarm(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, k := range []string{"waits", "stamped", "flushed", "leased", "absent", "rebuilt"} {
		r.change(k, 9)
	}
	r.plant("stamped", 5, "t1", "t2")
	r.plant("flushed", 5)
	r.emitWith([]string{"t2"})
	copies, err := r.tiers.Look(t.Context(), "item:stamped", "item:flushed")
	r.must(err)
	if s := copies[0].Shared; s.Valid || s.Version != 5 || s.State != "value" || !copies[1].Shared.Valid {
		t.Errorf("after a tag was invalidated: %+v, %+v", copies[0].Shared, copies[1].Shared)
	}
	r.flush()
	r.emit(lane.Item{Key: "item:leased", Version: 9})
	if copies, err = r.tiers.Look(t.Context(), "item:flushed"); err != nil || copies[0].Shared.Valid {
		t.Errorf("after a flush: %+v, %v", copies, err)
	}
	lanes, err := lane.New(r.rdb, lane.Config{Namespace: r.ns, Lanes: 1})
	r.must(err)
	if _, err := lanes.Get(t.Context(), "item:leased", "a token"); err != nil {
		t.Fatal(err)
	}

	s := r.sampler(consistency.Config{})
	testenv.Eventually(t, patience, func(context.Context) error {
		if w := window(t, s.Stats(), "shared", 2); w.Checks < 50 {
			return fmt.Errorf("%d checks", w.Checks)
		}
		return nil
	})
	if st := s.Stats(); len(st.Stale) > 0 || st.Alarms["shared"] != 0 || st.Failures != 0 {
		t.Errorf("alarms without a reason: %+v", st)
	}
	for i := range 3 {
		if w := window(t, s.Stats(), "shared", i); w.Violations+w.Waiting != 0 {
			t.Errorf("window %d: %+v", i, w)
		}
	}

	r.plant("waits", 9)
	r.apply("waits", 10) // and the worker dies
	testenv.Eventually(t, patience, func(context.Context) error {
		if w := window(t, s.Stats(), "shared", 2); w.Waiting < 5 {
			return fmt.Errorf("%d waiting", w.Waiting)
		}
		return nil
	})
	r.emit(lane.Item{Key: "item:waits", Version: 10})
	r.plant("rebuilt", 9)
	r.apply("rebuilt", 20)
	r.emit(lane.Item{Key: "item:rebuilt", Version: 9}) // the entry is as new as what was emitted, and stays
	r.apply("rebuilt", 9)                              // what a rebuild does with a row that was changed by hand
	r.emit(lane.Item{Key: "item:rebuilt", Version: 9})
	r.unplant("rebuilt")
	r.plant("rebuilt", 9)
	before := window(t, s.Stats(), "shared", 2).Checks
	testenv.Eventually(t, patience, func(context.Context) error {
		if w := window(t, s.Stats(), "shared", 2); w.Checks < before+100 {
			return fmt.Errorf("%d checks", w.Checks)
		}
		return nil
	})
	if st := s.Stats(); len(st.Stale) > 0 || st.Alarms["shared"]+st.Alarms["local"] != 0 {
		t.Errorf("alarms without a reason: %+v", st)
	}
}

// A sound system under load: every record changes again and again, three nodes read, and nothing is found.
func TestNothingIsFoundInASoundSystem(t *testing.T) {
	t.Parallel()
	const keys, checks = 40, 4_000
	r := newRig(t)
	var caches []*invalidation.Cache[int64]
	for _, id := range []string{"a", "b", "c"} {
		_, c := r.node(id)
		caches = append(caches, c)
	}
	s := r.sampler(consistency.Config{})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var changes, reads atomic.Int64
	wg.Go(func() {
		for v := int64(1); ctx.Err() == nil; v++ {
			for i := range keys {
				k := fmt.Sprint(i)
				r.apply(k, v)
				s.Changed(r.items, 1, func(int) string { return k })
				r.emit(lane.Item{Key: "item:" + k, Version: v})
				changes.Add(1)
			}
		}
	})
	for _, c := range caches {
		limit := rate.NewLimiter(1000, 10) // the machine has others to serve
		wg.Go(func() {
			for limit.Wait(ctx) == nil {
				if _, err := c.Get(ctx, fmt.Sprint(rand.N(keys))); err != nil && !errors.Is(err, invalidation.ErrNotFound) && ctx.Err() == nil {
					t.Errorf("read: %v", err)
				}
				reads.Add(1)
			}
		})
	}
	testenv.Eventually(t, 2*patience, func(context.Context) error {
		if w := window(t, s.Stats(), "local", 2); w.Checks < checks {
			return fmt.Errorf("%d checks", w.Checks)
		}
		return nil
	})
	st := s.Stats()
	stop()
	wg.Wait()
	t.Logf("%d changes, %d reads, %+v", changes.Load(), reads.Load(), st)
	if len(st.Stale) > 0 || st.Alarms["shared"]+st.Alarms["local"] > 0 || st.Failures > 0 {
		t.Errorf("false alarms: %+v", st)
	}
	for i := range 3 {
		if w := window(t, st, "shared", i); w.Violations > 0 || w.Checks == 0 {
			t.Errorf("shared tier: %+v", w) // the lane's script leaves no moment for one
		}
	}
	if w := window(t, st, "local", 2); w.Violations > 0 {
		t.Errorf("local tier after %v: %+v", alarm, w)
	}
	// And the sampler was not blind.
	r.plant("5", 1)
	testenv.Eventually(t, patience, func(context.Context) error {
		for f := range finds(s) {
			if f.tier == "shared" && f.key == "5" && f.version == 1 && f.replica > 1 {
				return nil
			}
		}
		return fmt.Errorf("alarms: %v", finds(s))
	})
}
