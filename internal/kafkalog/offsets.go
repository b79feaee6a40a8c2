package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"

	"github.com/freshet/freshet/internal/kafkalog/wire"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
)

// Timestamps that ListOffsets takes for places.
const (
	atEnd   = -1
	atFirst = -2
)

// Isolation levels.
const (
	readUncommitted = 0
	readCommitted   = 1
)

// settleTimeout bounds how long one-shot questions wait for leadership to settle.
const settleTimeout = 15 * time.Second

// Offsets are the bounds of a partition's log.
type Offsets struct {
	// First is the offset of the oldest record that the broker still has.
	First int64
	// LastStable is where read-committed readers stop: the end, or the first record of an open transaction.
	LastStable int64
	// HighWater is the end of the log, one past its newest replicated record.
	HighWater int64
}

// Offsets asks for the bounds of each partition of a topic. It waits, up to 15 s, for leadership to settle. Errors:
// ErrNoTopic.
func (c *Client) Offsets(ctx context.Context, topic string) (map[int32]Offsets, error) {
	out := map[int32]Offsets{}
	for _, q := range boundQuestions() {
		got, err := c.topicOffsets(ctx, topic, q.isolation, q.at)
		if err != nil {
			return nil, fmt.Errorf("ask offsets of topic %s: %w", topic, err)
		}
		q.add(out, got)
	}
	return out, nil
}

// boundQuestion asks for one of the bounds of partitions.
type boundQuestion struct {
	isolation int8
	at        int64
	set       func(o *Offsets, v int64)
}

func boundQuestions() []boundQuestion {
	return []boundQuestion{
		{readUncommitted, atFirst, func(o *Offsets, v int64) { o.First = v }},
		{readCommitted, atEnd, func(o *Offsets, v int64) { o.LastStable = v }},
		{readUncommitted, atEnd, func(o *Offsets, v int64) { o.HighWater = v }},
	}
}

func (q boundQuestion) add(out map[int32]Offsets, got map[int32]int64) {
	for p, v := range got {
		o := out[p]
		q.set(&o, v)
		out[p] = o
	}
}

// Bounds asks this broker for the bounds of partitions that it leads.
func (k *Conn) Bounds(ctx context.Context, topic string, parts []int32) (map[int32]Offsets, error) {
	out := map[int32]Offsets{}
	for _, q := range boundQuestions() {
		got, err := k.listOffsets(ctx, topic, parts, q.isolation, q.at)
		if err != nil {
			return nil, err
		}
		q.add(out, got)
	}
	return out, nil
}

// OffsetsAt returns, per partition, the offset of the first record whose time is t or later; where there is none, the last
// stable offset. Errors: ErrNoTopic.
func (c *Client) OffsetsAt(ctx context.Context, topic string, t time.Time) (map[int32]int64, error) {
	at, err := c.topicOffsets(ctx, topic, readCommitted, max(t.UnixMilli(), 0))
	if err != nil {
		return nil, fmt.Errorf("ask offsets of topic %s: %w", topic, err)
	}
	end, err := c.topicOffsets(ctx, topic, readCommitted, atEnd)
	if err != nil {
		return nil, fmt.Errorf("ask offsets of topic %s: %w", topic, err)
	}
	for p, v := range end {
		if o, ok := at[p]; !ok || o < 0 {
			at[p] = v
		}
	}
	return at, nil
}

// topicOffsets asks the leaders of a topic's partitions, and tries again while leadership moves.
func (c *Client) topicOffsets(ctx context.Context, topic string, isolation int8, at int64) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	out := map[int32]int64{}
	err := retry.Do(ctx, fetchPolicy(), func(ctx context.Context) error {
		cl, err := c.Metadata(ctx, topic)
		if err != nil {
			return lasting(err)
		}
		byNode, err := cl.byLeader(topic, out)
		if err != nil {
			return lasting(err)
		}
		for node, parts := range byNode {
			got, err := c.nodeOffsets(ctx, cl.Brokers[node], topic, parts, isolation, at)
			for p, v := range got {
				out[p] = v
			}
			if err != nil {
				return lasting(err)
			}
		}
		return nil
	})
	return out, err
}

// lasting marks what waiting does not fix.
func lasting(err error) error {
	var code kafka.Error
	if errors.Is(err, ErrNoTopic) || errors.Is(err, ErrNoTopicIDs) || errors.Is(err, ErrClosed) ||
		errors.As(err, &code) && !IsLeadership(err) && !code.Temporary() {
		return retry.Permanent(err)
	}
	return err
}

// LogEnd asks the broker at addr for the end of a partition's log.
func (c *Client) LogEnd(ctx context.Context, addr, topic string, partition int32) (int64, error) {
	got, err := c.nodeOffsets(ctx, addr, topic, []int32{partition}, readUncommitted, atEnd)
	if err != nil {
		return 0, err
	}
	end, ok := got[partition]
	if !ok {
		return 0, fmt.Errorf("ask for the end of the log: %w", wire.ErrMalformed)
	}
	return end, nil
}

func (c *Client) nodeOffsets(
	ctx context.Context, addr, topic string, parts []int32, isolation int8, at int64,
) (map[int32]int64, error) {
	var out map[int32]int64
	err := c.on(ctx, addr, func(k *Conn) (err error) {
		out, err = k.listOffsets(ctx, topic, parts, isolation, at)
		return err
	})
	return out, err
}

// listOffsets asks this broker about partitions that it leads. What was answered is given also beside an error.
func (k *Conn) listOffsets(ctx context.Context, topic string, parts []int32, isolation int8, at int64) (map[int32]int64, error) {
	out, failed, err := k.listTopicOffsets(ctx, map[string][]int32{topic: parts}, isolation, at)
	for p, code := range failed[topic] {
		err = fmt.Errorf("list offsets of %s/%d: %w", topic, p, code)
	}
	if out == nil || out[topic] != nil || err != nil {
		return out[topic], err
	}
	return map[int32]int64{}, nil
}

// listTopicOffsets is listOffsets for partitions of several topics, in one request. failed holds the partitions' errors.
func (k *Conn) listTopicOffsets(
	ctx context.Context, topics map[string][]int32, isolation int8, at int64,
) (out map[string]map[int32]int64, failed map[string]map[int32]kafka.Error, err error) {
	req := &listoffsets.Request{ReplicaID: -1, IsolationLevel: isolation}
	asked := map[string]map[int32]bool{} // of streams of one topic, a partition is asked for once
	for t, parts := range topics {
		t = schemas.KafkaTopic(t)
		if asked[t] == nil {
			asked[t] = map[int32]bool{}
		}
		for _, p := range parts {
			asked[t][p] = true
		}
	}
	for t, parts := range asked {
		rt := listoffsets.RequestTopic{Topic: t}
		for p := range parts {
			rt.Partitions = append(rt.Partitions, listoffsets.RequestPartition{Partition: p, CurrentLeaderEpoch: -1, Timestamp: at})
		}
		req.Topics = append(req.Topics, rt)
	}
	res, err := k.RoundTrip(ctx, 5, req)
	if err != nil {
		return nil, nil, fmt.Errorf("list offsets: %w", err)
	}
	out, failed = map[string]map[int32]int64{}, map[string]map[int32]kafka.Error{}
	for _, t := range res.(*listoffsets.Response).Topics {
		if out[t.Topic] == nil {
			out[t.Topic], failed[t.Topic] = map[int32]int64{}, map[int32]kafka.Error{}
		}
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				failed[t.Topic][p.Partition] = kafka.Error(p.ErrorCode)
				continue
			}
			out[t.Topic][p.Partition] = p.Offset
		}
	}
	names := slices.Collect(maps.Keys(topics))
	return named(names, out), named(names, failed), nil
}

// FirstOffsets asks this broker for the first offsets of partitions of several topics that it leads. failed holds the
// partitions' errors.
func (k *Conn) FirstOffsets(ctx context.Context, topics map[string][]int32) (first map[string]map[int32]int64, failed map[string]map[int32]kafka.Error, err error) {
	return k.listTopicOffsets(ctx, topics, readUncommitted, atFirst)
}

// CommittedOffsets returns the group's committed offset per topic and partition. Partitions without one, and topics that do
// not exist, are left out.
func (c *Client) CommittedOffsets(ctx context.Context, group string, topics []string) (map[string]map[int32]int64, error) {
	out := map[string]map[int32]int64{}
	if len(topics) == 0 {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	err := retry.Do(ctx, fetchPolicy(), func(ctx context.Context) error {
		cl, err := c.Metadata(ctx, topics...)
		if err != nil {
			return lasting(err)
		}
		reqs := map[string]*offsetfetch.Request{}
		for _, t := range topics {
			switch err := cl.Topics[t].Err; {
			case errors.Is(err, ErrNoTopic):
				continue
			case err != nil:
				return lasting(fmt.Errorf("ask for topic %s: %w", t, err))
			}
			rt := offsetfetch.RequestTopic{Name: schemas.KafkaTopic(t)}
			for p := range cl.Topics[t].Info.Partitions {
				rt.PartitionIndexes = append(rt.PartitionIndexes, p)
			}
			AddOffsetRequest(reqs, OffsetGroup(group, t), rt)
		}
		for _, req := range reqs {
			got := map[string]map[int32]int64{}
			if err := c.fetchCommitted(ctx, req, got); err != nil {
				return lasting(err)
			}
			for _, t := range topics {
				if parts, ok := got[schemas.KafkaTopic(t)]; ok && OffsetGroup(group, t) == req.GroupID {
					out[t] = parts
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask committed offsets of group %s: %w", group, err)
	}
	return out, nil
}

func (c *Client) fetchCommitted(ctx context.Context, req *offsetfetch.Request, out map[string]map[int32]int64) error {
	addr, err := c.coordinatorOf(ctx, req.GroupID)
	if err != nil {
		return err
	}
	var res protocol.Message
	err = c.on(ctx, addr, func(k *Conn) (err error) {
		res, err = k.RoundTrip(ctx, 5, req)
		return err
	})
	if err != nil {
		return err
	}
	of := res.(*offsetfetch.Response)
	if code := kafka.Error(of.ErrorCode); code != 0 && code != ErrNoGroup {
		return code
	}
	return CommittedIn(of, out)
}

// ErrNoGroup is the answer of some brokers about a group that has no member and no offset yet.
const ErrNoGroup = kafka.Error(69)

// AddOffsetRequest adds a topic to the request that asks for a group's offsets. A request without topics would ask for all.
func AddOffsetRequest(reqs map[string]*offsetfetch.Request, group string, t offsetfetch.RequestTopic) {
	if reqs[group] == nil {
		reqs[group] = &offsetfetch.Request{GroupID: group}
	}
	reqs[group].Topics = append(reqs[group].Topics, t)
}

// CommittedIn adds the committed offsets of an answer to out.
func CommittedIn(of *offsetfetch.Response, out map[string]map[int32]int64) error {
	for _, t := range of.Topics {
		parts := map[int32]int64{}
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return kafka.Error(p.ErrorCode)
			}
			if p.CommittedOffset >= 0 {
				parts[p.PartitionIndex] = p.CommittedOffset
			}
		}
		out[t.Name] = parts
	}
	return nil
}

// Coordinator connects to the broker that coordinates a group.
func (c *Client) Coordinator(ctx context.Context, group string) (*Conn, error) {
	addr, err := c.coordinatorOf(ctx, group)
	if err != nil {
		return nil, err
	}
	return c.Dial(ctx, addr)
}

// coordinatorOf returns the address of the broker that coordinates a group.
func (c *Client) coordinatorOf(ctx context.Context, group string) (addr string, err error) {
	var res protocol.Message
	err = c.onAny(ctx, func(k *Conn) (err error) {
		res, err = k.RoundTrip(ctx, 2, &findcoordinator.Request{Key: group})
		return err
	})
	if err != nil {
		return "", fmt.Errorf("find coordinator: %w", err)
	}
	fc := res.(*findcoordinator.Response)
	if fc.ErrorCode != 0 {
		return "", fmt.Errorf("find coordinator: %w", kafka.Error(fc.ErrorCode))
	}
	return net.JoinHostPort(fc.Host, strconv.Itoa(int(fc.Port))), nil
}
