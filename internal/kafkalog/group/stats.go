package group

import (
	"slices"
	"time"

	"github.com/freshet/freshet/internal/durations"
	"github.com/freshet/freshet/internal/kafkalog"
)

// Stats is a snapshot of a Consumer.
type Stats struct {
	// Generation and Member name the membership; zero while there is none.
	Generation int32
	Member     string
	// Assigned reports that a generation runs and its partitions, perhaps none, are taken.
	Assigned bool
	// Missing are configured topics that do not exist.
	Missing []string
	// Late are the assigned partitions that are not taken yet, since no leader answers for them.
	Late []LatePartition
	// LastError is why there is no membership; nil while there is one.
	LastError error
	// Mixed wraps ErrMixedGroup while members that write something else are in the group; nil otherwise.
	Mixed error
	// Sessions counts generations that ran, Losses ranges of lost records, Commits successful commits.
	Sessions, Losses, Commits int64
	// Partitions are those assigned, sorted by topic and id.
	Partitions []PartitionStats
}

// PartitionStats is a snapshot of one assigned partition. Offsets are those of the record that comes next.
type PartitionStats struct {
	Partition kafkalog.Partition
	// From is where the generation began; Fetched, Applied, Emitted and Committed are how far each step is. Committed is
	// -1 before a group's first commit.
	From, Fetched, Applied, Emitted, Committed int64
	// LastStable is the last stable offset, where readers of committed records stop, LogStart the first that the broker still has; -1 unknown.
	LastStable, LogStart int64
	// Held are the records, markers included, that the log has behind the last stable offset: an open transaction of another
	// producer keeps them from every reader. HeldSince is since when this member has seen that offset stand; zero while Held is 0.
	Held      int64
	HeldSince time.Time
	// HeldBytes are fetched and not yet released.
	HeldBytes int
	// Paused: paused by Pause or ErrPause. Lost: records were lost, Restart decides. Stopped: a batch cannot be read.
	Paused, Lost, Stopped bool
	// LastError is why the partition does not move; nil while it does.
	LastError error
}

// Stats returns a snapshot.
func (c *Consumer) Stats() Stats {
	c.mu.Lock()
	st := Stats{
		Missing: slices.Clone(c.missing), LastError: c.lastErr, Mixed: c.mixed, Sessions: c.sessions, Losses: c.losses, Commits: c.commits,
	}
	s := c.session
	c.mu.Unlock()
	if s == nil {
		return st
	}
	st.Generation, st.Member, st.Assigned = s.gen.id, s.gen.member, true
	st.Late = slices.Clone(s.late)
	s.fetch.mu.Lock()
	defer s.fetch.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.fetch.feeds {
		p := PartitionStats{
			Partition: d.part, From: d.from, Fetched: d.next, Applied: d.applied, Emitted: d.emitted, Committed: d.committed,
			LastStable: d.lastStable, LogStart: d.logStart, HeldBytes: d.held, HeldSince: d.openSince,
			Paused: d.paused, Lost: d.state == feedLost, Stopped: d.state == feedStopped, LastError: d.workErr,
		}
		if !d.openSince.IsZero() {
			p.Held = d.highWater - d.lastStable
		}
		if p.LastError == nil {
			p.LastError = d.err
		}
		st.Partitions = append(st.Partitions, p)
	}
	return st
}

// Durations returns how long fetches that brought records took, the wait for records included, and how long commits took.
func (c *Consumer) Durations() (fetch, commit durations.Snapshot) {
	return c.fetches.Snapshot(), c.commitTimes.Snapshot()
}

// enter makes s the running session, and pauses what is paused.
func (c *Consumer) enter(s *session) {
	c.mu.Lock()
	c.session = s
	c.sessions++
	var paused []string
	for t := range c.paused {
		paused = append(paused, t)
	}
	c.mu.Unlock()
	for _, t := range paused {
		s.pause(t)
	}
	s.log.Info("generation runs", "member", s.gen.member, "partitions", len(s.fetch.feeds))
}

func (c *Consumer) leave(s *session, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s {
		c.session = nil
	}
	c.lastErr = err
}

// fail returns how long to wait before joining again.
func (c *Consumer) fail(err error) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = err
	c.failures = min(c.failures+1, 6)
	return firstWait << c.failures
}

func (c *Consumer) committed() {
	c.mu.Lock()
	c.commits++
	c.failures = 0
	c.mu.Unlock()
}
