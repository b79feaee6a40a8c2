package admin_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// addLetters writes open letters of records with these keys, each under version 5, and returns their paths.
func (r *rig) addLetters(keys ...string) (paths []string) {
	r.t.Helper()
	d, _ := r.datasets.Get("items")
	source := schemas.SourceName(d.Topic, "AAAAAAAAAAAAAAAAAAAAAA", 0)
	pos, err := r.cfg.Replica.Positions.Take(r.t.Context(), r.cfg.Group, "o", 1, []replica.Claim{{Source: source}})
	must(r.t, err)
	b := &replica.Batch{Source: source, Fence: pos[0].Fence, Next: int64(len(keys))}
	for i, key := range keys {
		rec := schemas.Record{Key: []byte(key), Value: []byte(`{"n":"bad"}`)}
		b.Letters = append(b.Letters, &replica.Letter{
			Offset: int64(i), Dataset: "items", Key: key, Version: 5, Op: schemas.Upsert, EventID: "old-" + key, Reason: schemas.ReasonSchema, Detail: "a test", Record: &rec, CacheKey: "item:" + key,
		})
		paths = append(paths, "/v1/deadletters/"+url.PathEscape(replica.LetterID{Source: source, Offset: int64(i)}.String()))
	}
	_, err = r.cfg.Replica.Apply(r.t.Context(), b)
	must(r.t, err)
	return paths
}

// unreachable is a producer that checks and sends nothing.
type unreachable struct{ admin.Producer }

func (unreachable) Publish(context.Context, ...schemas.Event) (schemas.Token, error) {
	return schemas.Token{}, errors.New("no answer")
}

func TestLetterIsEdited(t *testing.T) {
	r := newRig(t, nil)
	paths := r.addLetters("a", "b/ü", "c")
	edit := func(status int, path string, body map[string]any) (e api.Edit) {
		t.Helper()
		body["why"] = "a test"
		r.want(status, "operator", "POST", path+"/edit", body).into(t, &e)
		return e
	}
	good := map[string]any{"id": "a", "n": 7}
	for name, body := range map[string]map[string]any{
		"schema": {"data": map[string]any{"id": "a", "n": "x"}}, "key in data": {"data": map[string]any{"id": "b"}}, "no data": {},
		"other key": {"data": good, "key": "b"}, "other version": {"data": good, "version": 6},
	} {
		t.Run(name, func(t *testing.T) { body["dry_run"] = false; edit(422, paths[0], body) })
	}
	r.want(403, "viewer", "POST", paths[0]+"/edit", map[string]any{"data": good, "why": "a test"})
	edit(404, strings.Replace(paths[0], "@0.0", "@99.0", 1), map[string]any{"data": good})
	if e := edit(200, paths[0], map[string]any{"data": good}); !e.DryRun || e.Outcome != "published" || e.EventID != "" || !e.Token.IsZero() {
		t.Errorf("dry run: %+v", e)
	}
	if n := len(r.messages("from=start")); n != 0 {
		t.Fatalf("%d messages though nothing was edited", n)
	}
	e := edit(200, paths[0], map[string]any{"data": good, "dry_run": false})
	if e.Outcome != "published" || e.EventID == "" || e.EventID == "old-a" || e.Replaces != "old-a" || e.Version != 5 || e.Token.IsZero() {
		t.Errorf("edit: %+v", e)
	}
	got := r.messages("from=start&data=true")
	if len(got) != 1 || got[0].Key != "a" || got[0].Version != 5 || got[0].Headers["ce_id"] != e.EventID || got[0].Headers["ce_replaces"] != "old-a" || string(got[0].Data) != `{"id":"a","n":7}` {
		t.Errorf("published: %+v", got)
	}
	var shown api.ShownLetter
	r.want(200, "viewer", "GET", paths[0], nil).into(t, &shown)
	if shown.State != "redriven" || shown.Successor != e.EventID {
		t.Errorf("the dead letter is %s by %q", shown.State, shown.Successor)
	}
	edit(409, paths[0], map[string]any{"data": good, "dry_run": false})

	// A record that is newer by now.
	_, err := r.db.ExecContext(t.Context(), "INSERT INTO items (id, n, _version, _deleted, _at) VALUES ('b/ü', 1, 6, 0, NOW(6))")
	must(t, err)
	if e := edit(200, paths[1], map[string]any{"data": map[string]any{"id": "b/ü"}}); e.Outcome != "stale" {
		t.Errorf("dry run of a stale one: %+v", e)
	}
	if e := edit(200, paths[1], map[string]any{"data": map[string]any{"id": "b/ü"}, "dry_run": false}); e.Outcome != "stale" || e.EventID != "" || !e.Token.IsZero() {
		t.Errorf("stale: %+v", e)
	}
	r.want(200, "viewer", "GET", paths[1], nil).into(t, &shown)
	if shown.State != "superseded" || len(r.messages("from=start")) != 1 {
		t.Errorf("the stale dead letter is %s", shown.State)
	}
	r.wantAudit("edit-deadletter", 200, "event_id", e.EventID)
}

func TestFailedEditLosesNothing(t *testing.T) {
	r := newRig(t, func(c *admin.Config) { c.Producer = unreachable{c.Producer} })
	path := r.addLetters("a")[0]
	r.want(503, "operator", "POST", path+"/edit", map[string]any{"data": map[string]any{"id": "a"}, "dry_run": false, "why": "a test"})
	var shown api.ShownLetter
	r.want(200, "viewer", "GET", path, nil).into(t, &shown)
	if shown.State != "open" || shown.Successor != "" {
		t.Errorf("the dead letter is %s by %q", shown.State, shown.Successor)
	}
}

// wantAudit wants a line of the audit log that ends an action with an outcome and a detail.
func (r *rig) wantAudit(action string, outcome int, key, value string) {
	r.t.Helper()
	var log struct{ Items []api.Entry }
	r.want(200, "operator", "GET", "/v1/audit", nil).into(r.t, &log)
	for _, e := range log.Items {
		if e.Action == action && e.Outcome == outcome && e.Detail[key] == value {
			return
		}
	}
	r.t.Errorf("audit log has no %s that ended with %d and has %s", action, outcome, key)
}
