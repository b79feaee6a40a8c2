package admin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// publish appends versions 1 … n of each of the keys k0 … k<keys-1>, and returns the newest per key.
func (r *rig) publish(keys int, versions int64) map[string]int64 {
	r.t.Helper()
	newest := map[string]int64{}
	var evs []schemas.Event
	for v := int64(1); v <= versions; v++ {
		for k := range keys {
			key := fmt.Sprintf("k%d", k)
			evs = append(evs, schemas.Event{Dataset: "items", Key: key, Op: schemas.Upsert, Version: v, Data: fmt.Appendf(nil, `{"id":%q,"n":%d}`, key, v)})
			newest[key] = v
		}
	}
	_, err := r.producer.Publish(r.t.Context(), evs...)
	must(r.t, err)
	return newest
}

func (r *rig) rows() map[string]int64 {
	r.t.Helper()
	rows, err := r.db.QueryContext(r.t.Context(), "SELECT id, _version FROM items WHERE _version > 0")
	must(r.t, err)
	defer rows.Close()
	out := map[string]int64{}
	for rows.Next() {
		var id string
		var v int64
		must(r.t, rows.Scan(&id, &v))
		out[id] = v
	}
	must(r.t, rows.Err())
	return out
}

// deadJobs is a job log whose owner dies silently.
type deadJobs struct{ *jobstore.Jobs }

func (deadJobs) Leave(context.Context, string, string) error { return nil }

// replayer runs replays until the test ends or stop is called.
func (r *rig) replayer(owner string, log jobs.JobLog) (stop func()) {
	r.t.Helper()
	if log == nil {
		log = r.cfg.Replica.Jobs
	}
	p, err := jobs.New(jobs.Config{
		Owner: owner, Namespace: r.cfg.Namespace, Datasets: r.datasets, Kafka: r.cfg.Kafka, Replica: r.cfg.Replica, Jobs: log,
		LookInterval: 50 * time.Millisecond, Lease: 500 * time.Millisecond,
	})
	must(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) start(body map[string]any, headers ...string) api.Replay {
	r.t.Helper()
	body["dataset"], body["reason"] = "items", "a test"
	var out api.Replay
	r.want(202, "operator", "POST", "/v1/replays", body, headers...).into(r.t, &out)
	return out
}

func (r *rig) replay(id string) api.Replay {
	r.t.Helper()
	var out api.Replay
	r.want(200, "viewer", "GET", "/v1/replays/"+id, nil).into(r.t, &out)
	return out
}

func (r *rig) await(id, state string) api.Replay {
	r.t.Helper()
	var got api.Replay
	testenv.Eventually(r.t, 30*time.Second, func(context.Context) error {
		if got = r.replay(id); got.State != state {
			return fmt.Errorf("replay is %s: %+v", got.State, got.Total)
		}
		return nil
	})
	return got
}

func TestReplayRestoresWhatIsMissing(t *testing.T) {
	r := newRig(t, nil)
	newest := r.publish(100, 5)
	r.replayer("w1", nil)
	dry := r.await(r.start(map[string]any{}).ID, "done")
	if len(r.rows()) != 0 || dry.Total.Applied != 500 || dry.Total.Events != 500 {
		t.Fatalf("dry run: %+v, %d rows", dry.Total, len(r.rows()))
	}
	done := r.await(r.start(map[string]any{"dry_run": false}).ID, "done")
	if done.Total.Applied != dry.Total.Applied || done.Total.Stale != dry.Total.Stale || done.Total.Invalidated < 100 {
		t.Errorf("dry run said %+v, the real one did %+v", dry.Total, done.Total)
	}
	if got := r.rows(); !maps.Equal(got, newest) {
		t.Errorf("rows %v, want %v", got, newest)
	}
	// A row that is newer than the topic stays, one that was damaged comes back.
	for _, stmt := range []string{"UPDATE items SET _version = 99, n = 99 WHERE id = 'k1'", "DELETE FROM items WHERE id = 'k2'", "UPDATE items SET _version = 3, n = 3 WHERE id = 'k3'"} {
		_, err := r.db.ExecContext(t.Context(), stmt)
		must(t, err)
	}
	dry = r.await(r.start(map[string]any{}).ID, "done")
	done = r.await(r.start(map[string]any{"dry_run": false}).ID, "done")
	if done.Total.Applied != 5+2 || dry.Total.Applied != done.Total.Applied || dry.Total.Stale != done.Total.Stale {
		t.Errorf("after damage: dry %+v, real %+v", dry.Total, done.Total)
	}
	newest["k1"] = 99
	var evidence []any
	for _, e := range r.audit() {
		if e.Outcome == 202 && e.Detail["dry_run"] != nil {
			evidence = append(evidence, e.Detail["dry_run"])
		}
	}
	if len(evidence) != 2 {
		t.Fatalf("two replays were started for real, the audit log has evidence of %d", len(evidence))
	}
	if got, ok := evidence[0].(map[string]any); !ok || got["replay"] != dry.ID || got["counts"].(map[string]any)["applied"] != float64(dry.Total.Applied) {
		t.Errorf("the audit log has %v of dry run %s", evidence[0], dry.ID)
	}
	if got := r.rows(); !maps.Equal(got, newest) {
		t.Errorf("after damage: rows %v, want %v", got, newest)
	}
	if got := r.await(r.start(map[string]any{"dry_run": false}).ID, "done"); got.Total.Applied != 0 || got.Total.Stale != 500 || got.Total.Invalidated != 0 {
		t.Errorf("again: %+v", got.Total)
	}
	out, err := r.cfg.Replica.Outbox.Older(t.Context(), r.cfg.Namespace, 0, 10)
	if err != nil || len(out) != 0 {
		t.Errorf("%d invalidations are left in the outbox, %v", len(out), err)
	}
	committed, err := r.cfg.Kafka.CommittedOffsets(t.Context(), r.cfg.Group, []string{r.datasets.All()[0].Topic})
	if err != nil || len(committed[r.datasets.All()[0].Topic]) != 0 {
		t.Errorf("replays moved the group's offsets: %v, %v", committed, err)
	}
}

func TestReplayFilters(t *testing.T) {
	r := newRig(t, nil)
	r.publish(20, 2)
	r.replayer("w1", nil)
	got := r.await(r.start(map[string]any{"dry_run": false, "keys": []string{"k3"}}).ID, "done")
	if got.Total.Applied != 2 || len(got.Parts) != 1 || !maps.Equal(r.rows(), map[string]int64{"k3": 2}) {
		t.Errorf("one key: %+v over %d partitions, rows %v", got.Total, len(got.Parts), r.rows())
	}
	got = r.await(r.start(map[string]any{"dry_run": false, "prefix": "k1"}).ID, "done")
	if got.Total.Applied != 22 || len(r.rows()) != 12 {
		t.Errorf("prefix: %+v, rows %v", got.Total, r.rows())
	}
	got = r.await(r.start(map[string]any{"dry_run": false, "op": "delete"}).ID, "done")
	if got.Total.Applied+got.Total.Stale != 0 || got.Total.Skipped != 40 {
		t.Errorf("deletions only: %+v", got.Total)
	}
	got = r.await(r.start(map[string]any{"dry_run": false, "action": "invalidate"}).ID, "done")
	if got.Total.Invalidated < 20 || len(r.rows()) != 12 {
		t.Errorf("invalidate: %+v, rows %v", got.Total, r.rows())
	}
	r.want(422, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "partitions": []int{7}})
	r.want(422, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "from": "yesterday"})
	r.want(404, "operator", "POST", "/v1/replays", map[string]any{"dataset": "nothing", "reason": "a test"})
	for _, tc := range []struct{ from, until, want string }{
		{"start", "tomorrow", "until is an offset"}, {"10", "2", "until comes before from"}, {"9999", "end", ""}, {"start", "0", ""},
	} {
		body := map[string]any{"dataset": "items", "reason": "a test", "from": tc.from, "until": tc.until}
		if tc.want == "" {
			r.want(202, "operator", "POST", "/v1/replays", body)
		} else if a := r.want(422, "operator", "POST", "/v1/replays", body); !strings.Contains(string(a.body), tc.want) {
			t.Errorf("from %s until %s: %s", tc.from, tc.until, a.body)
		}
	}
}

func TestReplayIsStoppedLimitedAndStartedOnce(t *testing.T) {
	r := newRig(t, nil)
	r.publish(250, 8)
	first := r.start(map[string]any{"dry_run": false, "rate": 200}, "Idempotency-Key", "one")
	if again := r.start(map[string]any{"dry_run": false, "rate": 200}, "Idempotency-Key", "one"); again.ID != first.ID {
		t.Errorf("the same key made a second replay")
	}
	r.want(422, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "another body", "dry_run": false}, "Idempotency-Key", "one")
	r.want(422, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "dry_run": false, "rate": 200, "from": "end-1"}, "Idempotency-Key", "one")
	if a := r.want(409, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "dry_run": false}); !strings.Contains(string(a.body), first.ID) {
		t.Errorf("the refusal does not name the other replay: %s", a.body)
	}
	r.replayer("w1", nil)
	testenv.Eventually(t, 20*time.Second, func(context.Context) error {
		if got := r.replay(first.ID); got.Total.Events == 0 {
			return fmt.Errorf("nothing is done yet: %+v", got)
		}
		return nil
	})
	why := map[string]string{"reason": "a test"}
	r.want(200, "operator", "POST", "/v1/replays/"+first.ID+"/pause", why)
	r.want(409, "operator", "POST", "/v1/replays/"+first.ID+"/pause", why)
	paused := r.await(first.ID, "paused")
	if paused.Total.Events >= 2000 {
		t.Fatalf("the pause came too late to show anything: %+v", paused.Total)
	}
	limits := func(status int, body map[string]int) (out api.Replay) {
		t.Helper()
		r.want(status, "operator", "POST", "/v1/replays/"+first.ID+"/limits", body).into(t, &out)
		return out
	}
	if got := limits(200, map[string]int{"invalidation_rate": 90_000}); got.Rate != 200 || got.InvalidationRate != 90_000 {
		t.Errorf("one limit was given: %+v", got)
	}
	if got := limits(200, map[string]int{"rate": 100_000}); got.Rate != 100_000 || got.InvalidationRate != 90_000 {
		t.Errorf("the other limit was given: %+v", got)
	}
	limits(422, nil)
	limits(422, map[string]int{"rate": -1})
	r.want(200, "operator", "POST", "/v1/replays/"+first.ID+"/resume", why)
	done := r.await(first.ID, "done")
	if done.Total.Events != 2000 || done.Total.Applied != 2000 || done.Parts[0].Done != 1 {
		t.Errorf("after pause and resume: %+v", done.Total)
	}
	if a := r.want(409, "operator", "POST", "/v1/replays/"+first.ID+"/cancel", why); !strings.Contains(string(a.body), "the replay is done") {
		t.Errorf("the refusal does not name the state: %s", a.body)
	}
	limits(409, map[string]int{"rate": 1})
	if a := r.want(200, "operator", "GET", "/v1/audit", nil); !strings.Contains(string(a.body), "none of this choice came before") {
		t.Errorf("the audit log does not say that no one counted first: %s", a.body)
	}
	var history struct{ Items []api.Replay }
	r.want(200, "viewer", "GET", "/v1/replays", nil).into(t, &history)
	if len(history.Items) != 1 || history.Items[0].Total != done.Total {
		t.Errorf("the history has %+v, want %+v", history.Items, done.Total)
	}
	second := r.start(map[string]any{"dry_run": false, "rate": 10})
	r.want(200, "operator", "POST", "/v1/replays/"+second.ID+"/cancel", why)
	if got := r.await(second.ID, "cancelled"); got.Total.Events == 2000 {
		t.Errorf("cancelled after everything was done")
	}
	r.want(404, "operator", "POST", "/v1/replays/nothing/cancel", why)
}

// threeDeaths lets three workers die in the middle of a replay, each after it has done some of it, and a fourth end it.
func (r *rig) threeDeaths(id string) api.Replay {
	r.t.Helper()
	for n := range 3 {
		before := r.replay(id).Total.Events
		stop := r.replayer(fmt.Sprintf("w%d", n), deadJobs{r.cfg.Replica.Jobs})
		testenv.Eventually(r.t, 20*time.Second, func(context.Context) error {
			if got := r.replay(id); got.Total.Events <= before {
				return fmt.Errorf("w%d did nothing yet: %+v", n, got)
			}
			return nil
		})
		stop()
	}
	r.replayer("last", nil)
	return r.await(id, "done")
}

func TestReplayGoesOnElsewhere(t *testing.T) {
	r := newRig(t, nil)
	newest := r.publish(250, 8)
	job := r.start(map[string]any{"dry_run": false, "rate": 2000})
	got := r.threeDeaths(job.ID)
	if got.Total.Events != 2000 || got.Total.Applied != 2000 || got.Takeovers < 1 {
		t.Errorf("after three deaths: %+v, %d takeovers; each event must count once", got.Total, got.Takeovers)
	}
	if rows := r.rows(); !maps.Equal(rows, newest) {
		t.Errorf("rows differ from the topic")
	}
}

// pausesAtEnd is a job log in which someone pauses the replay right before its owner ends it.
type pausesAtEnd struct {
	*jobstore.Jobs
	t *testing.T
}

func (l pausesAtEnd) End(ctx context.Context, id, owner string, state jobstore.State, problem string) error {
	if err := l.Set(ctx, id, jobstore.Running, jobstore.Paused); err != nil {
		l.t.Errorf("pause: %v", err)
	}
	return l.Jobs.End(ctx, id, owner, state, problem)
}

// A replay that is paused after its last batch is paused: no process runs it, and it can continue to its end.
func TestReplayPausedAtItsEnd(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, 1)
	job := r.start(map[string]any{"dry_run": false})
	stop := r.replayer("w1", pausesAtEnd{Jobs: r.cfg.Replica.Jobs, t: t})
	testenv.Eventually(t, 20*time.Second, func(context.Context) error {
		if got := r.replay(job.ID); got.State != "paused" || got.Owner != "" {
			return fmt.Errorf("%s, owner %q", got.State, got.Owner)
		}
		return nil
	})
	stop()
	r.want(200, "operator", "POST", "/v1/replays/"+job.ID+"/resume", map[string]string{"reason": "a test"})
	r.replayer("w2", nil)
	testenv.Eventually(t, 20*time.Second, func(context.Context) error {
		if got := r.replay(job.ID); got.State != "done" || got.Total.Events != 1 || got.Takeovers != 0 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}

// A paused replay whose owner died has no owner once the lease is over.
func TestPausedReplayOfADeadOwner(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, 1)
	job := r.start(map[string]any{"dry_run": false})
	_, err := r.cfg.Replica.Jobs.Claim(t.Context(), "w1", 300*time.Millisecond)
	must(t, err)
	r.want(200, "operator", "POST", "/v1/replays/"+job.ID+"/pause", map[string]string{"reason": "a test"})
	testenv.Eventually(t, 20*time.Second, func(context.Context) error {
		if got := r.replay(job.ID); got.Owner != "" {
			return fmt.Errorf("%s still runs it", got.Owner)
		}
		return nil
	})
}

// A batch whose answer was lost is sent once more, and must not count twice.
func TestBatchOfReplayCountsOnce(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, 1)
	job := r.start(map[string]any{"dry_run": false})
	_, err := r.cfg.Replica.Jobs.Claim(t.Context(), "w1", time.Minute)
	must(t, err)
	j, err := r.cfg.Replica.Jobs.Get(t.Context(), job.ID)
	must(t, err)
	b := replica.ReplayBatch{
		Job: job.ID, Owner: "w1", Source: j.Parts[0].Source, Namespace: r.cfg.Namespace, Next: 1, Action: jobstore.ActionApply, Counts: jobstore.Counts{Events: 1},
	}
	_, err = r.cfg.Replica.Replay(t.Context(), &b)
	must(t, err)
	if _, err = r.cfg.Replica.Replay(t.Context(), &b); !errors.Is(err, jobstore.ErrMoved) {
		t.Errorf("the same batch again: %v", err)
	}
	b.From, b.Next, b.Owner = 1, 2, "w2"
	if _, err = r.cfg.Replica.Replay(t.Context(), &b); !errors.Is(err, jobstore.ErrMoved) {
		t.Errorf("another owner: %v", err)
	}
	if got := r.replay(job.ID); got.Total.Events != 1 {
		t.Errorf("counted %+v", got.Total)
	}
}

func TestReplayIsFollowed(t *testing.T) {
	r := newRig(t, nil)
	r.publish(10, 1)
	job := r.start(map[string]any{})
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.http.URL+"/v1/replays/"+job.ID+"/events", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+r.tokens["viewer"])
	res, err := http.DefaultTransport.RoundTrip(req)
	must(t, err)
	defer res.Body.Close()
	last, back := "", false // the stream outlives a database that is away for a moment
	for sc := bufio.NewScanner(res.Body); sc.Scan(); {
		rename := ""
		switch text, ok := strings.CutPrefix(sc.Text(), "data: "); {
		case ok && last == "":
			rename = "RENAME TABLE freshet_replay TO gone"
			last = text
		case ok:
			last = text
		case strings.Contains(sc.Text(), "cannot be read just now") && !back:
			rename, back = "RENAME TABLE gone TO freshet_replay", true
		}
		if rename != "" {
			_, err := r.db.ExecContext(t.Context(), rename)
			must(t, err)
		}
		if back && rename != "" {
			r.replayer("w1", nil)
		}
	}
	if got := r.want(422, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "keys": []string{"k1", ""}}); !strings.Contains(string(got.body), "keys[1]: ") {
		t.Errorf("the refusal does not name the key's place: %s", got.body)
	}
	if !strings.Contains(last, `"state":"done"`) {
		t.Errorf("the stream ended with %q", last)
	}
}

// A rebuild reads the whole topic or is refused, also as a dry run.
func TestRebuildIsRefusedWhereItWouldLose(t *testing.T) {
	r := newRig(t, nil)
	newest := r.publish(20, 2)
	rebuild := func(more map[string]any) map[string]any {
		body := map[string]any{"dataset": "items", "reason": "a test", "action": "rebuild"}
		maps.Copy(body, more)
		return body
	}
	for _, more := range []map[string]any{{"from": "end-5"}, {"until": "3"}, {"keys": []string{"k1"}}, {"op": "upsert"}, {"partitions": []int{0}}} {
		r.want(422, "operator", "POST", "/v1/replays", rebuild(more))
	}
	r.want(422, "operator", "POST", "/v1/replays", map[string]any{"dataset": "items", "reason": "a test", "drop_old": true})

	r.replayer("w1", nil)
	dry := r.await(r.start(map[string]any{"action": "rebuild"}).ID, "done")
	if dry.Total.Applied != int64(2*len(newest)) || len(r.rows()) != 0 {
		t.Errorf("dry run: %+v, %d rows", dry.Total, len(r.rows()))
	}
	_, err := r.db.ExecContext(t.Context(), "CREATE TRIGGER watcher AFTER INSERT ON items FOR EACH ROW SET @x = 1")
	must(t, err)
	if a := r.want(409, "operator", "POST", "/v1/replays", rebuild(nil)); !strings.Contains(string(a.body), "trigger watcher") {
		t.Errorf("the refusal does not name the trigger: %s", a.body)
	}
	_, err = r.db.ExecContext(t.Context(), "DROP TRIGGER watcher")
	must(t, err)

	d, _ := r.datasets.Get("items")
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 10_000
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Partition, part.Offset = 1, 3
	req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: d.Topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{part}}}
	res, err := req.RequestWith(t.Context(), testenv.Kafka(t).Client(t))
	must(t, err)
	must(t, kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode))
	if a := r.want(409, "operator", "POST", "/v1/replays", rebuild(nil)); !strings.Contains(string(a.body), "partition 1 begins at offset 3") {
		t.Errorf("the refusal does not tell what is missing: %s", a.body)
	}
}
