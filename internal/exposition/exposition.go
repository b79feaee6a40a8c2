// Package exposition makes metrics of Prometheus out of snapshots. Collectors use it that keep no metrics of their own: they take a
// snapshot at each scrape and send what it holds.
package exposition

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/freshet/freshet/internal/durations"
)

// Sink sends metrics of one scrape to a channel.
type Sink struct {
	ch chan<- prometheus.Metric
	// labels and values stand before those of each metric.
	labels, values []string
}

// To returns a Sink that writes to ch.
func To(ch chan<- prometheus.Metric) Sink { return Sink{ch: ch} }

// With returns a Sink whose metrics have one more label.
func (s Sink) With(label, value string) Sink {
	return Sink{s.ch, append(s.labels[:len(s.labels):len(s.labels)], label), append(s.values[:len(s.values):len(s.values)], value)}
}

// Counter sends a counter.
func (s Sink) Counter(name, help string, v float64) { s.send(prometheus.CounterValue, name, help, v) }

// Gauge sends a gauge.
func (s Sink) Gauge(name, help string, v float64) { s.send(prometheus.GaugeValue, name, help, v) }

// Flag sends a gauge that is 1 or 0.
func (s Sink) Flag(name, help string, is bool) {
	v := 0.0
	if is {
		v = 1
	}
	s.Gauge(name, help, v)
}

func (s Sink) send(kind prometheus.ValueType, name, help string, v float64) {
	s.ch <- prometheus.MustNewConstMetric(s.desc(name, help), kind, v, s.values...)
}

// Histogram sends durations, with fixed buckets and as a native histogram.
func (s Sink) Histogram(name, help string, of *durations.Snapshot) {
	d := s.desc(name, help)
	native := make(map[int]int64, len(of.Native))
	for i, n := range of.Native {
		native[i] = int64(n)
	}
	s.ch <- &histogram{
		Metric: prometheus.MustNewConstNativeHistogram(d, of.Count, of.Sum, native, nil, of.Zero, durations.Schema, durations.ZeroThreshold, time.Time{}, s.values...),
		fixed:  prometheus.MustNewConstHistogram(d, of.Count, of.Sum, of.Cumulative(), s.values...),
	}
}

func (s Sink) desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, s.labels, nil)
}

// histogram is a native histogram that has fixed buckets beside it, for servers that do not take native ones.
type histogram struct {
	prometheus.Metric

	fixed prometheus.Metric
}

// Write implements prometheus.Metric.
func (h *histogram) Write(out *dto.Metric) error {
	if err := h.Metric.Write(out); err != nil {
		return err //nolint:wrapcheck // it is passed on
	}
	var fixed dto.Metric
	if err := h.fixed.Write(&fixed); err != nil {
		return err //nolint:wrapcheck // it is passed on
	}
	out.Histogram.Bucket = fixed.GetHistogram().GetBucket()
	out.Histogram.CreatedTimestamp = nil // it is not known
	return nil
}
