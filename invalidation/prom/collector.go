// Package prom shows a node and its caches as metrics of Prometheus. One line registers them:
//
//	reg.MustRegister(prom.NewCollector(node))
//
// The metrics are listed in docs/metrics.md. Labels are lanes, datasets, derived templates and reasons; never a key. Every series that is
// known beforehand is there from the beginning, as zero. A process with several nodes gives each collector labels of its own:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"namespace": "eu"}, reg).MustRegister(prom.NewCollector(node))
package prom

import (
	"math"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/exposition"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/registry"
)

// Node is what a Collector shows. *invalidation.Node is one.
type Node interface {
	// Stats returns a snapshot of the node, and Caches one of each of its caches.
	Stats() invalidation.NodeStats
	Caches() []invalidation.CacheStats
	// NotReady returns why the node does not cache everything.
	NotReady() []string
	// Registered returns how the node is listed in its registry.
	Registered() registry.Stats
}

// Collector is a prometheus.Collector of a node and its caches. It takes a snapshot at each scrape and asks no server. It is safe for
// concurrent use.
type Collector struct{ node Node }

// NewCollector returns a collector of a node and of all its caches, also of those that are made later.
func NewCollector(node Node) *Collector { return &Collector{node} }

// Describe sends nothing: the collector is unchecked, since caches are made after the node.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	out, s := exposition.To(ch), c.node.Stats()
	out.Flag("freshet_node_ready", "1 while the node caches everything, as NotReady reports.", len(c.node.NotReady()) == 0)
	out.Counter("freshet_node_syncs_total", "Comparisons with lanes.", float64(s.Syncs))
	out.Counter("freshet_node_sync_errors_total", "Comparisons with lanes that failed.", float64(s.SyncErrors))
	out.Counter("freshet_node_subscriptions_total", "Subscriptions to lanes that were confirmed.", float64(s.Subscriptions))
	out.Counter("freshet_node_clock_jumps_total", "Suspensions of the machine or the process that were noticed.", float64(s.ClockJumps))
	out.Gauge("freshet_node_waiting_sources", "Sources that calls of WaitFor wait for now.", float64(s.Waiting))
	out.Gauge("freshet_node_disagreeing_datasets", "Datasets that are not cached, since a lane's cache section differs or is not known.", float64(len(s.Disagreeing)))
	out.Histogram("freshet_node_freshness_seconds", "Age of the newest event of each lane entry when this node had applied the entry. It begins with the publication.", &s.Freshness)
	listed := c.node.Registered()
	out.Flag("freshet_node_listed", "1 while Config.Registry lists this node.", listed.Listed)
	out.Counter("freshet_node_registry_failures_total", "Calls of the registry that failed; they are tried again.", float64(listed.Failures))
	flushes := map[string]int64{}
	for _, l := range s.Lanes {
		collectLane(out.With("lane", strconv.Itoa(l.Lane)), &l)
		for reason, n := range l.Flushes {
			flushes[reason] += n
		}
	}
	for reason, n := range flushes {
		out.With("reason", reason).Counter("freshet_node_flushes_total", "Times that the node forgot every local entry of a lane.", float64(n))
	}
	for _, cs := range c.node.Caches() {
		collectCache(out.With("dataset", cs.Dataset).With("derived", cs.Derived), &cs)
	}
}

func collectLane(of exposition.Sink, l *invalidation.LaneStats) {
	age := math.Inf(1)
	if l.ConfirmAge >= 0 {
		age = l.ConfirmAge.Seconds()
	}
	of.Gauge("freshet_node_proof_age_seconds", "How long ago the node last knew to have every invalidation of a lane, +Inf if it never did.", age)
	of.Flag("freshet_node_lane_exists", "1 while the lane exists.", l.Exists)
	of.Flag("freshet_node_lane_live", "1 while the subscription to the lane works.", l.Live)
	of.Flag("freshet_node_lane_fresh", "1 while local entries of the lane are served.", l.Fresh)
	of.Counter("freshet_node_lane_entries_total", "Entries of the lane that were applied.", float64(l.Entries))
	of.Counter("freshet_node_lane_keys_total", "Cache keys of the lane's entries that were applied.", float64(l.Items))
	of.Counter("freshet_node_lane_gaps_total", "Messages that did not follow what was known; the entries between were read from the lane.", float64(l.Gaps))
	of.Counter("freshet_node_lane_caught_up_total", "Entries that were read from the lane, since no message had brought them.", float64(l.CaughtUp))
}

func collectCache(of exposition.Sink, s *invalidation.CacheStats) {
	of.With("tier", "local").Counter("freshet_cache_hits_total", "Reads that a tier answered.", float64(s.LocalHits))
	of.With("tier", "shared").Counter("freshet_cache_hits_total", "Reads that a tier answered.", float64(s.SharedHits))
	for _, m := range []struct {
		name, help string
		n          int64
	}{
		{"freshet_cache_misses_total", "Records that were loaded, from the primary or elsewhere, failed loads included.", s.Loads},
		{"freshet_cache_primary_loads_total", "Records that were loaded from the primary.", s.PrimaryLoads},
		{"freshet_cache_load_errors_total", "Loads that failed.", s.LoadErrors},
		{"freshet_cache_abandoned_loads_total", "Loads that ran beyond LoadTimeout, since the loader did not heed its context.", s.LoadsAbandoned},
		{"freshet_cache_joined_reads_total", "Reads that shared the load of another reader.", s.Joined},
		{"freshet_cache_stale_served_total", "Reads that StaleIfError or StaleAfter answered with an older entry.", s.StaleServed},
		{"freshet_cache_bounded_entries_total", "Values that the shared tier did not take and that were kept for MaxStaleness.", s.KeptBounded},
		{"freshet_cache_refreshes_total", "Fills ahead of the end of an entry.", s.Refreshes},
		{"freshet_cache_refresh_errors_total", "Fills ahead of the end of an entry that failed.", s.RefreshErrors},
		{"freshet_cache_refreshes_skipped_total", "Fills ahead of the end of an entry that did not begin, since MaxRefreshes ran.", s.RefreshesSkipped},
		{"freshet_cache_unreadable_entries_total", "Shared entries of another codec or form, and those that could not be decoded.", s.Unreadable},
		{"freshet_cache_dropped_entries_total", "Local entries that became stale by key.", s.Dropped},
	} {
		of.Counter(m.name, m.help, float64(m.n))
	}
	for reason, n := range s.Bypasses {
		of.With("reason", reason).Counter("freshet_cache_bypasses_total", "Times that a tier was bypassed.", float64(n))
	}
	for reason, n := range s.Refusals {
		of.With("reason", reason).Counter("freshet_cache_refusals_total", "Values that were not kept, or were loaded again from the primary.", float64(n))
	}
	of.Gauge("freshet_cache_entries", "Local entries, about; those included that may not be served any more.", float64(s.Entries))
	of.Gauge("freshet_cache_cost", "Sum of what Cost returned of the local entries, about; 0 without MaxCost.", float64(s.Cost))
	of.Flag("freshet_cache_problem", "1 while what the loader returns is not kept; NotReady states why.", s.Problem != "")
	of.Histogram("freshet_cache_load_duration_seconds", "Duration of calls of Load and LoadMany.", &s.LoadDurations)
}
