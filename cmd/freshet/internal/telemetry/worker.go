package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/internal/exposition"
	"github.com/freshet/freshet/schemas"
)

// Worker is what a WorkerCollector shows. *consumer.Worker is one.
type Worker interface {
	// Stats returns a snapshot.
	Stats() consumer.Stats
	// Measures returns durations, ages and lags.
	Measures() consumer.Measures
}

// WorkerCollector shows a worker as metrics. Every series that is known beforehand is there from the beginning, as zero. Labels are
// datasets, topics and partitions; never a key.
type WorkerCollector struct {
	worker   Worker
	datasets *schemas.Datasets
	// invalidations is the topic of other writers' invalidations; "" while no dataset is cached.
	invalidations string
}

// NewWorkerCollector makes a collector that asks w at each scrape.
func NewWorkerCollector(w Worker, datasets *schemas.Datasets, namespace string) *WorkerCollector {
	c := &WorkerCollector{worker: w, datasets: datasets}
	if datasets.Cached() {
		c.invalidations = schemas.InvalidationTopic(namespace)
	}
	return c
}

// Describe sends nothing: the collector is unchecked, since what it shows depends on the assignment.
func (c *WorkerCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. Until the servers were there, every count is zero.
func (c *WorkerCollector) Collect(ch chan<- prometheus.Metric) {
	out := exposition.To(ch)
	s, m := c.worker.Stats(), c.worker.Measures()
	if s.Work == nil {
		s.Work = &consumer.WorkStats{}
	}
	collectWaiting(out, "worker", s.Waiting, s.Work.Waiting)
	collectWork(out, s.Work)
	collectLosses(out, s.Work)
	collectLanes(out, s.Work, m.Lanes)
	c.collectDatasets(out, s.Work, &m)
	c.collectPartitions(out, s.Work, &m)
	c.collectCensus(out, &s.Census)
	if s.Consistency != nil {
		collectConsistency(out, s.Consistency)
	}
	out.Counter("freshet_expired_rows_total", "Rows of Freshet's own tables that were removed after their retention.", float64(s.Expired))
	out.Counter("freshet_expire_failures_total", "Passes over old rows that ended with an error.", float64(s.ExpireFailures))
	out.Histogram("freshet_fetch_duration_seconds", "Duration of fetches that brought records, the broker's wait for them included.", &m.Fetch)
	out.Histogram("freshet_commit_duration_seconds", "Duration of commits of Kafka offsets.", &m.Commit)
}

// counter is a row of a table of counters.
type counter struct {
	name, help string
	n          uint64
}

func (c counter) send(out exposition.Sink) { out.Counter(c.name, c.help, float64(c.n)) }

func collectWork(out exposition.Sink, s *consumer.WorkStats) {
	for _, m := range []counter{
		{"freshet_emitted_keys_total", "Cache keys emitted.", s.Items},
		{"freshet_emit_retries_total", "Emissions that got no answer and were sent again.", s.EmitRetries},
		{"freshet_unknown_properties_total", "Properties that no schema declares and that were ignored.", s.UnknownProperties},
		{"freshet_unchecked_events_total", "Events that were not compared with their schema, since a newer event of their record was in the same batch.", s.Unchecked},
		{"freshet_damaged_texts_total", "Texts that a capture tool could not read and that hold U+FFFD instead.", s.Damaged},
		{"freshet_restated_rows_total", "States published once more, since a later record of a compacted topic was older.", s.Restated},
		{"freshet_unrestated_rows_total", "States that could not be published once more: the compacted topic keeps an older one.", s.Unrestated},
		{"freshet_dead_letter_copies_total", "Dead letters copied to dead topics.", s.DeadCopies},
		{"freshet_dead_letter_storms_total", "Times that the dead letters of a dataset came in a storm.", s.Storms},
		{"freshet_external_keys_deleted_total", "External keys deleted; those of the optional second pass are not among them.", s.ForeignUnlinked},
		{"freshet_external_keys_oversize_total", "External keys left out because they are longer than 512 bytes.", s.ForeignOversize},
		{"freshet_external_keys_skipped_total", "External keys in invalidations of other writers that nothing deletes.", s.ForeignSkipped},
		{"freshet_invalidations_unreadable_total", "Records of the invalidation topic and rows of its outbox that cannot be read.", s.BadInvalidations},
		{"freshet_invalidation_outbox_published_total", "Rows of the invalidation outbox published in place of their writers.", s.OutboxPublished},
		{"freshet_group_generations_total", "Assignments of partitions to this worker.", s.Generations},
	} {
		m.send(out)
	}
	out.Flag("freshet_group_member", "1 while the worker is a member of its consumer group and has taken its partitions.", s.Consumer.Assigned)
	for _, cause := range ignoredCauses() {
		out.With("cause", cause).Counter("freshet_ignored_records_total", "Records that carry no row of their dataset.", float64(s.Ignored[cause]))
	}
}

// collectLosses sends what a sound system counts none of.
func collectLosses(out exposition.Sink, s *consumer.WorkStats) {
	for _, m := range []counter{
		{"freshet_database_went_back_total", "Times that the database was found behind what the worker had committed.", s.DatabaseWentBack},
		{"freshet_undone_transactions_total", "Transactions that the database, or a proxy in front of it, ended without an error; each was written again.", s.Undone},
		{"freshet_data_losses_total", "Ranges that Kafka no longer had when they were to be read.", s.DataLosses},
		{"freshet_topics_recreated_total", "Topics found to have been recreated.", s.TopicsRenewed},
		{"freshet_topics_repartitioned_total", "Topics found with another number of partitions.", s.TopicsRepartitioned},
	} {
		m.send(out)
	}
}

func collectLanes(out exposition.Sink, s *consumer.WorkStats, silent []time.Duration) {
	for _, m := range []counter{
		{"freshet_lane_watermark_writes_total", "Emissions that only moved a watermark.", s.WatermarkWrites},
		{"freshet_lane_regressions_total", "Lanes found to have lost what they acknowledged: Redis lost a watermark, or everything.", s.Regressions},
		{"freshet_lane_reemitted_keys_total", "Cache keys emitted again in repairs of lanes.", s.Reemitted},
		{"freshet_lane_roots_total", "Lanes created or given changed cache hashes.", s.LaneRoots},
		{"freshet_lane_flushes_total", "Lanes flushed.", s.LaneFlushes},
		{"freshet_lane_governed_keys_total", "Keys that the flush of a lane or a common tag stood for, since too many changed at once.", s.Governed},
		{"freshet_lane_common_stamps_total", "Stamps of a dataset's common tag in place of many keys.", s.CommonStamps},
	} {
		m.send(out)
	}
	for n, d := range silent {
		out.With("lane", strconv.Itoa(n)).Gauge("freshet_lane_silence_seconds", "Time since the lane answered a request of this worker, +Inf if it never did.", secondsOrInf(d))
	}
}

// collectCensus sends what every worker reports alike.
func (c *WorkerCollector) collectCensus(out exposition.Sink, s *consumer.Census) {
	for _, d := range c.datasets.All() {
		for _, reason := range schemas.Reasons() {
			out.With("dataset", d.Name).With("reason", string(reason)).Gauge("freshet_open_dead_letters",
				"Open dead letters in the database, 10000 of a dataset at most. Every worker reports the same.", float64(s.OpenDeadLetters[d.Name][reason]))
		}
	}
	for _, state := range []string{"running", "paused", "done", "failed", "cancelled"} {
		out.With("state", state).Gauge("freshet_jobs",
			"Replays, redrives and rebuilds in the database, until their retention ends. Every worker reports the same.", float64(s.Jobs[state]))
	}
	out.Counter("freshet_census_failures_total", "Times that dead letters and jobs could not be counted.", float64(s.Failures))
	out.Gauge("freshet_job_failed_timestamp_seconds", "When a replay, redrive or rebuild failed last, 0 if none that is kept did. Every worker reports the same.", unixSeconds(s.JobFailedAt))
	out.Gauge("freshet_census_timestamp_seconds", "When dead letters and jobs were last counted, 0 before.", unixSeconds(s.At))
}

// unixSeconds returns 0 for the zero time.
func unixSeconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}
