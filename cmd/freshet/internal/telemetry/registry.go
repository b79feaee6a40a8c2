package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/exposition"
	"github.com/freshet/freshet/registry"
)

// RegistryCollector shows whether a component of the process is listed in its registry.
type RegistryCollector struct {
	component string
	keeper    *registry.Keeper
}

// NewRegistryCollector makes a collector; component is worker, admin or relay. A nil keeper shows that nothing is listed and nothing failed.
func NewRegistryCollector(component string, keeper *registry.Keeper) RegistryCollector {
	return RegistryCollector{component, keeper}
}

// Describe sends nothing: the collector is unchecked, like the others.
func (RegistryCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c RegistryCollector) Collect(ch chan<- prometheus.Metric) {
	out, s := exposition.To(ch).With("component", c.component), c.keeper.Stats()
	out.Flag("freshet_registry_listed", "1 while etcd or Consul lists this component of the process (registry.kind).", s.Listed)
	out.Counter("freshet_registry_failures_total", "Calls of the registry that failed; they are tried again.", float64(s.Failures))
}
