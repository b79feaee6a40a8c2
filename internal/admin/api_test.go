package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

func cloudEvent(key string, version int64) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"//shop","type":"io.freshet.row.upsert.v1","subject":"items/%s","partitionkey":%q,"sequence":"%d","data":{"id":%q,"n":1}}`, version, key, key, version, key)
}

func (r *rig) messages(query string) []api.Message {
	r.t.Helper()
	var out struct{ Items []api.Message }
	r.want(200, "operator", "GET", "/v1/messages?dataset=items&"+query, nil).into(r.t, &out)
	return out.Items
}

func TestEventsComeInEveryMode(t *testing.T) {
	r := newRig(t, nil)
	post := func(status int, contentType, body string, headers ...string) answer {
		t.Helper()
		return r.want(status, "publisher", "POST", "/v1/events", body, append(headers, "Content-Type", contentType)...)
	}
	post(202, "application/cloudevents+json", cloudEvent("a", 1))
	post(202, "application/cloudevents-batch+json", "["+cloudEvent("a", 2)+","+cloudEvent("b", 1)+"]")
	post(202, "application/json", `{"id":"ü c"}`, "ce-specversion", "1.0", "ce-id", "e9", "ce-source", "//shop", "ce-type", "io.freshet.row.upsert.v1",
		"ce-subject", "items/%C3%BC%20c", "ce-partitionkey", "%C3%BC%20c", "ce-sequence", "3")
	// A deletion has no data, so in binary mode it has no body.
	r.want(202, "publisher", "POST", "/v1/events", nil, "ce-specversion", "1.0", "ce-id", "e8", "ce-source", "//shop", "ce-type", "io.freshet.row.delete.v1", "ce-subject", "items/b", "ce-sequence", "2")
	got := map[string]int64{}
	for _, m := range r.messages("from=start") {
		if m.Problem != "" || m.Data != nil {
			t.Errorf("message %+v", m)
		}
		got[m.Key] = max(got[m.Key], m.Version)
	}
	if len(got) != 3 || got["a"] != 2 || got["b"] != 2 || got["ü c"] != 3 {
		t.Errorf("the topic has %v", got)
	}
	for name, body := range map[string]string{
		"no JSON": "{", "no dataset": strings.Replace(cloudEvent("a", 3), "items/", "nothing/", 1), "schema": strings.Replace(cloudEvent("a", 3), `"n":1`, `"n":"x"`, 1),
		"version": strings.Replace(cloudEvent("a", 3), `"sequence":"3"`, `"sequence":"x"`, 1), "key": strings.Replace(cloudEvent("a", 3), `{"id":"a"`, `{"id":"b"`, 1),
	} {
		t.Run(name, func(t *testing.T) { post(422, "application/cloudevents+json", body) })
	}
	post(422, "application/cloudevents-batch+json", "["+cloudEvent("a", 4)+",{}]")
	post(422, "application/cloudevents-batch+json", "[]")
	r.want(422, "publisher", "POST", "/v1/events", nil)
	if n := len(r.messages("from=start")); n != 5 {
		t.Errorf("refused requests published something: %d messages", n)
	}
	var tok struct{ Token schemas.Token }
	r.want(202, "publisher", "POST", "/v1/invalidations", map[string]any{"dataset": "items", "keys": []string{"a"}}).into(t, &tok)
	if tok.Token.IsZero() {
		t.Error("an invalidation gave no token")
	}
	r.want(422, "publisher", "POST", "/v1/invalidations", map[string]any{})
	for want, a := range map[string]answer{
		"give dataset too":  r.want(422, "publisher", "POST", "/v1/invalidations", map[string]any{"keys": []string{"a"}}),
		"keys[1]: key":      r.want(422, "publisher", "POST", "/v1/invalidations", map[string]any{"dataset": "items", "keys": []string{"a", ""}}),
		"no ce-specversion": post(415, "application/json", cloudEvent("a", 5)),
	} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("answer %s does not have %q", a.body, want)
		}
	}
	r.want(404, "publisher", "POST", "/v1/invalidations", map[string]any{"dataset": "nothing", "keys": []string{"a"}})
}

func TestMessagesAreChosen(t *testing.T) {
	r := newRig(t, nil)
	begun := time.Now()
	r.publish(5, 3)
	if got := r.messages("from=start&key=k1&data=true"); len(got) != 3 || string(got[2].Data) != `{"id":"k1","n":3}` || got[0].Headers["ce_type"] == "" {
		t.Errorf("one key: %+v", got)
	}
	if got := r.messages("from=end-1"); len(got) > 2 {
		t.Errorf("the last one of each partition: %d", len(got))
	}
	if got := r.messages("from=" + url.QueryEscape(begun.Add(time.Hour).Format(time.RFC3339))); len(got) != 0 {
		t.Errorf("from the future: %d", len(got))
	}
	if got := r.messages("from=start&op=delete"); len(got) != 0 {
		t.Errorf("deletions: %d", len(got))
	}
	r.want(403, "viewer", "GET", "/v1/messages?dataset=items&data=true", nil)
	r.want(422, "viewer", "GET", "/v1/messages?dataset=items&from=nonsense", nil)
	r.want(404, "viewer", "GET", "/v1/messages?dataset=__consumer_offsets", nil)
	for _, path := range []string{"/v1/messages", "/v1/messages/follow"} {
		if a := r.want(422, "viewer", "GET", path+"?dataset=items&partition=2", nil); !strings.Contains(string(a.body), "no partition 2; it has 2") {
			t.Errorf("%s of a partition that is not there: %s", path, a.body)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", r.http.URL+"/v1/messages/follow?dataset=items&from=end", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+r.tokens["viewer"])
	res, err := http.DefaultTransport.RoundTrip(req)
	must(t, err)
	defer res.Body.Close()
	_, err = r.producer.Publish(ctx, schemas.Event{Dataset: "items", Key: "late", Op: schemas.Delete, Version: 9})
	must(t, err)
	for sc := bufio.NewScanner(res.Body); sc.Scan(); {
		if text, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
			var m api.Message
			must(t, json.Unmarshal([]byte(text), &m))
			if m.Key != "late" || m.Op != "delete" || m.Version != 9 {
				t.Errorf("followed %+v", m)
			}
			return
		}
	}
	t.Error("the stream ended without the message")
}

func TestLettersAreShownRedrivenAndDiscarded(t *testing.T) {
	r := newRig(t, nil)
	d, _ := r.datasets.Get("items")
	ev := schemas.Event{ID: "e1", Source: "//x", Dataset: "items", Key: "k/1", Op: schemas.Upsert, Version: 5, Data: []byte(`{"id":"k/1","n":1}`)}
	rec, err := d.Encode(&ev)
	must(t, err)
	source := schemas.SourceName(d.Topic, "AAAAAAAAAAAAAAAAAAAAAA", 0)
	pos, err := r.cfg.Replica.Positions.Take(t.Context(), r.cfg.Group, "o", 1, []replica.Claim{{Source: source}})
	must(t, err)
	letter := func(off int64, key string) *replica.Letter {
		return &replica.Letter{Offset: off, Dataset: "items", Key: key, Version: 5, Op: schemas.Upsert, Reason: schemas.ReasonRefused, Detail: "a test", Record: &rec, CacheKey: "item:" + key}
	}
	_, err = r.cfg.Replica.Apply(t.Context(), &replica.Batch{Source: source, Fence: pos[0].Fence, Next: 3, Letters: []*replica.Letter{letter(0, "k/1"), letter(1, "other")}})
	must(t, err)
	var list struct{ Items []api.Letter }
	r.want(200, "viewer", "GET", "/v1/deadletters?state=open", nil).into(t, &list)
	if len(list.Items) != 2 || list.Items[0].Key != "k/1" {
		t.Fatalf("letters: %+v", list.Items)
	}
	var groups struct{ Items []api.LetterGroup }
	r.want(200, "viewer", "GET", "/v1/deadletters/groups", nil).into(t, &groups)
	if len(groups.Items) != 1 || groups.Items[0].Count != 2 {
		t.Errorf("groups: %+v", groups.Items)
	}
	for query, want := range map[string]int{
		"dataset=items&reason=refused&detail=a+test": 2, "detail=a": 0, "errno=1406": 0, "since=2020-01-02T00:00:00Z": 2, "since=2999-01-02T00:00:00Z": 0,
	} {
		var some struct{ Items []api.Letter }
		r.want(200, "viewer", "GET", "/v1/deadletters?"+query, nil).into(t, &some)
		if len(some.Items) != want {
			t.Errorf("%s: %d dead letters, want %d", query, len(some.Items), want)
		}
	}
	r.want(422, "viewer", "GET", "/v1/deadletters?since=yesterday", nil)
	for query, want := range map[string]int{
		"topic=" + d.Topic + "&partition=0&from_offset=1": 1, "topic=" + d.Topic + "&partition=0&to_offset=1": 1, "topic=" + d.Topic + "&partition=1": 0,
		"source=" + url.QueryEscape(source) + "&from_offset=0&to_offset=2": 2,
	} {
		var some struct{ Items []api.Letter }
		r.want(200, "viewer", "GET", "/v1/deadletters?"+query, nil).into(t, &some)
		if len(some.Items) != want {
			t.Errorf("%s: %d dead letters, want %d", query, len(some.Items), want)
		}
	}
	r.want(422, "viewer", "GET", "/v1/deadletters?from_offset=1", nil)
	r.want(422, "viewer", "GET", "/v1/deadletters?partition=1", nil)
	path := "/v1/deadletters/" + url.PathEscape(list.Items[0].ID)
	r.want(403, "viewer", "GET", path+"?data=true", nil)
	var shown api.ShownLetter
	r.want(200, "operator", "GET", path+"?data=true", nil).into(t, &shown)
	if string(shown.Event) != `{"id":"k/1","n":1}` || shown.Row != nil || shown.Headers["ce_id"] != "e1" || shown.Shared == nil || shown.EventBase64 != nil {
		t.Errorf("shown: %+v", shown)
	}
	body := map[string]any{"ids": []string{list.Items[0].ID}, "why": "a test"}
	var done api.Redrive
	r.want(200, "operator", "POST", "/v1/deadletters/redrives", body).into(t, &done)
	if !done.DryRun || done.Outcomes["applied"] != 1 || len(r.rows()) != 0 {
		t.Errorf("dry run: %+v, rows %v", done, r.rows())
	}
	body["dry_run"] = false
	r.want(200, "operator", "POST", "/v1/deadletters/redrives", body).into(t, &done)
	if done.Outcomes["applied"] != 1 || r.rows()["k/1"] != 5 || done.Token.IsZero() {
		t.Errorf("redrive: %+v, rows %v", done, r.rows())
	}
	done = api.Redrive{}
	r.want(200, "operator", "POST", "/v1/deadletters/redrives", body).into(t, &done)
	if done.Outcomes["closed"] != 1 || len(done.Outcomes) != 1 {
		t.Errorf("redriven again: %+v", done)
	}
	r.want(422, "operator", "POST", "/v1/deadletters/redrives", map[string]any{"ids": []string{"nonsense"}, "why": "a test"})
	r.want(404, "operator", "POST", "/v1/deadletters/redrives", map[string]any{"dataset": "itmes", "why": "a test"})
	r.want(404, "operator", "POST", "/v1/deadletters/discards", map[string]any{"dataset": "itmes", "why": "a test", "dry_run": false})
	r.want(422, "operator", "POST", "/v1/deadletters/discards", map[string]any{"from_offset": 1, "why": "a test"})
	var gone struct{ Letters int64 }
	r.want(200, "operator", "POST", "/v1/deadletters/discards", map[string]any{"dataset": "items", "why": "a test", "dry_run": false}).into(t, &gone)
	if gone.Letters != 1 {
		t.Errorf("discarded %d", gone.Letters)
	}
	r.want(422, "viewer", "GET", "/v1/deadletters/nonsense", nil)
	r.want(404, "viewer", "GET", "/v1/deadletters/"+url.PathEscape("a/b/0@7.0"), nil)
}

func TestRecordSideBySide(t *testing.T) {
	r := newRig(t, nil)
	r.publish(3, 2)
	look := func(key string) (rec api.Record) {
		t.Helper()
		r.want(200, "viewer", "GET", "/v1/records/items/"+url.PathEscape(key), nil).into(t, &rec)
		return rec
	}
	if got := look("k1"); got.Fresh || len(got.Kafka.Events) != 2 || !strings.Contains(got.Verdict, "not applied yet") {
		t.Errorf("published only: %+v", got)
	}
	if got := look("never/there"); !got.Fresh || !strings.Contains(got.Verdict, "No copy") {
		t.Errorf("never published: %+v", got)
	}
	r.replayer("w1", nil)
	r.await(r.start(map[string]any{"dry_run": false}).ID, "done")
	var job api.Replay
	_, err := r.db.ExecContext(t.Context(), "DELETE FROM items WHERE id = 'k2'")
	must(t, err)
	r.want(202, "operator", "POST", "/v1/records/items/k2/replay", map[string]string{"reason": "a test"}).into(t, &job)
	if done := r.await(job.ID, "done"); done.Total.Applied != 2 || r.rows()["k2"] != 2 {
		t.Errorf("replayed one record: %+v, rows %v", done.Total, r.rows())
	}
	r.want(202, "operator", "POST", "/v1/records/items/k2/invalidate", map[string]string{"reason": "a test"})
	r.want(404, "viewer", "GET", "/v1/records/nothing/k2", nil)
	r.want(403, "viewer", "GET", "/v1/records/items/k2?data=true", nil)
}

// nasty are values that something behind the API may stumble over.
var nasty = []struct{ first, second, query, body string }{
	{"items", "k1", "", "{}"},
	{"items", "k1", "dataset=items&from=end-99999999999999999999&limit=1", `{"reason":"abc","why":"abc","dataset":"items","from":"-5","until":"0"}`},
	{"' OR 1=1 --", "`x`", "dataset=%27%3B--&key=%00", `{"reason":"\u0000\u0000\u0000"}`},
	{"\x00", "../..", "before=-1&limit=0", `[]`},
	{"a@1.0", "x@-1.9", "data=maybe", `{"dataset":"items","keys":["\ud800"],"reason":"abc","dry_run":false}`},
	{"a/b/0@9223372036854775807.0", strings.Repeat("k", 600), "dataset=items&from=0&limit=1000&partition=2147483647", `{"ids":["@"],"why":"abc","limit":-1}`},
	{"items", "\xff\xfe", "dataset=items&from=9223372036854775807", `{"dataset":"items","keys":["k"],"partitions":[-1],"reason":"abc"}`},
	{"r", "r", "limit=9999999999999999999999", `{"rate":99999999999999999999}`},
	{"items", "k", "after=a@1.0&state=open&dataset=%F0%9F%98%80", `{"names":["\u0000",""],"tags":[""],"reason":null}`},
}

// throw makes a request of anything, and returns its status; 0 when it cannot be sent.
func (r *rig) throw(ctx context.Context, route, first, second, query, body string) int {
	method, path, _ := strings.Cut(route, " ")
	for _, name := range []string{"{dataset}", "{node}", "{id}"} {
		path = strings.ReplaceAll(path, name, url.PathEscape(first))
	}
	path = strings.ReplaceAll(path, "{key}", url.PathEscape(second))
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.http.URL+path, strings.NewReader(body))
	if err != nil {
		return 0
	}
	if req.URL.RawQuery = query; strings.ContainsFunc(query, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' }) {
		req.URL.RawQuery = url.QueryEscape(query)
	}
	req.Header.Set("Authorization", "Bearer "+r.tokens["admin"])
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0 // the client itself refuses
	}
	res.Body.Close()
	return res.StatusCode
}

// endless reports whether a route's good answers have no end.
func endless(route string) bool {
	return strings.HasSuffix(route, "/follow") || route == "GET /v1/invalidations"
}

func TestNothingAnswers500(t *testing.T) {
	r := newRig(t, nil)
	r.publish(3, 1)
	statuses := map[int]int{}
	for _, route := range routesOf(t, r.want(200, "admin", "GET", "/openapi.json", nil).body) {
		for i, v := range nasty {
			if endless(route) && i < 2 {
				continue
			}
			status := r.throw(t.Context(), route, v.first, v.second, v.query, v.body)
			if statuses[status]++; status >= 500 {
				t.Errorf("%s with %+v: %d", route, v, status)
			}
		}
	}
	if statuses[0] > 10 || statuses[200] == 0 || statuses[422] == 0 {
		t.Errorf("statuses %v show that most requests did not get through", statuses)
	}
}

// Nothing answers with a 500, whatever comes in.
func FuzzRequests(f *testing.F) {
	r := newRig(f, nil)
	routes := routesOf(f, r.want(200, "admin", "GET", "/openapi.json", nil).body)
	for i, v := range nasty {
		f.Add(i*5, v.first, v.second, v.query, v.body)
	}
	f.Fuzz(func(t *testing.T, which int, first, second, query, body string) {
		route := routes[uint(which)%uint(len(routes))]
		if endless(route) {
			return
		}
		if status := r.throw(t.Context(), route, first, second, query, body); status == 500 {
			t.Errorf("%s with %q %q %q %q: 500", route, first, second, query, body)
		}
	})
}

func TestConsistencyOfAllWorkers(t *testing.T) {
	r := newRig(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 2 {
		seen := report.Stats{
			Windows: []report.Window{{Tier: "shared", Seconds: 60, Checks: 10, Violations: uint64(i)}}, Alarms: map[string]uint64{"shared": uint64(i)},
		}
		if i == 1 {
			seen.Stale = []report.Stale{{Old: report.Old{Tier: "shared", Version: 3}, Dataset: "items", Key: "k", Replica: 4, Since: time.Now().UTC()}}
		}
		state := func() api.WorkerState { return api.WorkerState{Owner: fmt.Sprint("w", i), Consistency: &seen} }
		wg.Go(func() { must(t, roster.Announce(ctx, r.cfg.Replica.SQL(), state, slog.New(slog.DiscardHandler))) })
	}
	testenv.Eventually(t, 20*time.Second, func(context.Context) error {
		var got report.Stats
		r.want(200, "viewer", "GET", "/v1/consistency", nil).into(t, &got)
		if len(got.Windows) != 1 || got.Windows[0].Checks != 20 || got.Windows[0].Violations != 1 || got.Alarms["shared"] != 1 || len(got.Stale) != 1 || got.Stale[0].Key != "k" || got.Stale[0].Version != 3 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	stop()
	wg.Wait()
}
