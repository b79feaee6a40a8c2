package kafkalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/freshet/freshet/internal/retry"
)

// answerWait is how long an assignment waits for leaders that do not answer before it begins without their partitions.
const answerWait = 2 * time.Second

// errAnswered ends a session, but not its generation: partitions answer that it began without.
var errAnswered = errors.New("partitions answer that did not before")

// LatePartition is an assigned partition that this member began without, since no leader answered for it.
type LatePartition struct {
	Topic string
	ID    int32
	// Err is the last error.
	Err error
}

// resolve returns the assigned partitions under their topics' ids, sorted. Those that do not answer within answerWait
// become late; it waits as long as none answers because no broker does.
func (s *session) resolve(ctx context.Context) (parts []Assigned, err error) {
	s.late = nil
	want := s.gen.parts
	until := time.Now().Add(answerWait)
	err = retry.Do(ctx, fetchPolicy(), func(ctx context.Context) error {
		got, late, err := s.c.client.resolve(ctx, want)
		if err != nil {
			return err
		}
		parts, s.late = append(parts, got...), late
		if want = lateSet(late); len(want) == 0 || time.Now().After(until) {
			return nil
		}
		return s.late[0].Err
	})
	if err != nil {
		return nil, err
	}
	for i, a := range parts {
		parts[i].Committed = -1
		if at, ok := s.gen.committed[a.Partition.Topic][a.Partition.ID]; ok {
			parts[i].Committed = at
		}
	}
	for _, l := range s.late {
		s.log.Warn("partition is not taken until a leader answers", "topic", l.Topic, "partition", l.ID, "error", l.Err)
	}
	slices.SortFunc(parts, func(a, b Assigned) int {
		return cmp.Or(cmp.Compare(a.Partition.Topic, b.Partition.Topic), cmp.Compare(a.Partition.ID, b.Partition.ID))
	})
	return parts, nil
}

// awaitLate ends the session once a late partition answers: it is taken with the others then.
func (s *session) awaitLate(ctx context.Context) {
	if len(s.late) == 0 {
		return
	}
	want := lateSet(s.late)
	for ctx.Err() == nil {
		await(ctx, nil, time.Now().Add(answerWait))
		if got, _, err := s.c.client.resolve(ctx, want); err == nil && len(got) > 0 {
			s.end(errAnswered)
			return
		}
	}
}

func lateSet(late []LatePartition) map[string][]int32 {
	out := map[string][]int32{}
	for _, l := range late {
		out[l.Topic] = append(out[l.Topic], l.ID)
	}
	return out
}

// resolve asks for topic ids in one request, and for log starts in one request per leader. Each partition is in one of the
// results; err is for when no broker answers at all.
func (c *Client) resolve(ctx context.Context, want map[string][]int32) (got []Assigned, late []LatePartition, err error) {
	if len(want) == 0 {
		return nil, nil, nil
	}
	cl, err := c.metadata(ctx, slices.Sorted(maps.Keys(want))...)
	if err != nil {
		return nil, nil, err
	}
	byNode := map[int32]map[string][]int32{}
	for _, t := range slices.Sorted(maps.Keys(want)) {
		for _, p := range want[t] {
			node, _, _, err := cl.leader(t, p)
			if err != nil {
				late = append(late, LatePartition{Topic: t, ID: p, Err: err})
				continue
			}
			if byNode[node] == nil {
				byNode[node] = map[string][]int32{}
			}
			byNode[node][t] = append(byNode[node][t], p)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for node, topics := range byNode {
		wg.Go(func() {
			first, failed := c.nodeStarts(ctx, cl.brokers[node], topics)
			mu.Lock()
			defer mu.Unlock()
			for t, ids := range topics {
				for _, id := range ids {
					p := Partition{Topic: t, TopicID: cl.topics[t].info.ID, ID: id}
					if start, ok := first[t][id]; ok {
						got = append(got, Assigned{Partition: p, LogStart: start})
						continue
					}
					late = append(late, LatePartition{Topic: t, ID: id, Err: failed(t, id)})
				}
			}
		})
	}
	wg.Wait()
	return got, late, nil
}

// nodeStarts asks one broker for the first offsets of partitions of several topics. failed is why one is not in the answer.
func (c *Client) nodeStarts(
	ctx context.Context, addr string, topics map[string][]int32,
) (first map[string]map[int32]int64, failed func(topic string, id int32) error) {
	k, err := c.dial(ctx, addr)
	if err != nil {
		return nil, func(string, int32) error { return err }
	}
	defer func() { _ = k.close() }()
	first, codes, err := k.listTopicOffsets(ctx, topics, readUncommitted, atFirst)
	return first, func(topic string, id int32) error {
		code, ok := codes[topic][id]
		switch {
		case ok:
			return fmt.Errorf("list offsets of %s/%d: %w", topic, id, code)
		case err != nil:
			return err
		}
		return fmt.Errorf("list offsets of %s/%d: %w", topic, id, kafka.Unknown)
	}
}
