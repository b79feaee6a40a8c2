package gate

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"time"

	"github.com/freshet/freshet/internal/tracecontext"
)

const requestIDHeader = "X-Request-Id"

// maxRequestID bounds an id that a caller gives.
const maxRequestID = 64

type requestIDKey struct{}

// RequestID returns the id of the request that ctx belongs to; elsewhere "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Logged gives each request an id and writes a line about it once it is answered. An id that the caller gives is kept if it is fit for
// a log; proxies give one, so that their logs can be compared with this one.
func (g *Gate) Logged(next http.Handler) http.Handler {
	fit := regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if len(id) > maxRequestID || !fit.MatchString(id) {
			id = rand.Text()
		}
		w.Header().Set(requestIDHeader, id)
		r = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
		rec, began := &recorder{ResponseWriter: w}, time.Now()
		defer func() { g.logRequest(rec, r, time.Since(began)) }() // also of a handler that panics
		next.ServeHTTP(rec, r)
	})
}

// logRequest writes the line of a request. Probes come every few seconds, so theirs are for debugging.
func (g *Gate) logRequest(w *recorder, r *http.Request, took time.Duration) {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	log, level, status := g.cfg.Logger, slog.LevelInfo, w.code()
	if id := tracecontext.ID(r.Header.Get("Traceparent")); id != "" {
		log = log.With("trace_id", id)
	}
	switch {
	case w.refusal() != "":
		log.WarnContext(r.Context(), "request refused", "request_id", RequestID(r.Context()), "method", r.Method, "route", w.route, "status", status,
			"duration_seconds", took, "actor", w.actor, "client", client, "reason", w.refusal())
		return
	case w.probe:
		level = slog.LevelDebug
	}
	log.Log(r.Context(), level, "request", "request_id", RequestID(r.Context()), "method", r.Method, "route", w.route, "status", status,
		"duration_seconds", took, "actor", w.actor, "client", client)
}

// recorder remembers what the log needs to know of a request.
type recorder struct {
	http.ResponseWriter
	status int

	route, actor string // the route's pattern, and the name of the token
	limit        string // the limit that refused it, "" for none
	probe        bool
	stream       bool
}

// Describe tells the log what it cannot see of a request that a handler in front of the gate answers: the route's pattern, who makes it,
// and whether the answer is a stream.
func Describe(w http.ResponseWriter, route, actor string, stream bool) {
	if rec, ok := w.(*recorder); ok {
		rec.route, rec.actor, rec.stream = route, actor, stream
	}
}

// refusal returns why the request was refused before it reached its handler, "" if it was not.
func (w *recorder) refusal() string {
	switch {
	case w.limit != "":
		return w.limit
	case w.status == http.StatusUnauthorized:
		return "token"
	case w.status == http.StatusForbidden:
		return "forbidden"
	}
	return ""
}

// WriteHeader notes the status.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write notes that the answer began. A client that is gone is an error for streams alone: nothing can be done about it elsewhere, and
// a library would print it to standard error by itself.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	if err != nil && !w.stream {
		return len(b), nil
	}
	return n, err
}

// Unwrap lets http.ResponseController find the writer's other sides.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
