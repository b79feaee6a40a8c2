package worker

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/schemas"
)

// openTransactionAfter is how long an open transaction may block a partition before readiness reports it: shorter ones are usual.
const openTransactionAfter = time.Minute

// format returns how the records of a topic are written; that of Freshet for the topic of invalidations.
func (w *Worker) format(topic string) schemas.Format {
	if d, ok := w.cfg.Datasets.ByTopic(topic); ok {
		return d.Format
	}
	return schemas.FormatCloudEvents
}

// NotReady lists what keeps the worker from all of its work, one sentence each; empty when nothing does.
func (w *Worker) NotReady() []string {
	var out []string
	st := w.consumer.Stats()
	switch {
	case !st.Assigned && st.LastError != nil:
		out = append(out, "waiting for the consumer group to assign partitions: "+st.LastError.Error())
	case !st.Assigned:
		out = append(out, "waiting for the consumer group to assign partitions")
	}
	if st.Mixed != nil {
		out = append(out, st.Mixed.Error())
	}
	out = append(out, w.faults.reasons(wholeWorker)...)
	sort.Strings(out)
	return out
}

// Degraded lists what keeps single datasets or partitions from being applied while others are, one sentence each. Another process in
// place of this one would not change it.
func (w *Worker) Degraded() []string {
	var out []string
	st := w.consumer.Stats()
	for _, t := range st.Missing {
		out = append(out, "topic "+schemas.KafkaTopic(t)+" does not exist; "+kafkalog.MissingTopicFix(w.format(t)))
	}
	for _, p := range st.Late {
		if !slices.Contains(st.Missing, p.Topic) {
			out = append(out, fmt.Sprintf("%s/%d is not read: no leader answers for it (%v); it is taken as soon as one does", p.Topic, p.ID, p.Err))
		}
	}
	for _, p := range st.Partitions {
		switch {
		case p.Lost:
			out = append(out, whyLost(p))
		case p.Stopped:
			out = append(out, fmt.Sprintf("%s/%d is stopped: the batch at offset %d cannot be read; fix the broker's copy, or leave the batch out with `freshet partitions restart %[1]s/%[2]d --at OFFSET`",
				p.Partition.Topic, p.Partition.ID, p.Fetched))
		}
	}
	for _, p := range st.Partitions {
		if p.Held > 0 && time.Since(p.HeldSince) >= openTransactionAfter {
			out = append(out, fmt.Sprintf("%s/%d: %d records wait since %s behind an open transaction of another producer at offset %d; let the producer end it, or abort it with kafka-transactions.sh (freshet lag has the producer id)",
				p.Partition.Topic, p.Partition.ID, p.Held, p.HeldSince.UTC().Format(time.RFC3339), p.LastStable))
		}
	}
	out = append(out, w.sights.reasons()...)
	out = append(out, w.faults.reasons(oneDataset)...)
	out = append(out, w.pauses.reasons()...)
	sort.Strings(out)
	return out
}

// whyLost is the sentence of readiness about a partition whose records are gone.
func whyLost(p group.PartitionStats) string {
	const fix = "publish the dataset again from its source, and continue with `freshet partitions restart %s/%d --at first`"
	why := "Kafka no longer has records that were never read"
	var loss *kafkalog.LossError
	if errors.As(p.LastError, &loss) {
		l := loss.Loss
		why = fmt.Sprintf("%d records from offset %d on were deleted before they were read (retention is shorter than the outage, or they were deleted by hand)", l.First-l.Next, l.Next)
		if l.Next > l.Last {
			why = fmt.Sprintf("the log ends at offset %d, before offset %d that was read already: Kafka lost acknowledged records", l.Last, l.Next)
		}
	}
	return fmt.Sprintf("%s/%d is stopped: %s; "+fix, p.Partition.Topic, p.Partition.ID, why, p.Partition.Topic, p.Partition.ID)
}
