// Package prom shows a producer as metrics of Prometheus. One line registers them:
//
//	reg.MustRegister(prom.NewCollector(p))
//
// The metrics are listed in docs/metrics.md. Every series is there from the beginning, as zero. A process with several producers gives each
// collector labels of its own with prometheus.WrapRegistererWith.
package prom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/exposition"
	"github.com/freshet/freshet/producer"
)

// Producer is what a Collector shows. *producer.Producer is one.
type Producer interface {
	// Stats returns a snapshot.
	Stats() producer.Stats
}

// Collector is a prometheus.Collector of a producer. It takes a snapshot at each scrape and asks no broker. It is safe for concurrent use.
type Collector struct{ producer Producer }

// NewCollector returns a collector of a producer.
func NewCollector(p Producer) *Collector { return &Collector{p} }

// Describe sends nothing: the collector is unchecked, so that it needs no list of its metrics beside Collect.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	out, s := exposition.To(ch), c.producer.Stats()
	out.Counter("freshet_producer_published_events_total", "Events that Kafka acknowledged.", float64(s.Published))
	for kind, n := range s.FailedKinds {
		out.With("kind", kind).Counter("freshet_producer_failed_events_total", "Events that Kafka did not acknowledge, by what went wrong.", float64(n))
	}
	out.Counter("freshet_producer_batches_total", "Batches that Kafka acknowledged.", float64(s.Batches))
	out.Counter("freshet_producer_sent_bytes_total", "Bytes of batches that Kafka acknowledged.", float64(s.Bytes))
	out.Counter("freshet_producer_retries_total", "Tries that did not settle their batch.", float64(s.Retries))
	out.Counter("freshet_producer_unknown_outcomes_total", "Tries that got no answer.", float64(s.UnknownOutcomes))
	out.Counter("freshet_producer_blocked_events_total", "Events that had to wait for room in the buffer.", float64(s.Blocked))
	out.Gauge("freshet_producer_buffered_events", "Events that wait for their outcome, queued and under way.", float64(s.Buffered))
	out.Gauge("freshet_producer_buffered_bytes", "Size of the events that wait for their outcome.", float64(s.BufferedBytes))
	out.Gauge("freshet_producer_troubled_partitions", "Partitions whose newest try failed.", float64(len(s.Troubled)))
	out.Histogram("freshet_producer_publish_duration_seconds", "Time from when an event was handed over until every replica in sync had it.", &s.Durations)
}
