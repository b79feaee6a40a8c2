package telemetry

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/exposition"
)

// Admin is what an AdminCollector shows. *admin.Server is one.
type Admin interface {
	// Stats returns the counts so far.
	Stats() admin.Stats
	// Members counts the nodes and workers that are alive.
	Members(ctx context.Context) admin.Members
}

// AdminCollector shows the admin API, and the nodes and workers that it knows of, as metrics.
type AdminCollector struct{ api Admin }

// NewAdminCollector makes a collector that asks api at each scrape.
func NewAdminCollector(api Admin) AdminCollector { return AdminCollector{api} }

// Describe sends nothing: the collector is unchecked, like the others.
func (AdminCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c AdminCollector) Collect(ch chan<- prometheus.Metric) {
	out, s := exposition.To(ch), c.api.Stats()
	for _, r := range s.Routes {
		of := out.With("method", r.Method).With("route", r.Route)
		for code, n := range r.Codes {
			of.With("code", code).Counter("freshet_admin_requests_total", "Requests to the admin API by route and class of status code.", float64(n))
		}
		of.Histogram("freshet_admin_request_duration_seconds", "Duration of requests to the admin API, without streams.", &r.Duration)
	}
	for reason, n := range s.RefusedLogins {
		out.With("reason", reason).Counter("freshet_admin_refused_logins_total", "Requests that were not let in: no token (missing), one that is not in the file (unknown), "+
			"a role that does not allow the request (forbidden), or guesses beyond those that are answered (throttled).", float64(n))
	}
	for reason, n := range s.Refused {
		out.With("reason", reason).Counter("freshet_admin_refused_requests_total", "Requests to the admin API that were refused because of a limit.", float64(n))
	}
	out.With("reason", "connections").Counter("freshet_admin_refused_requests_total", "Requests to the admin API that were refused because of a limit.", float64(s.Connections.Refused))
	out.Counter("freshet_admin_looks_total", "Times that the servers behind the admin API were asked for an answer that requests share.", float64(s.Looks))
	out.Counter("freshet_admin_connections_displaced_total", "Connections without a request that were closed to make room for new ones.", float64(s.Connections.Displaced))
	out.Gauge("freshet_admin_streams", "Open streams of the admin API.", float64(s.Streams))
	out.Gauge("freshet_admin_connections", "Open connections of the admin API.", float64(s.Connections.Open))
	out.Gauge("freshet_admin_body_bytes", "Bytes of requests' bodies that the admin API may hold at this moment.", float64(s.BodyBytes))
	collectMembers(out, c.api.Members(context.Background()))
}

func collectMembers(out exposition.Sink, m admin.Members) {
	out.Counter("freshet_members_failures_total", "Times that nodes and workers could not be counted; the gauges keep their values then.", float64(m.Failures))
	if !m.Counted {
		return // 0 would claim that no worker is alive
	}
	const nodes = "Nodes of the namespace that are alive: caching everything (ready), or not (unready)."
	const workers = "Workers that are alive: ready, or not. Like the counts of nodes, it exists once they were counted."
	out.With("state", "ready").Gauge("freshet_nodes", nodes, float64(m.ReadyNodes))
	out.With("state", "unready").Gauge("freshet_nodes", nodes, float64(m.UnreadyNodes))
	out.With("state", "ready").Gauge("freshet_workers", workers, float64(m.ReadyWorkers))
	out.With("state", "unready").Gauge("freshet_workers", workers, float64(m.UnreadyWorkers))
	out.Gauge("freshet_nodes_suspect", "Nodes that cannot show that they saw every invalidation of some lane, and serve no local entry of it.", float64(m.SuspectNodes))
	out.Gauge("freshet_nodes_stray", "Nodes of other namespaces that miss a lane there: perhaps they were meant to be in this one.", float64(m.StrayNodes))
	out.Gauge("freshet_nodes_oldest_proof_seconds", "How long ago the least informed node last knew to have everything, +Inf if it never did; 0 without nodes.", m.OldestProof)
	out.Gauge("freshet_nodes_slowest_freshness_seconds", "Age of the newest event of a lane's last entry when the slowest node had applied it.", m.Slowest)
}
