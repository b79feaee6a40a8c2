package group

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"

	"github.com/freshet/freshet/internal/kafkalog"
)

// locate asks for topic ids in one request, and for log starts in one request per leader. Each partition is in one of the
// results; err is for when no broker answers at all.
func (c *Consumer) locate(ctx context.Context, want map[string][]int32) (got []Assigned, late []LatePartition, err error) {
	if len(want) == 0 {
		return nil, nil, nil
	}
	cl, err := c.client.Metadata(ctx, slices.Sorted(maps.Keys(want))...)
	if err != nil {
		return nil, nil, err
	}
	byNode := map[int32]map[string][]int32{}
	for _, t := range slices.Sorted(maps.Keys(want)) {
		for _, p := range want[t] {
			node, _, _, err := cl.Leader(t, p)
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
			first, failed := c.nodeStarts(ctx, cl.Brokers[node], topics)
			mu.Lock()
			defer mu.Unlock()
			for t, ids := range topics {
				for _, id := range ids {
					p := kafkalog.Partition{Topic: t, TopicID: cl.Topics[t].Info.ID, ID: id}
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
func (c *Consumer) nodeStarts(
	ctx context.Context, addr string, topics map[string][]int32,
) (first map[string]map[int32]int64, failed func(topic string, id int32) error) {
	k, err := c.client.Dial(ctx, addr)
	if err != nil {
		return nil, func(string, int32) error { return err }
	}
	defer func() { _ = k.Close() }()
	first, codes, err := k.FirstOffsets(ctx, topics)
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
