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
)

const (
	// fetchVersion is the newest that asks by topic name.
	fetchVersion = 11
	// fetchSlack is how much longer than the wait that was asked for a reply may take.
	fetchSlack = 5 * time.Second
	// maxReply bounds a reply, but for the first batch, which a broker always gives whole.
	maxReply = 16 << 20
	// maxPart bounds one partition's part of a reply, with the same exception.
	maxPart = 1 << 20
)

// fetchWant asks for one partition from an offset on.
type fetchWant struct {
	topic     string
	partition int32
	offset    int64
	epoch     int32 // the leader's, -1 unknown
}

// fetchPart is one partition's part of a reply.
type fetchPart struct {
	topic                           string
	partition                       int32
	err                             error // nil or a kafka.Error
	highWater, lastStable, logStart int64
	aborted                         []recordbatch.Aborted
	run                             []byte
}

// fetch asks for committed records and waits for the first byte of them, up to wait. The broker fills its reply in the
// order of wants, topic by topic.
func (k *conn) fetch(ctx context.Context, wants []fetchWant, wait time.Duration, partBytes int) ([]fetchPart, error) {
	req := &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: maxReply,
		IsolationLevel: readCommitted, SessionEpoch: -1,
	}
	for _, w := range wants {
		i := slices.IndexFunc(req.Topics, func(t fetch.RequestTopic) bool { return t.Topic == w.topic })
		if i < 0 {
			i = len(req.Topics)
			req.Topics = append(req.Topics, fetch.RequestTopic{Topic: w.topic})
		}
		t := &req.Topics[i]
		t.Partitions = append(t.Partitions, fetch.RequestPartition{
			Partition: w.partition, CurrentLeaderEpoch: w.epoch, FetchOffset: w.offset, LogStartOffset: -1,
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
	return parts, nil
}

// part gives each partition bytes of its own: one that waits for its writer must not keep alive what the others got in the
// same reply, and have used up long ago. Only a part that is nearly the whole reply keeps it.
func (k *conn) part(parts []fetchPart) {
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
func parseFetch(b []byte) (code int16, parts []fetchPart, err error) {
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

func parsePart(w *wire.Reader, topic string) fetchPart {
	p := fetchPart{topic: topic, partition: w.I32()}
	if e := w.I16(); e != 0 {
		p.err = kafka.Error(e)
	}
	p.highWater, p.lastStable, p.logStart = w.I64(), w.I64(), w.I64()
	for n := w.Count(w.I32()); n > 0 && w.Err == nil; n-- {
		p.aborted = append(p.aborted, recordbatch.Aborted{Producer: w.I64(), First: w.I64()})
	}
	w.I32()
	if n := w.I32(); n > 0 {
		p.run = w.Take(int(n))
	}
	return p
}

// errOvertaken is returned for a part whose offset the broker does not have: records are lost, or the topic was recreated,
// or leadership has not settled. Client.explain finds out.
var errOvertaken = errors.New("offset is outside the log")

// prove returns the part's whole batches from offset on, and the offset behind them. Its error is errOvertaken, the
// broker's, or ErrCorrupt; beside ErrCorrupt, what is returned is good.
func (p *fetchPart) prove(offset int64) (run []byte, next int64, err error) {
	switch {
	case errors.Is(p.err, kafka.OffsetOutOfRange) || p.err == nil && p.logStart > offset:
		return nil, offset, errOvertaken
	case p.err != nil:
		return nil, offset, p.err
	}
	return recordbatch.Check(p.run, offset)
}
