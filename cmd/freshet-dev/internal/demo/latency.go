package demo

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/freshet/freshet/schemas"
)

const (
	// sampleEvery is the shortest time between two measured events: waiting makes a node look at the lane more often
	// than it would, so few are measured.
	sampleEvery = 200 * time.Millisecond
	// sampleWait is the longest wait for one event.
	sampleWait = 60 * time.Second
	keptTimes  = 512
)

// latencies measures how long a change takes from the call of publish until every node that has its network has applied
// the lane entry that covers it.
type latencies struct {
	mu      sync.Mutex
	last    time.Time
	waiting bool // one sample is under way
	ready   chan sample
	once    sync.Once
	times   []time.Duration // ring of the newest
	next    int
	lost    int64
}

type sample struct {
	began time.Time
	token schemas.Token
}

func (l *latencies) samples() chan sample {
	l.once.Do(func() { l.ready = make(chan sample, 1) })
	return l.ready
}

// begin reports whether the next event is to be measured: it returns what learns of its outcome, or nil.
func (l *latencies) begin() func(schemas.Token, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.waiting || now.Sub(l.last) < sampleEvery {
		return nil
	}
	l.last, l.waiting = now, true
	ready := l.samples()
	return func(tok schemas.Token, err error) {
		if err != nil {
			l.end(0, false)
			return
		}
		ready <- sample{now, tok} // there is room: one sample at a time
	}
}

// end finishes the sample under way.
func (l *latencies) end(took time.Duration, good bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = false
	switch {
	case !good:
		l.lost++
	case len(l.times) < keptTimes:
		l.times = append(l.times, took)
	default:
		l.times[l.next%keptTimes] = took
		l.next++
	}
}

// quantiles returns the median and the 99th percentile of the newest samples, and their number.
func (l *latencies) quantiles() (p50, p99 time.Duration, n int) {
	l.mu.Lock()
	s := slices.Clone(l.times)
	l.mu.Unlock()
	return quantile(s, 50), quantile(s, 99), len(s)
}

// quantile returns the least of times that percent of them do not exceed; 0 if there are none. It sorts times.
func quantile(times []time.Duration, percent int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[(len(times)*percent+99)/100-1]
}

// measure waits for samples on all nodes at once. A node that is paused or cut meanwhile makes the sample void: it would
// measure the fault.
func (s *Shop) measure(ctx context.Context) error {
	for {
		var smp sample
		select {
		case <-ctx.Done():
			return nil
		case smp = <-s.latency.samples():
		}
		good := s.everywhere(ctx, smp.token)
		s.latency.end(time.Since(smp.began), good)
	}
}

// everywhere waits until every reachable node has applied what the token names.
func (s *Shop) everywhere(ctx context.Context, tok schemas.Token) bool {
	ctx, cancel := context.WithTimeout(ctx, sampleWait)
	defer cancel()
	var wg sync.WaitGroup
	good := make([]bool, len(s.nodes))
	for i, n := range s.nodes {
		if !n.reachable() {
			good[i] = true
			continue
		}
		wg.Go(func() { good[i] = n.inv.WaitFor(ctx, tok) == nil && n.reachable() })
	}
	wg.Wait()
	return !slices.Contains(good, false)
}
