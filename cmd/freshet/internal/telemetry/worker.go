package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/consumer"
)

// WorkerCollector shows a worker's Stats as metrics. Labels are topic, partition and dataset; never a key.
type WorkerCollector struct {
	stats func() consumer.Stats
}

// NewWorkerCollector makes a collector that asks stats at each scrape.
func NewWorkerCollector(stats func() consumer.Stats) *WorkerCollector {
	return &WorkerCollector{stats: stats}
}

// WaitingCollector shows what a process waits for and since when. The label is the step or the part of the infrastructure.
type WaitingCollector struct {
	waiting func() map[string]time.Duration
}

// NewWaitingCollector makes a collector that asks waiting at each scrape.
func NewWaitingCollector(waiting func() map[string]time.Duration) WaitingCollector {
	return WaitingCollector{waiting}
}

// Describe sends nothing: the collector is unchecked, since there is often nothing to show.
func (WaitingCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c WaitingCollector) Collect(ch chan<- prometheus.Metric) { collectWaiting(ch, c.waiting()) }

func collectWaiting(ch chan<- prometheus.Metric, waiting map[string]time.Duration) {
	for what, since := range waiting {
		ch <- prometheus.MustNewConstMetric(desc("freshet_waiting_seconds", "How long the process waits for a part of the infrastructure.", "for"), prometheus.GaugeValue, since.Seconds(), what)
	}
}

// Describe sends nothing: the collector is unchecked, since what it shows depends on the assignment.
func (c *WorkerCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. Until the servers were there, it shows what is waited for.
func (c *WorkerCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	collectWaiting(ch, s.Waiting)
	if s.Work == nil {
		return
	}
	collectWork(ch, s.Work)
	if s.Consistency != nil {
		collectConsistency(ch, s.Consistency)
	}
	ch <- prometheus.MustNewConstMetric(desc("freshet_expired_rows_total", "Rows of Freshet's own tables that were removed after their retention."), prometheus.CounterValue, float64(s.Expired))
	ch <- prometheus.MustNewConstMetric(desc("freshet_expire_failures_total", "Passes over old rows that ended with an error."), prometheus.CounterValue, float64(s.ExpireFailures))
}

func collectWork(ch chan<- prometheus.Metric, s *consumer.WorkStats) {
	for _, m := range []struct {
		name, help string
		value      float64
	}{
		{"freshet_events_total", "Events decoded.", float64(s.Events)},
		{"freshet_rows_total", "Rows sent to MySQL, one per record and transaction.", float64(s.Rows)},
		{"freshet_dead_letters_total", "Dead letters written.", float64(s.Letters)},
		{"freshet_batches_total", "Transactions committed.", float64(s.Batches)},
		{"freshet_apply_seconds_total", "Time spent in transactions.", s.ApplyTime.Seconds()},
		{"freshet_emit_keys_total", "Cache keys emitted.", float64(s.Items)},
		{"freshet_emit_seconds_total", "Time spent emitting.", s.EmitTime.Seconds()},
		{"freshet_emit_retries_total", "Emits that got no answer and were sent again.", float64(s.EmitRetries)},
		{"freshet_watermark_writes_total", "Emits that only moved a watermark.", float64(s.WatermarkWrites)},
		{"freshet_lane_regressions_total", "Lanes found to have lost what they acknowledged.", float64(s.Regressions)},
		{"freshet_lane_reemitted_total", "Cache keys emitted again in repairs.", float64(s.Reemitted)},
		{"freshet_lane_roots_total", "Lanes created or given changed cache hashes.", float64(s.LaneRoots)},
		{"freshet_lane_flushes_total", "Lanes flushed.", float64(s.LaneFlushes)},
		{"freshet_unknown_properties_total", "Properties that no schema names and that were ignored.", float64(s.UnknownProperties)},
		{"freshet_unchecked_events_total", "Events that were not held against their schema, since a newer event of their record was in the same batch.", float64(s.Unchecked)},
		{"freshet_damaged_texts_total", "Texts that a capture tool could not read and that hold U+FFFD instead.", float64(s.Damaged)},
		{"freshet_database_went_back_total", "Times that the database was found behind what the worker had committed.", float64(s.DatabaseWentBack)},
		{"freshet_undone_transactions_total", "Transactions that the database, or a proxy in front of it, ended without an error; each was written again.", float64(s.Undone)},
		{"freshet_restated_total", "States published once more, since a later record of a compacted topic was older.", float64(s.Restated)},
		{"freshet_unrestated_total", "States that could not be published once more: the compacted topic keeps an older one.", float64(s.Unrestated)},
		{"freshet_data_losses_total", "Ranges that Kafka no longer had when they were to be read.", float64(s.DataLosses)},
		{"freshet_storms_total", "Datasets paused because their dead letters came in a storm.", float64(s.Storms)},
		{"freshet_dead_letter_copies_total", "Dead letters copied to dead topics.", float64(s.DeadCopies)},
		{"freshet_invalidations_unreadable_total", "Records of the invalidation topic and rows of its outbox that cannot be read.", float64(s.BadInvalidations)},
		{"freshet_foreign_unlinks_total", "Foreign keys deleted; those of the optional second pass are not among them.", float64(s.ForeignUnlinked)},
		{"freshet_foreign_oversize_total", "Foreign keys left out because they are longer than 512 bytes.", float64(s.ForeignOversize)},
		{"freshet_lane_governed_keys_total", "Keys that the flush of a lane or a common tag stood for, since too many changed at once.", float64(s.Governed)},
		{"freshet_lane_common_stamps_total", "Stamps of a dataset's common tag in place of many keys.", float64(s.CommonStamps)},
		{"freshet_invalidations_foreign_skipped_total", "Foreign keys named by other writers that nothing deletes.", float64(s.ForeignSkipped)},
		{"freshet_invalidation_outbox_published_total", "Rows of the invalidation outbox published in place of their writers.", float64(s.OutboxPublished)},
		{"freshet_topics_renewed_total", "Topics found to have been recreated.", float64(s.TopicsRenewed)},
		{"freshet_topics_repartitioned_total", "Topics found with another number of partitions.", float64(s.TopicsRepartitioned)},
		{"freshet_generations_total", "Assignments of partitions to this worker.", float64(s.Generations)},
	} {
		ch <- prometheus.MustNewConstMetric(desc(m.name, m.help), prometheus.CounterValue, m.value)
	}
	for cause, n := range s.Ignored {
		ch <- prometheus.MustNewConstMetric(desc("freshet_ignored_records_total", "Records that carry no row of their dataset.", "cause"), prometheus.CounterValue, float64(n), cause)
	}
	for d, n := range s.Foreign {
		ch <- prometheus.MustNewConstMetric(desc("freshet_foreign_records", "Records of other tables that the topic of a dataset has brought which has never had a row.", "dataset"), prometheus.GaugeValue, float64(n), d)
	}
	for d, st := range s.Datasets {
		ch <- prometheus.MustNewConstMetric(desc("freshet_superseded_events_total", "Events with a lower version than their record had.", "dataset"), prometheus.CounterValue, float64(st.Superseded), d)
		ch <- prometheus.MustNewConstMetric(desc("freshet_misplaced_records_total", "Records in another partition than the producer's partitioner gives for their keys.", "dataset"), prometheus.CounterValue, float64(st.Misplaced), d)
		ch <- prometheus.MustNewConstMetric(desc("freshet_version_conflicts_total", "Events with the version of their row and other content.", "dataset"), prometheus.CounterValue, float64(st.Conflicts), d)
	}
	for d := range s.Paused {
		ch <- prometheus.MustNewConstMetric(desc("freshet_dataset_paused", "1 while a dataset is paused.", "dataset"), prometheus.GaugeValue, 1, d)
	}
	collectWaiting(ch, s.Waiting)
	for _, p := range s.Consumer.Partitions {
		labels := []string{p.Partition.Topic, strconv.Itoa(int(p.Partition.ID))}
		lag := max(0, p.LastStable-p.Applied)
		ch <- prometheus.MustNewConstMetric(desc("freshet_lag_records", "Records that are in the topic and not yet applied.", "topic", "partition"), prometheus.GaugeValue, float64(lag), labels...)
		ch <- prometheus.MustNewConstMetric(desc("freshet_held_records", "Records behind an open transaction of another producer, which no reader gets.", "topic", "partition"), prometheus.GaugeValue, float64(p.Held), labels...)
		ch <- prometheus.MustNewConstMetric(desc("freshet_uncommitted_offsets", "Offsets emitted and not yet committed.", "topic", "partition"), prometheus.GaugeValue, float64(max(0, p.Emitted-p.Committed)), labels...)
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}
