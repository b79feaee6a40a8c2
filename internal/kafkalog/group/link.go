package group

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/wire"
)

// link is a connection to a group's coordinator that is opened when it is needed, and again after it failed. One goroutine
// uses it at a time.
type link struct {
	client *kafkalog.Client
	group  string
	conn   *kafkalog.Conn
}

// ask sends a request to the coordinator, which has limit to answer. A connection that was open before may have been closed
// by the broker, so the request is then repeated once on a new one; every request of a member may be repeated.
func ask[R protocol.Message](ctx context.Context, l *link, limit time.Duration, version int16, req protocol.Message) (R, error) {
	var none R
	for {
		reused := l.conn != nil
		if !reused {
			dialing, cancel := context.WithTimeout(ctx, limit)
			k, err := l.client.Coordinator(dialing, l.group)
			cancel()
			if err != nil {
				return none, err
			}
			l.conn = k
		}
		res, err := l.conn.Ask(ctx, limit, version, req)
		if err == nil {
			return res.(R), nil
		}
		l.close()
		if !reused || ctx.Err() != nil {
			return none, err
		}
	}
}

// code returns an error code as an error, nil for 0. After one that reports that the coordinator has moved, it is looked up
// again.
func (l *link) code(code int16) error {
	if code == 0 {
		return nil
	}
	err := kafka.Error(code)
	if passing(err) {
		l.close()
	}
	return err
}

func (l *link) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// passing reports whether an error of the coordinator leaves the membership as it was.
func passing(err error) bool {
	var code kafka.Error
	if !errors.As(err, &code) {
		return true
	}
	switch code {
	case kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup, kafka.RequestTimedOut:
		return true
	}
	return false
}

// encodeSubscription is what a member of a consumer group says when it joins:
//
//	version i16 = 1 | topics i32 × { name string } | user data bytes
func encodeSubscription(topics []string, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(topics)))
	for _, t := range topics {
		b = appendString(b, t)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// decodeSubscription accepts whatever newer versions have behind the user data.
func decodeSubscription(b []byte) (topics []string, data []byte, err error) {
	w := &wire.Reader{Rest: b}
	w.I16()
	for n := w.Count(w.I32()); n > 0 && w.Err == nil; n-- {
		topics = append(topics, w.Text())
	}
	if n := w.I32(); n > 0 {
		data = w.Take(int(n))
	}
	if w.Err != nil {
		return nil, nil, fmt.Errorf("read subscription: %w", w.Err)
	}
	return topics, data, nil
}

// encodeAssignment is what the leader assigns to a member:
//
//	version i16 = 1 | topics i32 × { name string | partitions i32 × { id i32 } } | user data bytes
func encodeAssignment(parts map[string][]int) []byte {
	b := binary.BigEndian.AppendUint16(nil, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(parts)))
	for _, t := range slices.Sorted(maps.Keys(parts)) {
		b = appendString(b, t)
		b = binary.BigEndian.AppendUint32(b, uint32(len(parts[t])))
		for _, p := range parts[t] {
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		}
	}
	return binary.BigEndian.AppendUint32(b, 0)
}

// decodeAssignment reads an assignment; an empty one assigns nothing.
func decodeAssignment(b []byte) (map[string][]int32, error) {
	parts := map[string][]int32{}
	if len(b) == 0 {
		return parts, nil
	}
	w := &wire.Reader{Rest: b}
	w.I16()
	for n := w.Count(w.I32()); n > 0 && w.Err == nil; n-- {
		t := w.Text()
		for m := w.Count(w.I32()); m > 0 && w.Err == nil; m-- {
			parts[t] = append(parts[t], w.I32())
		}
		if slices.Sort(parts[t]); len(parts[t]) == 0 {
			delete(parts, t)
		}
	}
	if w.Err != nil {
		return nil, fmt.Errorf("read assignment: %w", w.Err)
	}
	return parts, nil
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}
