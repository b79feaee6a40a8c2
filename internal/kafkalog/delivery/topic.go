package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/retry"
)

// noTopicTries is how often a missing topic is asked for before it counts as missing: a topic that was made a moment ago
// is not known to every broker yet.
const noTopicTries = 4

// topic is what a producer knows of a topic, and its partitions.
type topic struct {
	p    *Producer
	name string
	// refreshing has one slot; who holds it asks the cluster.
	refreshing chan struct{}

	mu         sync.RWMutex // guards all below
	state      kafkalog.TopicState
	known      *kafkalog.Cluster // nil: not learned yet
	learned    time.Time
	partitions []*partition // made when first used
}

// ready returns the partition of key once the topic is known.
func (t *topic) ready(ctx context.Context, key []byte) (*partition, error) {
	t.mu.RLock()
	q := t.lookup(key)
	t.mu.RUnlock()
	if q != nil {
		return q, nil
	}
	if err := t.learn(ctx); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.state.Info.Partitions
	id := kafkalog.PartitionOf(key, n)
	for int32(len(t.partitions)) < n {
		t.partitions = append(t.partitions, nil)
	}
	if t.partitions[id] == nil {
		q, err := t.p.startPartition(t, id)
		if err != nil {
			return nil, err
		}
		t.partitions[id] = q
	}
	return t.partitions[id], nil
}

// lookup returns the partition of key if it was used before. t.mu is held.
func (t *topic) lookup(key []byte) *partition {
	if t.known == nil || t.state.Info.Partitions == 0 {
		return nil
	}
	if id := kafkalog.PartitionOf(key, t.state.Info.Partitions); int(id) < len(t.partitions) {
		return t.partitions[id]
	}
	return nil
}

// learn asks for the topic until there is an answer, if there is none yet.
func (t *topic) learn(ctx context.Context) error {
	t.mu.RLock()
	known := t.known != nil
	t.mu.RUnlock()
	if known {
		return nil
	}
	missing := 0
	var last error
	err := retry.Do(ctx, retry.Policy{First: firstBackoff, Max: maxBackoff}, func(ctx context.Context) error {
		err := t.refresh(ctx, time.Time{})
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if errors.Is(err, kafkalog.ErrNoTopic) {
			if missing++; missing >= noTopicTries {
				return retry.Permanent(err)
			}
		}
		if err != nil && hopeless(err) {
			return retry.Permanent(err)
		}
		return err
	})
	if err != nil && ctx.Err() != nil {
		return reason(context.Cause(ctx), last)
	}
	return err
}

// hopeless reports whether asking again cannot help.
func hopeless(err error) bool {
	if errors.Is(err, kafkalog.ErrNoTopicIDs) || errors.Is(err, kafkalog.ErrClosed) || errors.Is(err, ErrRefused) {
		return true
	}
	code := asCode(err)
	return code != 0 && judge(int16(code)) == misconfigured
}

// refresh asks the cluster, unless someone did after seen. What is known stays when the answer is an error.
func (t *topic) refresh(ctx context.Context, seen time.Time) error {
	select {
	case t.refreshing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-t.refreshing }()
	t.mu.RLock()
	fresh := t.known != nil && t.learned.After(seen)
	t.mu.RUnlock()
	if fresh {
		return nil
	}
	cl, err := t.p.client.Metadata(ctx, t.name)
	if err != nil {
		return fmt.Errorf("ask for topic %s: %w", t.name, err)
	}
	s := cl.Topics[t.name]
	if s.Err != nil {
		return fmt.Errorf("ask for topic %s: %w", t.name, explained(s.Err, t.name))
	}
	if s.Info.Partitions == 0 {
		return fmt.Errorf("ask for topic %s: %w", t.name, kafkalog.ErrNoTopic)
	}
	t.take(cl, s)
	return nil
}

// take stores an answer. A topic that was recreated gets new producer ids: its brokers know nothing of the old ones.
func (t *topic) take(cl *kafkalog.Cluster, s kafkalog.TopicState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known != nil && t.state.Info.ID != s.Info.ID {
		t.p.log.Warn("topic was recreated", "topic", t.name, "previous_topic_id", t.state.Info.ID, "topic_id", s.Info.ID)
		for _, q := range t.partitions {
			if q != nil {
				q.seq.renew.Store(true)
			}
		}
	}
	t.known, t.state, t.learned = cl, s, time.Now()
}

// leader returns the address of a partition's leader, and when that was learned.
func (t *topic) leader(id int32) (addr string, learned time.Time, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, addr, _, err = t.known.Leader(t.name, id)
	return addr, t.learned, err
}

// partition returns the name of partition id under the topic's id as known now.
func (t *topic) partition(id int32) kafkalog.Partition {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return kafkalog.Partition{Topic: t.name, TopicID: t.state.Info.ID, ID: id}
}
