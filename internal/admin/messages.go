package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/sse"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
)

// maxAnswer is about how many bytes of content an answer has at most; a page with more ends early, and the record's older events are
// left out.
const maxAnswer = 8 << 20

// shown is about how many bytes of content m has.
func shown(m *api.Message) int {
	n := len(m.Data) + len(m.Key)
	for k, v := range m.Headers {
		n += len(k) + len(v)
	}
	return n
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
		Items []api.Message `json:"items"`
		// Next is where each partition continues.
		Next map[string]int64 `json:"next" doc:"partition → offset to continue from"`
	}
}

func (b *Browse) takes(m *api.Message) bool {
	return (b.Key == "" || m.Key == b.Key) && strings.HasPrefix(m.Key, b.Prefix) && (b.Op == "" || m.Op == b.Op) &&
		(b.Type == "" || m.Type == b.Type) && (!b.Bad || m.Problem != "")
}

// messages browses and follows topics.
type messages struct {
	topics  *topicReader
	kafka   *kafkalog.Client
	answers *answers
	log     *slog.Logger
}

func (ms *messages) routes(on huma.API) {
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/messages", OperationID: "list-messages", Summary: "Browse a dataset's topic",
		Description: "Content (data=true) needs the role operator, and sensitive properties the role admin.",
	}, ms.listMessages)
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/messages/follow", OperationID: "follow-messages", Summary: "Follow a dataset's topic (server-sent events)",
		Description: "Each event's data is a message. Content (data=true) needs the role operator, and sensitive properties the role admin.",
		Responses:   map[string]*huma.Response{"200": {Description: "A stream of messages", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}},
	}, ms.followMessages)
}

// open checks what a request may see, and finds where its messages are; what names the request in a problem.
func (ms *messages) open(ctx context.Context, b *Browse, what string) (*looker, []place, error) {
	d, err := ms.answers.dataset(b.Dataset)
	if err != nil {
		return nil, nil, err
	}
	if err := needContent(ctx, b.Data); err != nil {
		return nil, nil, err
	}
	places, err := ms.topics.places(ctx, d, b)
	if err != nil {
		return nil, nil, ms.answers.fail(ctx, what, err)
	}
	look, err := ms.topics.looker(ctx, d)
	return look, places, ms.answers.fail(ctx, what, err)
}

func (ms *messages) listMessages(ctx context.Context, in *browseInput) (*browseOutput, error) {
	look, places, err := ms.open(ctx, &in.Browse, "browse topic")
	if err != nil {
		return nil, err
	}
	out := &browseOutput{}
	out.Body.Items, out.Body.Next = []api.Message{}, map[string]int64{}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lagReaders)
	share, room := max(1, in.Limit/max(1, len(places))), maxAnswer/max(1, len(places))
	for _, p := range places {
		g.Go(func() error {
			var got []api.Message
			size := 0
			next, err := ms.topics.scan(gctx, p.part, p.from, p.until, func(rec *schemas.Record) bool {
				for _, m := range look.messagesOf(p.part.ID, rec, in.Data) {
					if in.takes(&m) {
						got = append(got, m)
						size += shown(&m)
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
		return nil, ms.answers.fail(ctx, "browse topic", err)
	}
	slices.SortStableFunc(out.Body.Items, func(a, b api.Message) int {
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

func (ms *messages) followMessages(ctx context.Context, in *followInput) (*huma.StreamResponse, error) {
	look, places, err := ms.open(ctx, &in.Browse, "follow topic")
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) { //nolint:contextcheck // the stream's context is its request's
		r, w := humago.Unwrap(hc)
		st := sse.New(w)
		g, gctx := errgroup.WithContext(r.Context())
		g.Go(func() error { return st.Beat(gctx) })
		for _, p := range places {
			g.Go(func() error { return ms.followPartition(gctx, look, p, in, st) })
		}
		if err := g.Wait(); err != nil && r.Context().Err() == nil {
			ms.log.Debug("stream of messages ended", "dataset", in.Dataset, "error", err)
		}
	}}, nil
}

func (ms *messages) followPartition(ctx context.Context, look *looker, p place, in *followInput, st *sse.Stream) error {
	r := kafkalog.NewReader(ms.kafka, p.part, p.from, kafkalog.ReaderConfig{MaxFetchBytes: 256 << 10})
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
				if err := st.Send("message", fmt.Sprintf("%d-%d", m.Partition, m.Offset), m); err != nil {
					b.Release()
					return err
				}
			}
		}
		b.Release()
	}
}
