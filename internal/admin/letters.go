package admin

import (
	"context"
	"database/sql"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

func letterOf(l *replica.StoredLetter) api.Letter {
	out := api.Letter{
		ID: l.ID().String(), Dataset: text([]byte(l.Dataset)), Key: text([]byte(l.Key)), Version: l.Version, EventID: text([]byte(l.EventID)),
		Reason: string(l.Reason), Errno: l.Errno, Detail: text([]byte(l.Detail)), State: string(l.State), Attempts: l.Attempts, Successor: text([]byte(l.Successor)), Size: l.Size,
		Created: l.Created, Updated: l.Updated,
	}
	if l.Op != 0 {
		out.Op = l.Op.String()
	}
	if l.Record != nil {
		out.Time = api.Instant(l.Record.Time)
	}
	return out
}

// reasons are those that letters have.
func reasons() []string {
	var names []string
	for _, r := range []schemas.Reason{
		schemas.ReasonMalformed, schemas.ReasonSchema, schemas.ReasonPartial, schemas.ReasonKey, schemas.ReasonVersion,
		schemas.ReasonDataset, schemas.ReasonTooLarge, schemas.ReasonRefused,
	} {
		names = append(names, string(r))
	}
	return names
}

// LetterQuery returns the choice of a filter, of letters in one state or, if that is empty, in any.
func LetterQuery(f api.LetterFilter, state replica.State) (replica.LetterQuery, error) {
	since, _ := time.Parse(time.RFC3339, f.Since) // the route checked its form; "" is zero
	q := replica.LetterQuery{
		Dataset: f.Dataset, Reason: schemas.Reason(f.Reason), Source: f.Source, Topic: f.Topic, Errno: f.Errno, Detail: f.Detail, Since: since, State: state,
		From: f.FromOffset, Until: f.ToOffset,
	}
	if known := reasons(); f.Reason != "" && !slices.Contains(known, f.Reason) {
		return q, huma.Error422UnprocessableEntity("reason is none of " + strings.Join(known, ", "))
	}
	if f.Key != "" {
		q.Keys = []string{f.Key}
	}
	if f.Partition != "" {
		n, err := strconv.ParseInt(f.Partition, 10, 32)
		if err != nil || f.Topic == "" {
			return q, huma.Error422UnprocessableEntity("partition goes with topic: give both, or source alone")
		}
		p := int32(n)
		q.Partition = &p
	}
	if (q.From > 0 || q.Until > 0) && q.Source == "" && q.Partition == nil {
		return q, huma.Error422UnprocessableEntity("from_offset and to_offset mean nothing without a partition: give topic and partition, or source")
	}
	return q, nil
}

// letters shows and settles dead letters.
type letters struct {
	datasets  *schemas.Datasets
	producer  Producer
	kafka     *kafkalog.Client
	namespace string
	records   *records
	answers   *answers
	log       *slog.Logger
	db        *replica.DB // this and the next are set by Server.bind
	sql       *sql.DB
}

func (ls *letters) routes(on huma.API) {
	huma.Register(on, huma.Operation{Method: http.MethodGet, Path: "/v1/deadletters", OperationID: "list-deadletters", Summary: "Dead letters, a page at a time"}, ls.listLetters)
	huma.Register(on, huma.Operation{Method: http.MethodGet, Path: "/v1/deadletters/groups", OperationID: "group-deadletters", Summary: "Open dead letters by what is wrong with them"}, ls.groupLetters)
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/deadletters/{id}", OperationID: "show-deadletter", Summary: "One dead letter beside the record's current state",
		Description: "Content (data=true) needs the role operator, and sensitive properties the role admin.",
	}, ls.showLetter)
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/deadletters/{id}/edit", OperationID: "edit-deadletter", Summary: "Publish a corrected event in the place of an open dead letter",
		Description: "The event is about the dead letter's record, under its version, with the data given here; it is checked like any other and gets a new id. " +
			"If the record is as new or newer already, nothing is published and the dead letter becomes superseded. A dry run unless dry_run is false.",
		MaxBodyBytes: maxEditBody + 1,
	}, ls.editLetter)
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/deadletters/redrives", OperationID: "redrive-deadletters", Summary: "Apply open dead letters again under their stored versions",
		Description: "A dry run unless dry_run is false.",
	}, ls.redriveLetters)
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/deadletters/discards", OperationID: "discard-deadletters", Summary: "Discard open dead letters",
		Description: "A dry run unless dry_run is false.",
	}, ls.discardLetters)
}

type lettersInput struct {
	api.LetterFilter
	State string `query:"state" enum:"open,superseded,redriven,discarded" doc:"only these"`
	After string `query:"after" maxLength:"400" doc:"id of the last dead letter of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (ls *letters) listLetters(ctx context.Context, in *lettersInput) (*listed[api.Letter], error) {
	q, err := LetterQuery(in.LetterFilter, replica.State(in.State))
	if err != nil {
		return nil, err
	}
	q.Limit = in.Limit
	if in.After != "" {
		id, ok := replica.ParseLetterID(in.After)
		if !ok {
			return nil, huma.Error422UnprocessableEntity("after is not the id of a dead letter: source@offset.index")
		}
		q.After = &id
	}
	letters, err := ls.db.Letters.List(ctx, q)
	if err != nil {
		return nil, ls.answers.fail(ctx, "read dead letters", err)
	}
	out := make([]api.Letter, 0, len(letters))
	for i := range letters {
		out = append(out, letterOf(&letters[i]))
	}
	return paged(out, in.Limit, func(l *api.Letter) string { return l.ID }), nil
}

type letterInput struct {
	ID   string `path:"id" maxLength:"400"`
	Data bool   `query:"data" doc:"show content"`
}

type shownOutput struct{ Body api.ShownLetter }

func (ls *letters) showLetter(ctx context.Context, in *letterInput) (*shownOutput, error) {
	if err := needContent(ctx, in.Data); err != nil {
		return nil, err
	}
	l, err := ls.letter(ctx, in.ID, in.Data)
	if err != nil {
		return nil, err
	}
	out := &shownOutput{api.ShownLetter{Letter: letterOf(l)}}
	if in.Data && l.Record != nil {
		hidden := ls.maskOf(ctx, l.Dataset)
		switch {
		case utf8.Valid(l.Record.Value):
			out.Body.Event = hidden.apply(jsonOf(l.Record.Value))
		case hidden != nil:
			out.Body.Event = hidden.apply(jsonOf([]byte(masked)))
		default:
			out.Body.EventBase64 = l.Record.Value
		}
		out.Body.Headers = map[string]string{}
		for _, h := range l.Record.Headers {
			out.Body.Headers[text([]byte(h.Key))] = text(h.Value)
		}
	}
	d, ok := ls.datasets.Get(l.Dataset)
	if !ok {
		return out, nil
	}
	if _, err := d.ParseKey(l.Key); err != nil {
		return out, nil //nolint:nilerr // the key is what is wrong with this letter, so there is nothing beside it
	}
	ri, r := &recordInput{Key: l.Key, Data: in.Data}, api.Record{}
	if err := ls.records.lookRow(ctx, d, ri, &r); err != nil {
		return nil, ls.answers.fail(ctx, "read row", err)
	}
	if err := ls.records.lookCopies(ctx, d, ri, &r); err != nil {
		return nil, ls.answers.fail(ctx, "read shared entry", err)
	}
	out.Body.Row, out.Body.Shared = r.Row, r.Shared
	return out, nil
}

// maskOf is maskOf of a dataset by its name. Of one that is not declared any more it is not known what is sensitive, and nothing is hidden but
// what is sensitive in any other.
func (ls *letters) maskOf(ctx context.Context, dataset string) mask {
	if d, ok := ls.datasets.Get(dataset); ok {
		return maskOf(ctx, d)
	}
	all := mask{}
	for _, d := range ls.datasets.All() {
		maps.Copy(all, maskOf(ctx, d))
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

func (ls *letters) letter(ctx context.Context, id string, content bool) (*replica.StoredLetter, error) {
	lid, ok := replica.ParseLetterID(id)
	if !ok {
		return nil, huma.Error422UnprocessableEntity("id is not the id of a dead letter: source@offset.index")
	}
	letters, err := ls.db.Letters.List(ctx, replica.LetterQuery{IDs: []replica.LetterID{lid}, Limit: 1, Content: content})
	if err != nil {
		return nil, ls.answers.fail(ctx, "read dead letter", err)
	}
	for i := range letters {
		if letters[i].ID() == lid {
			return &letters[i], nil
		}
	}
	return nil, huma.Error404NotFound("there is no such dead letter")
}

// dry reports whether a request is a dry run: it is unless it says false.
func dry(v *bool) bool { return v == nil || *v }

// chosen returns the choice of the open letters that a request means, and how many those are.
func (ls *letters) chosen(ctx context.Context, c *api.LetterChoice, limit int) (q replica.LetterQuery, n int64, err error) {
	gate.Note(ctx, "reason", c.Why)
	gate.Note(ctx, "filter", c.LetterFilter)
	if len(c.IDs) > 0 {
		gate.Note(ctx, "ids", c.IDs)
	}
	gate.Note(ctx, "dry_run", dry(c.DryRun))
	if !c.All && (c.LetterFilter == api.LetterFilter{}) && len(c.IDs) == 0 {
		return q, 0, huma.Error422UnprocessableEntity("no dead letters are chosen: give a filter or ids, or all: true for every open dead letter")
	}
	if q, err = LetterQuery(c.LetterFilter, replica.StateOpen); err != nil {
		return q, 0, err
	}
	for _, text := range c.IDs {
		id, ok := replica.ParseLetterID(text)
		if !ok {
			return q, 0, huma.Error422UnprocessableEntity("ids: one is not the id of a dead letter, whose form is source@offset.index; GET /v1/deadletters gives them")
		}
		q.IDs = append(q.IDs, id)
	}
	if n, err = ls.db.Letters.CountOpen(ctx, q); err != nil {
		return q, 0, ls.answers.fail(ctx, "count dead letters", err)
	}
	if n == 0 && c.Dataset != "" { // letters of a dataset that is not declared any more can be dealt with
		if _, err := ls.answers.dataset(c.Dataset); err != nil {
			return q, 0, err
		}
	}
	q.Limit = limit
	return q, n, nil
}

type redriveInput struct {
	Body struct {
		api.LetterChoice
		Limit int `json:"limit,omitempty" minimum:"1" maximum:"10000" default:"1000" doc:"most dead letters"`
	}
}

type redriveOutput struct{ Body api.Redrive }

func (ls *letters) redriveLetters(ctx context.Context, in *redriveInput) (*redriveOutput, error) {
	q, n, err := ls.chosen(ctx, &in.Body.LetterChoice, in.Body.Limit)
	if err != nil {
		return nil, err
	}
	cfg := jobs.RedriveConfig{Replica: ls.db, Kafka: ls.kafka, Namespace: ls.namespace, DryRun: dry(in.Body.DryRun), Logger: ls.log}
	report, err := jobs.Redrive(ctx, cfg, q)
	out := &redriveOutput{api.Redrive{
		DryRun: cfg.DryRun, Outcomes: map[string]int64{}, Samples: []api.RedriveSample{}, Left: max(0, n-int64(q.Limit)), Token: report.Token,
	}}
	for o, n := range report.Counts {
		out.Body.Outcomes[string(o)] = int64(n)
	}
	gate.Note(ctx, "outcomes", out.Body.Outcomes)
	if err != nil {
		return nil, ls.answers.fail(ctx, "redrive", err)
	}
	if closed := int64(len(q.IDs)) - n; closed > 0 {
		out.Body.Outcomes[string(replica.OutcomeClosed)] += closed
	}
	for _, d := range report.Samples {
		out.Body.Samples = append(out.Body.Samples, api.RedriveSample{
			ID: d.String(), Dataset: text([]byte(d.Dataset)), Key: text([]byte(d.Key)), Version: d.Version, Outcome: string(d.Outcome),
			Reason: string(d.Reason), Errno: d.Errno, Detail: d.Detail,
		})
	}
	return out, nil
}

type discardInput struct {
	Body struct {
		api.LetterChoice
		Limit int `json:"limit,omitempty" minimum:"1" maximum:"1000000" default:"1000" doc:"most dead letters"`
	}
}

type discardOutput struct{ Body api.Discard }

func (ls *letters) discardLetters(ctx context.Context, in *discardInput) (*discardOutput, error) {
	q, n, err := ls.chosen(ctx, &in.Body.LetterChoice, in.Body.Limit)
	if err != nil {
		return nil, err
	}
	out := &discardOutput{api.Discard{DryRun: dry(in.Body.DryRun), Letters: min(n, int64(q.Limit)), Left: max(0, n-int64(q.Limit))}}
	if !out.Body.DryRun {
		out.Body.Letters, err = ls.db.Letters.Discard(ctx, q)
	}
	gate.Note(ctx, "letters", out.Body.Letters)
	if err != nil {
		return nil, ls.answers.fail(ctx, "discard dead letters", err)
	}
	return out, nil
}

const sqlGroups = "SELECT dataset, reason, COALESCE(errno, 0), detail, COUNT(*), MIN(created_at), MAX(created_at) FROM freshet_dead_letter" +
	" WHERE state = 'open' GROUP BY dataset, reason, COALESCE(errno, 0), detail ORDER BY COUNT(*) DESC LIMIT 500"

func (ls *letters) groupLetters(ctx context.Context, _ *empty) (*listed[api.LetterGroup], error) {
	groups, err := ls.groups(ctx)
	if err != nil {
		return nil, ls.answers.fail(ctx, "group dead letters", err)
	}
	return listOf(groups), nil
}

func (ls *letters) groups(ctx context.Context) (groups []api.LetterGroup, err error) {
	rows, err := ls.sql.QueryContext(ctx, sqlGroups)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var g api.LetterGroup
		var dataset, reason, detail []byte
		var first, last int64
		if err := rows.Scan(&dataset, &reason, &g.Errno, &detail, &g.Count, &first, &last); err != nil {
			return nil, err
		}
		g.Dataset, g.Reason, g.Detail = text(dataset), text(reason), text(detail)
		g.First, g.Last = api.Instant(first), api.Instant(last)
		groups = append(groups, g)
	}
	return groups, rows.Err()
}
