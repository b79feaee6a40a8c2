package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// Message is one event of a topic, or a record that cannot be read as one.
type Message struct {
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Time      time.Time         `json:"time" doc:"the broker's"`
	Key       string            `json:"key"`
	ID        string            `json:"id,omitempty"`
	Type      string            `json:"type,omitempty"`
	Op        string            `json:"op,omitempty"`
	Version   int64             `json:"version,omitempty"`
	Size      int               `json:"size"`
	Problem   string            `json:"problem,omitempty" doc:"why the record is no event that could be applied"`
	Headers   map[string]string `json:"headers,omitempty"`
	Data      json.RawMessage   `json:"data,omitempty"`
}

// maxAnswer is about how many bytes of content an answer has at most; a page with more ends early, and the record's older events are
// left out.
const maxAnswer = 8 << 20

// shown is about how many bytes of content m has.
func (m *Message) shown() int {
	n := len(m.Data) + len(m.Key)
	for k, v := range m.Headers {
		n += len(k) + len(v)
	}
	return n
}

// looker reads the records of one dataset as its workers do.
type looker struct {
	dataset *schemas.Dataset
	decoder *cdc.Decoder
}

func (s *Server) looker(ctx context.Context, d *schemas.Dataset) (*looker, error) {
	noted, _, err := s.cfg.Replica.Topic(ctx, d.Topic)
	if err != nil {
		return nil, err
	}
	return &looker{d, cdc.New(cdc.Config{Dataset: d, Epoch: noted.Epoch, Partitions: noted.Partitions})}, nil
}

// messagesOf reads a record's events. Content is copied, so the record's buffers may go.
func (l *looker) messagesOf(partition int32, rec *schemas.Record, content bool) []Message {
	base := Message{Partition: partition, Offset: rec.Offset, Time: instant(rec.Time), Key: text(rec.Key), Size: rec.Size()}
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
			m.Data = jsonOf(rec.Value)
		}
		return []Message{m}
	}
	out := make([]Message, 0, len(res.Rows))
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
			m.Data = jsonOf(ev.Data)
		}
		out = append(out, m)
	}
	return out
}

func text(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// jsonOf gives b if it is JSON, else b as a JSON string.
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

// scan calls fn for the records of [from, until) until it says false or scanWait is over, and gives how far it came.
func (s *Server) scan(ctx context.Context, p kafkalog.Partition, from, until int64, fn func(*schemas.Record) bool) (int64, error) {
	if from >= until {
		return from, nil
	}
	wait, cancel := context.WithTimeout(ctx, scanWait)
	defer cancel()
	r := kafkalog.NewReader(s.cfg.Kafka, p, from, kafkalog.ReaderConfig{Until: until})
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

// Browse is what chooses messages.
type Browse struct {
	Dataset   string `query:"dataset" required:"true" maxLength:"64"`
	Partition int32  `query:"partition" minimum:"-1" maximum:"2147483647" default:"-1" doc:"-1: all"`
	From      string `query:"from" maxLength:"64" default:"end-20" doc:"an offset, start, end, end-N (N records before the end), or a time in RFC 3339"`
	Key       string `query:"key" maxLength:"512" doc:"exactly this key"`
	Prefix    string `query:"prefix" maxLength:"512" doc:"keys that begin so"`
	Op        string `query:"op" enum:"upsert,delete" doc:"only these"`
	Type      string `query:"type" maxLength:"200" doc:"only this event type"`
	Bad       bool   `query:"bad" doc:"only records that cannot be applied"`
	Data      bool   `query:"data" doc:"show headers and content"`
}

type browseInput struct {
	Browse
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type browseOutput struct {
	Body struct {
		Items []Message `json:"items"`
		// Next is where each partition goes on.
		Next map[string]int64 `json:"next" doc:"partition → offset to go on from"`
	}
}

func (b *Browse) takes(m *Message) bool {
	return (b.Key == "" || m.Key == b.Key) && strings.HasPrefix(m.Key, b.Prefix) && (b.Op == "" || m.Op == b.Op) &&
		(b.Type == "" || m.Type == b.Type) && (!b.Bad || m.Problem != "")
}

// place is where to read a partition.
type place struct {
	part        kafkalog.Partition
	from, until int64
}

// topicFrom gives a dataset's topic, the ends of its partitions, and where each begins for a reader that says from.
func (s *Server) topicFrom(ctx context.Context, d *schemas.Dataset, from string) (info kafkalog.TopicInfo, ends map[int32]kafkalog.Offsets, at map[int32]int64, err error) {
	if info, err = s.cfg.Kafka.Topic(ctx, d.Topic); err != nil {
		return info, nil, nil, err
	}
	if ends, err = s.cfg.Kafka.Offsets(ctx, d.Topic); err != nil {
		return info, nil, nil, err
	}
	at, err = s.resolve(ctx, d.Topic, "from", from, ends)
	return info, ends, at, err
}

// places resolves From for the partitions.
func (s *Server) places(ctx context.Context, d *schemas.Dataset, b *Browse) ([]place, error) {
	info, ends, from, err := s.topicFrom(ctx, d, b.From)
	if err != nil {
		return nil, err
	}
	if _, ok := ends[b.Partition]; !ok && b.Partition >= 0 {
		return nil, noPartition(b.Partition, ends)
	}
	one := false
	if b.Key != "" {
		if one, err = s.onePartition(ctx, d, info); err != nil {
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

// resolve gives the offset that a text means in each partition; field names the text in the refusal.
func (s *Server) resolve(ctx context.Context, topic, field, from string, ends map[int32]kafkalog.Offsets) (map[int32]int64, error) {
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
		return s.cfg.Kafka.OffsetsAt(ctx, topic, at)
	}
	return out, nil
}

func (s *Server) messageRoutes() {
	huma.Register(s.api, huma.Operation{
		Method: http.MethodGet, Path: "/v1/messages", OperationID: "list-messages", Summary: "Browse a dataset's topic",
		Description: "Content (data=true) needs the role operator.",
	}, s.listMessages)
	huma.Register(s.api, huma.Operation{
		Method: http.MethodGet, Path: "/v1/messages/follow", OperationID: "follow-messages", Summary: "Follow a dataset's topic (server-sent events)",
		Description: "Each event's data is a message. Content (data=true) needs the role operator.",
		Responses:   map[string]*huma.Response{"200": {Description: "A stream of messages", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}},
	}, s.followMessages)
}

func (s *Server) listMessages(ctx context.Context, in *browseInput) (*browseOutput, error) {
	d, err := s.dataset(in.Dataset)
	if err != nil {
		return nil, err
	}
	if err := needContent(ctx, in.Data); err != nil {
		return nil, err
	}
	places, err := s.places(ctx, d, &in.Browse)
	if err != nil {
		return nil, s.answerError(ctx, "browse topic", err)
	}
	look, err := s.looker(ctx, d)
	if err != nil {
		return nil, s.answerError(ctx, "browse topic", err)
	}
	out := &browseOutput{}
	out.Body.Items, out.Body.Next = []Message{}, map[string]int64{}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lagReaders)
	share, room := max(1, in.Limit/max(1, len(places))), maxAnswer/max(1, len(places))
	for _, p := range places {
		g.Go(func() error {
			var got []Message
			size := 0
			next, err := s.scan(gctx, p.part, p.from, p.until, func(rec *schemas.Record) bool {
				for _, m := range look.messagesOf(p.part.ID, rec, in.Data) {
					if in.takes(&m) {
						got = append(got, m)
						size += m.shown()
					}
				}
				return len(got) < share && size < room
			})
			mu.Lock()
			defer mu.Unlock()
			out.Body.Items = append(out.Body.Items, got...)
			out.Body.Next[strconv.Itoa(int(p.part.ID))] = next
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, s.answerError(ctx, "browse topic", err)
	}
	slices.SortStableFunc(out.Body.Items, func(a, b Message) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return int(a.Offset - b.Offset)
	})
	return out, nil
}

type followInput struct {
	Browse
}

func (s *Server) followMessages(ctx context.Context, in *followInput) (*huma.StreamResponse, error) {
	d, err := s.dataset(in.Dataset)
	if err != nil {
		return nil, err
	}
	if err := needContent(ctx, in.Data); err != nil {
		return nil, err
	}
	places, err := s.places(ctx, d, &in.Browse)
	if err != nil {
		return nil, s.answerError(ctx, "follow topic", err)
	}
	look, err := s.looker(ctx, d)
	if err != nil {
		return nil, s.answerError(ctx, "follow topic", err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) { //nolint:contextcheck // the stream's context is its request's
		r, w := humago.Unwrap(hc)
		st := newStream(w)
		g, gctx := errgroup.WithContext(r.Context())
		g.Go(func() error { return st.beat(gctx) })
		for _, p := range places {
			g.Go(func() error { return s.followPartition(gctx, look, p, in, st) })
		}
		if err := g.Wait(); err != nil && r.Context().Err() == nil {
			s.log.Debug("stream of messages ended", "dataset", d.Name, "error", err)
		}
	}}, nil
}

func (s *Server) followPartition(ctx context.Context, look *looker, p place, in *followInput, st *stream) error {
	r := kafkalog.NewReader(s.cfg.Kafka, p.part, p.from, kafkalog.ReaderConfig{MaxFetchBytes: 256 << 10})
	defer r.Close()
	for {
		b, err := r.Read(ctx)
		if err != nil {
			return err
		}
		for i := range b.Records {
			for _, m := range look.messagesOf(p.part.ID, &b.Records[i], in.Data) {
				if !in.takes(&m) {
					continue
				}
				if err := st.send("message", fmt.Sprintf("%d-%d", m.Partition, m.Offset), m); err != nil {
					b.Release()
					return err
				}
			}
		}
		b.Release()
	}
}
