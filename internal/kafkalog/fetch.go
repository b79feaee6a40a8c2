package kafkalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"

	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/internal/kafkalog/wire"
	"github.com/freshet/freshet/schemas"
)

const (
	// fetchVersion is the newest that asks by topic name.
	fetchVersion = 11
	// fetchSlack is how much longer than the wait that was asked for a reply may take.
	fetchSlack = 5 * time.Second
	// maxReply bounds a reply, but for the first batch, which a broker always returns whole.
	maxReply = 16 << 20
	// MaxPart bounds one partition's part of a reply, with the same exception.
	MaxPart = 1 << 20
)

// FetchWant asks for one partition from an offset on.
type FetchWant struct {
	Topic     string
	Partition int32
	Offset    int64
	// Epoch is the leader's, -1 unknown.
	Epoch int32
}

// FetchPart is one partition's part of a reply.
type FetchPart struct {
	Topic     string
	Partition int32
	// Err is nil or a kafka.Error.
	Err error
	// HighWater, LastStable and LogStart are the bounds of the log, as of Offsets.
	HighWater, LastStable, LogStart int64
	// Aborted are the transactions that readers of committed records leave out.
	Aborted []recordbatch.Aborted
	run     []byte
}

// HasRecords reports whether the reply brought anything of the partition.
func (p *FetchPart) HasRecords() bool { return len(p.run) > 0 }

// Fetch asks for committed records and waits for the first byte of them, up to wait. The broker fills its reply in the
// order of wants, topic by topic. Of the streams of a topic, at most one may want a partition.
func (k *Conn) Fetch(ctx context.Context, wants []FetchWant, wait time.Duration, partBytes int) ([]FetchPart, error) {
	req := &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: maxReply,
		IsolationLevel: readCommitted, SessionEpoch: -1,
	}
	for _, w := range wants {
		topic := schemas.KafkaTopic(w.Topic)
		i := slices.IndexFunc(req.Topics, func(t fetch.RequestTopic) bool { return t.Topic == topic })
		if i < 0 {
			i = len(req.Topics)
			req.Topics = append(req.Topics, fetch.RequestTopic{Topic: topic})
		}
		t := &req.Topics[i]
		t.Partitions = append(t.Partitions, fetch.RequestPartition{
			Partition: w.Partition, CurrentLeaderEpoch: w.Epoch, FetchOffset: w.Offset, LogStartOffset: -1,
			PartitionMaxBytes: int32(partBytes),
		})
	}
	b, err := k.send(ctx, wait+fetchSlack, fetchVersion, req)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	code, parts, err := parseFetch(b)
	if err != nil {
		return nil, fmt.Errorf("fetch from broker %s: %w", k.addr, err)
	}
	if code != 0 {
		return nil, fmt.Errorf("fetch from broker %s: %w", k.addr, kafka.Error(code))
	}
	k.part(parts)
	for i, p := range parts {
		at := slices.IndexFunc(wants, func(w FetchWant) bool { return w.Partition == p.Partition && schemas.KafkaTopic(w.Topic) == p.Topic })
		if at >= 0 {
			parts[i].Topic = wants[at].Topic
		}
	}
	return parts, nil
}

// part gives each partition bytes of its own: one that waits for its writer must not keep alive what the others got in the
// same reply, and have used up long ago. Only a part that is nearly the whole reply keeps it.
func (k *Conn) part(parts []FetchPart) {
	whole := len(k.buf)
	for i := range parts {
		if 2*len(parts[i].run) > whole {
			k.buf = nil
			continue
		}
		parts[i].run = bytes.Clone(parts[i].run)
	}
}

// parseFetch reads a reply of version 11.
//
//	throttle i32 | error i16 | session i32 | topics i32 × { name | partitions i32 × { id i32 | error i16 | high water i64
//	  | last stable i64 | log start i64 | aborted i32, may be -1, × { producer i64 | first i64 } | preferred i32
//	  | records i32 size, may be -1, and bytes } }
func parseFetch(b []byte) (code int16, parts []FetchPart, err error) {
	w := &wire.Reader{Rest: b}
	w.I32()
	code = w.I16()
	w.I32()
	for nt := w.Count(w.I32()); nt > 0 && w.Err == nil; nt-- {
		topic := string(w.Take(int(w.I16())))
		for np := w.Count(w.I32()); np > 0 && w.Err == nil; np-- {
			parts = append(parts, parsePart(w, topic))
		}
	}
	if w.Err == nil && len(w.Rest) != 0 {
		w.Err = wire.ErrMalformed
	}
	return code, parts, w.Err
}

func parsePart(w *wire.Reader, topic string) FetchPart {
	p := FetchPart{Topic: topic, Partition: w.I32()}
	if e := w.I16(); e != 0 {
		p.Err = kafka.Error(e)
	}
	p.HighWater, p.LastStable, p.LogStart = w.I64(), w.I64(), w.I64()
	for n := w.Count(w.I32()); n > 0 && w.Err == nil; n-- {
		p.Aborted = append(p.Aborted, recordbatch.Aborted{Producer: w.I64(), First: w.I64()})
	}
	w.I32()
	if n := w.I32(); n > 0 {
		p.run = w.Take(int(n))
	}
	return p
}

// ErrOvertaken is returned for a part whose offset the broker does not have: records are lost, or the topic was recreated,
// or leadership has not settled. Client.explain finds out.
var ErrOvertaken = errors.New("offset is outside the log")

// Prove returns the part's whole batches from offset on, and the offset behind them. Its error is ErrOvertaken, the
// broker's, or ErrCorrupt; beside ErrCorrupt, what is returned is good.
func (p *FetchPart) Prove(offset int64) (run []byte, next int64, err error) {
	switch {
	case errors.Is(p.Err, kafka.OffsetOutOfRange) || p.Err == nil && p.LogStart > offset:
		return nil, offset, ErrOvertaken
	case p.Err != nil:
		return nil, offset, p.Err
	}
	return recordbatch.Check(p.run, offset)
}
