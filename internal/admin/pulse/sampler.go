package pulse

import (
	"context"
	"sync"
	"time"

	"github.com/freshet/freshet/admin/api"
)

const (
	// freshFor is how old a look may be that answers a request without another one. An older one is waited for: shortly while the last is no
	// older than usableFor, since servers that do not answer take seconds.
	freshFor    = 2 * time.Second
	usableFor   = 12 * time.Second
	shortlyWait = 500 * time.Millisecond
	// share bounds the part of the time that looks take: the next one is so many times as far away as the last one took.
	share = 3
	// provedWithin is how old the proof of a node may be that has nothing to catch up with; nodes renew theirs every second.
	provedWithin = 2 * time.Second
)

// Sampler keeps samples of looks. It is safe for concurrent use; New makes one.
type Sampler struct {
	look func(context.Context) (*Look, error)

	mu      sync.Mutex
	ring    ring      // guarded by mu
	last    *Look     // guarded by mu: the newest look
	sampled *Look     // guarded by mu: that of the newest sample
	rates   api.Rates // guarded by mu: up to sampled
	slowest string    // guarded by mu: the node behind the newest freshness
	changed time.Time // guarded by mu: looks from before do not answer
}

// New returns a Sampler that asks look. It fails only when its context ends, and continues then: who makes the look calls Seen.
func New(look func(context.Context) (*Look, error)) *Sampler { return &Sampler{look: look} }

// Seen notes a look.
func (s *Sampler) Seen(l *Look) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || l.At.After(s.last.At) {
		s.last = l
	}
}

// Forget makes the next request look again: something was changed.
func (s *Sampler) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = time.Now()
}

// Run keeps a sample every few seconds until ctx ends. Servers that are slow are asked less often.
func (s *Sampler) Run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		began := time.Now()
		if l, err := s.look(ctx); err == nil {
			s.Add(l)
		}
		took := time.Since(began)
		t.Reset(max(Every-took, share*took))
	}
}

// Add keeps a sample of a look.
func (s *Sampler) Add(l *Look) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.sampled
	if old != nil && l.At.Sub(old.At) > 4*Every {
		old = nil // the process was suspended: rates of such a time would look like a quiet one
	}
	sm := api.Sample{At: l.At}
	s.rates = ratesBetween(old, l)
	sm.Published, sm.Applied, sm.Invalidations, sm.HitRatio = s.rates.Published, s.rates.Applied, s.rates.Invalidations, s.rates.HitRatio
	if f, node := freshness(old, l); f != nil {
		sm.Freshness, s.slowest = f, node
	}
	if l.Known.Lag {
		records, oldest := l.backlog(false)
		sm.Backlog, sm.Lag = &records, &oldest
	}
	if l.Known.Census {
		sm.Letters = &l.Letters
	}
	if l.Known.Nodes {
		silent, _ := l.silentNodes()
		n := len(silent) + len(l.suspectNodes())
		sm.Suspect = &n
	}
	s.ring.add(sm)
	s.sampled = l
}

// Overview returns the state now, with the samples since a time. The servers are asked if the last look is older than a moment.
func (s *Sampler) Overview(ctx context.Context, since time.Time) api.Overview {
	l, changed := s.newest()
	if l == nil || changed || time.Since(l.At) > freshFor {
		if l != nil && !changed && time.Since(l.At) < usableFor {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, shortlyWait)
			defer cancel()
		}
		if found, err := s.look(ctx); err == nil {
			l = found
		} else if l, _ = s.newest(); l == nil {
			l = &Look{At: time.Now()}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overview(l, since)
}

// newest returns the newest look, and whether something was changed since.
func (s *Sampler) newest() (l *Look, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.last != nil && s.last.At.Before(s.changed)
}

// overview is Overview of a look. The mutex is held.
func (s *Sampler) overview(l *Look, since time.Time) api.Overview {
	o := api.Overview{At: l.At.UTC(), Problems: l.problems(), Fresh: s.ring.freshness(l.At), Rates: s.rates, Samples: s.ring.since(since, l.At)}
	if _, oldest := l.backlog(true); l.Known.Lag && oldest > 0 && (o.Fresh.Now == nil || oldest > *o.Fresh.Now) {
		o.Fresh.Now = &oldest
	} else if o.Fresh.Now != nil {
		o.Fresh.Node = s.slowest
	}
	if len(o.Problems) > 0 {
		o.Health = o.Problems[0]
	} else {
		o.Health, o.Problems = l.well(o.Fresh), []api.Problem{}
	}
	o.Counts = l.counts()
	o.Path = l.path(&s.rates, o.Fresh.Now)
	return o
}

func (l *Look) counts() api.Counts {
	c := api.Counts{Datasets: l.Datasets}
	if l.Known.Workers {
		paused, alive, silent := len(l.Pauses), l.aliveWorkers(), len(l.silentWorkers())
		c.PausedDatasets, c.Workers, c.SilentWorkers = &paused, &alive, &silent
	}
	if l.Known.Lag {
		n := 0
		for _, p := range l.Lag {
			if p.Partition >= 0 {
				n++
			}
		}
		c.Partitions = &n
	}
	if l.Known.Census {
		c.Letters, c.RunningJobs, c.PausedJobs = &l.Letters, &l.RunningJobs, &l.PausedJobs
	}
	if l.Known.Nodes {
		ids, _ := l.silentNodes()
		alive, silent, suspect := len(l.Nodes), len(ids), len(l.suspectNodes())
		c.Nodes, c.SilentNodes, c.SuspectNodes = &alive, &silent, &suspect
	}
	return c
}

// path returns the arrows of the path of a change.
func (l *Look) path(r *api.Rates, fresh *float64) []api.PathStep {
	steps := []api.PathStep{
		{From: "source", To: "kafka", Rate: r.Published},
		{From: "kafka", To: "replica", Rate: r.Applied},
		{From: "replica", To: "lane", Rate: r.Emitted},
		{From: "lane", To: "nodes", Rate: r.Invalidations, Delay: fresh},
	}
	if o := l.Outbox; o != nil {
		steps[0].Backlog, steps[0].Delay = &o.Rows, &o.Oldest
	}
	if l.Known.Lag {
		var unread, unsent int64
		for i := range l.Lag {
			if p := &l.Lag[i]; p.Partition >= 0 {
				at := max(p.Position, p.First)
				if p.Position < 0 {
					at = max(p.Committed, p.First)
				}
				unread += max(0, p.End-at)
				if !unsettled(p) {
					unsent += max(0, p.Position-max(p.Committed, p.First))
				}
			}
		}
		_, oldest := l.backlog(false)
		steps[1].Backlog, steps[1].Delay, steps[2].Backlog = &unread, &oldest, &unsent
	}
	if l.Known.Nodes && l.Known.Lanes {
		behind := l.nodesBehind()
		steps[3].Backlog = &behind
	}
	return steps
}

// nodesBehind is how many entries of lanes the slowest reporting node has not applied.
func (l *Look) nodesBehind() (most int64) {
	for i := range l.Nodes {
		n := &l.Nodes[i]
		if seconds(n.Silence) >= silentAfter {
			continue
		}
		for _, nl := range n.Lanes {
			if nl.Live && nl.ProofAge >= 0 && seconds(nl.ProofAge) < provedWithin {
				continue // it had everything; what came since its report is not a backlog
			}
			at, ok := sequence(nl.Position)
			if ok && nl.Lane < len(l.Lanes) && l.Lanes[nl.Lane] > at {
				most = max(most, int64(l.Lanes[nl.Lane]-at))
			}
		}
	}
	return most
}
