package admin_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// bad reports which of the letters of a test break the schema still.
func bad(i int) bool { return i%10 == 0 }

// letters makes n open letters of the keys k0 …, version 5, over two partitions: the even ones in the first.
func (r *rig) letters(n int) {
	r.t.Helper()
	d, _ := r.datasets.Get("items")
	for part := range 2 {
		var letters []*replica.Letter
		for i := part; i < n; i += 2 {
			body := `{"id":"k%d","n":5}`
			if bad(i) {
				body = `{"id":"k%d","n":"five"}`
			}
			letters = append(letters, r.letter(d, int64(len(letters)), fmt.Sprintf("k%d", i), 5, fmt.Sprintf(body, i)))
		}
		r.keep(d, part, letters)
	}
}

func (r *rig) letter(d *schemas.Dataset, off int64, key string, version int64, data string) *replica.Letter {
	r.t.Helper()
	rec, err := d.Encode(&schemas.Event{ID: "e" + key, Source: "//x", Dataset: "items", Key: key, Op: schemas.Upsert, Version: version, Data: []byte(data)})
	must(r.t, err)
	return &replica.Letter{
		Offset: off, Dataset: "items", Key: key, Version: version, Op: schemas.Upsert, Reason: schemas.ReasonRefused, Detail: "a test", Record: &rec, CacheKey: "item:" + key,
	}
}

// keep writes letters as a worker does.
func (r *rig) keep(d *schemas.Dataset, partition int, letters []*replica.Letter) {
	r.t.Helper()
	source := schemas.SourceName(d.Topic, "AAAAAAAAAAAAAAAAAAAAAA", int32(partition))
	pos, err := r.cfg.Replica.Positions.Take(r.t.Context(), r.cfg.Group, "o", 1, []replica.Claim{{Source: source}})
	must(r.t, err)
	_, err = r.cfg.Replica.Apply(r.t.Context(), &replica.Batch{Source: source, Fence: pos[0].Fence, Next: letters[len(letters)-1].Offset + 1, Letters: letters})
	must(r.t, err)
}

// redrive starts the replay that redrives.
func (r *rig) redrive(body map[string]any, headers ...string) api.Replay {
	r.t.Helper()
	body["action"] = "redrive"
	return r.start(body, headers...)
}

// count is a query's one number.
func (r *rig) count(query string) (n int64) {
	r.t.Helper()
	must(r.t, r.db.QueryRowContext(r.t.Context(), query).Scan(&n))
	return n
}

func (r *rig) states() map[string]int64 {
	r.t.Helper()
	out := map[string]int64{}
	for _, s := range []string{"open", "superseded", "redriven", "discarded"} {
		if n := r.count("SELECT COUNT(*) FROM freshet_dead_letter WHERE state = '" + s + "'"); n > 0 {
			out[s] = n
		}
	}
	return out
}

// Every letter becomes redriven, or superseded, or stays open because it is still no good; a dry run says so before.
func TestRedriveAsAJob(t *testing.T) {
	r := newRig(t, nil)
	const n = 300
	r.letters(n)
	var newer int64
	for i := 5; i < n; i += 10 {
		newer++
		_, err := r.db.ExecContext(t.Context(), "INSERT INTO items (id, n, _version, _deleted, _at) VALUES (?, 9, 9, 0, 1)", fmt.Sprintf("k%d", i))
		must(t, err)
	}
	r.replayer("w1", nil)
	want := api.JobCounts{Events: n, Applied: n - n/10 - newer, Stale: newer, Invalid: n / 10}
	dry := r.await(r.redrive(map[string]any{}).ID, "done")
	if dry.Total != want || len(dry.Parts) != 2 || len(r.rows()) != int(newer) || !maps.Equal(r.states(), map[string]int64{"open": n}) {
		t.Fatalf("dry run: %+v over %d parts, want %+v; %d rows, dead letters %v", dry.Total, len(dry.Parts), want, len(r.rows()), r.states())
	}
	done := r.await(r.redrive(map[string]any{"dry_run": false}).ID, "done")
	want.Invalidated = want.Applied
	if done.Total != want || done.Parts[0].Done != 1 {
		t.Errorf("redriven: %+v, want %+v", done.Total, want)
	}
	if got := r.states(); !maps.Equal(got, map[string]int64{"open": want.Invalid, "superseded": newer, "redriven": want.Applied}) {
		t.Errorf("letters: %v", got)
	}
	if rows := r.rows(); len(rows) != int(want.Applied+newer) || rows["k1"] != 5 || rows["k5"] != 9 {
		t.Errorf("%d rows; k1 has version %d, k5 %d", len(rows), rows["k1"], rows["k5"])
	}
	outcomes := map[string]bool{}
	for _, s := range append(done.Parts[0].Samples, done.Parts[1].Samples...) {
		outcomes[s.Outcome] = true
	}
	if len(outcomes) != 3 {
		t.Errorf("samples show %v, want one of each outcome", outcomes)
	}
	if out, err := r.cfg.Replica.Outbox.Older(t.Context(), r.cfg.Namespace, 0, 10); err != nil || len(out) != 0 {
		t.Errorf("%d invalidations are left in the outbox, %v", len(out), err)
	}
	// What is still no good is tried again, and nothing else is.
	again := r.await(r.redrive(map[string]any{"dry_run": false}).ID, "done")
	if again.Total != (api.JobCounts{Events: n / 10, Invalid: n / 10}) || r.count("SELECT COUNT(*) FROM freshet_dead_letter WHERE attempts = 2") != n/10 {
		t.Errorf("again: %+v", again.Total)
	}
	if got := r.count("SELECT COUNT(*) FROM freshet_audit WHERE action = 'start-replay' AND outcome = 202"); got != 3 {
		t.Errorf("audit has %d ends of starts", got)
	}
}

// A dry run and the real one agree also where letters are of one record, and letters of one offset are taken together.
func TestRedriveOfOneRecordAndOneOffset(t *testing.T) {
	r := newRig(t, nil)
	d, _ := r.datasets.Get("items")
	var letters []*replica.Letter
	for v := int64(1); v <= 150; v++ {
		letters = append(letters, r.letter(d, v, "same", v, fmt.Sprintf(`{"id":"same","n":%d}`, v)))
	}
	for i := range 250 {
		l := r.letter(d, 1000, fmt.Sprintf("m%d", i), 5, `{"id":"m0","n":5}`)
		l.Index = i
		letters = append(letters, l)
	}
	r.keep(d, 0, append(letters, r.letter(d, 1001, "last", 5, `{"id":"last","n":5}`)))
	r.replayer("w1", nil)
	dry := r.await(r.redrive(map[string]any{}).ID, "done")
	done := r.await(r.redrive(map[string]any{"dry_run": false}).ID, "done")
	// The newest of each transaction is applied; of the record at offset 1000 only the first event is one.
	if done.Total.Events != 401 || done.Total.Invalid != 249 || done.Total.Applied+done.Total.Stale != 152 || r.rows()["same"] != 150 || r.rows()["last"] != 5 {
		t.Errorf("redriven: %+v, rows %v", done.Total, r.rows())
	}
	if dry.Total.Applied != done.Total.Applied || dry.Total.Stale != done.Total.Stale || dry.Total.Invalid != done.Total.Invalid {
		t.Errorf("dry run said %+v, the real one did %+v", dry.Total, done.Total)
	}
	if n := r.count("SELECT COUNT(*) FROM freshet_dead_letter WHERE attempts > 1"); n != 0 {
		t.Errorf("%d dead letters were tried more than once", n)
	}
}

func TestRedriveFilters(t *testing.T) {
	r := newRig(t, nil)
	r.letters(40)
	r.replayer("w1", nil)
	for _, tc := range []struct {
		filter map[string]any
		want   int64
		parts  int
	}{
		{map[string]any{"keys": []string{"k1", "k2", "nobody"}}, 2, 2},
		{map[string]any{"prefix": "k3", "op": "upsert"}, 11, 2},
		{map[string]any{"op": "delete"}, 0, 0},
		{map[string]any{"keys": []string{"k5"}, "prefix": "k6"}, 0, 0},
		{map[string]any{"letter_reason": "refused"}, 40, 2},
		{map[string]any{"letter_reason": "schema"}, 0, 0},
		{map[string]any{"errno": 1406}, 0, 0},
	} {
		if got := r.await(r.redrive(maps.Clone(tc.filter)).ID, "done"); got.Total.Events != tc.want || len(got.Parts) != tc.parts {
			t.Errorf("%v: %+v over %d parts, want %d over %d", tc.filter, got.Total, len(got.Parts), tc.want, tc.parts)
		}
	}
	for field, v := range map[string]any{"from": "end-5", "until": "3", "partitions": []int{0}, "type": "x"} {
		a := r.want(422, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "action": "redrive", field: v})
		if !strings.Contains(string(a.body), field+" does not go with the action redrive: leave it out") {
			t.Errorf("%s: %s", field, a.body)
		}
	}
	r.want(422, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "errno": 1406})
	r.want(403, "viewer", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "action": "redrive"})
}

func TestRedriveIsStoppedAndLimited(t *testing.T) {
	r := newRig(t, nil)
	r.letters(400)
	first := r.redrive(map[string]any{"dry_run": false, "rate": 50}, "Idempotency-Key", "one")
	if again := r.redrive(map[string]any{"dry_run": false, "rate": 50}, "Idempotency-Key", "one"); again.ID != first.ID {
		t.Error("the same key made a second redrive")
	}
	r.want(409, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "dry_run": false})
	r.replayer("w1", nil)
	testenv.Eventually(t, 20*time.Second, func(context.Context) error {
		if got := r.replay(first.ID); got.Total.Events == 0 {
			return fmt.Errorf("nothing is done yet: %+v", got)
		}
		return nil
	})
	why := map[string]string{"reason": "a test"}
	r.want(200, "operator", "POST", "/v1/replays/"+first.ID+"/pause", why)
	paused := r.await(first.ID, "paused")
	if n := r.count("SELECT COUNT(*) FROM freshet_dead_letter WHERE attempts > 0"); n != paused.Total.Events || n >= 400 {
		t.Fatalf("paused after %d dead letters were tried, %d counted", n, paused.Total.Events)
	}
	r.want(200, "operator", "POST", "/v1/replays/"+first.ID+"/limits", map[string]int{"rate": 100_000, "invalidation_rate": 0})
	r.want(200, "operator", "POST", "/v1/replays/"+first.ID+"/resume", why)
	done := r.await(first.ID, "done")
	if done.Total.Events != 400 || done.Total.Applied != 360 || done.Total.Invalid != 40 || r.count("SELECT COUNT(*) FROM freshet_dead_letter WHERE attempts = 1") != 400 {
		t.Errorf("after pause and resume: %+v", done.Total)
	}
	second := r.redrive(map[string]any{"dry_run": false, "rate": 1})
	r.want(200, "operator", "POST", "/v1/replays/"+second.ID+"/cancel", why)
	r.await(second.ID, "cancelled")
}

func TestRedriveGoesOnElsewhere(t *testing.T) {
	r := newRig(t, nil)
	const n = 800
	r.letters(n)
	job := r.redrive(map[string]any{"dry_run": false, "rate": 400})
	got := r.threeDeaths(job.ID)
	if got.Total.Events != n || got.Total.Applied != n-n/10 || got.Total.Invalid != n/10 || got.Takeovers < 1 {
		t.Errorf("after three deaths: %+v, %d takeovers; each dead letter must count once", got.Total, got.Takeovers)
	}
	if tried := r.count("SELECT COUNT(*) FROM freshet_dead_letter WHERE attempts = 1"); tried != n {
		t.Errorf("%d dead letters were tried exactly once, want %d", tried, n)
	}
}

// What others did with a letter since it was read is not done again, nor counted as done here.
func TestRedriveOfLettersThatWereClosedMeanwhile(t *testing.T) {
	r := newRig(t, nil)
	r.letters(6)
	job := r.redrive(map[string]any{"dry_run": false})
	j, err := r.cfg.Replica.Jobs.Claim(t.Context(), "w1", time.Minute)
	must(t, err)
	part := j.Parts[1] // the odd ones, which are all good
	letters, err := r.cfg.Replica.Letters.List(t.Context(), replica.LetterQuery{Source: part.Source, Content: true})
	must(t, err)
	_, err = r.cfg.Replica.Letters.Discard(t.Context(), replica.LetterQuery{Keys: []string{"k3"}})
	must(t, err)
	b := replica.ReplayBatch{
		Job: job.ID, Owner: "w1", Source: part.Source, Namespace: r.cfg.Namespace, From: part.From, Next: part.End, Action: jobstore.ActionRedrive, Redrive: letters,
	}
	res, err := r.cfg.Replica.Replay(t.Context(), &b)
	must(t, err)
	if res.Counts.Applied != 2 || res.Counts.Skipped != 1 || r.rows()["k3"] != 0 || r.states()["discarded"] != 1 {
		t.Errorf("counts %+v, rows %v, dead letters %v", res.Counts, r.rows(), r.states())
	}
}

func TestReplaysArePaged(t *testing.T) {
	r := newRig(t, nil)
	for range 5 {
		r.start(map[string]any{})
	}
	pages := func() {
		t.Helper()
		seen, after := map[string]bool{}, ""
		for _, want := range []int{2, 2, 1, 0} {
			var page struct{ Items []api.Replay }
			r.want(200, "viewer", "GET", "/v1/replays?limit=2&after="+after, nil).into(t, &page)
			if len(page.Items) != want {
				t.Errorf("a page of %d replays, want %d", len(page.Items), want)
			}
			for _, j := range page.Items {
				seen[j.ID], after = true, j.ID
			}
		}
		if len(seen) != 5 {
			t.Errorf("%d replays are in the pages, want 5", len(seen))
		}
	}
	pages()
	_, err := r.db.ExecContext(t.Context(), "UPDATE freshet_replay SET created_at = 1") // made in one millisecond
	must(t, err)
	pages()
	r.want(422, "viewer", "GET", "/v1/replays?after=nobody", nil)
}
