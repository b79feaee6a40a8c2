package telemetry

import (
	"strconv"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/exposition"
)

// collectConsistency sends a sampler's Stats. Labels are tier and window; never a key or a node.
func collectConsistency(out exposition.Sink, s *report.Stats) {
	for _, w := range s.Windows {
		of := out.With("tier", w.Tier).With("window", strconv.FormatFloat(w.Seconds, 'g', -1, 64))
		of.Counter("freshet_consistency_checks_total", "Cached entries compared with the replica, by the age of their change in seconds.", float64(w.Checks))
		of.Counter("freshet_consistency_violations_total", "Entries that readers got and that were older than the replica, although the change had been emitted to their lane.", float64(w.Violations))
		of.Counter("freshet_consistency_waiting_total", "Entries that were older than the replica, and whose lane had not been notified of the change yet.", float64(w.Waiting))
	}
	stale := map[string]int{report.TierShared: 0, report.TierLocal: 0}
	for _, st := range s.Stale {
		stale[st.Tier]++
	}
	for tier, n := range stale {
		of := out.With("tier", tier)
		of.Counter("freshet_consistency_alarms_total", "Entries that stayed older than the replica longer than is promised, or claimed a version that it does not have.", float64(s.Alarms[tier]))
		of.Gauge("freshet_consistency_stale_entries", "Entries that are such an alarm now.", float64(n))
	}
	out.Counter("freshet_consistency_failures_total", "Rounds in which a tier or the replica could not be asked.", float64(s.Failures))
}
