package telemetry

import (
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/exposition"
)

// LogCollector shows how many lines a logger left out because they repeat, also those that no later line has reported yet.
type LogCollector struct{ log *slog.Logger }

// NewLogCollector makes a collector for a logger of NewLogger; one of another kind leaves nothing out.
func NewLogCollector(log *slog.Logger) LogCollector { return LogCollector{log} }

// Describe sends nothing: the collector is unchecked, like the others.
func (LogCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c LogCollector) Collect(ch chan<- prometheus.Metric) {
	h, ok := c.log.Handler().(limited)
	if !ok {
		h = limited{seen: &repeats{}}
	}
	for _, l := range []slog.Level{slog.LevelWarn, slog.LevelError} {
		exposition.To(ch).With("level", strings.ToLower(l.String())).Counter("freshet_log_suppressed_total",
			"Lines of the log that were left out because an equal one had been written within a minute.", float64(h.seen.suppressed(l)))
	}
}
