package worker

import (
	"context"
	"sync"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
)

// countMisplaced counts the records of a batch that the producer would have put into another partition. Capture tools have
// partitioners of their own, so searches never rely on one partition of their topics.
func (p *partition) countMisplaced(b *kafkalog.Batch) (n int, first int64) {
	if p.dataset == nil || p.dataset.Format != schemas.FormatCloudEvents || p.partitions < 1 {
		return 0, 0
	}
	for i := range b.Records {
		rec := &b.Records[i]
		if len(rec.Key) == 0 || kafkalog.PartitionOf(rec.Key, p.partitions) == p.id.ID {
			continue
		}
		if n == 0 {
			first = rec.Offset
		}
		n++
	}
	return n, first
}

// misplaced notes topics that have records in other partitions than their keys say.
type misplaced struct {
	*core

	mu    sync.Mutex
	noted map[string]bool // by topic id
}

// note notes the first misplaced record that this worker meets in a topic, before its batch is applied: from then
// on every search by key looks into all partitions.
func (m *misplaced) note(ctx context.Context, p *partition, offset int64) error {
	m.mu.Lock()
	known := m.noted[p.id.TopicID]
	m.mu.Unlock()
	if known {
		return nil
	}
	const what = "mysql: note misplaced records"
	err := retry.Do(ctx, retry.Policy{Notify: m.faults.hook(what)}, func(ctx context.Context) error {
		return m.cfg.Replica.Topics.NoteMisplaced(ctx, p.id.Topic, p.id.TopicID, p.id.ID, offset)
	})
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	m.faults.end(what)
	m.mu.Lock()
	m.noted[p.id.TopicID] = true
	m.mu.Unlock()
	m.log.Warn("a record is in another partition than the producer's partitioner gives for its key: the topic got more partitions, or another client wrote it; searches by key look into all partitions from now on",
		"topic", p.id.Topic, "partition", p.id.ID, "offset", offset)
	return nil
}
