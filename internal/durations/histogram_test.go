package durations_test

import (
	"math"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/durations"
)

// A duration is in the bucket whose bounds enclose it, at the bounds themselves as well.
func TestBuckets(t *testing.T) {
	for _, d := range []time.Duration{
		3 * time.Microsecond, 122 * time.Microsecond, 123 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, 125 * time.Millisecond,
		500 * time.Millisecond, time.Second, time.Second + time.Nanosecond, 2 * time.Second, 90 * time.Second, time.Hour, 5 * 24 * time.Hour,
	} {
		var h durations.Histogram
		h.ObserveN(d, 3)
		s := h.Snapshot()
		if s.Count != 3 || math.Abs(s.Sum-3*d.Seconds()) > 1e-6 {
			t.Errorf("%v: count %d, sum %v", d, s.Count, s.Sum)
		}
		if d.Seconds() <= durations.ZeroThreshold {
			if s.Zero != 3 {
				t.Errorf("%v does not count as zero: %+v", d, s)
			}
			continue
		}
		for i, n := range s.Native {
			low, high := math.Exp2(float64(i-1)/8), math.Exp2(float64(i)/8)
			if n != 3 || d.Seconds() <= low*(1-1e-12) || d.Seconds() > high*(1+1e-12) {
				t.Errorf("%v is in the bucket from %v to %v", d, low, high)
			}
		}
		for bound, n := range s.Cumulative() {
			if want := d.Seconds() <= bound; want != (n == 3) {
				t.Errorf("%v: %d of 3 are at most %v s", d, n, bound)
			}
		}
	}
}

// What clocks that differ make is counted, and does not turn the sum around.
func TestImpossibleDurations(t *testing.T) {
	var h durations.Histogram
	h.Observe(-time.Hour)
	h.ObserveN(math.MaxInt64, 1000)
	s := h.Snapshot()
	if s.Zero != 1 || s.Count != 1001 || s.Sum <= 0 {
		t.Errorf("%d zero of %d, sum %v", s.Zero, s.Count, s.Sum)
	}
	if s.Cumulative()[65536] != 1 {
		t.Errorf("longer than the greatest bound: %v", s.Cumulative())
	}
}

// Counting costs no allocation.
func TestObserveAllocatesNothing(t *testing.T) {
	var h durations.Histogram
	if n := testing.AllocsPerRun(100, func() { h.ObserveN(3*time.Millisecond, 2) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h durations.Histogram
	for b.Loop() {
		h.Observe(3 * time.Millisecond)
	}
}
