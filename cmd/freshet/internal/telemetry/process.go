package telemetry

import (
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/freshet/freshet/internal/exposition"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/internal/livefile"
)

// Register registers what every process of Freshet shows: its build, its files of secrets and certificates, what its log leaves
// out, the Go runtime and the process.
func Register(reg prometheus.Registerer, version string, files *livefile.Set, log *slog.Logger) {
	reg.MustRegister(NewProcessCollector(version), NewFilesCollector(files), NewLogCollector(log),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// ProcessCollector shows the build.
type ProcessCollector struct {
	version string
}

// NewProcessCollector makes a collector of what is alike in every process of Freshet.
func NewProcessCollector(version string) ProcessCollector { return ProcessCollector{version} }

// Describe sends nothing: the collector is unchecked, like the others.
func (ProcessCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c ProcessCollector) Collect(ch chan<- prometheus.Metric) {
	exposition.To(ch).With("version", c.version).With("go_version", runtime.Version()).
		Gauge("freshet_build_info", "The release of this program and of Go that built it; always 1.", 1)
}

// ReadyCollector shows whether a component of the process can do its work.
type ReadyCollector struct {
	component string
	ready     func() listener.Readiness
}

// NewReadyCollector makes a collector that asks ready at each scrape; component is worker, admin or relay.
func NewReadyCollector(component string, ready func() listener.Readiness) ReadyCollector {
	return ReadyCollector{component, ready}
}

// Describe sends nothing: the collector is unchecked, like the others.
func (ReadyCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c ReadyCollector) Collect(ch chan<- prometheus.Metric) {
	out, r := exposition.To(ch).With("component", c.component), c.ready()
	_, code := r.Status()
	out.Flag("freshet_ready", "1 while a component of the process can work, as /readyz reports; 0 while it drains, too.", code == http.StatusOK)
	out.Flag("freshet_degraded", "1 while part of a component's work stops, which no other process would do in its place; /readyz states why.", len(r.Degraded) > 0)
}

// WaitingCollector shows how long a component of the process has waited for servers.
type WaitingCollector struct {
	component string
	waiting   func() map[string]time.Duration
}

// NewWaitingCollector makes a collector that asks waiting at each scrape.
func NewWaitingCollector(component string, waiting func() map[string]time.Duration) WaitingCollector {
	return WaitingCollector{component, waiting}
}

// Describe sends nothing: the collector is unchecked, like the others.
func (WaitingCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c WaitingCollector) Collect(ch chan<- prometheus.Metric) {
	collectWaiting(exposition.To(ch), c.component, c.waiting())
}

// servers are the values of the label server.
func servers() []string { return []string{"kafka", "mysql", "redis", "other"} }

// collectWaiting sends how long each server has been waited for, the longest of all reasons. What is waited for begins with the names of
// servers, as in "kafka and mysql: publish the invalidation outbox".
func collectWaiting(out exposition.Sink, component string, reasons ...map[string]time.Duration) {
	longest := map[string]time.Duration{}
	for _, of := range reasons {
		for what, since := range of {
			subject, _, _ := strings.Cut(what, ":")
			known := false
			for _, server := range servers() {
				if strings.Contains(subject, server) {
					longest[server], known = max(longest[server], since), true
				}
			}
			if !known {
				longest["other"] = max(longest["other"], since)
			}
		}
	}
	for _, server := range servers() {
		out.With("component", component).With("server", server).Gauge("freshet_waiting_seconds",
			"How long a component of the process has waited for a server, 0 while it does not; /readyz states what for.", longest[server].Seconds())
	}
}
