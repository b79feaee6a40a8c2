package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/admin"
)

// adminCollector shows the admin API's Stats as metrics.
type adminCollector struct{ stats func() admin.Stats }

// Describe sends nothing: the reasons are those that occurred.
func (adminCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c adminCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	if s.Refused == nil {
		s.Refused = map[string]uint64{}
	}
	s.Refused["connections"] = s.Connections.Refused
	for reason, n := range s.Refused {
		ch <- prometheus.MustNewConstMetric(
			prometheus.NewDesc("freshet_admin_refused_total", "Requests to the admin API that were refused because of a limit.", []string{"reason"}, nil),
			prometheus.CounterValue, float64(n), reason,
		)
	}
	ch <- prometheus.MustNewConstMetric(
		prometheus.NewDesc("freshet_admin_looks_total", "Times that the servers behind the admin API were asked for an answer that requests share.", nil, nil),
		prometheus.CounterValue, float64(s.Looks),
	)
	ch <- prometheus.MustNewConstMetric(
		prometheus.NewDesc("freshet_admin_connections_displaced_total", "Connections without a request that were closed to make room for new ones.", nil, nil),
		prometheus.CounterValue, float64(s.Connections.Displaced),
	)
	for name, m := range map[string]struct {
		help  string
		value float64
	}{
		"freshet_admin_streams":     {"Open streams of the admin API.", float64(s.Streams)},
		"freshet_admin_connections": {"Open connections of the admin API.", float64(s.Connections.Open)},
		"freshet_admin_body_bytes":  {"Bytes of requests' bodies that the admin API may hold at this moment.", float64(s.BodyBytes)},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, m.help, nil, nil), prometheus.GaugeValue, m.value)
	}
}
