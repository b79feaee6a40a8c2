package admin

import (
	"context"
	"database/sql"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

type empty struct{}

// listed is an answer with a list.
type listed[T any] struct {
	Body struct {
		Items []T `json:"items"`
		// Next is only in lists that come in pages.
		Next string `json:"next,omitempty" doc:"of a list in pages: what to give as after or before for the next page; absent at the end"`
	}
}

func listOf[T any](items []T) *listed[T] {
	out := &listed[T]{}
	out.Body.Items = items
	if items == nil {
		out.Body.Items = []T{}
	}
	return out
}

// paged is listOf for a list in pages: a full page may have a successor, which begins behind its last item.
func paged[T any](items []T, limit int, id func(*T) string) *listed[T] {
	out := listOf(items)
	if len(items) > 0 && len(items) >= limit {
		out.Body.Next = id(&items[len(items)-1])
	}
	return out
}

// reason is the body of what needs one.
type reason struct {
	Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it is kept in the audit log"`
}

// overview shows what is declared, paused, behind and changed.
type overview struct {
	datasets *schemas.Datasets
	lag      *lagReader
	lags     shared[[]api.Partition]
	nodes    *nodes
	answers  *answers
	db       *replica.DB // this and the next are set by Server.bind
	sql      *sql.DB
}

func (ov *overview) routes(on huma.API) {
	huma.Register(on, huma.Operation{Method: http.MethodGet, Path: "/v1/datasets", OperationID: "list-datasets", Summary: "Datasets, their pauses and dead letters"}, ov.listDatasets)
	huma.Register(on, huma.Operation{Method: http.MethodPost, Path: "/v1/datasets/{dataset}/pause", OperationID: "pause-dataset", Summary: "Pause a dataset on every worker"}, ov.pauseDataset)
	huma.Register(on, huma.Operation{Method: http.MethodPost, Path: "/v1/datasets/{dataset}/resume", OperationID: "resume-dataset", Summary: "Let a dataset continue"}, ov.resumeDataset)
	huma.Register(on, huma.Operation{Method: http.MethodGet, Path: "/v1/lag", OperationID: "list-lag", Summary: "How far each partition is"}, ov.listLag)
	huma.Register(on, huma.Operation{Method: http.MethodGet, Path: "/v1/nodes", OperationID: "list-nodes", Summary: "Nodes and workers that are alive"}, ov.nodes.list)
	huma.Register(on, huma.Operation{Method: http.MethodPost, Path: "/v1/nodes/{node}/flush", OperationID: "flush-node", Summary: "Make one node forget its local entries"}, ov.nodes.flushNode)
	huma.Register(on, huma.Operation{Method: http.MethodGet, Path: "/v1/audit", OperationID: "list-audit", Summary: "What was changed, newest first"}, ov.listAudit)
	huma.Register(on, huma.Operation{Method: http.MethodGet, Path: "/v1/sd/prometheus", OperationID: "discover", Summary: "Live workers and nodes for Prometheus' HTTP service discovery"}, ov.nodes.discover)
}

func (ov *overview) listDatasets(ctx context.Context, _ *empty) (*listed[api.DatasetState], error) {
	pauses, err := ov.db.Pauses.All(ctx)
	if err != nil {
		return nil, ov.answers.fail(ctx, "read pauses", err)
	}
	var out []api.DatasetState
	for _, d := range ov.datasets.All() {
		st, err := ov.stateOf(ctx, d, pauses)
		if err != nil {
			return nil, ov.answers.fail(ctx, "count dead letters", err)
		}
		out = append(out, st)
	}
	return listOf(out), nil
}

// stateOf returns what a list of datasets has of one.
func (ov *overview) stateOf(ctx context.Context, d *schemas.Dataset, pauses map[string]replica.Pause) (api.DatasetState, error) {
	st := api.DatasetState{Name: d.Name, Topic: d.Topic, Table: d.Replica.Table, Format: string(d.Format), Key: d.Key, Cached: d.Cache != nil, Letters: map[string]int64{}}
	for _, c := range d.Replica.Columns {
		st.Columns = append(st.Columns, c.Name)
	}
	if p, ok := pauses[d.Name]; ok {
		pause := api.Pause(p)
		st.Pause = &pause
	}
	counts, err := ov.db.Letters.Count(ctx, d.Name)
	for state, n := range counts {
		st.Letters[string(state)] = n
	}
	return st, err
}

type datasetInput struct {
	Dataset string `path:"dataset" maxLength:"64"`
	Body    reason
}

type pauseOutput struct {
	Body api.Pause
}

func (ov *overview) pauseDataset(ctx context.Context, in *datasetInput) (*pauseOutput, error) {
	d, err := ov.answers.dataset(in.Dataset)
	if err != nil {
		return nil, err
	}
	gate.Note(ctx, "reason", in.Body.Reason)
	p, err := ov.db.Pauses.Add(ctx, d.Name, access.PrincipalOf(ctx).Name, in.Body.Reason)
	if err != nil {
		return nil, ov.answers.fail(ctx, "pause dataset", err)
	}
	return &pauseOutput{api.Pause(p)}, nil
}

type resumeOutput struct {
	Body struct {
		Resumed bool `json:"resumed" doc:"false: it was not paused"`
	}
}

type resumeInput struct {
	Dataset string `path:"dataset" maxLength:"64"`
	Body    struct {
		Reason       string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it is kept in the audit log"`
		IgnoreStorms int64  `json:"ignore_storms_seconds,omitempty" minimum:"0" maximum:"2592000" doc:"for how long storms of dead letters do not pause the dataset again; 0: not at all"`
	}
}

func (ov *overview) resumeDataset(ctx context.Context, in *resumeInput) (*resumeOutput, error) {
	gate.Note(ctx, "reason", in.Body.Reason)
	out := &resumeOutput{}
	var err error
	if out.Body.Resumed, err = ov.db.Pauses.End(ctx, in.Dataset, time.Duration(in.Body.IgnoreStorms)*time.Second); err != nil {
		return nil, ov.answers.fail(ctx, "resume dataset", err)
	}
	if !out.Body.Resumed { // one that is not declared any more may still have a pause to remove
		_, err = ov.answers.dataset(in.Dataset)
	}
	return out, err
}

func (ov *overview) listLag(ctx context.Context, _ *empty) (*listed[api.Partition], error) {
	parts, err := ov.lags.get(ctx, "", ov.lag.read)
	if err != nil {
		return nil, ov.answers.fail(ctx, "read positions", err)
	}
	return listOf(parts), nil
}

type auditInput struct {
	Before int64 `query:"before" minimum:"0" doc:"only lines with a smaller number: the last of the page before"`
	Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (ov *overview) listAudit(ctx context.Context, in *auditInput) (*listed[api.Entry], error) {
	entries, err := gate.Log{DB: ov.sql}.Read(ctx, in.Before, in.Limit)
	if err != nil {
		return nil, ov.answers.fail(ctx, "read audit log", err)
	}
	return paged(entries, in.Limit, func(e *api.Entry) string { return strconv.FormatInt(e.ID, 10) }), nil
}
