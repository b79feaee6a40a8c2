package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/admin/sse"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/schemas"
)

// replays starts, shows and moves replays.
type replays struct {
	topics  *topicReader
	kafka   *kafkalog.Client
	answers *answers
	looks   *looks
	log     *slog.Logger
	db      *replica.DB // this and the next are set by Server.bind
}

func (rp *replays) replayOf(j jobstore.Job) api.Replay {
	out := api.Replay{
		ID: j.ID, Spec: specOf(&j.Spec), State: string(j.State), Actor: j.Actor, Owner: j.Owner, Problem: j.Problem, Takeovers: j.Takeovers,
		Rate: j.Rate, InvalidationRate: j.InvalidationRate, Created: j.Created, Updated: j.Updated, Total: api.JobCounts(j.Total), Parts: []api.ReplayPart{},
	}
	for _, p := range j.Parts {
		_, _, n, err := schemas.ParseSource(p.Source)
		if err != nil {
			continue
		}
		part := api.ReplayPart{Partition: n, From: p.From, Next: p.Next, End: p.End, JobCounts: api.JobCounts(p.Counts), Done: 1}
		for _, sample := range p.Samples {
			part.Samples = append(part.Samples, api.JobSample(sample))
		}
		if p.End > p.From {
			part.Done = float64(p.Next-p.From) / float64(p.End-p.From)
		}
		if j.State == jobstore.Running {
			part.Rate = rp.looks.rate(j.ID+"/"+p.Source, p.Next, time.Now())
		}
		if part.Rate > 0 {
			eta := float64(p.End-p.Next) / part.Rate
			part.ETA = &eta
		}
		out.Parts = append(out.Parts, part)
	}
	return out
}

func specOf(s *jobstore.Spec) api.JobSpec {
	return api.JobSpec{
		Dataset: s.Dataset, Action: string(s.Action), DryRun: s.DryRun, From: s.From, Until: s.Until, Partitions: s.Partitions, Keys: s.Keys, Prefix: s.Prefix,
		Op: s.Op, Type: s.Type, LetterReason: string(s.LetterReason), Errno: s.Errno, DropOld: s.DropOld, AcceptLoss: s.AcceptLoss, Reason: s.Reason,
	}
}

func (rp *replays) routes(on huma.API) {
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/replays", OperationID: "start-replay", Summary: "Apply past events again", DefaultStatus: http.StatusAccepted,
		Description: "A dry run unless dry_run is false. Replays go through the same guards as live events: no row goes back, and live positions do not move. " +
			"A repetition with the same Idempotency-Key gives the first one's replay.",
	}, rp.startReplay)
	huma.Register(on, huma.Operation{Method: http.MethodGet, Path: "/v1/replays", OperationID: "list-replays", Summary: "Replays, newest first, a page at a time"}, rp.listReplays)
	huma.Register(on, huma.Operation{Method: http.MethodGet, Path: "/v1/replays/{id}", OperationID: "show-replay", Summary: "One replay with its progress"}, rp.showReplay)
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/replays/{id}/events", OperationID: "follow-replay", Summary: "Follow a replay (server-sent events) until it ends",
		Responses: map[string]*huma.Response{"200": {Description: "A stream of replays", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}},
	}, rp.followReplay)
	for _, m := range []struct {
		verb string
		from []jobstore.State
		to   jobstore.State
	}{
		{"pause", []jobstore.State{jobstore.Running}, jobstore.Paused},
		{"resume", []jobstore.State{jobstore.Paused}, jobstore.Running},
		{"cancel", []jobstore.State{jobstore.Running, jobstore.Paused}, jobstore.Cancelled},
	} {
		huma.Register(on, huma.Operation{
			Method: http.MethodPost, Path: "/v1/replays/{id}/" + m.verb, OperationID: m.verb + "-replay", Summary: strings.ToUpper(m.verb[:1]) + m.verb[1:] + " a replay",
		}, func(ctx context.Context, in *replayAction) (*replayOutput, error) {
			return rp.moveReplay(ctx, in, m.from, m.to)
		})
	}
	huma.Register(on, huma.Operation{Method: http.MethodPost, Path: "/v1/replays/{id}/limits", OperationID: "limit-replay", Summary: "Change the limits of a replay"}, rp.limitReplay)
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/records/{dataset}/{key}/replay", OperationID: "replay-record", Summary: "Replay one record's events", DefaultStatus: http.StatusAccepted,
	}, rp.replayRecord)
}

// replayRequest is what a replay is to do.
type replayRequest struct {
	Dataset          string   `json:"dataset" maxLength:"64"`
	Action           string   `json:"action,omitempty" enum:"apply,invalidate,apply+invalidate,redrive,rebuild" default:"apply" doc:"redrive: apply the open dead letters that dataset, keys, prefix, op, letter_reason and errno choose; rebuild: fill a new table from the whole topic and put it in the place of the dataset's; it takes no range and no filter"`
	From             string   `json:"from,omitempty" maxLength:"64" default:"start" doc:"start, end-N, an offset, or a time in RFC 3339"`
	Until            string   `json:"until,omitempty" maxLength:"64" default:"end" doc:"end, an offset, or a time in RFC 3339; not included"`
	Partitions       []int32  `json:"partitions,omitempty" maxItems:"10000" doc:"absent: all"`
	Keys             []string `json:"keys,omitempty" maxItems:"1000" doc:"exactly these records"`
	Prefix           string   `json:"prefix,omitempty" maxLength:"512"`
	Op               string   `json:"op,omitempty" enum:"upsert,delete"`
	Type             string   `json:"type,omitempty" maxLength:"200" doc:"event type"`
	LetterReason     string   `json:"letter_reason,omitempty" maxLength:"32" doc:"with redrive: only dead letters for this reason, such as refused or schema"`
	Errno            uint16   `json:"errno,omitempty" maximum:"65535" doc:"with redrive: only dead letters of refusals with this MySQL error number"`
	DryRun           *bool    `json:"dry_run,omitempty" default:"true" doc:"count only; absent: true"`
	DropOld          bool     `json:"drop_old,omitempty" doc:"with rebuild: drop the previous table; else it is kept under another name"`
	AcceptLoss       bool     `json:"accept_loss,omitempty" doc:"with rebuild: swap although rows are newer than what the topic holds of them, or not in it; a dry run counts them"`
	Rate             int      `json:"rate,omitempty" minimum:"0" maximum:"1000000" doc:"events a second; 0: 5000"`
	InvalidationRate int      `json:"invalidation_rate,omitempty" minimum:"0" maximum:"1000000" doc:"names a second; 0: no limit of their own"`
	Reason           string   `json:"reason" minLength:"3" maxLength:"500" doc:"why; it is kept in the audit log"`
}

type startInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"120"`
	Body           replayRequest
}

type startOutput struct {
	Location string `header:"Location"`
	Body     api.Replay
}

func (rp *replays) startReplay(ctx context.Context, in *startInput) (*startOutput, error) {
	return rp.start(ctx, &in.Body, in.IdempotencyKey)
}

func (rp *replays) start(ctx context.Context, b *replayRequest, idem string) (*startOutput, error) {
	d, err := rp.answers.dataset(b.Dataset)
	if err != nil {
		return nil, err
	}
	spec := jobstore.Spec{
		Dataset: d.Name, Action: jobstore.Action(b.Action), DryRun: dry(b.DryRun), Keys: b.Keys, Prefix: b.Prefix, Op: b.Op, Type: b.Type, Reason: b.Reason, DropOld: b.DropOld, AcceptLoss: b.AcceptLoss,
		From: b.From, Until: b.Until, Partitions: b.Partitions, LetterReason: schemas.Reason(b.LetterReason), Errno: b.Errno,
	}
	gate.Note(ctx, "spec", spec)
	if spec.Action == jobstore.ActionInvalidate && d.Cache == nil {
		return nil, huma.Error409Conflict("the dataset has no cache section, so there is nothing to invalidate")
	}
	if err := rp.mayRebuild(ctx, d, &spec, b); err != nil {
		return nil, err
	}
	if err := mayRedrive(&spec); err != nil {
		return nil, err
	}
	for i, k := range b.Keys {
		if _, err := d.ParseKey(k); err != nil {
			return nil, rp.answers.fail(ctx, "read keys", fmt.Errorf("keys[%d]: %w", i, err))
		}
	}
	parts, err := rp.replayParts(ctx, d, &spec, b)
	if err != nil {
		return nil, rp.answers.fail(ctx, "choose the range", err)
	}
	actor := access.PrincipalOf(ctx).Name
	if idem != "" {
		idem = actor + "\x00" + idem
	}
	id, made, err := rp.db.Jobs.Add(ctx, jobstore.Job{Spec: spec, Actor: actor, Rate: b.Rate, InvalidationRate: b.InvalidationRate, Parts: parts}, idem)
	if errors.Is(err, jobstore.ErrOverlap) {
		return nil, huma.Error409Conflict("replay " + id + " of this dataset is not over; wait for it or cancel it")
	}
	if err != nil {
		return nil, rp.answers.fail(ctx, "start replay", err)
	}
	gate.Note(ctx, "replay", id)
	if made && !spec.DryRun {
		rp.noteEvidence(ctx, spec)
	}
	j, err := rp.db.Jobs.Get(ctx, id)
	if err != nil {
		return nil, rp.answers.fail(ctx, "read replay", err)
	}
	if !made && !sameJSON(j.Spec, spec) {
		return nil, huma.Error422UnprocessableEntity("this Idempotency-Key belongs to another request")
	}
	return &startOutput{Location: "/v1/replays/" + id, Body: rp.replayOf(j)}, nil
}

type replaysInput struct {
	After string `query:"after" maxLength:"40" pattern:"^[A-Za-z0-9]*$" doc:"id of the last replay of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

func (rp *replays) listReplays(ctx context.Context, in *replaysInput) (*listed[api.Replay], error) {
	jobs, err := rp.db.Jobs.List(ctx, in.After, in.Limit)
	if errors.Is(err, jobstore.ErrNoJob) {
		return nil, huma.Error422UnprocessableEntity("after is not the id of a replay; leave it out to begin at the newest")
	}
	if err != nil {
		return nil, rp.answers.fail(ctx, "read replays", err)
	}
	out := make([]api.Replay, 0, len(jobs))
	for _, j := range jobs {
		out = append(out, rp.replayOf(j))
	}
	return paged(out, in.Limit, func(r *api.Replay) string { return r.ID }), nil
}

// ReplayID names a replay in a path.
type ReplayID struct {
	ID string `path:"id" maxLength:"40" pattern:"^[A-Za-z0-9]+$"`
}

type replayOutput struct{ Body api.Replay }

func (rp *replays) job(ctx context.Context, id string) (jobstore.Job, error) {
	j, err := rp.db.Jobs.Get(ctx, id)
	if errors.Is(err, jobstore.ErrNoJob) {
		return j, huma.Error404NotFound("there is no such replay")
	}
	return j, rp.answers.fail(ctx, "read replay", err)
}

func (rp *replays) showReplay(ctx context.Context, in *ReplayID) (*replayOutput, error) {
	j, err := rp.job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &replayOutput{rp.replayOf(j)}, nil
}

// followEvery is how often a followed replay is looked at.
const followEvery = 500 * time.Millisecond

type replayEventsInput struct {
	ReplayID

	LastEventID string `header:"Last-Event-ID" maxLength:"20"`
}

func (rp *replays) followReplay(ctx context.Context, in *replayEventsInput) (*huma.StreamResponse, error) {
	j, err := rp.job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) { //nolint:contextcheck // the stream's context is its request's
		r, w := humago.Unwrap(hc)
		if in.LastEventID != "" && !j.State.Live() {
			w.WriteHeader(http.StatusNoContent) // it has had the end; any other answer lets an EventSource ask again and again
			return
		}
		st := sse.New(w)
		t := time.NewTicker(followEvery)
		defer t.Stop()
		for n := 1; ; n++ {
			j, err := rp.db.Jobs.Get(r.Context(), in.ID)
			if err == nil {
				err = st.Send("replay", strconv.Itoa(n), rp.replayOf(j))
			} else { // MySQL may be back with the next look
				j.State, err = jobstore.Running, st.Write(": the replay cannot be read just now\n\n")
			}
			if err != nil || !j.State.Live() {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-t.C:
			}
		}
	}}, nil
}

type replayAction struct {
	ReplayID
	Body reason
}

func (rp *replays) moveReplay(ctx context.Context, in *replayAction, from []jobstore.State, to jobstore.State) (*replayOutput, error) {
	gate.Note(ctx, "reason", in.Body.Reason)
	if _, err := rp.job(ctx, in.ID); err != nil {
		return nil, err
	}
	for i, f := range from {
		err := rp.db.Jobs.Set(ctx, in.ID, f, to)
		if errors.Is(err, jobstore.ErrMoved) {
			if i == len(from)-1 {
				return nil, rp.cannotBecome(ctx, in.ID, from, to)
			}
			continue
		}
		if err != nil {
			return nil, rp.answers.fail(ctx, "change replay", err)
		}
		break
	}
	return rp.showReplay(ctx, &in.ReplayID)
}

// cannotBecome reports why a replay does not get another state.
func (rp *replays) cannotBecome(ctx context.Context, id string, from []jobstore.State, to jobstore.State) error {
	j, err := rp.job(ctx, id)
	if err != nil {
		return err
	}
	if slices.Contains(from, j.State) {
		return huma.Error409Conflict("the rebuild's table is in its place already, so it can only be finished")
	}
	return huma.Error409Conflict("the replay is " + string(j.State) + ", so it cannot become " + string(to))
}

type limitInput struct {
	ReplayID
	Body struct {
		Rate             *int `json:"rate,omitempty" minimum:"0" maximum:"1000000" doc:"events a second; 0: 5000; absent: unchanged"`
		InvalidationRate *int `json:"invalidation_rate,omitempty" minimum:"0" maximum:"1000000" doc:"names a second; 0: no limit of their own; absent: unchanged"`
	}
}

func (rp *replays) limitReplay(ctx context.Context, in *limitInput) (*replayOutput, error) {
	b := &in.Body
	if b.Rate == nil && b.InvalidationRate == nil {
		return nil, huma.Error422UnprocessableEntity("no limit is given; give rate, invalidation_rate or both")
	}
	if b.Rate != nil {
		gate.Note(ctx, "rate", *b.Rate)
	}
	if b.InvalidationRate != nil {
		gate.Note(ctx, "invalidation_rate", *b.InvalidationRate)
	}
	j, err := rp.job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	err = rp.db.Jobs.Limit(ctx, in.ID, b.Rate, b.InvalidationRate)
	if errors.Is(err, jobstore.ErrMoved) {
		return nil, huma.Error409Conflict("the replay is " + string(j.State) + ", so it has no limits any more")
	}
	if err != nil {
		return nil, rp.answers.fail(ctx, "limit replay", err)
	}
	return rp.showReplay(ctx, &in.ReplayID)
}

func (rp *replays) replayRecord(ctx context.Context, in *invalidateRecordInput) (*startOutput, error) {
	forReal := false
	return rp.start(ctx, &replayRequest{
		Dataset: in.Dataset, Keys: []string{in.Key}, Action: string(jobstore.ActionBoth), DryRun: &forReal, From: "start", Until: "end", Reason: in.Body.Reason,
	}, "")
}
