package telemetry

import (
	"math"
	"strconv"
	"time"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/internal/exposition"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// States of partitions in freshet_partitions.
const (
	partitionRunning = "running"
	partitionPaused  = "paused"
	partitionStopped = "stopped"
	partitionLost    = "lost"
	partitionLate    = "late"
)

// collectDatasets sends what is counted for each dataset.
func (c *WorkerCollector) collectDatasets(out exposition.Sink, s *consumer.WorkStats, m *consumer.Measures) {
	for _, d := range c.datasets.All() {
		of, st, tm := out.With("dataset", d.Name), s.Datasets[d.Name], m.Topics[d.Name]
		of.Counter("freshet_events_total", "Events decoded; those that are delivered again are not counted again.", float64(st.Events))
		of.Counter("freshet_superseded_events_total", "Events with a lower version than their record had.", float64(st.Superseded))
		of.Counter("freshet_version_conflicts_total", "Events with the version of their row and other content.", float64(st.Conflicts))
		of.Counter("freshet_misplaced_records_total", "Records in another partition than the producer's partitioner chooses for their keys.", float64(st.Misplaced))
		of.Counter("freshet_rows_total", "Newest changes of records in transactions, one per record; rows that have a change already are not sent on a replay.", float64(tm.Rows))
		for _, reason := range schemas.Reasons() {
			of.With("reason", string(reason)).Counter("freshet_refused_events_total", "Events that became dead letters.", float64(tm.Refused[reason]))
		}
		of.Gauge("freshet_other_table_records", "Records of other tables that the topic of a dataset has brought whose table has never had a row.", float64(s.Foreign[d.Name]))
		_, paused := s.Paused[d.Name]
		of.Flag("freshet_dataset_paused", "1 while this worker does not consume a dataset, or its invalidation topic.", paused)
		missing := false
		for _, t := range s.Consumer.Missing {
			missing = missing || t == d.Topic
		}
		of.Flag("freshet_topic_missing", "1 while the topic of a dataset does not exist.", missing)
		collectAges(of, d.Cache != nil, &tm)
	}
	if c.invalidations != "" {
		of, tm := out.With("dataset", c.invalidations), m.Topics[c.invalidations]
		_, paused := s.Paused[c.invalidations]
		of.Flag("freshet_dataset_paused", "1 while this worker does not consume a dataset, or its invalidation topic.", paused)
		collectDurations(of, true, &tm)
	}
}

// collectAges sends how fresh a dataset is, and how long its batches took.
func collectAges(of exposition.Sink, cached bool, tm *consumer.TopicMeasures) {
	const help = "Age of events when they reached a stage: their row was committed (applied), every lane was notified (emitted). It begins with the commit " +
		"at the source where a capture tool states it, else with the publication."
	of.With("stage", "applied").Histogram("freshet_freshness_seconds", help, &tm.Applied)
	if cached {
		of.With("stage", "emitted").Histogram("freshet_freshness_seconds", help, &tm.Emitted)
	}
	collectDurations(of, cached, tm)
}

func collectDurations(of exposition.Sink, cached bool, tm *consumer.TopicMeasures) {
	of.Histogram("freshet_apply_duration_seconds", "Duration of the transactions of batches, waits for MySQL included.", &tm.Apply)
	if cached {
		of.Histogram("freshet_emit_duration_seconds", "Duration of the emissions of batches, waits for Redis included.", &tm.Emit)
	}
}

// collectPartitions sends how far the worker is.
func (c *WorkerCollector) collectPartitions(out exposition.Sink, s *consumer.WorkStats, m *consumer.Measures) {
	type total struct {
		states  map[string]int
		records int64
		seconds float64
	}
	totals := map[string]*total{}
	for _, name := range c.subjects() {
		totals[name] = &total{states: map[string]int{}}
	}
	for _, p := range s.Consumer.Partitions {
		name := c.subject(p.Partition.Topic)
		lag, seconds := max(0, p.LastStable-p.Applied), m.Lag[p.Partition].Seconds()
		of := out.With("dataset", name).With("topic", schemas.KafkaTopic(p.Partition.Topic)).With("partition", strconv.Itoa(int(p.Partition.ID)))
		of.Gauge("freshet_partition_lag_records", "Records of an assigned partition that are not applied yet, as of the last fetch.", float64(lag))
		of.Gauge("freshet_partition_lag_seconds", "Time that the oldest record which is not applied yet has waited.", seconds)
		of.Gauge("freshet_partition_held_records", "Records behind an open transaction of another producer, which no reader gets.", float64(p.Held))
		held := 0.0
		if !p.HeldSince.IsZero() {
			held = time.Since(p.HeldSince).Seconds()
		}
		of.Gauge("freshet_partition_held_seconds", "How long the same open transaction has kept records from every reader; 0: none does.", held)
		of.Gauge("freshet_partition_uncommitted_records", "Offsets emitted and not yet committed.", float64(max(0, p.Emitted-p.Committed)))
		if t := totals[name]; t != nil {
			t.states[stateOf(&p)]++
			t.records += lag
			t.seconds = max(t.seconds, seconds)
		}
	}
	for _, p := range s.Consumer.Late {
		if t := totals[c.subject(p.Topic)]; t != nil {
			t.states[partitionLate]++
		}
	}
	for _, name := range c.subjects() {
		of, t := out.With("dataset", name), totals[name]
		of.Gauge("freshet_lag_records", "Records of the assigned partitions that are not applied yet, as of the last fetch.", float64(t.records))
		of.Gauge("freshet_lag_seconds", "Time that the oldest record of the assigned partitions which is not applied yet has waited.", t.seconds)
		for _, state := range []string{partitionRunning, partitionPaused, partitionStopped, partitionLost, partitionLate} {
			of.With("state", state).Gauge("freshet_partitions", "Assigned partitions: running; paused with their dataset; stopped, since a batch cannot be read; "+
				"lost, since Kafka lost records; late, since no leader answers.", float64(t.states[state]))
		}
	}
}

// subjects are the datasets and the invalidation topic.
func (c *WorkerCollector) subjects() []string {
	var out []string
	for _, d := range c.datasets.All() {
		out = append(out, d.Name)
	}
	if c.invalidations != "" {
		out = append(out, c.invalidations)
	}
	return out
}

// subject returns the dataset of a topic, or the topic itself.
func (c *WorkerCollector) subject(topic string) string {
	if d, ok := c.datasets.ByTopic(topic); ok {
		return d.Name
	}
	return topic
}

func stateOf(p *consumer.PartitionStats) string {
	switch {
	case p.Lost:
		return partitionLost
	case p.Stopped:
		return partitionStopped
	case p.Paused:
		return partitionPaused
	}
	return partitionRunning
}

// ignoredCauses are the values of the label cause.
func ignoredCauses() []string {
	var out []string
	for c := range cdc.Ignored(cdc.Causes) {
		if c != cdc.NotIgnored {
			out = append(out, c.String())
		}
	}
	return out
}

// secondsOrInf returns a duration in seconds, +Inf for a negative one, which stands for never.
func secondsOrInf(d time.Duration) float64 {
	if d < 0 {
		return math.Inf(1)
	}
	return d.Seconds()
}
