package demo

import (
	"testing"
	"time"
)

// A percentile is one of the times, the median never above the 99th, also of few.
func TestQuantiles(t *testing.T) {
	for _, c := range []struct{ n, p50, p99 int }{{1, 1, 1}, {2, 1, 2}, {3, 2, 3}, {4, 2, 4}, {100, 50, 99}, {200, 100, 198}} {
		var l latencies
		for i := range c.n {
			l.times = append(l.times, time.Duration(c.n-i))
		}
		if p50, p99, n := l.quantiles(); int(p50) != c.p50 || int(p99) != c.p99 || n != c.n {
			t.Errorf("of %d: p50 %d, p99 %d, n %d; want %d and %d", c.n, p50, p99, n, c.p50, c.p99)
		}
	}
}
