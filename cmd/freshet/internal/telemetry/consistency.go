package telemetry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/admin/report"
)

// collectConsistency sends a sampler's Stats. Labels are tier and window; never a key or a node.
func collectConsistency(ch chan<- prometheus.Metric, s *report.Stats) {
	counter := func(name, help string, n uint64, labels, values []string) {
		ch <- prometheus.MustNewConstMetric(desc(name, help, labels...), prometheus.CounterValue, float64(n), values...)
	}
	labels := []string{"tier", "window"}
	for _, w := range s.Windows {
		values := []string{w.Tier, strconv.FormatFloat(w.Seconds, 'g', -1, 64)}
		counter("freshet_consistency_checks_total", "Cached entries compared with the replica, by their age in seconds when they were.", w.Checks, labels, values)
		counter("freshet_consistency_violations_total", "Entries that readers got and that were older than the replica, although the change had been emitted to their lane.", w.Violations, labels, values)
		counter("freshet_consistency_waiting_total", "Entries that were older than the replica, and whose lane had not been told of the change yet.", w.Waiting, labels, values)
	}
	for tier, n := range s.Alarms {
		counter("freshet_consistency_alarms_total", "Entries that stayed older than the replica, longer than is promised.", n, []string{"tier"}, []string{tier})
	}
	counter("freshet_consistency_failures_total", "Rounds in which a tier or the replica could not be asked.", s.Failures, nil, nil)
	ch <- prometheus.MustNewConstMetric(desc("freshet_consistency_stale_entries", "Entries that are such an alarm now."), prometheus.GaugeValue, float64(len(s.Stale)))
}
