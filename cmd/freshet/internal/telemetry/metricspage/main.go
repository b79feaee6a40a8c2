// Command metricspage writes docs/metrics.md: it gathers what the collectors show and prints each metric with its type, labels and
// meaning. No server is asked.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const head = `# Metrics

This page is generated from the code by ` + "`go generate ./cmd/freshet/internal/telemetry/...`" + `.

A worker and a relay serve their metrics at ` + "`/metrics`" + ` of ` + "`worker.listen` and `relay.listen`" + `, the admin API at its own ` + "`/metrics`" + `. Services
register the collectors of ` + "`invalidation/prom` and `producer/prom`" + ` with their own registry.

- Every series whose labels are known beforehand exists from the beginning, as zero, so that ` + "`rate`" + ` and alerts see the first event.
  What depends on an assignment (partitions, lanes) or on what is configured (files) exists as soon as that is known; ` + "`freshet_consistency_…`" + ` is
  absent until a worker has found its servers, and where nothing is compared (no dataset is cached, or ` + "`worker.samples`" + ` is negative).
  The admin API's counts of nodes and workers are absent until it has counted them once.
- No label is a key of a record. Sums over workers are meaningful, with the exceptions that their meaning states: use ` + "`max`" + ` there.
- The label ` + "`dataset`" + ` is also the invalidation topic, ` + "`freshet.invalidations.NAMESPACE`" + `, where other writers' invalidations are consumed.
- Histograms have fixed buckets, whose bounds are powers of two of seconds (so 1 s is exact), and are native histograms too: Prometheus takes those
  with ` + "`scrape_native_histograms: true`" + ` (before 3.8 ` + "`--enable-feature=native-histograms`" + `).
- Freshness on the slowest node of a namespace is the maximum over nodes: ` + "`max(histogram_quantile(0.99, sum by (instance, le) (rate(freshet_node_freshness_seconds_bucket[5m]))))`" + `.
  Where services do not register the collector, ` + "`freshet_nodes_slowest_freshness_seconds`" + ` of the admin API has the newest age, from what nodes write every
  three seconds. Ages compare the clock of the publisher or the source with that of the worker or the node; negative ones count as 0.
`

// listed are labels with the same values in every deployment, which the page lists.
func listed() []string {
	return []string{"cause", "code", "component", "kind", "level", "reason", "server", "stage", "state", "tier"}
}

//go:generate go run .

// path is where the page is, from the directory of this package.
const path = "../../../../../docs/metrics.md"

func main() {
	page, err := render(context.Background())
	if err == nil {
		err = os.WriteFile(path, page, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// render returns the page.
func render(ctx context.Context) ([]byte, error) {
	all, err := exporters(ctx)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString(head)
	for _, e := range all {
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(e.collectors...)
		families, err := reg.Gather()
		if err != nil {
			return nil, fmt.Errorf("gather the metrics of %s: %w", e.title, err)
		}
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", e.title, e.text)
		for _, f := range families {
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), labels(f), f.GetHelp())
		}
	}
	return out.Bytes(), nil
}

// labels lists the labels of a metric, with the values of those that are the same in every deployment.
func labels(f *dto.MetricFamily) string {
	var names []string
	values := map[string][]string{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if !slices.Contains(names, l.GetName()) {
				names = append(names, l.GetName())
			}
			if !slices.Contains(values[l.GetName()], l.GetValue()) {
				values[l.GetName()] = append(values[l.GetName()], l.GetValue())
			}
		}
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = "`" + name + "`"
		if slices.Contains(listed(), name) {
			slices.Sort(values[name])
			names[i] += " (" + strings.Join(values[name], ", ") + ")"
		}
	}
	return strings.Join(names, ", ")
}
