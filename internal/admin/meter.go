package admin

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/durations"
)

// otherRoute stands for requests that match no route.
const otherRoute = "other"

// Reasons of RouteStats for which a caller is not let in.
const (
	loginMissing   = "missing"   // no token
	loginUnknown   = "unknown"   // a token that is not in the file
	loginForbidden = "forbidden" // the token's role does not allow it, or the request came by another name of this host
)

// codeClasses are the classes of status codes that answers have.
func codeClasses() []string { return []string{"2xx", "3xx", "4xx", "5xx"} }

// RouteStats counts the requests of one route.
type RouteStats struct {
	// Method and Route are the pattern; the route of requests that match none is "other", with any method.
	Method, Route string
	// Codes counts answers by the class of their status: 2xx, 3xx, 4xx or 5xx.
	Codes map[string]uint64
	// Duration is how long requests took; streams are not in it.
	Duration durations.Snapshot
}

// meter counts the requests of each route.
type meter struct {
	mux    *http.ServeMux
	routes map[string]*route // by pattern; it does not change
	logins map[string]*atomic.Uint64
}

type route struct {
	method, path string
	stream       bool
	codes        [4]atomic.Uint64
	took         durations.Histogram
}

func newMeter(mux *http.ServeMux) *meter {
	m := &meter{mux: mux, routes: map[string]*route{"": {path: otherRoute}}, logins: map[string]*atomic.Uint64{}}
	for pattern, ru := range rules() {
		method, path, _ := strings.Cut(pattern, " ")
		m.routes[pattern] = &route{method: method, path: path, stream: ru.Stream}
	}
	for _, reason := range []string{loginMissing, loginUnknown, loginForbidden} {
		m.logins[reason] = &atomic.Uint64{}
	}
	return m
}

// wrap counts what passes to next.
func (m *meter) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := m.mux.Handler(r)
		of := m.routes[pattern]
		if of == nil {
			of = m.routes[""]
		}
		began := time.Now()
		seen := &statusWriter{ResponseWriter: w}
		defer func() { // also when the handler aborts the answer
			m.count(of, seen.status, r, time.Since(began))
		}()
		next.ServeHTTP(seen, r)
	})
}

func (m *meter) count(of *route, status int, r *http.Request, took time.Duration) {
	if status == 0 {
		status = http.StatusOK
	}
	of.codes[min(max(status/100-2, 0), 3)].Add(1)
	if !of.stream {
		of.took.Observe(took)
	}
	switch {
	case status == http.StatusForbidden:
		m.logins[loginForbidden].Add(1)
	case status != http.StatusUnauthorized:
	case r.Header.Get("Authorization") == "":
		m.logins[loginMissing].Add(1)
	default:
		m.logins[loginUnknown].Add(1)
	}
}

func (m *meter) stats() (routes []RouteStats, logins map[string]uint64) {
	for _, of := range m.routes {
		s := RouteStats{Method: of.method, Route: of.path, Codes: map[string]uint64{}}
		for i, class := range codeClasses() {
			s.Codes[class] = of.codes[i].Load()
		}
		s.Duration = of.took.Snapshot()
		routes = append(routes, s)
	}
	logins = map[string]uint64{}
	for reason, n := range m.logins {
		logins[reason] = n.Load()
	}
	return routes, logins
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter

	status int
}

// WriteHeader notes the status.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK { // what comes before an answer is none
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find the writer's other sides.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
