package consistency

import (
	"maps"
	"slices"
	"time"

	"github.com/freshet/freshet/admin/report"
)

type counts struct {
	windows  []report.Window // the shared tier's, then the local tier's
	alarms   map[string]uint64
	stale    []report.Stale
	failures uint64
}

func newCounts(windows []time.Duration) counts {
	c := counts{alarms: map[string]uint64{report.TierShared: 0, report.TierLocal: 0}}
	for _, tier := range []string{report.TierShared, report.TierLocal} {
		for _, w := range windows {
			c.windows = append(c.windows, report.Window{Tier: tier, Seconds: w.Seconds()})
		}
	}
	return c
}

// saw counts one look. A node that was not asked a moment ago may be among old, and the reverse.
func (c *counts) saw(window int, copies *report.Copies, old []report.Old, waits bool) {
	n := len(c.windows) / 2
	c.windows[window].Checks++
	c.windows[n+window].Checks += uint64(len(copies.Nodes))
	for _, o := range old {
		w := &c.windows[window]
		if o.Tier == report.TierLocal {
			w = &c.windows[n+window]
		}
		if waits {
			w.Waiting++
		} else {
			w.Violations++
		}
	}
}

// Stats returns a snapshot. It may be called at any time.
func (s *Sampler) Stats() report.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return report.Stats{
		Windows: slices.Clone(s.counts.windows), Alarms: maps.Clone(s.counts.alarms), Stale: slices.Clone(s.counts.stale), Failures: s.counts.failures,
	}
}
