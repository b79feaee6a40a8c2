package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/relay"
)

// RelayCollector shows a relay's Stats as metrics. Labels are datasets; never a key.
type RelayCollector struct {
	stats func() relay.Stats
}

// NewRelayCollector makes a collector that asks stats at each scrape.
func NewRelayCollector(stats func() relay.Stats) *RelayCollector { return &RelayCollector{stats} }

// Describe sends nothing: the collector is unchecked, since a relay that stands by shows less.
func (*RelayCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *RelayCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	count := func(name, help string, n uint64) {
		ch <- prometheus.MustNewConstMetric(desc(name, help), prometheus.CounterValue, float64(n))
	}
	gauge := func(name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(desc(name, help), prometheus.GaugeValue, v)
	}
	count("freshet_relay_published_total", "Outbox rows that Kafka acknowledged.", s.Published)
	count("freshet_relay_deleted_total", "Outbox rows that were deleted or moved to freshet_outbox_dead.", s.Deleted)
	count("freshet_relay_refused_total", "Outbox rows that can never be published and were moved to freshet_outbox_dead.", s.Refused)
	count("freshet_relay_terms_total", "Times that this relay became the active one.", s.Terms)
	count("freshet_relay_advances_total", "Times that this relay advanced the outbox's counter.", s.Advances)
	active := 0.0
	if s.Active {
		active = 1
	}
	gauge("freshet_relay_active", "1 while this relay has the lease and publishes.", active)
	if s.Waiting != nil {
		gauge("freshet_relay_waiting_seconds", "How long this relay does not publish, because it stands by or for the reason that /readyz states.", time.Since(s.Since).Seconds())
	}
	if !s.Active {
		return
	}
	gauge("freshet_relay_backlog_rows", "Rows in the outbox at the last count, at most 100000.", float64(s.Backlog))
	gauge("freshet_relay_oldest_seconds", "Age of the oldest row in the outbox at the last count.", s.Oldest.Seconds())
	gauge("freshet_relay_dead_rows", "Rows in freshet_outbox_dead.", float64(s.Dead))
	for dataset := range s.Blocked {
		ch <- prometheus.MustNewConstMetric(desc("freshet_relay_blocked", "1 while rows of a dataset cannot be published.", "dataset"), prometheus.GaugeValue, 1, dataset)
	}
	unknown := int64(0)
	for _, n := range s.Unknown {
		unknown += n
	}
	gauge("freshet_relay_unknown_rows", "Rows in the outbox of datasets that this relay does not publish.", float64(unknown))
}
