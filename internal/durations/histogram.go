// Package durations counts how long things took, without a metrics library: a Histogram takes a duration in a few nanoseconds and
// can be shown with fixed buckets and as a native histogram of Prometheus.
package durations

import (
	"math"
	"sort"
	"sync/atomic"
	"time"
)

// Schema is the resolution of the buckets: each is 2^(2^-Schema) as wide as the one before it, about 9 %.
const Schema = 3

const (
	perOctave = 1 << Schema
	// least and greatest are powers of two of seconds: 0.12 ms and six days. What is shorter counts as ZeroThreshold at most, what
	// is longer as the last bucket.
	least, greatest = -13, 19
	buckets         = (greatest - least) * perOctave
	// firstBound and lastBound are the powers of two that Bounds lists: 1 ms and 18 hours.
	firstBound, lastBound = -10, 16
)

// ZeroThreshold is the greatest duration, in seconds, that counts as zero.
const ZeroThreshold = 1.0 / (1 << -least)

// Histogram counts durations. The zero value works. It is safe for concurrent use, and takes about 2 KB.
type Histogram struct {
	zero   atomic.Uint64
	count  [buckets]atomic.Uint64
	micros atomic.Int64
}

// longest is what a longer duration adds to the sum: a clock that is decades off must not turn the sum around.
const longest = 1 << 19 * time.Second // the last bound; that many microseconds fit 17 million times

// Observe counts one duration; a negative one, of clocks that differ, counts as zero.
func (h *Histogram) Observe(d time.Duration) { h.ObserveN(d, 1) }

// ObserveN counts a duration n times.
func (h *Histogram) ObserveN(d time.Duration, n uint64) {
	d = max(d, 0)
	h.micros.Add(min(d, longest).Microseconds() * int64(n))
	if i := index(d.Seconds()); i < 0 {
		h.zero.Add(n)
	} else {
		h.count[i].Add(n)
	}
}

// index returns the bucket of a duration in seconds; -1 for what counts as zero.
func index(seconds float64) int {
	if seconds <= ZeroThreshold {
		return -1
	}
	frac, exp := math.Frexp(seconds)
	steps := steps()
	sub := sort.SearchFloat64s(steps[:], frac)
	return min((exp-1-least)*perOctave+sub-1, buckets-1)
}

// steps are the upper bounds of the buckets from 0.5 up to 1, without the last.
func steps() [perOctave]float64 {
	return [perOctave]float64{
		0.5, 0.5452538663326288, 0.5946035575013605, 0.6484197773255048, 0.7071067811865476, 0.7711054127039704, 0.8408964152537145, 0.9170040432046712,
	}
}

// Snapshot is what a Histogram has counted.
type Snapshot struct {
	// Count is the number of durations, Sum their sum in seconds.
	Count uint64
	Sum   float64
	// Zero counts those of at most ZeroThreshold; Native has the others: the bucket i holds those above 2^((i-1)/8) and up to 2^(i/8)
	// seconds. Empty buckets are absent.
	Zero   uint64
	Native map[int]uint64
}

// Snapshot returns what was counted. Durations that are counted meanwhile may be in a part of it only.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{Zero: h.zero.Load(), Native: map[int]uint64{}}
	s.Count = s.Zero
	for i := range h.count {
		if n := h.count[i].Load(); n > 0 {
			s.Native[i+least*perOctave+1] = n
			s.Count += n
		}
	}
	s.Sum = float64(h.micros.Load()) / 1e6
	return s
}

// Add adds what another Histogram has counted.
func (s *Snapshot) Add(other Snapshot) {
	s.Count, s.Sum, s.Zero = s.Count+other.Count, s.Sum+other.Sum, s.Zero+other.Zero
	if s.Native == nil {
		s.Native = map[int]uint64{}
	}
	for i, n := range other.Native {
		s.Native[i] += n
	}
}

// Bounds are the upper bounds, in seconds, of the fixed buckets: powers of two, so that each is a bound of native buckets too.
func Bounds() []float64 {
	var out []float64
	for e := firstBound; e <= lastBound; e++ {
		out = append(out, math.Ldexp(1, e))
	}
	return out
}

// Cumulative returns, for each of Bounds, how many durations were at most that long.
func (s *Snapshot) Cumulative() map[float64]uint64 {
	out := make(map[float64]uint64, lastBound-firstBound+1)
	for e := firstBound; e <= lastBound; e++ {
		n := s.Zero
		for i, of := range s.Native {
			if i <= e*perOctave {
				n += of
			}
		}
		out[math.Ldexp(1, e)] = n
	}
	return out
}
