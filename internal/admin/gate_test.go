package admin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/testenv"
)

// mayUse says, beside the code's own table, which roles may use each route; admin may use all. A route that is missing
// here fails the test: who may use it is a decision.
var mayUse = map[string][]string{
	"GET /metrics":      {"viewer", "operator"},
	"GET /openapi.json": {"viewer", "operator"},

	"GET /v1/datasets":                            {"viewer", "operator"},
	"POST /v1/datasets/{dataset}/pause":           {"operator"},
	"POST /v1/datasets/{dataset}/resume":          {"operator"},
	"GET /v1/lag":                                 {"viewer", "operator"},
	"GET /v1/consistency":                         {"viewer", "operator"},
	"GET /v1/consistency/history":                 {"viewer", "operator"},
	"POST /v1/consistency/verify":                 {"operator"},
	"GET /v1/overview":                            {"viewer", "operator"},
	"GET /v1/settings":                            {},
	"POST /v1/doctor":                             {"operator"},
	"GET /v1/datasets/{dataset}":                  {"viewer", "operator"},
	"POST /v1/datasets/{dataset}/check":           {"viewer", "operator"},
	"GET /v1/nodes":                               {"viewer", "operator"},
	"POST /v1/nodes/{node}/flush":                 {"operator"},
	"GET /v1/records/{dataset}/{key}":             {"viewer", "operator"},
	"POST /v1/records/{dataset}/{key}/invalidate": {"operator"},
	"GET /v1/messages":                            {"viewer", "operator"},
	"GET /v1/messages/follow":                     {"viewer", "operator"},
	"GET /v1/deadletters":                         {"viewer", "operator"},
	"GET /v1/deadletters/groups":                  {"viewer", "operator"},
	"GET /v1/deadletters/{id}":                    {"viewer", "operator"},
	"POST /v1/deadletters/{id}/edit":              {"operator"},
	"POST /v1/deadletters/redrives":               {"operator"},
	"POST /v1/deadletters/discards":               {"operator"},
	"POST /v1/events":                             {"publisher"},
	"GET /v1/invalidations":                       {"operator", "follower"},
	"POST /v1/invalidations":                      {"publisher"},
	"POST /v1/replays":                            {"operator"},
	"GET /v1/replays":                             {"viewer", "operator"},
	"GET /v1/replays/{id}":                        {"viewer", "operator"},
	"GET /v1/replays/{id}/events":                 {"viewer", "operator"},
	"POST /v1/replays/{id}/pause":                 {"operator"},
	"POST /v1/replays/{id}/resume":                {"operator"},
	"POST /v1/replays/{id}/cancel":                {"operator"},
	"POST /v1/replays/{id}/limits":                {"operator"},
	"POST /v1/records/{dataset}/{key}/replay":     {"operator"},
	"GET /v1/audit":                               {"operator"},
	"GET /v1/sd/prometheus":                       {"viewer", "operator"},
}

// routesOf lists what the OpenAPI document has, as "GET /v1/x".
func routesOf(t testing.TB, doc []byte) []string {
	t.Helper()
	var d struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	must(t, json.Unmarshal(doc, &d))
	if !strings.HasPrefix(d.OpenAPI, "3.1") {
		t.Errorf("document is OpenAPI %q", d.OpenAPI)
	}
	var out []string
	for path, ops := range d.Paths {
		for method := range ops {
			out = append(out, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(out)
	return out
}

func TestEveryRouteByRole(t *testing.T) {
	r := newRig(t, nil)
	routes := routesOf(t, r.want(200, "viewer", "GET", "/openapi.json", nil).body)
	if len(routes) < 19 {
		t.Fatalf("the document has %d routes only", len(routes))
	}
	for _, route := range append(routes, "GET /metrics", "GET /openapi.json") {
		roles, ok := mayUse[route]
		if !ok {
			t.Errorf("%s: no one said who may use it", route)
			continue
		}
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer("{dataset}", "items", "{key}", "k1", "{node}", "n1", "{id}", "a@1.0").Replace(path)
		if strings.Contains(path, "messages") {
			path += "?dataset=items"
		}
		for role, want := range map[string]int{
			"": 401, "frt_wrong": 401, "viewer": 403, "operator": 403, "publisher": 403, "follower": 403, "admin": 0,
		} {
			if slices.Contains(roles, role) {
				want = 0
			}
			got := r.do(role, method, path, nil)
			switch {
			case want == 0 && (got.status == 401 || got.status == 403 || got.status >= 500):
				t.Errorf("%s as %q: got %d, it may pass\n%s", route, role, got.status, got.body)
			case want != 0 && got.status != want:
				t.Errorf("%s as %q: got %d, want %d", route, role, got.status, want)
			case want != 0 && got.header.Get("Content-Type") != "application/problem+json":
				t.Errorf("%s as %q: refused with %s", route, role, got.header.Get("Content-Type"))
			}
		}
	}
	if len(mayUse) != len(routes)+2 {
		t.Errorf("the test names %d routes, the server has %d", len(mayUse), len(routes)+2)
	}
}

func TestWhatIsNotThereIsNotTold(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{"/", "/v1", "/v1/nothing", "/../etc/passwd", "//v1/lag", "/debug/pprof/", "/docs", "/schemas/Entry.json"} {
		if got := r.do("", "GET", path, nil).status; got != 401 {
			t.Errorf("%s without a token: got %d, want 401", path, got)
		}
		if got := r.do("viewer", "GET", path, nil).status; got == 200 {
			t.Errorf("%s with a token: got 200", path)
		}
	}
	got := r.want(404, "viewer", "GET", "/v1/nothing", nil)
	if got.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(string(got.body), "GET /openapi.json") {
		t.Errorf("GET /v1/nothing: %v %s", got.header, got.body)
	}
	got = r.want(405, "viewer", "DELETE", "/v1/lag", nil)
	if got.header.Get("Content-Type") != "application/problem+json" || got.header.Get("Allow") != "GET, HEAD" || !strings.Contains(string(got.body), "GET, HEAD") {
		t.Errorf("DELETE /v1/lag: %v %s", got.header, got.body)
	}
	r.want(200, "", "GET", "/livez", nil)
	r.want(200, "", "GET", "/readyz", nil)
}

func TestLimits(t *testing.T) {
	r := newRig(t, func(c *admin.Config) { c.Rate = 1 })
	big := `{"reason":"` + strings.Repeat("x", 2<<20) + `"}`
	if got := r.do("operator", "POST", "/v1/datasets/items/pause", big).status; got != 413 {
		t.Errorf("body of 2 MB: got %d, want 413", got)
	}
	statuses := map[int]int{}
	for range 10 {
		statuses[r.do("viewer", "GET", "/v1/datasets", nil).status]++
	}
	if statuses[429] == 0 || statuses[200] == 0 {
		t.Errorf("ten requests at one a second: %v", statuses)
	}
	wrong := map[int]int{}
	for range 150 {
		wrong[r.do("frt_guess", "GET", "/v1/datasets", nil).status]++
	}
	if wrong[429] == 0 || wrong[200] != 0 {
		t.Errorf("guessing tokens: %v", wrong)
	}
	if got := r.do("admin", "GET", "/v1/datasets", nil).status; got != 200 {
		t.Errorf("another token while someone guesses: got %d", got)
	}
}

// What publishes has a rate of its own, so that neither viewers' polling nor publishing uses up the other's. Refusals are counted.
func TestPublishingHasARateOfItsOwn(t *testing.T) {
	r := newRig(t, func(c *admin.Config) { c.Rate, c.PublishRate = 1, 100_000 })
	body := map[string]any{"names": []string{"item:a"}}
	for range 20 {
		r.want(202, "admin", "POST", "/v1/invalidations", body)
	}
	refused := uint64(0)
	for range 20 {
		if a := r.do("admin", "GET", "/v1/datasets", nil); a.status == 429 {
			refused++
			if a.header.Get("Retry-After") != "1" || a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("refused with %v", a.header)
			}
		}
	}
	if refused == 0 || r.stats().Refused["rate"] != refused {
		t.Errorf("%d requests were refused, counted are %v", refused, r.stats().Refused)
	}
	r.want(202, "admin", "POST", "/v1/invalidations", body)
}

// One token cannot take all streams, and a stream that ends frees its place.
func TestStreamsOfOneTokenAreBounded(t *testing.T) {
	r := newRig(t, nil)
	const most = 64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func(role string) int {
		req, err := http.NewRequestWithContext(ctx, "GET", r.http.URL+"/v1/messages/follow?dataset=items&from=end", nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+r.tokens[role])
		res, err := http.DefaultTransport.RoundTrip(req)
		must(t, err)
		t.Cleanup(func() { res.Body.Close() })
		return res.StatusCode
	}
	for i := range most {
		if got := open("viewer"); got != 200 {
			t.Fatalf("stream %d: status %d", i, got)
		}
	}
	if got := open("viewer"); got != 429 {
		t.Errorf("one more: status %d, want 429", got)
	}
	if got := open("operator"); got != 200 {
		t.Errorf("another token's: status %d", got)
	}
	if got := r.stats(); got.Streams != most+1 || got.Refused["streams"] != 1 {
		t.Errorf("stats %+v", got)
	}
	cancel()
	testenv.Eventually(t, 30*time.Second, func(ctxT) error {
		if n := r.stats().Streams; n != 0 {
			return statusError(n)
		}
		return nil
	})
}

func TestBrowsersOfOtherOrigins(t *testing.T) {
	r := newRig(t, func(c *admin.Config) { c.Tokens = nil })
	body := map[string]string{"reason": "a test"}
	r.want(403, "", "POST", "/v1/datasets/items/pause", body, "Sec-Fetch-Site", "cross-site")
	r.want(403, "", "POST", "/v1/datasets/items/pause", body, "Origin", "https://evil.example")
	if n := len(r.audit()); n != 0 {
		t.Errorf("refused requests left %d audit lines", n)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.http.URL+"/v1/datasets", nil)
	must(t, err)
	req.Host = "evil.example"
	res, err := http.DefaultTransport.RoundTrip(req)
	must(t, err)
	res.Body.Close()
	if res.StatusCode != 403 {
		t.Errorf("another host name without authentication: got %d, want 403", res.StatusCode)
	}
	r.want(200, "", "POST", "/v1/datasets/items/pause", body)
}

func (r *rig) audit() []api.Entry {
	r.t.Helper()
	var out struct{ Items []api.Entry }
	r.want(200, "operator", "GET", "/v1/audit", nil).into(r.t, &out)
	return out.Items
}

func TestAuditHoldsEveryChange(t *testing.T) {
	r := newRig(t, nil)
	r.want(200, "operator", "POST", "/v1/datasets/items/pause", map[string]string{"reason": "bad deploy"})
	r.want(422, "operator", "POST", "/v1/datasets/items/resume", map[string]string{})
	got := r.audit()
	if len(got) != 4 {
		t.Fatalf("two changes left %d lines, want a beginning and an end of each", len(got))
	}
	begin, end := got[3], got[2]
	if begin.Of != 0 || begin.Outcome != 0 || end.Of != begin.ID || end.Outcome != 200 || end.Actor != "operator-1" ||
		end.Role != "operator" || end.Action != "pause-dataset" || end.Target != "/v1/datasets/items/pause" || end.Detail["reason"] != "bad deploy" {
		t.Errorf("lines %+v, %+v", begin, end)
	}
	if got[0].Outcome != 422 {
		t.Errorf("a refused change has outcome %d", got[0].Outcome)
	}
	_, err := r.db.ExecContext(t.Context(), "RENAME TABLE freshet_audit TO gone")
	must(t, err)
	r.want(503, "operator", "POST", "/v1/datasets/items/resume", map[string]string{"reason": "all is well"})
	pauses, err := r.cfg.Replica.Pauses.All(t.Context())
	if err != nil || len(pauses) != 1 {
		t.Errorf("a change that could not be noted was made: %v %v", pauses, err)
	}
}

func TestTokensAreReloaded(t *testing.T) {
	r := newRig(t, nil)
	token, line, err := access.NewToken("late", access.Viewer)
	must(t, err)
	r.want(401, token, "GET", "/v1/datasets", nil)
	write(t, r.file, line+"\n")
	testenv.Eventually(t, 30*time.Second, func(ctxT) error {
		if got := r.do(token, "GET", "/v1/datasets", nil).status; got != 200 {
			return statusError(got)
		}
		return nil
	})
	testenv.Eventually(t, 30*time.Second, func(ctxT) error { // the wrong tokens of above may have used up their share
		if got := r.do("viewer", "GET", "/v1/datasets", nil).status; got != 401 {
			return statusError(got)
		}
		return nil
	})
	write(t, r.file, "nonsense that is longer\n")
	testenv.Eventually(t, 30*time.Second, func(ctxT) error {
		if got := r.do(token, "GET", "/v1/datasets", nil).status; got != 200 {
			t.Fatalf("a broken file took the tokens away: %d", got)
		}
		return nil
	})
}

func TestTokenFiles(t *testing.T) {
	_, line, err := access.NewToken("ada", access.Operator)
	must(t, err)
	for _, tc := range []struct{ name, text, want string }{
		{"role", strings.Replace(line, "operator", "king", 1), "line 1: role is unknown"},
		{"words", "operator ada", "line 1: wants three words"},
		{"token itself", "operator frt_ABC ada", "never put the token itself"},
		{"short hash", "operator sha256:abcd ada", "64 hex digits"},
		{"twice", line + "\n# c\n" + line, "line 3: a name is given twice"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := access.ParseTokens([]byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if got, err := access.ParseTokens([]byte("\n # x\n" + line)); err != nil || len(got) != 1 || got[0].Name != "ada" || got[0].Role != access.Operator {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, name := range []string{"", "two words", "a#b", strings.Repeat("x", 65)} {
		if _, _, err := access.NewToken(name, access.Viewer); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
}

func FuzzParseTokens(f *testing.F) {
	_, line, err := access.NewToken("ada", access.Operator)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(line))
	f.Add([]byte("# c\n\nviewer sha256: x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tokens, err := access.ParseTokens(text)
		for _, tok := range tokens {
			if err != nil || tok.Name == "" || tok.Role < access.Viewer || tok.Role > access.Publisher {
				t.Fatalf("took %+v with %v", tok, err)
			}
		}
	})
}

func TestOpenAddressNeedsTokens(t *testing.T) {
	r := newRig(t, nil)
	for listen, ok := range map[string]bool{"0.0.0.0:0": false, ":0": false, "10.1.2.3:80": false, "example.com:80": false, "nonsense": false, "127.0.0.1:0": true, "[::1]:0": true, "localhost:0": true} {
		c := r.cfg
		c.Listen, c.Tokens = listen, nil
		if _, err := admin.New(c); (err == nil) != ok {
			t.Errorf("%s without tokens: %v", listen, err)
		}
	}
	c := r.cfg
	c.Listen = "0.0.0.0:0"
	if _, err := admin.New(c); err != nil {
		t.Errorf("0.0.0.0 with tokens: %v", err)
	}
}
