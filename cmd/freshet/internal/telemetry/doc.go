// Package telemetry turns snapshots of Freshet's parts into metrics of Prometheus, and makes the logger. Client packages never import
// it. docs/metrics.md lists the metrics; metricspage writes it.
package telemetry
