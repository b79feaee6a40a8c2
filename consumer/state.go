package consumer

import (
	"maps"
	"slices"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/durations"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/worker"
)

// Stats is a snapshot of a Worker.
type Stats struct {
	// Waiting is how long each step of the start has been waited for; empty once the worker runs.
	Waiting map[string]time.Duration
	// Work counts what the worker did and has the state of each partition; nil until the servers were there.
	Work *WorkStats
	// Consistency is what the sampler found; nil until the servers were there, and without a sampler.
	Consistency *report.Stats
	// Expired counts the rows that were removed after their retention, ExpireFailures the passes that ended with an error.
	Expired, ExpireFailures int64
	// Census is what the database holds for all workers.
	Census Census
}

// The parts of Stats.
type (
	// WorkStats counts events, rows, dead letters, emissions and faults since the start.
	WorkStats = worker.Stats
	// Measures are durations, ages and lags.
	Measures = worker.Measures
	// TopicMeasures are those of one topic.
	TopicMeasures = worker.TopicMeasures
	// Durations counts durations in buckets.
	Durations = durations.Snapshot
	// DatasetStats counts the events of one dataset.
	DatasetStats = worker.DatasetStats
	// GroupStats is the membership in the consumer group, with the partitions that this worker has.
	GroupStats = group.Stats
	// PartitionStats is how far one partition is at each step.
	PartitionStats = group.PartitionStats
	// LatePartition is a partition that is not read yet, since no leader answers for it.
	LatePartition = group.LatePartition
	// Partition is one partition of one topic, under the topic's id: a recreated topic is another partition.
	Partition = kafkalog.Partition
)

// Stats returns a snapshot.
func (w *Worker) Stats() Stats {
	s := Stats{Waiting: w.boot.Lasting()}
	p := w.parts.Load()
	if p == nil {
		return s
	}
	work := p.worker.Stats()
	s.Work = &work
	if p.sampler != nil {
		seen := p.sampler.Stats()
		s.Consistency = &seen
	}
	s.Expired, s.ExpireFailures = p.expirer.Removed()
	s.Census = p.census.newest()
	return s
}

// Measures returns how long the work took since the start, how old events were at each step, and how far the worker is behind. It costs
// more than Stats, since it copies every bucket.
func (w *Worker) Measures() Measures {
	if p := w.parts.Load(); p != nil {
		return p.worker.Measures()
	}
	return Measures{}
}

// NotReady lists why the worker cannot work just now, one sentence each; empty when it can. It is for the readiness of a program
// that is a worker and nothing else: while a server is away, every worker lists the same reason, and a program that also answers
// requests would leave its balancer together with all others.
func (w *Worker) NotReady() []string {
	why := w.boot.Waiting()
	switch p := w.parts.Load(); {
	case w.ended.Load():
		why = append(why, "this worker has ended")
	case p != nil:
		why = append(why, p.worker.NotReady()...)
	case len(why) == 0:
		why = append(why, "this worker is starting")
	}
	return append(why, w.cfg.NotReady()...)
}

// ID returns the name of this worker: Config.ID, or the one that was made for it.
func (w *Worker) ID() string { return w.cfg.ID }

// Degraded lists what keeps single datasets or partitions from being applied while the worker works, one sentence each: a paused
// dataset, a missing topic, a stopped partition. It needs an operator, and not another worker.
func (w *Worker) Degraded() []string {
	var out []string
	if p := w.parts.Load(); p != nil && !w.ended.Load() {
		out = p.worker.Degraded()
	}
	return append(out, w.cfg.Degraded()...)
}

// state is what the worker reports to the process that looks at all of them.
func (w *Worker) state() api.WorkerState {
	s := w.Stats()
	st := api.WorkerState{
		Owner: w.cfg.ID, Version: w.cfg.Version, Began: w.began, Address: w.cfg.Address, NotReady: w.NotReady(), Degraded: w.Degraded(),
		Consistency: s.Consistency,
	}
	for _, d := range slices.Sorted(maps.Keys(s.Work.Datasets)) {
		n := s.Work.Datasets[d]
		st.Datasets = append(st.Datasets, api.WorkerDataset{
			Dataset: d, Events: n.Events, Superseded: n.Superseded, Conflicts: n.Conflicts, Misplaced: n.Misplaced, VersionsWentBack: n.VersionsWentBack(),
		})
	}
	for _, part := range s.Work.Consumer.Partitions {
		wp := api.WorkerPartition{
			Topic: part.Partition.Topic, Partition: part.Partition.ID, Applied: part.Applied, Committed: part.Committed, Paused: part.Paused,
			Stopped: part.Lost || part.Stopped,
		}
		if part.LastError != nil {
			wp.Error = part.LastError.Error()
		} else if d, ok := w.cfg.Datasets.ByTopic(wp.Topic); ok && s.Work.Foreign[d.Name] > 0 {
			wp.Error = "only records of other tables so far; /readyz of its worker says more"
		}
		st.Partitions = append(st.Partitions, wp)
	}
	return st
}
