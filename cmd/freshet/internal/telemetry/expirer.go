package telemetry

import "github.com/prometheus/client_golang/prometheus"

// ExpirerCollector shows what became of rows whose retention is over.
type ExpirerCollector struct {
	removed func() (removed, failed int64)
}

// NewExpirerCollector makes a collector that asks removed at each scrape.
func NewExpirerCollector(removed func() (removed, failed int64)) *ExpirerCollector {
	return &ExpirerCollector{removed: removed}
}

// Describe implements prometheus.Collector.
func (c *ExpirerCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *ExpirerCollector) Collect(ch chan<- prometheus.Metric) {
	removed, failed := c.removed()
	ch <- prometheus.MustNewConstMetric(desc("freshet_expired_rows_total", "Rows of Freshet's own tables that were removed after their retention."), prometheus.CounterValue, float64(removed))
	ch <- prometheus.MustNewConstMetric(desc("freshet_expire_failures_total", "Passes over old rows that ended with an error."), prometheus.CounterValue, float64(failed))
}
