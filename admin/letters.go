package admin

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/consistency"
	"github.com/freshet/freshet/consumer/jobs"
	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
)

// Letter is a dead letter without content.
type Letter struct {
	ID       string `json:"id" doc:"source@offset.index"`
	Dataset  string `json:"dataset"`
	Key      string `json:"key,omitempty"`
	Version  int64  `json:"version,omitempty"`
	Op       string `json:"op,omitempty"`
	EventID  string `json:"event_id,omitempty"`
	Reason   string `json:"reason"`
	Errno    uint16 `json:"errno,omitempty"`
	Detail   string `json:"detail"`
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	// Successor is set once an edit was published.
	Successor string    `json:"successor,omitempty" doc:"id of the corrected event that was published in its place"`
	Size      int64     `json:"size"`
	Time      time.Time `json:"time" doc:"of the event, by the broker"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
}

func letterOf(l *replica.StoredLetter) Letter {
	out := Letter{
		ID: l.ID().String(), Dataset: text([]byte(l.Dataset)), Key: text([]byte(l.Key)), Version: l.Version, EventID: text([]byte(l.EventID)),
		Reason: string(l.Reason), Errno: l.Errno, Detail: text([]byte(l.Detail)), State: string(l.State), Attempts: l.Attempts, Successor: text([]byte(l.Successor)), Size: l.Size,
		Created: l.Created, Updated: l.Updated,
	}
	if l.Op != 0 {
		out.Op = l.Op.String()
	}
	if l.Record != nil {
		out.Time = instant(l.Record.Time)
	}
	return out
}

// LetterFilter chooses letters.
type LetterFilter struct {
	Dataset string `query:"dataset" json:"dataset,omitempty" maxLength:"64"`
	Key     string `query:"key" json:"key,omitempty" maxLength:"512"`
	Reason  string `query:"reason" json:"reason,omitempty" maxLength:"32"`
	Source  string `query:"source" json:"source,omitempty" maxLength:"300" doc:"<topic>/<topic id>/<partition>"`
	Topic   string `query:"topic" json:"topic,omitempty" maxLength:"249"`
	// Partition is a text, so that 0 can be told from nothing.
	Partition  string `query:"partition" json:"partition,omitempty" pattern:"^([0-9]{1,9})?$" doc:"of the topic, which is to be given too"`
	FromOffset int64  `query:"from_offset" json:"from_offset,omitempty" minimum:"0" doc:"first offset; it wants topic and partition, or source"`
	ToOffset   int64  `query:"to_offset" json:"to_offset,omitempty" minimum:"0" doc:"first offset that is not wanted any more; it wants topic and partition, or source; 0: no end"`
	Errno      uint16 `query:"errno" json:"errno,omitempty" maximum:"65535" doc:"MySQL's error number"`
	Detail     string `query:"detail" json:"detail,omitempty" maxLength:"1000" doc:"exactly this detail: with dataset, reason and errno, one group of /v1/deadletters/groups"`
	Since      string `query:"since" json:"since,omitempty" maxLength:"40" format:"date-time" doc:"written since, RFC 3339"`
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

// Query makes the choice of the filter, of letters in one state or, if that is empty, in any.
func (f LetterFilter) Query(state replica.State) (replica.LetterQuery, error) {
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

// letterStore has the dead letters.
type letterStore interface {
	Letters(ctx context.Context, q replica.LetterQuery) ([]replica.StoredLetter, error)
	CountOpen(ctx context.Context, q replica.LetterQuery) (int64, error)
	Discard(ctx context.Context, q replica.LetterQuery) (int64, error)
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
	db        letterStore // this and the next are set by Server.bind
	edits     letterEditor
	redrives  jobs.Letters
	sql       *sql.DB
}

func (ls *letters) routes(api huma.API) {
	huma.Register(api, huma.Operation{Method: http.MethodGet, Path: "/v1/deadletters", OperationID: "list-deadletters", Summary: "Dead letters, a page at a time"}, ls.listLetters)
	huma.Register(api, huma.Operation{Method: http.MethodGet, Path: "/v1/deadletters/groups", OperationID: "group-deadletters", Summary: "Open dead letters by what is wrong with them"}, ls.groupLetters)
	huma.Register(api, huma.Operation{
		Method: http.MethodGet, Path: "/v1/deadletters/{id}", OperationID: "show-deadletter", Summary: "One dead letter beside the record as it is now",
		Description: "Content (data=true) needs the role operator.",
	}, ls.showLetter)
	huma.Register(api, huma.Operation{
		Method: http.MethodPost, Path: "/v1/deadletters/{id}/edit", OperationID: "edit-deadletter", Summary: "Publish a corrected event in the place of an open letter",
		Description: "The event is about the letter's record, under its version, with the data given here; it is checked like any other and gets a new id. " +
			"If the record is as new or newer already, nothing is published and the letter becomes superseded. A dry run unless dry_run is false.",
		MaxBodyBytes: maxEditBody + 1,
	}, ls.editLetter)
	huma.Register(api, huma.Operation{
		Method: http.MethodPost, Path: "/v1/deadletters/redrives", OperationID: "redrive-deadletters", Summary: "Apply open letters again under their stored versions",
		Description: "A dry run unless dry_run is false.",
	}, ls.redriveLetters)
	huma.Register(api, huma.Operation{
		Method: http.MethodPost, Path: "/v1/deadletters/discards", OperationID: "discard-deadletters", Summary: "Give open letters up",
		Description: "A dry run unless dry_run is false.",
	}, ls.discardLetters)
}

type lettersInput struct {
	LetterFilter
	State string `query:"state" enum:"open,superseded,redriven,discarded" doc:"only these"`
	After string `query:"after" maxLength:"400" doc:"id of the last letter of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (ls *letters) listLetters(ctx context.Context, in *lettersInput) (*listed[Letter], error) {
	q, err := in.Query(replica.State(in.State))
	if err != nil {
		return nil, err
	}
	q.Limit = in.Limit
	if in.After != "" {
		id, ok := replica.ParseLetterID(in.After)
		if !ok {
			return nil, huma.Error422UnprocessableEntity("after is no letter's id: source@offset.index")
		}
		q.After = &id
	}
	letters, err := ls.db.Letters(ctx, q)
	if err != nil {
		return nil, ls.answers.fail(ctx, "read dead letters", err)
	}
	out := make([]Letter, 0, len(letters))
	for i := range letters {
		out = append(out, letterOf(&letters[i]))
	}
	return listOf(out), nil
}

type letterInput struct {
	ID   string `path:"id" maxLength:"400"`
	Data bool   `query:"data" doc:"show content"`
}

// ShownLetter is a letter, its event, and its record's row and shared entry as they are now.
type ShownLetter struct {
	Letter
	Headers     map[string]string   `json:"headers,omitempty"`
	Event       json.RawMessage     `json:"event,omitempty" doc:"the record's bytes; a JSON string if they are no JSON"`
	EventBase64 []byte              `json:"event_base64,omitempty" doc:"the record's bytes if they are no text"`
	Row         *RowSide            `json:"row,omitempty"`
	Shared      *consistency.Shared `json:"shared,omitempty"`
}

type shownOutput struct{ Body ShownLetter }

func (ls *letters) showLetter(ctx context.Context, in *letterInput) (*shownOutput, error) {
	if err := needContent(ctx, in.Data); err != nil {
		return nil, err
	}
	l, err := ls.letter(ctx, in.ID, in.Data)
	if err != nil {
		return nil, err
	}
	out := &shownOutput{ShownLetter{Letter: letterOf(l)}}
	if in.Data && l.Record != nil {
		if utf8.Valid(l.Record.Value) {
			out.Body.Event = jsonOf(l.Record.Value)
		} else {
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
	ri, r := &recordInput{Key: l.Key, Data: in.Data}, Record{}
	if err := ls.records.lookRow(ctx, d, ri, &r); err != nil {
		return nil, ls.answers.fail(ctx, "read row", err)
	}
	if err := ls.records.lookCopies(ctx, d, ri, &r); err != nil {
		return nil, ls.answers.fail(ctx, "read shared entry", err)
	}
	out.Body.Row, out.Body.Shared = r.Row, r.Shared
	return out, nil
}

func (ls *letters) letter(ctx context.Context, id string, content bool) (*replica.StoredLetter, error) {
	lid, ok := replica.ParseLetterID(id)
	if !ok {
		return nil, huma.Error422UnprocessableEntity("id is no letter's id: source@offset.index")
	}
	letters, err := ls.db.Letters(ctx, replica.LetterQuery{IDs: []replica.LetterID{lid}, Limit: 1, Content: content})
	if err != nil {
		return nil, ls.answers.fail(ctx, "read dead letter", err)
	}
	for i := range letters {
		if letters[i].ID() == lid {
			return &letters[i], nil
		}
	}
	return nil, huma.Error404NotFound("there is no such letter")
}

// LetterChoice is a request that changes letters.
type LetterChoice struct {
	LetterFilter
	IDs    []string `json:"ids,omitempty" maxItems:"1000" doc:"these letters only"`
	All    bool     `json:"all,omitempty" doc:"every open letter; without a filter and without ids it must be said"`
	DryRun *bool    `json:"dry_run,omitempty" default:"true" doc:"change nothing; absent: true"`
	Reason string   `json:"why" minLength:"3" maxLength:"500" doc:"why; it is kept in the audit log"`
}

// dry says whether a request is a dry run: it is unless it says false.
func dry(v *bool) bool { return v == nil || *v }

// chosen gives the choice of the open letters that a request means, and how many those are.
func (ls *letters) chosen(ctx context.Context, c *LetterChoice, limit int) (q replica.LetterQuery, n int64, err error) {
	note(ctx, "reason", c.Reason)
	note(ctx, "filter", c.LetterFilter)
	if len(c.IDs) > 0 {
		note(ctx, "ids", c.IDs)
	}
	note(ctx, "dry_run", dry(c.DryRun))
	if !c.All && (c.LetterFilter == LetterFilter{}) && len(c.IDs) == 0 {
		return q, 0, huma.Error422UnprocessableEntity("no letters are chosen: give a filter or ids, or all: true for every open letter")
	}
	if q, err = c.Query(replica.StateOpen); err != nil {
		return q, 0, err
	}
	for _, text := range c.IDs {
		id, ok := replica.ParseLetterID(text)
		if !ok {
			return q, 0, huma.Error422UnprocessableEntity("ids: one is no letter's id, whose form is source@offset.index; GET /v1/deadletters gives them")
		}
		q.IDs = append(q.IDs, id)
	}
	if n, err = ls.db.CountOpen(ctx, q); err != nil {
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

// Redrive says what became, or would become, of letters.
type Redrive struct {
	DryRun   bool             `json:"dry_run"`
	Outcomes map[string]int64 `json:"outcomes" doc:"applied, stale, invalid, unfit, closed"`
	Samples  []RedriveSample  `json:"samples" doc:"a few of each outcome"`
	Left     int64            `json:"left,omitempty" doc:"open letters that the filter means too, above the limit; a replay with the action redrive takes any number"`
	Token    schemas.Token    `json:"token,omitzero" doc:"waits until nodes have seen what became stale; absent if nothing did, or if a worker publishes some of it later"`
}

// RedriveSample is one letter of a redrive.
type RedriveSample struct {
	ID      string `json:"id"`
	Dataset string `json:"dataset"`
	Key     string `json:"key,omitempty"`
	Version int64  `json:"version,omitempty"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
	Errno   uint16 `json:"errno,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

type redriveInput struct {
	Body struct {
		LetterChoice
		Limit int `json:"limit,omitempty" minimum:"1" maximum:"10000" default:"1000" doc:"most letters"`
	}
}

type redriveOutput struct{ Body Redrive }

func (ls *letters) redriveLetters(ctx context.Context, in *redriveInput) (*redriveOutput, error) {
	q, n, err := ls.chosen(ctx, &in.Body.LetterChoice, in.Body.Limit)
	if err != nil {
		return nil, err
	}
	cfg := jobs.RedriveConfig{Letters: ls.redrives, Kafka: ls.kafka, Namespace: ls.namespace, DryRun: dry(in.Body.DryRun), Logger: ls.log}
	report, err := jobs.Redrive(ctx, cfg, q)
	out := &redriveOutput{Redrive{
		DryRun: cfg.DryRun, Outcomes: map[string]int64{}, Samples: []RedriveSample{}, Left: max(0, n-int64(q.Limit)), Token: report.Token,
	}}
	for o, n := range report.Counts {
		out.Body.Outcomes[string(o)] = int64(n)
	}
	note(ctx, "outcomes", out.Body.Outcomes)
	if err != nil {
		return nil, ls.answers.fail(ctx, "redrive", err)
	}
	if closed := int64(len(q.IDs)) - n; closed > 0 {
		out.Body.Outcomes[string(replica.OutcomeClosed)] += closed
	}
	for _, d := range report.Samples {
		out.Body.Samples = append(out.Body.Samples, RedriveSample{
			ID: d.String(), Dataset: text([]byte(d.Dataset)), Key: text([]byte(d.Key)), Version: d.Version, Outcome: string(d.Outcome),
			Reason: string(d.Reason), Errno: d.Errno, Detail: d.Detail,
		})
	}
	return out, nil
}

type discardInput struct {
	Body struct {
		LetterChoice
		Limit int `json:"limit,omitempty" minimum:"1" maximum:"1000000" default:"1000" doc:"most letters"`
	}
}

// Discard says how many letters were, or would be, given up.
type Discard struct {
	DryRun  bool  `json:"dry_run"`
	Letters int64 `json:"letters"`
	Left    int64 `json:"left,omitempty" doc:"open letters that the filter means too, above the limit"`
}

type discardOutput struct{ Body Discard }

func (ls *letters) discardLetters(ctx context.Context, in *discardInput) (*discardOutput, error) {
	q, n, err := ls.chosen(ctx, &in.Body.LetterChoice, in.Body.Limit)
	if err != nil {
		return nil, err
	}
	out := &discardOutput{Discard{DryRun: dry(in.Body.DryRun), Letters: min(n, int64(q.Limit)), Left: max(0, n-int64(q.Limit))}}
	if !out.Body.DryRun {
		out.Body.Letters, err = ls.db.Discard(ctx, q)
	}
	note(ctx, "letters", out.Body.Letters)
	if err != nil {
		return nil, ls.answers.fail(ctx, "discard dead letters", err)
	}
	return out, nil
}
