package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/invalidation/lane"
)

// A topic that was recreated is a new source: nothing may be committed for the old one any more, and every lane is
// flushed, with hold, before the first transaction of the new one. The lanes may be away when it is found out, so the
// flush is not part of taking partitions: only that topic waits for it.

// renewal is a flush that a topic's new id asks for.
type renewal struct {
	info kafkalog.TopicInfo
	done chan struct{} // closed when every lane was flushed
}

func (r *renewal) fault() string {
	return fmt.Sprintf("redis and mysql: flush every lane for topic %s, which was recreated", r.info.Name)
}

// topicWatch notes the identity of topics and flushes the lanes for those that were recreated.
type topicWatch struct {
	*core

	lanes  *lanes
	pauses *pauses

	mu      sync.Mutex
	counted map[string]int32 // by topic: partitions when it was last assigned
}

// observeTopics notes the topics' ids.
func (tw *topicWatch) observeTopics(ctx context.Context, parts []group.Assigned) (map[string]observed, error) {
	ids := map[string]string{}
	for _, a := range parts {
		ids[a.Partition.Topic] = a.Partition.TopicID
	}
	names := slices.Sorted(maps.Keys(ids))
	infos, err := tw.cfg.Kafka.Topics(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("read topics: %w", err)
	}
	noted, err := tw.cfg.Topics.Named(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("read notes of topics: %w", err)
	}
	seen := make(map[string]observed, len(names))
	for _, name := range names {
		if seen[name], err = tw.observeTopic(ctx, infos[name], ids[name], noted[name]); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// observeTopic notes a topic whose id is not the noted one. Topics that are as noted cost nothing, however many there are.
func (tw *topicWatch) observeTopic(ctx context.Context, info kafkalog.TopicInfo, assigned string, noted replica.Topic) (o observed, err error) {
	madeAnew := fmt.Errorf("take partitions: %w: topic %s was recreated meanwhile", group.ErrRejoin, info.Name)
	if info.ID != assigned {
		return o, madeAnew
	}
	if noted.ID != info.ID {
		_, err := tw.cfg.Topics.Observe(ctx, info.Name, info.ID, info.Partitions)
		if errors.Is(err, replica.ErrRetired) {
			return observed{partitions: info.Partitions, retired: true}, nil // the other topics must not wait for an operator
		}
		if err != nil {
			return o, fmt.Errorf("note topic %s: %w", info.Name, err)
		}
		if noted, err = tw.noted(ctx, info.Name); err != nil {
			return o, err
		}
		if noted.ID != info.ID {
			return o, madeAnew
		}
	}
	tw.countPartitions(info, noted)
	o = observed{partitions: info.Partitions, noted: noted}
	if noted.FlushPending {
		o.renewal, err = tw.renew(ctx, info)
	}
	return o, err
}

// noted reads what is noted of a topic; the zero value if it was never observed.
func (tw *topicWatch) noted(ctx context.Context, name string) (replica.Topic, error) {
	all, err := tw.cfg.Topics.Named(ctx, []string{name})
	if err != nil {
		return replica.Topic{}, fmt.Errorf("read note of topic %s: %w", name, err)
	}
	return all[name], nil
}

// renew logs that a topic was recreated, and returns what has to be waited for: nothing if no lane knows the topic.
func (tw *topicWatch) renew(ctx context.Context, info kafkalog.TopicInfo) (*renewal, error) {
	tw.counts.renewed.Add(1)
	tw.log.Error("topic was recreated: records of the old topic that were not read yet are gone; every lane is flushed", "topic", info.Name)
	if d, ok := tw.cfg.Datasets.ByTopic(info.Name); ok && d.Cache == nil {
		return nil, tw.noteFlushed(ctx, info)
	}
	return &renewal{info: info, done: make(chan struct{})}, nil
}

func (tw *topicWatch) noteFlushed(ctx context.Context, info kafkalog.TopicInfo) error {
	if err := tw.cfg.Topics.Flushed(ctx, info.Name, info.ID, tw.cfg.KeepDisplaced); err != nil {
		return fmt.Errorf("note flush for topic %s: %w", info.Name, err)
	}
	return nil
}

// flushRenewed flushes the lanes for the topics that were recreated, and returns the partitions that wait for nothing of
// the kind any more.
func (tw *topicWatch) flushRenewed(ctx context.Context, parts []*partition) []*partition {
	failed := map[*renewal]bool{}
	ready := make([]*partition, 0, len(parts))
	for _, p := range parts {
		r := p.renewal
		if p.flushed() {
			ready = append(ready, p)
			continue
		}
		if failed[r] {
			continue
		}
		if err := tw.flushFor(ctx, r.info); err != nil {
			failed[r] = true
			if ctx.Err() == nil {
				tw.faults.addIn(oneDataset, r.fault(), err)
			}
			continue
		}
		close(r.done)
		tw.faults.end(r.fault())
		tw.pauses.probe(ctx)
		ready = append(ready, p)
	}
	return ready
}

// flushFor flushes every lane, unless another member has done so since this one looked.
func (tw *topicWatch) flushFor(ctx context.Context, info kafkalog.TopicInfo) error {
	noted, err := tw.noted(ctx, info.Name)
	if err != nil {
		return err
	}
	if noted.ID == info.ID && !noted.FlushPending {
		return nil
	}
	if err := tw.lanes.flushAll(ctx, lane.RootRequest{}); err != nil {
		return err
	}
	return tw.noteFlushed(ctx, info)
}

// flushed reports whether p no longer waits for the flush that its topic's new id asks for.
func (p *partition) flushed() bool { return p.renewal == nil || closed(p.renewal.done) }

var errNotFlushed = errors.New("its topic was recreated, and its records must wait until every lane is flushed")

// awaitFlush waits a moment for the flush that p's topic asks for, and then pauses the topic: others need the writer.
func (tw *topicWatch) awaitFlush(ctx context.Context, p *partition) error {
	if p.flushed() {
		return nil
	}
	t := time.NewTimer(tw.cfg.CheckInterval)
	defer t.Stop()
	select {
	case <-p.renewal.done:
		return nil
	case <-p.over:
		return fmt.Errorf("wait for the flush of the lanes: %w: the generation has ended", group.ErrRejoin)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		tw.pauses.refuse(p, errNotFlushed)
		return fmt.Errorf("apply batch: %w: %w", group.ErrPause, errNotFlushed)
	}
}

// countPartitions makes a change of a topic's partitions loud. Keys move to other partitions with it; versions keep their
// order where publishers give them.
func (tw *topicWatch) countPartitions(info kafkalog.TopicInfo, noted replica.Topic) {
	tw.mu.Lock()
	before, known := tw.counted[info.Name]
	tw.counted[info.Name] = info.Partitions
	tw.mu.Unlock()
	if !known {
		before = noted.Partitions
	}
	if before == info.Partitions {
		return
	}
	tw.counts.repartitioned.Add(1)
	tw.log.Error("topic has another number of partitions: its keys move between partitions", "topic", info.Name, "previous_partitions", before, "partitions", info.Partitions)
}
