package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// topicReader reads ranges of topics for routes.
type topicReader struct {
	kafka *kafkalog.Client
	db    *replica.DB
}

// looker reads the records of one dataset as its workers do.
type looker struct {
	dataset *schemas.Dataset
	decoder *cdc.Decoder
	mask    mask // what is hidden of content
}

func (tr *topicReader) looker(ctx context.Context, d *schemas.Dataset) (*looker, error) {
	noted, _, err := tr.db.Topics.Get(ctx, d.Topic)
	if err != nil {
		return nil, err
	}
	return &looker{d, cdc.New(cdc.Config{Dataset: d, Epoch: noted.Epoch, Partitions: noted.Partitions}), maskOf(ctx, d)}, nil
}

// messagesOf reads a record's events. Content is copied, so the record's buffers may go.
func (l *looker) messagesOf(partition int32, rec *schemas.Record, content bool) []api.Message {
	base := api.Message{Partition: partition, Offset: rec.Offset, Time: api.Instant(rec.Time), Key: text(rec.Key), Size: rec.Size()}
	if content {
		base.Headers = map[string]string{}
		for _, h := range rec.Headers {
			base.Headers[text([]byte(h.Key))] = text(h.Value)
		}
	}
	res, err := l.decoder.Decode(*rec)
	if err != nil || len(res.Rows) == 0 {
		m := base
		if err != nil {
			m.Problem = replica.Detail(err)
		}
		if content {
			m.Data = l.mask.apply(jsonOf(rec.Value))
		}
		return []api.Message{m}
	}
	out := make([]api.Message, 0, len(res.Rows))
	for i := range res.Rows {
		ev, err := &res.Rows[i].Event, res.Rows[i].Err
		m := base
		m.Key, m.ID, m.Type, m.Op, m.Version = text([]byte(ev.Key)), text([]byte(ev.ID)), text([]byte(ev.Type)), ev.Op.String(), ev.Version
		if err == nil {
			_, err = l.dataset.Check(ev)
		}
		if err != nil {
			m.Problem = replica.Detail(err)
		}
		if content {
			m.Data = l.mask.apply(jsonOf(ev.Data))
		}
		out = append(out, m)
	}
	return out
}

func text(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// jsonOf returns b if it is JSON, else b as a JSON string.
func jsonOf(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	if json.Valid(b) {
		return slices.Clone(b)
	}
	s, err := json.Marshal(text(b))
	if err != nil {
		return nil
	}
	return s
}

// scan calls fn for the records of [from, until) until it says false or scanWait is over, and returns how far it came.
func (tr *topicReader) scan(ctx context.Context, p kafkalog.Partition, from, until int64, fn func(*schemas.Record) bool) (int64, error) {
	if from >= until {
		return from, nil
	}
	wait, cancel := context.WithTimeout(ctx, scanWait)
	defer cancel()
	r := kafkalog.NewReader(tr.kafka, p, from, kafkalog.ReaderConfig{Until: until})
	defer r.Close()
	for {
		b, err := r.Read(wait)
		switch {
		case errors.Is(err, io.EOF):
			return until, nil
		case err != nil && wait.Err() != nil && ctx.Err() == nil:
			return r.Next(), nil // what was read in time is worth showing
		case err != nil:
			return r.Next(), err
		}
		for i := range b.Records {
			if !fn(&b.Records[i]) {
				at := b.Records[i].Offset + 1
				b.Release()
				return at, nil
			}
		}
		b.Release()
	}
}

// place is where to read a partition.
type place struct {
	part        kafkalog.Partition
	from, until int64
}

// topicFrom returns a dataset's topic, the ends of its partitions, and where each begins for a reader that says from.
func (tr *topicReader) topicFrom(ctx context.Context, d *schemas.Dataset, from string) (info kafkalog.TopicInfo, ends map[int32]kafkalog.Offsets, at map[int32]int64, err error) {
	if info, err = tr.kafka.Topic(ctx, d.Topic); err != nil {
		return info, nil, nil, err
	}
	if ends, err = tr.kafka.Offsets(ctx, d.Topic); err != nil {
		return info, nil, nil, err
	}
	at, err = tr.resolve(ctx, d.Topic, "from", from, ends)
	return info, ends, at, err
}

// places resolves From for the partitions.
func (tr *topicReader) places(ctx context.Context, d *schemas.Dataset, b *Browse) ([]place, error) {
	info, ends, from, err := tr.topicFrom(ctx, d, b.From)
	if err != nil {
		return nil, err
	}
	if _, ok := ends[b.Partition]; !ok && b.Partition >= 0 {
		return nil, noPartition(b.Partition, ends)
	}
	one := false
	if b.Key != "" {
		if one, err = tr.onePartition(ctx, d, info); err != nil {
			return nil, err
		}
	}
	var out []place
	for id, o := range ends {
		if b.Partition >= 0 && id != b.Partition || one && id != kafkalog.PartitionOf([]byte(b.Key), info.Partitions) {
			continue
		}
		out = append(out, place{kafkalog.Partition{Topic: d.Topic, TopicID: info.ID, ID: id}, min(max(from[id], o.First), o.LastStable), o.LastStable})
	}
	slices.SortFunc(out, func(x, y place) int { return int(x.part.ID) - int(y.part.ID) })
	return out, nil
}

// resolve returns the offset that a text means in each partition; field names the text in the refusal.
func (tr *topicReader) resolve(ctx context.Context, topic, field, from string, ends map[int32]kafkalog.Offsets) (map[int32]int64, error) {
	out := map[int32]int64{}
	back, isBack := strings.CutPrefix(from, "end-")
	n, err := strconv.ParseInt(back, 10, 64)
	switch {
	case from == "start":
		for id, o := range ends {
			out[id] = o.First
		}
	case from == "end":
		for id, o := range ends {
			out[id] = o.LastStable
		}
	case isBack && err == nil && n >= 0:
		for id, o := range ends {
			out[id] = max(o.First, o.LastStable-n)
		}
	case err == nil && n >= 0:
		for id := range ends {
			out[id] = n
		}
	default:
		at, err := time.Parse(time.RFC3339, from)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(field + " is an offset, start, end, end-N, or a time in RFC 3339")
		}
		return tr.kafka.OffsetsAt(ctx, topic, at)
	}
	return out, nil
}

// onePartition reports whether all events of a record are in the partition that the producer chooses for its key. Capture
// tools partition in their own ways, and so do other clients, and a topic that got more partitions has a record's events in
// several.
func (tr *topicReader) onePartition(ctx context.Context, d *schemas.Dataset, info kafkalog.TopicInfo) (bool, error) {
	if d.Format != schemas.FormatCloudEvents {
		return false, nil
	}
	why, err := tr.db.Topics.Scattered(ctx, d.Topic, info.ID, info.Partitions)
	return err == nil && why == "", err
}

func noPartition(p int32, ends map[int32]kafkalog.Offsets) error {
	return huma.Error422UnprocessableEntity(fmt.Sprintf("the topic has no partition %d; it has %d, from 0", p, len(ends)))
}
