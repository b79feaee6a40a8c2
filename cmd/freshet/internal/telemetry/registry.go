package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/exposition"
	"github.com/freshet/freshet/registry"
)

// RegistryCollector shows whether the process is listed in its registry.
type RegistryCollector struct{ keeper *registry.Keeper }

// NewRegistryCollector makes a collector; a nil keeper shows that nothing is listed and nothing failed.
func NewRegistryCollector(keeper *registry.Keeper) RegistryCollector {
	return RegistryCollector{keeper}
}

// Describe sends nothing: the collector is unchecked, like the others.
func (RegistryCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c RegistryCollector) Collect(ch chan<- prometheus.Metric) {
	out, s := exposition.To(ch), c.keeper.Stats()
	out.Flag("freshet_registry_listed", "1 while etcd or Consul lists this process (registry.kind).", s.Listed)
	out.Counter("freshet_registry_failures_total", "Calls of the registry that failed; they are tried again.", float64(s.Failures))
}
