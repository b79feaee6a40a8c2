package admin

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// maxEditBody is an event's data and the members around it.
const maxEditBody = schemas.MaxRecordBytes + 64<<10

// editPublishWait bounds the publishing of a corrected event, during which the letter is locked.
const editPublishWait = 10 * time.Second

type editInput struct {
	ID   string `path:"id" maxLength:"400"`
	Body struct {
		Data    json.RawMessage `json:"data,omitempty" doc:"the record's corrected state, a JSON object; a dead letter of a delete needs none"`
		Key     string          `json:"key,omitempty" maxLength:"512" doc:"only for a dead letter that keeps no usable key"`
		Version int64           `json:"version,omitempty" minimum:"0" maximum:"9007199254740990" doc:"only for a dead letter that keeps no version"`
		DryRun  *bool           `json:"dry_run,omitempty" default:"true" doc:"check and say what would happen; absent: true"`
		Reason  string          `json:"why" minLength:"3" maxLength:"500" doc:"why; it is kept in the audit log"`
	}
}

type editOutput struct{ Body api.Edit }

func (ls *letters) editLetter(ctx context.Context, in *editInput) (*editOutput, error) {
	b := &in.Body
	gate.Note(ctx, "reason", b.Reason)
	gate.Note(ctx, "dry_run", dry(b.DryRun))
	if ls.producer == nil {
		return nil, errNoProducer
	}
	l, err := ls.letter(ctx, in.ID, false)
	if err != nil {
		return nil, err
	}
	if l.State != replica.StateOpen {
		return nil, errLetterClosed
	}
	d, ok := ls.datasets.Get(l.Dataset)
	if !ok {
		return nil, huma.Error409Conflict("the dead letter's dataset is not declared here")
	}
	if err := refuseMasked(d, b.Data); err != nil {
		return nil, err
	}
	ev, err := l.Correct(d, replica.Correction{Data: b.Data, Key: b.Key, Version: b.Version})
	if err != nil {
		return nil, ls.answers.fail(ctx, "correct the event", err)
	}
	// The id is made here, so that it is known before anything is sent.
	checked, err := ls.producer.Check(ev)
	if err != nil {
		return nil, ls.answers.fail(ctx, "check the corrected event", err)
	}
	ev = checked[0]
	out := &editOutput{api.Edit{DryRun: dry(b.DryRun), ID: in.ID, Replaces: text([]byte(ev.Replaces)), Key: text([]byte(ev.Key)), Version: ev.Version}}
	gate.Note(ctx, "replaces", out.Body.Replaces)
	outcome, err := ls.edit(ctx, l, &ev, out)
	switch {
	case errors.Is(err, replica.ErrLetterClosed):
		return nil, errLetterClosed
	case err != nil && outcome == replica.OutcomePublished:
		ls.log.WarnContext(ctx, "letter of a published edit is not marked; a worker supersedes it", "error", err)
		out.Body.Detail = "the event is published, but the dead letter could not be marked; it becomes superseded when a worker applies the event"
	case err != nil:
		return nil, ls.answers.fail(ctx, "edit dead letter", err)
	}
	if out.Body.Outcome = string(outcome); outcome == replica.OutcomePublished && !out.Body.DryRun {
		out.Body.EventID = ev.ID
		gate.Note(ctx, "event_id", ev.ID)
	}
	gate.Note(ctx, "outcome", out.Body.Outcome)
	return out, nil
}

var errLetterClosed = huma.Error409Conflict("the dead letter is not open any more; GET /v1/deadletters/{id} reports what became of it")

func (ls *letters) edit(ctx context.Context, l *replica.StoredLetter, ev *schemas.Event, out *editOutput) (replica.Outcome, error) {
	if out.Body.DryRun {
		return ls.db.Letters.JudgeEdit(ctx, l, ev)
	}
	return ls.db.Letters.Edit(ctx, l.ID(), ev, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, editPublishWait)
		defer cancel()
		out.Body.Token, err = ls.producer.Publish(ctx, *ev)
		return err
	})
}
