package admin

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/lint"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// sourceWait bounds what is asked beside MySQL for one dataset: without an answer that part is absent.
const sourceWait = 2 * time.Second

// datasets shows declarations, and checks proposed ones.
type datasets struct {
	overview *overview
	topics   *topicReader
	folder   fs.FS // nil: the texts of declarations are not known
	outbox   func(context.Context) (api.Outbox, error)
	answers  *answers
}

func (ds *datasets) routes(on huma.API) {
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/datasets/{dataset}", OperationID: "show-dataset", Summary: "One dataset: declaration, schema, columns, cache keys, findings, source",
	}, ds.show)
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/datasets/{dataset}/check", OperationID: "check-dataset", Summary: "Whether a proposed declaration or schema may follow the one in force",
		Description: "Nothing is changed. What is left out of the body is taken from the declaration in force.",
	}, ds.check)
}

type datasetPath struct {
	Dataset string `path:"dataset" maxLength:"64"`
}

type datasetOutput struct{ Body api.DatasetDetail }

func (ds *datasets) show(ctx context.Context, in *datasetPath) (*datasetOutput, error) {
	d, err := ds.answers.dataset(in.Dataset)
	if err != nil {
		return nil, err
	}
	pauses, err := ds.overview.db.Pauses.All(ctx)
	if err != nil {
		return nil, ds.answers.fail(ctx, "read pauses", err)
	}
	state, err := ds.overview.stateOf(ctx, d, pauses)
	if err != nil {
		return nil, ds.answers.fail(ctx, "count dead letters", err)
	}
	out := &datasetOutput{api.DatasetDetail{
		DatasetState: state, File: d.File, Properties: properties(d), Policies: policies(d), DDL: tables.Create(d, ds.overview.db.Dialect()), Findings: []api.SchemaFinding{},
		Source: ds.source(ctx, d),
	}}
	b := &out.Body
	if b.Schema, err = json.Marshal(d.Schema().Document()); err != nil {
		return nil, ds.answers.fail(ctx, "write schema", err)
	}
	if ds.folder != nil && d.File != "" {
		if text, err := fs.ReadFile(ds.folder, d.File); err == nil { // else it was moved since
			b.Declaration = string(text)
		}
	}
	if c := d.Cache; c != nil {
		b.Cache = &api.CacheKeys{Key: c.Key, Derived: c.Derived, Tags: c.Tags, External: c.External, Common: c.Common}
	}
	broken, err := ds.overview.db.Prepare(ctx, []*schemas.Dataset{d})
	if err != nil {
		return nil, ds.answers.fail(ctx, "look at the table", err)
	}
	b.Findings = append(b.Findings, tableFindings(broken)...)
	for _, l := range lint.Dataset(d) {
		b.Findings = append(b.Findings, api.SchemaFinding{Level: l.Level, Path: l.Path, Text: l.Text})
	}
	return out, nil
}

func tableFindings(broken []*tables.DatasetError) (out []api.SchemaFinding) {
	for _, b := range broken {
		out = append(out, api.SchemaFinding{Level: lint.Error, Path: "replica.table", Text: b.Problem, Fix: b.Fix})
	}
	return out
}

func properties(d *schemas.Dataset) []api.Property {
	out := make([]api.Property, 0, len(d.Replica.Columns))
	for _, c := range d.Replica.Columns {
		out = append(out, api.Property{Name: c.Property.Name, Column: c.Name, Kind: kindName(c.Property.Kind), MaxLength: c.Property.MaxLength, Key: c.Key})
	}
	return out
}

func kindName(k schemas.Kind) string {
	switch k {
	case schemas.KindInteger:
		return "integer"
	case schemas.KindNumber:
		return "number"
	case schemas.KindDecimal:
		return "decimal"
	case schemas.KindDateTime:
		return "date-time"
	case schemas.KindDate:
		return "date"
	case schemas.KindBoolean:
		return "boolean"
	case schemas.KindJSON:
		return "json"
	default:
		return "string"
	}
}

func policies(d *schemas.Dataset) api.Policies {
	choose := func(second bool, a, b string) string {
		if second {
			return b
		}
		return a
	}
	return api.Policies{
		Version:           string(d.Version.Kind),
		UnknownProperties: choose(d.RejectUnknown, "ignore", "reject"),
		OnDelete:          choose(d.KeepOnDelete, "clear", "keep"),
		OnDataLoss:        choose(d.ResyncOnDataLoss, "stop", "resync"),
		OnStorm:           choose(d.FlowInStorms, "pause", "flow"),
	}
}

// source returns what is known of where the events come from. What does not answer is absent.
func (ds *datasets) source(ctx context.Context, d *schemas.Dataset) api.SourceState {
	ctx, cancel := context.WithTimeout(ctx, sourceWait)
	defer cancel()
	st := api.SourceState{Format: string(d.Format)}
	if ds.outbox != nil {
		if o, err := ds.outbox(ctx); err == nil {
			st.Outbox = &o
		} else {
			ds.answers.log.Debug("state of the outbox is not known", "error", err)
		}
	}
	if err := ds.newest(ctx, d, &st); err != nil {
		ds.answers.log.Debug("newest record of a topic is not known", "dataset", d.Name, "error", err)
	}
	return st
}

// newest reads the last record of each partition.
func (ds *datasets) newest(ctx context.Context, d *schemas.Dataset, st *api.SourceState) error {
	info, ends, from, err := ds.topics.topicFrom(ctx, d, "end-1")
	if err != nil {
		return err
	}
	for id, o := range ends {
		_, err := ds.topics.scan(ctx, kafkalog.Partition{Topic: d.Topic, TopicID: info.ID, ID: id}, from[id], o.LastStable, func(rec *schemas.Record) bool {
			if at := api.Instant(rec.Time); st.Newest == nil || at.After(*st.Newest) {
				st.Newest, st.Position = &at, capturePosition(rec.Value)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// capturePosition returns where a capture tool was, nil if the record does not say so.
func capturePosition(value []byte) json.RawMessage {
	var rec struct {
		Source  json.RawMessage `json:"source"`
		Payload struct {
			Source json.RawMessage `json:"source"`
		} `json:"payload"`
		Position json.RawMessage `json:"position"`
	}
	if json.Unmarshal(value, &rec) != nil {
		return nil
	}
	for _, at := range []json.RawMessage{rec.Source, rec.Payload.Source} {
		if len(at) > 0 && at[0] == '{' {
			return at
		}
	}
	return rec.Position
}
