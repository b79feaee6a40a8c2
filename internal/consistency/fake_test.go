package consistency_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/schemas"
)

var errAway = errors.New("the server is away")

// fake is a replica and its tiers.
type fake struct {
	mu     sync.Mutex
	away   bool
	rows   map[string]int64
	shared map[string]int64
	untold bool
	onLook func()                     // changes that come between the rows and the copies
	looks  map[string][]time.Duration // since began
	began  time.Time
}

func (f *fake) Versions(_ context.Context, _ *schemas.Dataset, keys []string) (map[string]int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := maps.Clone(f.rows)
	maps.DeleteFunc(out, func(k string, _ int64) bool { return !slices.Contains(keys, k) })
	return out, nil
}

func (f *fake) Keys(_ context.Context, _ *schemas.Dataset, after string, n int) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.DeleteFunc(slices.Sorted(maps.Keys(f.rows)), func(k string) bool { return k <= after })
	return all[:min(n, len(all))], nil
}

func (f *fake) Applied(context.Context, string) (map[string]int64, error) {
	return map[string]int64{"s": 1}, nil
}

func (f *fake) Told(context.Context, string, map[string]int64) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.untold, nil
}

func (f *fake) Look(_ context.Context, names ...string) ([]report.Copies, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return nil, errAway
	}
	if f.onLook != nil {
		f.onLook()
	}
	out := make([]report.Copies, len(names))
	for i, n := range names {
		f.looks[n] = append(f.looks[n], time.Since(f.began))
		out[i].Shared = report.Shared{Name: n, State: "none"}
		if v, ok := f.shared[n]; ok {
			out[i].Shared = report.Shared{Name: n, State: "value", Valid: true, Version: v}
		}
	}
	return out, nil
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func fakeSet(t *testing.T) *schemas.Datasets {
	t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"s.json":     {Data: []byte(itemSchema)},
		"items.yaml": {Data: []byte("dataset: items\nschema: s.json\nkey: [id]\nreplica: {table: items}\ncache: {key: \"item:{id}\"}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// inBubble runs a sampler with the default windows over a fake.
func inBubble(t *testing.T, test func(t *testing.T, f *fake, s *consistency.Sampler)) {
	t.Helper()
	set := fakeSet(t)
	synctest.Test(t, func(t *testing.T) {
		f := &fake{rows: map[string]int64{}, shared: map[string]int64{}, looks: map[string][]time.Duration{}, began: time.Now()}
		choices := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- the same choices in each run
		s, err := consistency.New(consistency.Config{Datasets: set, Replica: f, Tiers: f, Choose: choices.IntN})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		test(t, f, s)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pass lets the bubble's clock run.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestEachSampleIsLookedAtInEveryWindow(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, f *fake, s *consistency.Sampler) {
		d, _ := fakeSet(t).Get("items")
		f.rows["k"] = 1
		s.Changed(d, 1, func(int) string { return "k" })
		pass(2500 * time.Millisecond)
		f.set(func() { delete(f.rows, "k") }) // no more samples of it
		pass(10 * time.Minute)
		f.set(func() {
			seconds := map[int]int{}
			for _, at := range f.looks["item:k"] {
				seconds[int(at.Seconds())]++
			}
			for _, want := range []int{2, 11, 61, 301} { // taken in the first second
				if seconds[want] == 0 {
					t.Errorf("no look after %d s: %v", want, f.looks["item:k"])
				}
			}
			if n := len(f.looks["item:k"]); n > 4*2 {
				t.Errorf("%d looks at two samples", n)
			}
		})
		for _, w := range s.Stats().Windows {
			if w.Tier == "shared" && (w.Checks == 0 || w.Violations+w.Waiting > 0) {
				t.Errorf("%+v", w)
			}
		}
	})
}

func TestOnlyWhatStaysStaleIsAnAlarm(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, f *fake, s *consistency.Sampler) {
		f.rows["k"] = 2
		f.shared["item:k"] = 1
		pass(65 * time.Second)
		f.set(func() { f.shared["item:k"] = 2 }) // before the second look
		pass(5 * time.Minute)
		st := s.Stats()
		if st.Alarms["shared"] != 0 || len(st.Stale) != 0 || st.Windows[2].Violations == 0 || st.Windows[2].Seconds != 60 {
			t.Errorf("an entry that was stale for a moment: %+v", st)
		}
		f.set(func() { f.rows["k"], f.shared["item:k"] = 3, 2 })
		pass(62500 * time.Millisecond)
		f.set(func() { f.rows["k"] = 2 }) // as a rebuild does with what was changed by hand
		pass(5 * time.Minute)
		if st = s.Stats(); st.Alarms["shared"] != 0 {
			t.Errorf("a row that was set back: %+v", st)
		}
		f.set(func() { f.shared["item:k"] = 1; f.untold = true })
		pass(5 * time.Minute)
		if st = s.Stats(); st.Alarms["shared"] != 0 || st.Windows[2].Waiting == 0 {
			t.Errorf("an entry whose lane was not told: %+v", st)
		}
		f.set(func() { f.untold = false })
		pass(2 * time.Minute)
		st = s.Stats()
		if st.Alarms["shared"] != 1 || len(st.Stale) != 1 || st.Stale[0].Key != "k" || st.Stale[0].Replica != 2 {
			t.Errorf("an entry that stays stale: %+v", st)
		}
		f.set(func() { delete(f.shared, "item:k") })
		pass(20 * time.Second)
		if st = s.Stats(); len(st.Stale) != 0 || st.Alarms["shared"] != 1 {
			t.Errorf("after it is gone: %+v", st)
		}
	})
}

// A copy that claims more than the replica has is never made stale by the changes up to that version: a loader's version is too high. A copy that
// is ahead only until the worker has caught up is none.
func TestCopyAboveTheRowIsAnAlarm(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, f *fake, s *consistency.Sampler) {
		f.rows["k"] = 2
		f.shared["item:k"] = 9
		pass(65 * time.Second)
		f.set(func() { f.rows["k"] = 9 }) // the worker has caught up before the second look
		pass(5 * time.Minute)
		if st := s.Stats(); st.Alarms["shared"] != 0 || len(st.Stale) != 0 {
			t.Errorf("a copy that was ahead for a moment: %+v", st)
		}
		f.set(func() { f.onLook = func() { f.rows["k"]++; f.shared["item:k"] = f.rows["k"] } })
		pass(5 * time.Minute)
		if st := s.Stats(); st.Alarms["shared"] != 0 || len(st.Stale) != 0 {
			t.Errorf("a record that changes between each row and its copy: %+v", st)
		}
		f.set(func() { f.onLook = nil; f.rows["k"], f.shared["item:k"], f.untold = 3, 4, true })
		pass(5 * time.Minute)
		if st := s.Stats(); st.Alarms["shared"] != 0 {
			t.Errorf("a copy that is ahead of a worker that is behind: %+v", st)
		}
		f.set(func() { f.untold = false })
		pass(2 * time.Minute)
		st := s.Stats()
		if st.Alarms["shared"] != 1 || len(st.Stale) != 1 || st.Stale[0].Key != "k" || !st.Stale[0].Ahead || st.Stale[0].Version != 4 || st.Stale[0].Replica != 3 {
			t.Errorf("a copy that stays ahead: %+v", st)
		}
		for _, w := range st.Windows {
			if w.Violations > 0 {
				t.Errorf("counted as stale: %+v", w)
			}
		}
		f.set(func() { f.rows["k"] = 4 })
		pass(20 * time.Second)
		if st = s.Stats(); len(st.Stale) != 0 {
			t.Errorf("after the row has that version: %+v", st)
		}
	})
}

// Rows that change between their versions and the look at their copies are not ahead, and cause no wait.
func TestVerifyReadsTheRowAfterTheCopy(t *testing.T) {
	t.Parallel()
	set := fakeSet(t)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := &fake{rows: map[string]int64{"a": 1, "b": 5}, shared: map[string]int64{"item:b": 7}, looks: map[string][]time.Duration{}, began: began}
		f.onLook = func() { f.rows["a"]++; f.shared["item:a"] = f.rows["a"] }
		rep, err := consistency.Verify(t.Context(), consistency.Config{Datasets: set, Replica: f, Tiers: f}, "a", 0, set.All()...)
		if err != nil || len(rep.Ahead) != 1 || rep.Ahead[0].Key != "b" || rep.Ahead[0].Version != 7 || rep.Ahead[0].Replica != 5 || len(rep.Stale) != 0 {
			t.Errorf("behind a: %+v, %v", rep, err)
		}
		delete(f.shared, "item:b")
		began = time.Now()
		rep, err = consistency.Verify(t.Context(), consistency.Config{Datasets: set, Replica: f, Tiers: f}, "", 0, set.All()...)
		if err != nil || len(rep.Ahead)+len(rep.Stale) != 0 || rep.Copies != 1 || time.Since(began) != 0 {
			t.Errorf("a row that changes all the time: %+v, %v, after %s", rep, err, time.Since(began))
		}
	})
}

// A lane that loses emissions, or receives them late, makes no alarm of a copy that is on its way out.
func TestWhatWaitsIsNoAlarm(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]struct{ atFirst, later bool }{"lost": {true, false}, "late": {false, true}} {
		inBubble(t, func(t *testing.T, f *fake, s *consistency.Sampler) {
			f.rows["k"] = 2
			f.shared["item:k"] = 1
			f.untold = !told.atFirst
			pass(62500 * time.Millisecond) // the first looks after a minute are over
			f.set(func() { f.untold = !told.later })
			pass(14 * time.Second) // so is one second look
			f.set(func() { delete(f.shared, "item:k") })
			pass(5 * time.Minute)
			if st := s.Stats(); st.Alarms["shared"] != 0 {
				t.Errorf("%s: %+v", name, st)
			}
		})
	}
}

// Records that change all the time do not keep the sampler from those that never do, nor the reverse.
func TestOldAndChangedRecordsShareTheSamples(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, f *fake, s *consistency.Sampler) {
		d, _ := fakeSet(t).Get("items")
		for i := range 1000 {
			f.rows[fmt.Sprintf("k%03d", i)] = 1
		}
		f.rows["zz"] = 1
		buf := []byte("zz")
		for range 200 {
			s.Changed(d, 1, func(int) string { return unsafe.String(&buf[0], len(buf)) })
			copy(buf, "??") // it is used again
			pass(time.Second)
			copy(buf, "zz")
		}
		f.set(func() {
			changed, old := len(f.looks["item:zz"]), 0
			delete(f.looks, "item:zz")
			for range f.looks {
				old++
			}
			if changed < 100 || old < 80 {
				t.Errorf("%d looks at the record that changes, %d others were looked at", changed, old)
			}
		})
	})
}

func TestFaultsAreCountedAndPassedOver(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, f *fake, s *consistency.Sampler) {
		f.rows["k"] = 2
		f.shared["item:k"] = 1
		pass(2500 * time.Millisecond)
		f.set(func() { f.away = true })
		pass(2 * time.Minute)
		st := s.Stats()
		if st.Failures == 0 || st.Windows[1].Checks != 0 || len(st.Stale) != 0 {
			t.Errorf("while a server is away: %+v", st)
		}
		f.set(func() { f.away = false })
		pass(2 * time.Minute)
		if st = s.Stats(); st.Windows[1].Checks == 0 || len(st.Stale) != 1 {
			t.Errorf("afterwards: %+v", st)
		}
	})
}

// Few of many changes are taken, and each has its chance.
func TestTheChoiceIsFair(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, f *fake, s *consistency.Sampler) {
		d, _ := fakeSet(t).Get("items")
		keys := []string{"a", "b", "c", "d"}
		for _, k := range keys {
			f.rows[k] = 1
		}
		for range 400 {
			s.Changed(d, len(keys), func(i int) string { return keys[i] })
			pass(time.Second)
		}
		f.set(func() {
			for _, k := range keys {
				if n := len(f.looks["item:"+k]); n < 240 { // about 320 of each, were it only the tables' turn 160
					t.Errorf("%s was looked at %d times", k, n)
				}
			}
		})
	})
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	f, set := &fake{}, fakeSet(t)
	for name, cfg := range map[string]consistency.Config{
		"Datasets": {Replica: f, Tiers: f},
		"Replica":  {Datasets: set, Tiers: f},
		"Tiers":    {Datasets: set, Replica: f},
		"Records":  {Datasets: set, Replica: f, Tiers: f, Records: 101},
		"Interval": {Datasets: set, Replica: f, Tiers: f, Interval: -1},
		"Windows":  {Datasets: set, Replica: f, Tiers: f, Windows: []time.Duration{2, 1}},
	} {
		if _, err := consistency.New(cfg); !errors.Is(err, consistency.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSum(t *testing.T) {
	t.Parallel()
	one := report.Stats{
		Windows:  []report.Window{{Tier: "shared", Seconds: 10, Checks: 1, Violations: 2, Waiting: 3}, {Tier: "local", Seconds: 10, Checks: 4}},
		Alarms:   map[string]uint64{"shared": 1},
		Stale:    []report.Stale{{Key: "k"}},
		Failures: 5,
	}
	got := report.Sum(one, one)
	if got.Windows[0] != (report.Window{Tier: "shared", Seconds: 10, Checks: 2, Violations: 4, Waiting: 6}) || len(got.Windows) != 2 ||
		got.Windows[1].Checks != 8 || got.Alarms["shared"] != 2 || len(got.Stale) != 2 || got.Failures != 10 {
		t.Errorf("%+v", got)
	}
}
