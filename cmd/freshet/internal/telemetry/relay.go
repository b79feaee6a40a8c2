package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/exposition"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/schemas"
)

// RelayCollector shows a relay's Stats as metrics. Labels are datasets; never a key.
type RelayCollector struct {
	stats    func() relay.Stats
	datasets *schemas.Datasets
}

// NewRelayCollector makes a collector that asks stats at each scrape.
func NewRelayCollector(stats func() relay.Stats, datasets *schemas.Datasets) *RelayCollector {
	return &RelayCollector{stats, datasets}
}

// Describe sends nothing: the collector is unchecked, like the others.
func (*RelayCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. A relay that stands by shows zeros of what only the active one knows.
func (c *RelayCollector) Collect(ch chan<- prometheus.Metric) {
	out, s := exposition.To(ch), c.stats()
	for _, m := range []counter{
		{"freshet_relay_published_rows_total", "Outbox rows that Kafka acknowledged.", s.Published},
		{"freshet_relay_deleted_rows_total", "Outbox rows that were deleted or moved to freshet_outbox_dead.", s.Deleted},
		{"freshet_relay_refused_rows_total", "Outbox rows that can never be published and were moved to freshet_outbox_dead.", s.Refused},
		{"freshet_relay_failed_rows_total", "Times that Kafka did not take an outbox row; it stays in the outbox unless it is refused.", s.Failed},
		{"freshet_relay_terms_total", "Times that this relay became the active one.", s.Terms},
		{"freshet_relay_advances_total", "Times that this relay advanced the outbox's counter.", s.Advances},
	} {
		m.send(out)
	}
	out.Flag("freshet_relay_active", "1 while this relay has the lease and publishes. The sum over all relays is 1.", s.Active)
	waits := 0.0
	if s.Waiting != nil {
		waits = time.Since(s.Since).Seconds()
	}
	out.Gauge("freshet_relay_waiting_seconds", "How long this relay has not published, because it stands by or for the reason that /readyz states.", waits)
	out.Gauge("freshet_relay_backlog_rows", "Rows in the outbox at the last count, at most 100000; 0 of a relay that stands by.", float64(s.Backlog))
	out.Gauge("freshet_relay_oldest_row_age_seconds", "Age of the oldest row in the outbox at the last count; 0 of a relay that stands by.", s.Oldest.Seconds())
	out.Gauge("freshet_relay_dead_rows", "Rows in freshet_outbox_dead; 0 of a relay that stands by.", float64(s.Dead))
	out.Gauge("freshet_relay_in_flight_rows", "Rows that were handed to Kafka and have no answer yet.", float64(s.Delivery.Buffered))
	for _, d := range c.datasets.All() {
		_, blocked := s.Blocked[d.Name]
		out.With("dataset", d.Name).Flag("freshet_relay_blocked", "1 while rows of a dataset cannot be published.", blocked)
	}
	unknown := int64(0)
	for _, n := range s.Unknown {
		unknown += n
	}
	out.Gauge("freshet_relay_unknown_rows", "Rows in the outbox of datasets that this relay does not publish.", float64(unknown))
	out.Histogram("freshet_relay_publish_duration_seconds", "Time from when a row was handed to Kafka until every replica in sync had it.", &s.Durations)
}
