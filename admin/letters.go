package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/consistency"
	"github.com/freshet/freshet/consumer/replica"
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
	return out
}

// LetterFilter chooses letters.
type LetterFilter struct {
	Dataset string `query:"dataset" json:"dataset,omitempty" maxLength:"64"`
	Key     string `query:"key" json:"key,omitempty" maxLength:"512"`
	Reason  string `query:"reason" json:"reason,omitempty" maxLength:"32"`
	Source  string `query:"source" json:"source,omitempty" maxLength:"300"`
	Errno   uint16 `query:"errno" json:"errno,omitempty" doc:"MySQL's error number"`
	Detail  string `query:"detail" json:"detail,omitempty" maxLength:"1000" doc:"exactly this detail: with dataset, reason and errno, one group of /v1/deadletters/groups"`
	Since   string `query:"since" json:"since,omitempty" maxLength:"40" format:"date-time" doc:"written since, RFC 3339"`
}

func (f LetterFilter) query(state replica.State) replica.LetterQuery {
	since, _ := time.Parse(time.RFC3339, f.Since) // the route checked its form; "" is zero
	return replica.LetterQuery{
		Dataset: f.Dataset, Key: f.Key, Reason: schemas.Reason(f.Reason), Source: f.Source, Errno: f.Errno, Detail: f.Detail, Since: since, State: state,
	}
}

func (s *Server) letterRoutes() {
	huma.Register(s.api, huma.Operation{Method: http.MethodGet, Path: "/v1/deadletters", OperationID: "list-deadletters", Summary: "Dead letters, a page at a time"}, s.listLetters)
	huma.Register(s.api, huma.Operation{Method: http.MethodGet, Path: "/v1/deadletters/groups", OperationID: "group-deadletters", Summary: "Open dead letters by what is wrong with them"}, s.groupLetters)
	huma.Register(s.api, huma.Operation{
		Method: http.MethodGet, Path: "/v1/deadletters/{id}", OperationID: "show-deadletter", Summary: "One dead letter beside the record as it is now",
		Description: "Content (data=true) needs the role operator.",
	}, s.showLetter)
	huma.Register(s.api, huma.Operation{
		Method: http.MethodPost, Path: "/v1/deadletters/{id}/edit", OperationID: "edit-deadletter", Summary: "Publish a corrected event in the place of an open letter",
		Description: "The event is about the letter's record, under its version, with the data given here; it is checked like any other and gets a new id. " +
			"If the record is as new or newer already, nothing is published and the letter becomes superseded. A dry run unless dry_run is false.",
		MaxBodyBytes: maxPublishBody,
	}, s.editLetter)
	huma.Register(s.api, huma.Operation{
		Method: http.MethodPost, Path: "/v1/deadletters/redrives", OperationID: "redrive-deadletters", Summary: "Apply open letters again under their stored versions",
		Description: "A dry run unless dry_run is false.",
	}, s.redriveLetters)
	huma.Register(s.api, huma.Operation{
		Method: http.MethodPost, Path: "/v1/deadletters/discards", OperationID: "discard-deadletters", Summary: "Give open letters up",
		Description: "A dry run unless dry_run is false.",
	}, s.discardLetters)
}

type lettersInput struct {
	LetterFilter
	State string `query:"state" enum:"open,superseded,redriven,discarded" doc:"only these"`
	After string `query:"after" maxLength:"400" doc:"id of the last letter of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (s *Server) listLetters(ctx context.Context, in *lettersInput) (*listed[Letter], error) {
	q := in.query(replica.State(in.State))
	q.Limit = in.Limit
	if in.After != "" {
		id, ok := replica.ParseLetterID(in.After)
		if !ok {
			return nil, huma.Error422UnprocessableEntity("after is no letter's id: source@offset.index")
		}
		q.After = &id
	}
	letters, err := s.cfg.Replica.Letters(ctx, q)
	if err != nil {
		return nil, s.answerError(ctx, "read dead letters", err)
	}
	out := make([]Letter, 0, len(letters))
	for i := range letters {
		out = append(out, letterOf(&letters[i]))
	}
	return listOf(out), nil
}

// LetterGroup are open letters with one thing wrong.
type LetterGroup struct {
	Dataset string    `json:"dataset"`
	Reason  string    `json:"reason"`
	Errno   int       `json:"errno,omitempty"`
	Detail  string    `json:"detail"`
	Count   int64     `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

const sqlGroups = "SELECT dataset, reason, COALESCE(errno, 0), detail, COUNT(*), MIN(created_at), MAX(created_at) FROM freshet_dead_letter" +
	" WHERE state = 'open' GROUP BY dataset, reason, COALESCE(errno, 0), detail ORDER BY COUNT(*) DESC LIMIT 500"

func (s *Server) groupLetters(ctx context.Context, _ *empty) (*listed[LetterGroup], error) {
	groups, err := s.letterGroups(ctx)
	if err != nil {
		return nil, s.answerError(ctx, "group dead letters", err)
	}
	return listOf(groups), nil
}

func (s *Server) letterGroups(ctx context.Context) (groups []LetterGroup, err error) {
	rows, err := s.cfg.Replica.DB().QueryContext(ctx, sqlGroups)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var g LetterGroup
		var dataset, reason, detail []byte
		var first, last int64
		if err := rows.Scan(&dataset, &reason, &g.Errno, &detail, &g.Count, &first, &last); err != nil {
			return nil, err
		}
		g.Dataset, g.Reason, g.Detail = text(dataset), text(reason), text(detail)
		g.First, g.Last = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
		groups = append(groups, g)
	}
	return groups, rows.Err()
}

type letterInput struct {
	ID   string `path:"id" maxLength:"400"`
	Data bool   `query:"data" doc:"show content"`
}

// ShownLetter is a letter, its event, and its record's row and shared entry as they are now.
type ShownLetter struct {
	Letter
	Headers map[string]string   `json:"headers,omitempty"`
	Event   json.RawMessage     `json:"event,omitempty" doc:"the record's bytes; a JSON string if they are no JSON"`
	Row     *RowSide            `json:"row,omitempty"`
	Shared  *consistency.Shared `json:"shared,omitempty"`
}

type shownOutput struct{ Body ShownLetter }

func (s *Server) showLetter(ctx context.Context, in *letterInput) (*shownOutput, error) {
	if err := needContent(ctx, in.Data); err != nil {
		return nil, err
	}
	l, err := s.letter(ctx, in.ID, in.Data)
	if err != nil {
		return nil, err
	}
	out := &shownOutput{ShownLetter{Letter: letterOf(l)}}
	if in.Data && l.Record != nil {
		out.Body.Event, out.Body.Headers = jsonOf(l.Record.Value), map[string]string{}
		for _, h := range l.Record.Headers {
			out.Body.Headers[text([]byte(h.Key))] = text(h.Value)
		}
	}
	d, ok := s.cfg.Datasets.Get(l.Dataset)
	if !ok {
		return out, nil
	}
	if _, err := d.ParseKey(l.Key); err != nil {
		return out, nil //nolint:nilerr // the key is what is wrong with this letter, so there is nothing beside it
	}
	ri, r := &recordInput{Key: l.Key, Data: in.Data}, Record{}
	if err := s.lookRow(ctx, d, ri, &r); err != nil {
		return nil, s.answerError(ctx, "read row", err)
	}
	if err := s.lookCopies(ctx, d, ri, &r); err != nil {
		return nil, s.answerError(ctx, "read shared entry", err)
	}
	out.Body.Row, out.Body.Shared = r.Row, r.Shared
	return out, nil
}

func (s *Server) letter(ctx context.Context, id string, content bool) (*replica.StoredLetter, error) {
	lid, ok := replica.ParseLetterID(id)
	if !ok {
		return nil, huma.Error422UnprocessableEntity("id is no letter's id: source@offset.index")
	}
	letters, err := s.cfg.Replica.Letters(ctx, replica.LetterQuery{Source: lid.Source, From: lid.Offset, Until: lid.Offset + 1, Limit: 1000, Content: content})
	if err != nil {
		return nil, s.answerError(ctx, "read dead letter", err)
	}
	for i := range letters {
		if letters[i].ID() == lid {
			return &letters[i], nil
		}
	}
	return nil, huma.Error404NotFound("there is no such letter")
}

type redriveInput struct {
	Body struct {
		LetterFilter
		IDs    []string `json:"ids,omitempty" maxItems:"1000" doc:"these letters only"`
		DryRun *bool    `json:"dry_run,omitempty" default:"true" doc:"change nothing; absent: true"`
		Limit  int      `json:"limit,omitempty" minimum:"1" maximum:"10000" default:"1000" doc:"most letters"`
		Reason string   `json:"why" minLength:"3" maxLength:"500" doc:"why; it is kept in the audit log"`
	}
}

// dry says whether a request is a dry run: it is unless it says false.
func dry(v *bool) bool { return v == nil || *v }

// Redrive says what became, or would become, of letters.
type Redrive struct {
	DryRun   bool             `json:"dry_run"`
	Outcomes map[string]int64 `json:"outcomes" doc:"applied, stale, invalid, unfit, closed"`
	Samples  []RedriveSample  `json:"samples"`
}

// RedriveSample is one letter of a redrive.
type RedriveSample struct {
	ID      string `json:"id"`
	Key     string `json:"key,omitempty"`
	Version int64  `json:"version,omitempty"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail,omitempty"`
}

type redriveOutput struct{ Body Redrive }

const (
	redriveChunk = 100
	maxSamples   = 20
)

// chosen gives the open letters that a request means.
func (s *Server) chosen(ctx context.Context, f LetterFilter, ids []string, limit int) ([]replica.StoredLetter, error) {
	if len(ids) == 0 {
		q := f.query(replica.StateOpen)
		q.Limit, q.Content = limit, true
		return s.cfg.Replica.Letters(ctx, q)
	}
	var out []replica.StoredLetter
	for _, id := range ids[:min(len(ids), limit)] {
		l, err := s.letter(ctx, id, true)
		if err != nil {
			return nil, err
		}
		out = append(out, *l)
	}
	return out, nil
}

func (s *Server) redriveLetters(ctx context.Context, in *redriveInput) (*redriveOutput, error) {
	b := &in.Body
	note(ctx, "reason", b.Reason)
	note(ctx, "filter", b.LetterFilter)
	dryRun := dry(b.DryRun)
	note(ctx, "dry_run", dryRun)
	if !dryRun && s.cfg.Producer == nil {
		return nil, errNoProducer
	}
	letters, err := s.chosen(ctx, b.LetterFilter, b.IDs, b.Limit)
	if err != nil {
		return nil, s.answerError(ctx, "read dead letters", err)
	}
	out := &redriveOutput{Redrive{DryRun: dryRun, Outcomes: map[string]int64{}, Samples: []RedriveSample{}}}
	for len(letters) > 0 {
		n := min(len(letters), redriveChunk)
		done, err := s.redrive(ctx, letters[:n], dryRun)
		if err != nil {
			note(ctx, "outcomes", out.Body.Outcomes)
			return nil, s.answerError(ctx, "redrive", err)
		}
		letters = letters[n:]
		for _, d := range done {
			out.Body.Outcomes[string(d.Outcome)]++
			if len(out.Body.Samples) < maxSamples {
				out.Body.Samples = append(out.Body.Samples, RedriveSample{ID: d.String(), Key: text([]byte(d.Key)), Version: d.Version, Outcome: string(d.Outcome), Detail: d.Detail})
			}
		}
	}
	note(ctx, "outcomes", out.Body.Outcomes)
	return out, nil
}

// redrive applies letters and publishes what they made stale; what cannot be published now, a worker publishes from the
// outbox.
func (s *Server) redrive(ctx context.Context, letters []replica.StoredLetter, dry bool) ([]replica.Redriven, error) {
	if dry {
		return s.cfg.Replica.Judge(ctx, letters)
	}
	done, outgoing, err := s.cfg.Replica.Redrive(ctx, s.cfg.Namespace, letters)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, 0, len(outgoing))
	for _, o := range outgoing {
		if len(o.Invalidation.Foreign) > 0 {
			continue // only a worker publishes those
		}
		if _, err := s.cfg.Producer.Invalidate(ctx, s.cfg.Namespace, o.Invalidation.Names, o.Invalidation.Tags); err != nil {
			s.log.Warn("invalidation of a redrive is left to the workers", "error", err)
			continue
		}
		ids = append(ids, o.ID)
	}
	if err := s.cfg.Replica.RemoveOutgoing(ctx, ids); err != nil {
		s.log.Warn("published invalidations are still in the outbox; they are published again", "error", err)
	}
	return done, nil
}

type discardOutput struct {
	Body struct {
		DryRun  bool  `json:"dry_run"`
		Letters int64 `json:"letters"`
	}
}

func (s *Server) discardLetters(ctx context.Context, in *redriveInput) (*discardOutput, error) {
	b := &in.Body
	note(ctx, "reason", b.Reason)
	note(ctx, "filter", b.LetterFilter)
	out := &discardOutput{}
	out.Body.DryRun = dry(b.DryRun)
	note(ctx, "dry_run", out.Body.DryRun)
	letters, err := s.chosen(ctx, b.LetterFilter, b.IDs, b.Limit)
	if err != nil {
		return nil, s.answerError(ctx, "read dead letters", err)
	}
	for i := range letters {
		if out.Body.DryRun {
			out.Body.Letters++
			continue
		}
		l := &letters[i]
		n, err := s.cfg.Replica.Discard(ctx, replica.LetterQuery{Source: l.Source, From: l.Offset, Until: l.Offset + 1, Index: &l.Index})
		if err != nil {
			return nil, s.answerError(ctx, "discard dead letters", err)
		}
		out.Body.Letters += n
	}
	note(ctx, "letters", out.Body.Letters)
	return out, nil
}
