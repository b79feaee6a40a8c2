package admin_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/freshet/freshet/internal/admin"
)

// logBook keeps log lines. It is safe for concurrent use.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// requestLine is the line of a request.
type requestLine struct {
	Level, Msg, Method, Route, Actor, Client, Reason string
	RequestID                                        string  `json:"request_id"`
	Status                                           int     `json:"status"`
	Seconds                                          float64 `json:"duration_seconds"`
}

// of returns the line of the request with the id.
func (b *logBook) of(t *testing.T, id string) (found requestLine) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for text := range strings.Lines(b.text.String()) {
		var line requestLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		if line.RequestID == id && strings.HasPrefix(line.Msg, "request") {
			if found.Msg != "" {
				t.Errorf("request %s has two lines", id)
			}
			found = line
		}
	}
	if found.Msg == "" {
		t.Errorf("request %s has no line in\n%s", id, b.text.String())
	}
	return found
}

func TestRequestsAreLogged(t *testing.T) {
	var book logBook
	r := newRig(t, func(c *admin.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&book, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Rate = 1
	})
	const id = "X-Request-Id"
	for _, tc := range []struct {
		name, role, method, path string
		headers                  []string
		status                   int
		want                     requestLine
	}{
		{"read", "viewer", "GET", "/v1/records/items/secret-key", nil, 200, requestLine{Level: "INFO", Msg: "request", Route: "GET /v1/records/{dataset}/{key}", Actor: "viewer-1"}},
		{"absent", "viewer", "GET", "/v1/records/none/k", nil, 404, requestLine{Level: "INFO", Msg: "request", Route: "GET /v1/records/{dataset}/{key}", Actor: "viewer-1"}},
		{"probe", "", "GET", "/livez", nil, 200, requestLine{Level: "DEBUG", Msg: "request", Route: "GET /livez"}},
		{"stranger", "", "GET", "/v1/lag", nil, 401, requestLine{Level: "WARN", Msg: "request refused", Route: "GET /v1/lag", Reason: "token"}},
		{"role", "publisher", "GET", "/v1/lag", nil, 403, requestLine{Level: "WARN", Msg: "request refused", Route: "GET /v1/lag", Actor: "publisher-1", Reason: "forbidden"}},
		{"origin", "operator", "POST", "/v1/datasets/items/pause", []string{"Sec-Fetch-Site", "cross-site"}, 403, requestLine{Level: "WARN", Msg: "request refused", Reason: "forbidden"}},
		{"much", "viewer", "GET", "/v1/lag", nil, 429, requestLine{Level: "WARN", Msg: "request refused", Route: "GET /v1/lag", Actor: "viewer-1", Reason: "rate"}},
	} {
		a := r.want(tc.status, tc.role, tc.method, tc.path, nil, append(tc.headers, id, tc.name+".1")...)
		if got := a.header.Get(id); got != tc.name+".1" {
			t.Errorf("%s: the answer has id %q", tc.name, got)
		}
		if tc.status >= 400 {
			var problem struct {
				RequestID string `json:"request_id"`
				Detail    string `json:"detail"`
			}
			if a.into(t, &problem); problem.RequestID != tc.name+".1" || problem.Detail == "" {
				t.Errorf("%s: the problem is %s", tc.name, a.body)
			}
		}
		got := book.of(t, tc.name+".1")
		if got.Client != "127.0.0.1" || got.Seconds <= 0 {
			t.Errorf("%s: logged %+v", tc.name, got)
		}
		tc.want.RequestID, tc.want.Status, tc.want.Method, tc.want.Client, tc.want.Seconds = tc.name+".1", tc.status, tc.method, got.Client, got.Seconds
		if got != tc.want {
			t.Errorf("%s: logged %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
	for role, token := range r.tokens {
		if strings.Contains(book.text.String(), token) {
			t.Errorf("the token of the %s is logged", role)
		}
	}
	if strings.Contains(book.text.String(), "secret-key") {
		t.Error("a key is logged")
	}
}

// An id that is not fit for a log is replaced, and a change has its id in the audit log.
func TestRequestIDs(t *testing.T) {
	r := newRig(t, nil)
	seen := map[string]bool{}
	for _, given := range []string{"", "a b", "\xff", "x\"y", strings.Repeat("a", 65), "{}"} {
		got := r.want(200, "", "GET", "/livez", nil, "X-Request-Id", given).header.Get("X-Request-Id")
		if got == given || len(got) < 20 || seen[got] {
			t.Errorf("%q became %q", given, got)
		}
		seen[got] = true
	}
	r.want(200, "operator", "POST", "/v1/datasets/items/pause", map[string]string{"reason": "a test"}, "X-Request-Id", "pause-1")
	var n int
	must(t, r.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM freshet_audit WHERE action = 'pause-dataset' AND JSON_VALUE(detail, '$.request_id') = 'pause-1'").Scan(&n))
	if n != 1 {
		t.Errorf("the audit log has the id in %d lines, want that of the beginning", n)
	}
}
