package console_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/console"
)

// fakeAPI answers as the admin API does, with one of everything. The real one is behind the console in internal/e2e; this one counts what is
// asked of it, and refuses what the test wants.
type fakeAPI struct {
	tokens *access.TokenFile

	mu      sync.Mutex
	posts   []string // guarded by mu, as what follows
	refused int
	lag     int64
}

// ServeHTTP answers.
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tokens != nil {
		if _, ok := f.tokens.Bearer(r); !ok {
			problem(w, http.StatusUnauthorized, "give a token")
			return
		}
	}
	if f.refused != 0 {
		problem(w, f.refused, "refused <b>by</b> the test")
		return
	}
	if r.Method != http.MethodGet {
		b, _ := io.ReadAll(r.Body)
		f.posts = append(f.posts, r.URL.Path+" "+string(b))
	}
	body, ok := f.answers()[r.Method+" "+r.URL.Path]
	if !ok {
		problem(w, http.StatusNotFound, "there is no such route: "+r.URL.Path)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "code": "some_code", "detail": detail})
}

func items(all ...any) map[string]any { return map[string]any{"items": all} }

const evil = `<img src=x onerror=alert(1)>"'`

// answers has one of everything, with content that would break a page that does not escape it.
func (f *fakeAPI) answers() map[string]any {
	at, half := time.Now().Add(-time.Minute), 0.5
	pause := &api.Pause{Who: "ada", Why: evil, Since: at}
	letter := api.Letter{ID: "freshet.users/abc/0@7.0", Dataset: "users", Key: evil, Version: 3, Op: "upsert", Reason: "schema", Detail: evil, State: "open", Created: at}
	message := api.Message{Offset: 7, Time: at, Key: evil, Op: "upsert", Version: 3, Headers: map[string]string{"traceparent": "00-aa-bb-01"}, Data: json.RawMessage(`{"name":"<b>"}`)}
	job := api.Replay{
		ID: "r1", State: "done", Actor: "ada", Created: at, Total: api.JobCounts{Events: 10, Applied: 4}, Parts: []api.ReplayPart{{End: 10, Next: 10, Done: 1, Samples: []api.JobSample{{Outcome: "stale", Key: evil}}}},
		Spec: api.JobSpec{Dataset: "users", Action: "apply", DryRun: true, From: "start", Until: "end", Keys: []string{"1", "2"}, Reason: evil},
	}
	node := api.Node{ID: "n1", Host: "h", Began: at, Lanes: []api.NodeLane{{Fresh: true, Flushes: map[string]int64{"gap": 1}}}, Caches: []api.NodeCache{{Dataset: "users", Entries: 5, LocalHits: 3, Loads: 1}}}
	worker := api.WorkerState{Owner: "w1", Began: at, Alive: true, Partitions: []api.WorkerPartition{{Topic: "freshet.users"}}, Degraded: []string{evil}}
	record := api.Record{
		Dataset: "users", Key: evil, Topic: "freshet.users", Verdict: evil, Kafka: api.KafkaSide{Events: []api.Message{message}}, Row: &api.RowSide{Version: 4, At: at, Data: json.RawMessage(`{"name":"a"}`)},
		Shared: &report.Shared{Name: "user:1", State: "value", Valid: true, Version: 4}, Nodes: []report.NodeCopy{{Node: "n1", Held: true, Found: true, Served: true, Version: 3}}, Letters: []api.Letter{letter},
	}
	one := int64(1)
	return map[string]any{
		"GET /openapi.json": map[string]any{}, "GET /v1/datasets": items(api.DatasetState{Name: "users", Topic: "freshet.users", Cached: true, Pause: pause, Key: []string{"id"}, Letters: map[string]int64{"open": 1}}),
		"GET /v1/lag": items(api.Partition{Dataset: "users", Topic: "freshet.users", Records: f.lag, Seconds: 41, Owner: "w1", ETA: &half, Error: evil, Waits: &api.Wait{Code: "server", Server: "MySQL", Detail: evil}}),
		"GET /v1/overview": api.Overview{
			At: at, Health: api.Problem{Level: "bad", Code: "partitions_behind", Args: api.ProblemArgs{Count: 2, Dataset: "users", Seconds: &half, Waits: &api.Wait{Code: "busy"}}, Sentence: "2 partitions wait" + evil},
			Problems: []api.Problem{{Level: "bad", Code: "x"}, {Level: "warn", Code: "dead_letters", Args: api.ProblemArgs{Count: 1}, Sentence: "1 letter"}},
			Fresh:    api.Freshness{P50: &half, Node: evil}, Path: []api.PathStep{{From: "source", To: "kafka", Rate: &half, Backlog: &one}}, Counts: api.Counts{RunningJobs: &one},
			Samples: []api.Sample{{At: at, Freshness: &half}, {At: at.Add(5 * time.Second)}, {At: at.Add(10 * time.Second), Freshness: &half, Letters: &one}},
		},
		"GET /v1/records/users/1": record, "POST /v1/records/users/1/invalidate": map[string]any{"token": "t"},
		"GET /v1/messages": items(message), "GET /v1/deadletters": items(letter),
		"GET /v1/deadletters/groups":                  items(api.LetterGroup{Dataset: "users", Reason: "schema", Detail: evil, Count: 1, First: at, Last: at}),
		"GET /v1/deadletters/freshet.users/abc/0@7.0": api.ShownLetter{Letter: letter, Event: json.RawMessage(`{"name":"b"}`), Row: record.Row, Shared: record.Shared},
		"POST /v1/deadletters/redrives":               api.Redrive{Outcomes: map[string]int64{"applied": 1}, Samples: []api.RedriveSample{{Key: evil, Outcome: "applied"}}},
		"POST /v1/deadletters/discards":               api.Discard{Letters: 1},
		"GET /v1/replays":                             items(job), "GET /v1/replays/r1": job, "POST /v1/replays": job, "POST /v1/replays/r1/pause": job, "POST /v1/replays/r1/limits": job,
		"GET /v1/nodes": map[string]any{"nodes": []any{node}, "workers": []any{worker}}, "POST /v1/nodes/n1/flush": map[string]any{"flushed": true},
		"GET /v1/consistency": report.Stats{Windows: []report.Window{{Tier: "shared", Seconds: 1, Checks: 3, Violations: 1}}, Stale: []report.Stale{{Dataset: "users", Key: evil, Since: at}}},
		"GET /v1/datasets/users": api.DatasetDetail{
			DatasetState: api.DatasetState{Name: "users", Letters: map[string]int64{}}, Schema: json.RawMessage(`{"title":"<b>"}`), Declaration: evil, Properties: []api.Property{{Name: "id", Key: true, MaxLength: 5}},
			Cache: &api.CacheKeys{Key: "user:{id}", Tags: []string{"a", "b"}}, Findings: []api.SchemaFinding{{Level: "advice", Text: evil}}, Source: api.SourceState{Newest: &at, Position: json.RawMessage(`{"file":1}`), Outbox: &api.Outbox{Rows: 3, Problems: []string{evil}}},
		},
		"POST /v1/datasets/users/check":  api.SchemaCheck{Findings: []api.SchemaFinding{{Level: "breaking", Path: "/properties/id", Text: evil}}, Statements: []string{"ALTER TABLE x"}},
		"GET /v1/consistency/history":    items(api.ConsistencyPoint{At: at, Windows: []report.Window{{Tier: "shared", Seconds: 1, Checks: 4, Violations: 1}}}, api.ConsistencyPoint{At: at.Add(time.Minute)}),
		"POST /v1/consistency/verify":    api.Verification{Records: 7, Copies: 3, Stale: []report.Stale{{Dataset: "users", Key: evil}}},
		"GET /v1/settings":               api.About{Version: "v9", Namespace: "default", Began: at, Settings: []api.Setting{{Key: "mysql.dsn", Value: "***", Origin: evil}}},
		"POST /v1/doctor":                api.Diagnosis{Findings: []api.Finding{{Name: "x", Bad: true, Problem: evil, Fix: evil}}},
		"GET /v1/audit":                  items(api.Entry{ID: 1, At: at, Actor: "ada", Action: "pause-dataset", Target: evil, Outcome: 200, Detail: map[string]any{"reason": evil}}),
		"POST /v1/datasets/users/pause":  pause,
		"POST /v1/datasets/users/resume": map[string]any{"resumed": true},
	}
}

// browser is a person's, with cookies.
type browser struct {
	t      *testing.T
	api    *fakeAPI
	url    string
	client *http.Client
	file   string // of tokens
	tokens map[string]string
}

// open serves a console. Without roles there is no authentication.
func open(t *testing.T, base string, roles ...access.Role) *browser {
	t.Helper()
	b := &browser{t: t, api: &fakeAPI{}, tokens: map[string]string{}}
	if len(roles) > 0 {
		var lines []string
		for _, role := range roles {
			token, line, err := access.NewToken(role.String(), role)
			if err != nil {
				t.Fatal(err)
			}
			b.tokens[role.String()], lines = token, append(lines, line)
		}
		b.file = filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(b.file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if b.api.tokens, err = access.OpenTokens(b.file, nil); err != nil {
			t.Fatal(err)
		}
	}
	c, err := console.New(console.Config{API: b.api, Tokens: b.api.tokens, BasePath: base, Version: "v9"})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.url = srv.URL + base
	b.client = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return b
}

// as signs in.
func (b *browser) as(role access.Role) *browser {
	b.t.Helper()
	if status, _, text := b.post("/sign-in", "token", b.tokens[role.String()], "back", "/lag"); status != http.StatusSeeOther {
		b.t.Fatalf("sign in: %d %s", status, text)
	}
	return b
}

func (b *browser) get(path string, headers ...string) (status int, h http.Header, text string) {
	b.t.Helper()
	return b.do(http.MethodGet, path, "", headers...)
}

// post sends a form.
func (b *browser) post(path string, pairs ...string) (status int, h http.Header, text string) {
	b.t.Helper()
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return b.do(http.MethodPost, path, q.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

func (b *browser) do(method, path, body string, headers ...string) (status int, h http.Header, text string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(out)
}

// secret is what the forms of a page carry.
func (b *browser) secret(path string) string {
	b.t.Helper()
	_, _, text := b.get(path)
	m := regexp.MustCompile(`name="_form" value="([^"]+)"`).FindStringSubmatch(text)
	if m == nil {
		b.t.Fatalf("%s has no form", path)
	}
	return m[1]
}

func (b *browser) posts() []string {
	b.api.mu.Lock()
	defer b.api.mu.Unlock()
	return append([]string(nil), b.api.posts...)
}
