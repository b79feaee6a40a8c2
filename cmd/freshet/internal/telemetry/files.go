package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/exposition"
	"github.com/freshet/freshet/internal/livefile"
)

// FilesCollector shows which files of secrets and certificates cannot be used as they are now. The label is the setting.
type FilesCollector struct {
	files *livefile.Set
}

// NewFilesCollector makes a collector that looks at the files at each scrape.
func NewFilesCollector(files *livefile.Set) *FilesCollector { return &FilesCollector{files} }

// Describe sends nothing: the collector is unchecked, since files are added while the process starts.
func (c *FilesCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *FilesCollector) Collect(ch chan<- prometheus.Metric) {
	out := exposition.To(ch)
	for _, st := range c.files.States() {
		out.With("setting", st.Setting).Flag("freshet_file_unusable",
			"1 if a file of secrets or certificates was replaced by one that cannot be used; the previous content is in use.", st.Err != nil)
	}
}
