package demo_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/demo"
	"github.com/freshet/freshet/invalidation/lane"
)

const (
	first = int64(1000)
	bound = 10 * time.Second
)

// emitted acknowledges a version of the record now.
func emitted(o *demo.Oracle, version int64) {
	o.Emitted(&lane.Emission{Source: "s", From: version, To: version, Items: []lane.Item{{Key: "k", Version: version}}}, o.Now())
}

func value(version int64) demo.Served {
	return demo.Served{Found: true, Version: version, Sum: uint64(version)}
}

// after lets time pass in a synctest bubble.
func after(d time.Duration) { <-time.After(d) }

func TestOracleJudges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := demo.NewOracle(bound, first)
		judge := func(name string, s demo.Served, began time.Duration, want demo.Verdict) {
			t.Helper()
			if got, _ := o.Judge("k", began, s); got != want {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
		judge("nothing known", demo.Served{}, o.Now(), demo.Good)
		o.Published("k", first, false, uint64(first))
		o.Published("k", first+1, false, uint64(first+1))
		judge("not emitted yet", demo.Served{}, o.Now(), demo.Good)
		judge("of an earlier run", value(5), o.Now(), demo.Good)
		emitted(o, first)
		after(bound - time.Millisecond)
		judge("within the bound", demo.Served{}, o.Now(), demo.Good)
		early := o.Now()
		after(2 * time.Millisecond)
		judge("said not to exist beyond the bound", demo.Served{}, o.Now(), demo.Stale)
		judge("the read began within the bound", demo.Served{}, early, demo.Good)
		judge("served as published", value(first), o.Now(), demo.Good)
		judge("newer than required", value(first+1), o.Now(), demo.Good)
		judge("another content", demo.Served{Found: true, Version: first, Sum: 7}, o.Now(), demo.Wrong)
		judge("never published", value(first+9), o.Now(), demo.Wrong)
		o.Published("k", first+2, true, 0)
		judge("deleted since, though not yet emitted", demo.Served{}, o.Now(), demo.Good)
		judge("a deletion served as a value", value(first+2), o.Now(), demo.Wrong)
		emitted(o, first+2)
		after(bound + time.Millisecond)
		judge("deleted", demo.Served{}, o.Now(), demo.Good)
		judge("a value from before the deletion", value(first+1), o.Now(), demo.Stale)
		judge("a read of two minutes", value(first), o.Now()-2*time.Minute, demo.Unjudged)
	})
}

// A disturbance lengthens the bound of reads that overlap with it, and of no other.
func TestOracleDisturbance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := demo.NewOracle(bound, first)
		o.Published("k", first, false, uint64(first))
		emitted(o, first)
		after(bound + time.Second)
		stale := func() bool { v, _ := o.Judge("k", o.Now(), demo.Served{}); return v == demo.Stale }
		if !stale() {
			t.Error("before: not stale")
		}
		o.Disturb(4*time.Second, 3*time.Second)
		if stale() {
			t.Error("within the longer bound: stale")
		}
		after(3 * time.Second)
		if !stale() {
			t.Error("beyond the longer bound: not stale")
		}
		o.Disturb(time.Second, time.Hour)
		if stale() {
			t.Error("during an endless allowance: stale")
		}
		after(2 * time.Second)
		if !stale() {
			t.Error("after the disturbance: not stale")
		}
	})
}

// Old acknowledgements fold into a floor without a change of any verdict, and offsets count once.
func TestOracleForgetsNothingThatCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := demo.NewOracle(bound, first)
		const n = 500
		for i := range int64(n) {
			o.Published("k", first+i, false, uint64(first+i))
			emitted(o, first+i)
			emitted(o, first+i) // a redelivery
			after(500 * time.Millisecond)
		}
		if got := o.Applied(); got != n {
			t.Errorf("applied: got %d, want %d", got, n)
		}
		_, want := o.Judge("k", o.Now(), value(first+n-1))
		if exp := first + n - int64(bound/(500*time.Millisecond)); want != exp {
			t.Errorf("required version: got %d, want %d", want, exp)
		}
		after(time.Hour)
		if _, want := o.Judge("k", o.Now(), value(first+n-1)); want != first+n-1 {
			t.Errorf("required version after an hour: got %d, want %d", want, first+n-1)
		}
	})
}
