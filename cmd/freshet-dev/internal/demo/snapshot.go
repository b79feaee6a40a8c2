package demo

import (
	"slices"
	"time"

	"github.com/freshet/freshet/invalidation"
)

// Snapshot is everything that a picture of the shop needs. Counts are since the start.
type Snapshot struct {
	Elapsed time.Duration
	// Published events were acknowledged by Kafka; PublishErrors were not.
	Published, PublishErrors int64
	// Applied events went through MySQL and were emitted, each counted once.
	Applied int64
	// DeadLettered events are in the dead letter table; −1 when no one counts.
	DeadLettered int64
	// Reads of all nodes; Hits were answered from memory. ReadErrors could not be answered, Unjudged took too long to say.
	Reads, Hits, ReadErrors, Unjudged int64
	// StaleBeyondBound reads served something older than the bound allows, Wrong ones something that was never published.
	StaleBeyondBound, Wrong int64
	// PublishToVisible is the time from the call of publish until all reachable nodes had applied the change: median and
	// 99th percentile of the newest Samples; LostSamples were void.
	PublishToVisibleP50, PublishToVisibleP99 time.Duration
	Samples                                  int
	LostSamples                              int64
	// EventsPerSecond is Published per second, since the start.
	EventsPerSecond float64
	// Writing and Chaos say what is switched on.
	Writing, Chaos bool
	// WorkersKilled and WorkersFailed count deaths by KillWorker and by themselves.
	WorkersKilled, WorkersFailed int64
	Nodes                        []NodeSnapshot
	// Events and Violations are the newest, oldest first.
	Events     []Event
	Violations []Violation
}

// NodeSnapshot is one node of a Snapshot.
type NodeSnapshot struct {
	Reads, LocalHits, SharedHits, Loads int64
	Stale, Wrong, Errors                int64
	Entries                             int
	// Paused, Cut and Dropping are the faults that run. Lost messages are counted since the start.
	Paused, Cut, Dropping bool
	LostMessages          int64
	// Node is the node's own account; empty before it joined.
	Node invalidation.NodeStats
}

// Snapshot returns the state of things. It may be called at any time.
func (s *Shop) Snapshot() Snapshot {
	out := Snapshot{
		Elapsed:   s.oracle.Now(),
		Published: s.traffic.published.Load(), PublishErrors: s.traffic.failed.Load(),
		Applied: s.oracle.Applied(), DeadLettered: -1,
		Writing: !s.traffic.stopped.Load(), Chaos: s.chaos.Load(),
		WorkersKilled: s.workers.killed.Load(), WorkersFailed: s.workers.failed.Load(),
	}
	if s.cfg.DeadLetters != nil {
		out.DeadLettered = s.letters.Load()
	}
	out.PublishToVisibleP50, out.PublishToVisibleP99, out.Samples = s.latency.quantiles()
	out.LostSamples = s.latency.voided()
	if sec := out.Elapsed.Seconds(); sec > 0 {
		out.EventsPerSecond = float64(out.Published) / sec
	}
	for _, n := range s.nodes {
		ns := n.snapshot(s.isRunning())
		out.Nodes = append(out.Nodes, ns)
		out.Reads += ns.Reads
		out.Hits += ns.LocalHits
		out.ReadErrors += ns.Errors
		out.Unjudged += n.unjudged.Load()
		out.StaleBeyondBound += ns.Stale
		out.Wrong += ns.Wrong
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Events, out.Violations = slices.Clone(s.history), slices.Clone(s.broken)
	return out
}

func (n *node) snapshot(joined bool) NodeSnapshot {
	n.mu.Lock()
	out := NodeSnapshot{
		Paused: !n.paused.IsZero(), Cut: !n.cut.IsZero(), Dropping: !n.dropping.IsZero(),
	}
	n.mu.Unlock()
	out.Reads, out.Errors, out.Stale, out.Wrong = n.reads.Load(), n.errs.Load(), n.stale.Load(), n.wrong.Load()
	out.LostMessages = n.link.lost()
	if !joined {
		return out
	}
	for _, c := range n.caches {
		st := c.Stats()
		out.LocalHits += st.LocalHits
		out.SharedHits += st.SharedHits
		out.Loads += st.Loads
		out.Entries += st.Entries
	}
	out.Node = n.inv.Stats()
	return out
}

// voided is the number of samples that measured nothing.
func (l *latencies) voided() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}
