package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

const (
	scanRecords = 20_000
	scanWait    = 5 * time.Second
)

// records shows one record on every tier.
type records struct {
	topics    *topicReader
	publisher *publisher
	kafka     *kafkalog.Client
	group     string
	redis     redis.UniversalClient // nil: none is used
	namespace string
	lanes     int
	shared    shared[*recordOutput]
	answers   *answers
	db        *replica.DB // set by Server.bind
}

func (rs *records) routes(on huma.API) {
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/records/{dataset}/{key}", OperationID: "inspect-record",
		Summary: "One record on every tier, with a verdict", Description: "Content (data=true) needs the role operator, and sensitive properties the role admin.",
	}, rs.inspectRecord)
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/records/{dataset}/{key}/invalidate", OperationID: "invalidate-record",
		Summary: "Make the cached copies of one record stale", DefaultStatus: http.StatusAccepted,
	}, rs.invalidateRecord)
}

type recordInput struct {
	Dataset string `path:"dataset" maxLength:"64"`
	Key     string `path:"key" maxLength:"1536"`
	Events  int    `query:"events" minimum:"1" maximum:"100" default:"10" doc:"most events to show"`
	Scan    int64  `query:"scan" minimum:"0" maximum:"1000000" default:"20000" doc:"how many offsets from the end of the partition are looked through"`
	Data    bool   `query:"data" doc:"show content"`
}

type recordOutput struct{ Body api.Record }

// needContent refuses content to those who may not see it.
func needContent(ctx context.Context, wanted bool) error {
	if wanted && !access.PrincipalOf(ctx).Role.May(access.Operator) {
		return huma.Error403Forbidden("content needs the role operator")
	}
	return nil
}

func (rs *records) inspectRecord(ctx context.Context, in *recordInput) (*recordOutput, error) {
	d, err := rs.answers.dataset(in.Dataset)
	if err != nil {
		return nil, err
	}
	if err := needContent(ctx, in.Data); err != nil {
		return nil, err
	}
	if _, err := d.ParseKey(in.Key); err != nil {
		return nil, rs.answers.fail(ctx, "read key", err)
	}
	out, err := rs.shared.get(ctx, fmt.Sprintf("%t %+v", maskOf(ctx, d) != nil, *in), func(ctx context.Context) (*recordOutput, error) { return rs.lookRecord(ctx, d, in) })
	return out, rs.answers.fail(ctx, "inspect record", err)
}

func (rs *records) lookRecord(ctx context.Context, d *schemas.Dataset, in *recordInput) (*recordOutput, error) {
	r := api.Record{Dataset: d.Name, Key: in.Key, Topic: d.Topic, Nodes: []report.NodeCopy{}, Letters: []api.Letter{}}
	for _, look := range []func(context.Context, *schemas.Dataset, *recordInput, *api.Record) error{
		rs.lookKafka, rs.lookRow, rs.lookLetters, rs.lookCopies,
	} {
		if err := look(ctx, d, in, &r); err != nil {
			return nil, rs.answers.fail(ctx, "inspect record", err)
		}
	}
	r.Verdict, r.Fresh = verdict(&r)
	return &recordOutput{r}, nil
}

// lookKafka reads the end of the record's partition, or of all where its events may be in any.
func (rs *records) lookKafka(ctx context.Context, d *schemas.Dataset, in *recordInput, r *api.Record) error {
	r.Kafka = api.KafkaSide{Committed: -1, Events: []api.Message{}}
	info, err := rs.kafka.Topic(ctx, d.Topic)
	if noTopic(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ends, err := rs.kafka.Offsets(ctx, d.Topic)
	if err != nil {
		return err
	}
	committed, err := rs.kafka.CommittedOffsets(ctx, rs.group, []string{d.Topic})
	if err != nil {
		return err
	}
	look, err := rs.topics.looker(ctx, d)
	if err != nil {
		return err
	}
	r.Partition = kafkalog.PartitionOf([]byte(in.Key), info.Partitions)
	one, err := rs.topics.onePartition(ctx, d, info)
	if err != nil {
		return err
	}
	if one {
		return rs.lookPartition(ctx, look, in, r, kafkalog.Partition{Topic: d.Topic, TopicID: info.ID, ID: r.Partition}, ends, committed)
	}
	for id := range info.Partitions {
		one := api.Record{Kafka: api.KafkaSide{Committed: -1}}
		if err := rs.lookPartition(ctx, look, in, &one, kafkalog.Partition{Topic: d.Topic, TopicID: info.ID, ID: id}, ends, committed); err != nil {
			return err
		}
		if len(one.Kafka.Events) > 0 || id == 0 {
			one.Kafka.Events = append(r.Kafka.Events, one.Kafka.Events...) // never nil, so that JSON has a list
			r.Kafka, r.Partition = one.Kafka, id
		}
	}
	return nil
}

func (rs *records) lookPartition(
	ctx context.Context, look *looker, in *recordInput, r *api.Record, part kafkalog.Partition, ends map[int32]kafkalog.Offsets, committed map[string]map[int32]int64,
) error {
	if c, ok := committed[part.Topic][part.ID]; ok {
		r.Kafka.Committed = c
	}
	o := ends[part.ID]
	r.Kafka.From, r.Kafka.To = max(o.First, o.LastStable-in.Scan), o.LastStable
	size := 0
	reached, err := rs.topics.scan(ctx, part, r.Kafka.From, r.Kafka.To, func(rec *schemas.Record) bool {
		for _, m := range look.messagesOf(part.ID, rec, in.Data) {
			if m.Key != in.Key {
				continue
			}
			r.Kafka.Events = append(r.Kafka.Events, m)
			for size += shown(&m); len(r.Kafka.Events) > in.Events || size > maxAnswer && len(r.Kafka.Events) > 1; {
				size -= shown(&r.Kafka.Events[0])
				r.Kafka.Events = slices.Delete(r.Kafka.Events, 0, 1)
			}
		}
		return true
	})
	r.Kafka.To = reached
	return err
}

func (rs *records) lookRow(ctx context.Context, d *schemas.Dataset, in *recordInput, r *api.Record) error {
	row, err := rs.db.Rows.Get(ctx, d, in.Key)
	if err != nil || !row.Found {
		return err
	}
	r.Row = &api.RowSide{Version: row.Version, Deleted: row.Deleted, At: api.Instant(row.At)}
	if in.Data {
		r.Row.Data, err = json.Marshal(row.Properties(d))
		r.Row.Data = maskOf(ctx, d).apply(r.Row.Data)
	}
	return err
}

func (rs *records) lookLetters(ctx context.Context, d *schemas.Dataset, in *recordInput, r *api.Record) error {
	letters, err := rs.db.Letters.List(ctx, replica.LetterQuery{Dataset: d.Name, Keys: []string{in.Key}, State: replica.StateOpen, Limit: 20})
	for i := range letters {
		r.Letters = append(r.Letters, letterOf(&letters[i]))
	}
	return err
}

func (rs *records) lookCopies(ctx context.Context, d *schemas.Dataset, in *recordInput, r *api.Record) error {
	if d.Cache == nil || rs.redis == nil {
		return nil
	}
	name, err := d.CacheKey(in.Key)
	if err != nil {
		return err
	}
	reader, err := consistency.NewReader(rs.redis, rs.namespace, rs.lanes)
	if err != nil {
		return err
	}
	copies, err := reader.Look(ctx, name)
	if err != nil {
		return err
	}
	r.Shared = &copies[0].Shared
	r.Nodes = append(r.Nodes, copies[0].Nodes...)
	return nil
}

type acceptedOutput struct {
	Body struct {
		Token string `json:"token" doc:"what a reader can wait for"`
	}
}

type invalidateRecordInput struct {
	Dataset string `path:"dataset" maxLength:"64"`
	Key     string `path:"key" maxLength:"1536"`
	Body    reason
}

func (rs *records) invalidateRecord(ctx context.Context, in *invalidateRecordInput) (*acceptedOutput, error) {
	d, err := rs.answers.dataset(in.Dataset)
	if err != nil {
		return nil, err
	}
	gate.Note(ctx, "reason", in.Body.Reason)
	if d.Cache == nil {
		return nil, huma.Error409Conflict("the dataset has no cache section, so nothing of it is cached")
	}
	name, err := d.CacheKey(in.Key)
	if err != nil {
		return nil, rs.answers.fail(ctx, "read key", err)
	}
	return rs.publisher.invalidate(ctx, []string{name}, nil)
}
