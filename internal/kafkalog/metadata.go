package kafkalog

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/freshet/freshet/internal/kafkalog/wire"
)

// Metadata versions: topic ids came with 10, and nothing that is used here changed up to 12.
const (
	minMetadata = 10
	maxMetadata = 12
)

// Cluster is one answer of one broker about brokers and topics.
type Cluster struct {
	// Brokers are the addresses, host:port, by node.
	Brokers map[int32]string
	// Topics are those that were asked for.
	Topics     map[string]TopicState
	controller int32
}

// TopicState is what a broker knows of a topic. Leaders and topic id come from the same answer, so they belong together.
type TopicState struct {
	Info TopicInfo
	// Err is nil, or why there is no more to know: ErrNoTopic or a kafka.Error.
	Err     error
	leaders []leaderState
}

// leaderState is who leads a partition.
type leaderState struct {
	node  int32 // -1: none
	epoch int32
	isr   int // replicas in sync
	all   int // replicas
}

// Topic asks the cluster for a topic's id and partitions. Errors: ErrNoTopic, ErrNoTopicIDs.
func (c *Client) Topic(ctx context.Context, name string) (TopicInfo, error) {
	infos, err := c.Topics(ctx, []string{name})
	return infos[name], err
}

// Topics asks the cluster for the ids and partitions of topics, by name, in one request. Errors: as of Topic, of the first
// topic that has one.
func (c *Client) Topics(ctx context.Context, names []string) (map[string]TopicInfo, error) {
	infos := make(map[string]TopicInfo, len(names))
	if len(names) == 0 {
		return infos, nil
	}
	cl, err := c.Metadata(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("ask for topic %s: %w", names[0], err)
	}
	for _, name := range names {
		t := cl.Topics[name]
		if t.Err != nil {
			return nil, fmt.Errorf("ask for topic %s: %w", name, t.Err)
		}
		infos[name] = t.Info
	}
	return infos, nil
}

// Metadata asks any broker about the topics; none means about brokers only. Every topic asked for is in the answer,
// perhaps with an error.
func (c *Client) Metadata(ctx context.Context, topics ...string) (*Cluster, error) {
	var cl *Cluster
	err := c.onAny(ctx, func(k *Conn) (err error) {
		cl, err = k.metadata(ctx, topics)
		return err
	})
	if err != nil {
		return nil, err
	}
	addrs := make([]string, 0, len(cl.Brokers))
	for _, a := range cl.Brokers {
		addrs = append(addrs, a)
	}
	slices.Sort(addrs)
	c.brokers.learn(addrs)
	return cl, nil
}

// metadata asks this broker, by a hand-made request since the protocol library knows no topic ids.
func (k *Conn) metadata(ctx context.Context, topics []string) (*Cluster, error) {
	version := min(k.versions[int16(protocol.Metadata)].max, maxMetadata)
	if version < minMetadata {
		return nil, ErrNoTopicIDs
	}
	b, err := k.raw(ctx, protocol.Metadata, version, true, metadataRequest(version, topicsOf(topics)))
	if err != nil {
		return nil, fmt.Errorf("ask metadata: %w", err)
	}
	cl, err := parseMetadata(b)
	if err != nil {
		return nil, fmt.Errorf("read metadata of broker %s: %w", k.addr, err)
	}
	cl.Topics = named(topics, cl.Topics)
	for _, name := range topics {
		t, ok := cl.Topics[name]
		if !ok {
			t.Err = ErrNoTopic
		}
		t.Info.Name = name
		cl.Topics[name] = t
	}
	return cl, nil
}

// metadataRequest never lets a topic be made by asking.
//
//	topics compact × { id 16 | name compact | tags } | auto-create i8 | [v10: cluster operations i8] | topic operations i8 | tags
func metadataRequest(version int16, topics []string) []byte {
	b := binary.AppendUvarint(nil, uint64(len(topics)+1))
	for _, t := range topics {
		b = append(b, make([]byte, 16)...)
		b = binary.AppendUvarint(b, uint64(len(t)+1))
		b = append(b, t...)
		b = append(b, 0)
	}
	if version < 11 {
		b = append(b, 0)
	}
	return append(b, 0, 0, 0)
}

// parseMetadata reads the reply from its header tags on.
//
//	tags | throttle i32 | brokers × { node i32 | host | port i32 | rack | tags } | cluster id | controller i32 | topics ×
//	  { error i16 | name | id 16 | internal i8 | partitions × { error i16 | index i32 | leader i32 | epoch i32
//	    | replicas × i32 | in sync × i32 | offline × i32 | tags } | operations i32 | tags } | …
func parseMetadata(b []byte) (*Cluster, error) {
	w := &wire.Reader{Rest: b}
	cl := &Cluster{Brokers: map[int32]string{}, Topics: map[string]TopicState{}}
	w.SkipTags()
	w.I32()
	for n := w.CompactCount(); n > 0 && w.Err == nil; n-- {
		node, host, port := w.I32(), w.CompactText(), w.I32()
		w.CompactText()
		w.SkipTags()
		cl.Brokers[node] = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	w.CompactText()
	cl.controller = w.I32()
	for n := w.CompactCount(); n > 0 && w.Err == nil; n-- {
		t := parseTopic(w)
		cl.Topics[t.Info.Name] = t
	}
	if w.Err != nil {
		return nil, w.Err
	}
	return cl, nil
}

func parseTopic(w *wire.Reader) TopicState {
	code := w.I16()
	t := TopicState{Info: TopicInfo{Name: w.CompactText()}}
	var id [16]byte
	copy(id[:], w.Take(16))
	t.Info.ID = base64.RawURLEncoding.EncodeToString(id[:])
	w.I8()
	n := w.CompactCount()
	t.leaders = make([]leaderState, n)
	for i := range t.leaders {
		t.leaders[i].node = -1
	}
	for ; n > 0 && w.Err == nil; n-- {
		w.I16() // the leader says it too
		index := int(w.I32())
		l := leaderState{node: w.I32(), epoch: w.I32()}
		l.all = skipNodes(w)
		l.isr = skipNodes(w)
		skipNodes(w)
		w.SkipTags()
		if index < 0 || index >= len(t.leaders) {
			w.Err = wire.ErrMalformed
			return t
		}
		t.leaders[index] = l
	}
	w.I32()
	w.SkipTags()
	t.Info.Partitions = int32(len(t.leaders))
	switch {
	case code == int16(kafka.UnknownTopicOrPartition):
		t.Err = ErrNoTopic
	case code != 0:
		t.Err = kafka.Error(code)
	case id == [16]byte{}:
		t.Err = ErrNoTopicIDs
	}
	return t
}

// skipNodes passes over a compact array of node ids and returns its length.
func skipNodes(w *wire.Reader) int {
	n := w.CompactCount()
	w.Take(4 * n)
	return n
}

// Leader returns the node and the address of a partition's leader, and the leader's epoch.
func (cl *Cluster) Leader(topic string, partition int32) (node int32, addr string, epoch int32, err error) {
	t := cl.Topics[topic]
	switch {
	case t.Err != nil:
		return -1, "", -1, t.Err
	case partition < 0 || int(partition) >= len(t.leaders):
		return -1, "", -1, kafka.UnknownTopicOrPartition
	}
	l := t.leaders[partition]
	addr, ok := cl.Brokers[l.node]
	if !ok {
		return -1, "", -1, kafka.LeaderNotAvailable
	}
	return l.node, addr, l.epoch, nil
}

// byLeader returns the partitions of a topic by their leaders' nodes, without those that are done.
func (cl *Cluster) byLeader(topic string, done map[int32]int64) (map[int32][]int32, error) {
	if err := cl.Topics[topic].Err; err != nil {
		return nil, err
	}
	out := map[int32][]int32{}
	for p := range cl.Topics[topic].Info.Partitions {
		if _, ok := done[p]; ok {
			continue
		}
		node, _, _, err := cl.Leader(topic, p)
		if err != nil {
			return nil, err
		}
		out[node] = append(out[node], p)
	}
	return out, nil
}

// IsLeadership reports whether err is one of those that pass once leadership has settled.
func IsLeadership(err error) bool {
	var code kafka.Error
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.RequestTimedOut,
		kafka.ReplicaNotAvailable, kafka.KafkaStorageError, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch:
		return true
	}
	return false
}

// IsAuthorization reports whether err comes from missing rights, which only a person can fix.
func IsAuthorization(err error) bool {
	return errors.Is(err, kafka.TopicAuthorizationFailed) || errors.Is(err, kafka.GroupAuthorizationFailed) ||
		errors.Is(err, kafka.ClusterAuthorizationFailed)
}
