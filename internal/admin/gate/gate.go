// Package gate is what every request of the admin API passes: tokens and roles, limits, the audit log.
package gate

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/listener"
)

const (
	// RequestTimeout bounds a request that is not a stream.
	RequestTimeout = 30 * time.Second
	// wrongTokens bounds how many wrong tokens a second get an answer of their own.
	wrongTokens      = 10
	wrongTokensBurst = 100
)

// Rule is what the gate knows of a route.
type Rule struct {
	// Public: no token is needed. Only what reveals nothing about anyone's data may be.
	Public bool
	Least  access.Role
	// Change: the request changes something. It is written to the audit log before and after, and refused when it cannot
	// be.
	Change bool
	// Stream: the answer has no end of its own, so it has no deadline and is counted.
	Stream bool
	// Early: the route is served before the API has its database.
	Early bool
	// Body is the greatest size of the request's body; 0 means 1 MiB.
	Body int64
	// Events: the body holds CloudEvents; else it is JSON.
	Events bool
}

func (ru *Rule) bodyLimit() int64 { return cmp.Or(ru.Body, maxBody) }

// Config of a Gate. All fields but Tokens are required.
type Config struct {
	Mux    *http.ServeMux
	Rules  map[string]Rule
	Tokens *access.TokenFile // nil: no authentication
	// Rate bounds the requests a second of one token, PublishRate those of routes that publish: each has its own share.
	Rate, PublishRate float64
	// DB has the audit log once Attached is true.
	DB       func() *sql.DB
	Attached func() bool
	// Operation returns the operation id of a pattern.
	Operation func(pattern string) string
	// Changed is called after a request that changed something.
	Changed func()
	// Draining ends when the server stops, and with it the streams.
	Draining context.Context //nolint:containedctx // the server's life
	Logger   *slog.Logger
}

// Gate is the one way to the mux: it decides who may pass, bounds what is under way, and writes the audit log.
type Gate struct {
	cfg     Config
	bodies  *bodies
	wrong   *rate.Limiter
	refused refusals

	mu       sync.Mutex // guards what follows
	limiters map[share]*rate.Limiter

	streams, requests slots
}

// New returns a gate.
func New(cfg Config) *Gate {
	g := &Gate{
		cfg: cfg, bodies: newBodies(), wrong: rate.NewLimiter(wrongTokens, wrongTokensBurst), limiters: map[share]*rate.Limiter{},
		streams: slots{what: "streams", all: maxStreams, perToken: maxTokenStreams}, requests: slots{what: "requests", all: maxRequests, perToken: maxTokenRequests},
	}
	if cfg.Tokens == nil { // all callers are one
		g.streams.perToken, g.requests.perToken = maxStreams, maxRequests
	}
	return g
}

// share is what a rate is counted for.
type share struct {
	token   string
	publish bool
}

// ServeHTTP serves a request that may pass, and answers the others.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	rec, logged := w.(*recorder)
	if !logged {
		rec = &recorder{ResponseWriter: w}
	}
	defer func() { //nolint:contextcheck // the id is the request's
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { //nolint:errorlint // a panic's value, which is never wrapped
				panic(v)
			}
			g.cfg.Logger.Error("handler panicked", "path", r.URL.Path, "request_id", RequestID(r.Context()), "panic", v)
			if rec.status == 0 {
				Problem(rec, http.StatusInternalServerError, "the request could not be handled")
			}
		}
	}()
	g.admit(rec, r)
}

// admit decides who may pass.
func (g *Gate) admit(w *recorder, r *http.Request) {
	_, pattern := g.cfg.Mux.Handler(r)
	ru, known := g.cfg.Rules[pattern]
	odd := unclean(r)
	w.route, w.probe = pattern, known && ru.Public
	if known && ru.Public && !odd {
		if g.cfg.Tokens == nil || r.Header.Get("Authorization") != "" { // probes without a token are no guesses
			if who, status := g.identify(r); status == 0 {
				w.actor = who.Name
				r = r.WithContext(access.WithPrincipal(r.Context(), who))
			}
		}
		g.cfg.Mux.ServeHTTP(w, r)
		return
	}
	who, status := g.identify(r)
	w.actor = who.Name
	switch {
	case status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="freshet"`)
		Problem(w, status, "give a token: Authorization: Bearer …; `freshet admin token` makes one")
		return
	case status == http.StatusTooManyRequests:
		g.refused.refuse(w, status, refusedWrongToken, "too many requests with wrong tokens; wait a second")
		return
	case status != 0:
		Problem(w, status, "this request is not taken from here just now")
		return
	}
	if !g.limiter(who.Name, ru.Least == access.Publisher).Allow() {
		g.refused.refuse(w, http.StatusTooManyRequests, refusedRate, "too many requests with this token; wait a second")
		return
	}
	switch {
	case odd:
		Problem(w, http.StatusNotFound, "there is no such route: the path has an empty or a dot segment; encode what belongs to a name")
	case pattern == "":
		g.noRoute(w, r)
	case repeated(r) != "":
		Problem(w, http.StatusUnprocessableEntity, "the query parameter "+repeated(r)+" is there twice; give it once")
	case !known:
		Problem(w, http.StatusForbidden, "this route has no rule, so no one may use it")
	case !g.cfg.Attached() && !ru.Early:
		g.refused.refuse(w, http.StatusServiceUnavailable, refusedStarting, "the API is starting; /readyz lists what it waits for")
	case !who.Role.May(ru.Least):
		if ru.Change {
			g.auditRefusal(r, who, pattern)
		}
		Problem(w, http.StatusForbidden, "this needs the role "+ru.Least.String()+", the token has "+who.Role.String())
	default:
		g.serve(w, r.WithContext(access.WithPrincipal(r.Context(), who)), ru, pattern)
	}
}

// noRoute reports what is wrong with the path or the method, which the mux knows.
func (g *Gate) noRoute(w http.ResponseWriter, r *http.Request) {
	said := &silent{header: http.Header{}}
	g.cfg.Mux.ServeHTTP(said, r)
	if said.status != http.StatusMethodNotAllowed {
		Problem(w, http.StatusNotFound, "there is no such route; GET /openapi.json lists all")
		return
	}
	allow := g.allowed(r, said.header.Get("Allow"))
	w.Header().Set("Allow", allow)
	Problem(w, said.status, "this route does not take the method "+r.Method+"; it takes "+allow)
}

// allowed leaves out of the methods of a path those that only a route with a wildcard takes there, beside one that has the path itself:
// GET .../deadletters/{id} does not make a letter of POST .../deadletters/discards.
func (g *Gate) allowed(r *http.Request, allow string) string {
	var own, wild []string
	for method := range strings.SplitSeq(allow, ", ") {
		as := *r // the mux reads method, host and path
		as.Method = method
		if _, pattern := g.cfg.Mux.Handler(&as); strings.Contains(pattern, "{") {
			wild = append(wild, method)
		} else {
			own = append(own, method)
		}
	}
	if len(own) == 0 {
		own = wild
	}
	return strings.Join(own, ", ")
}

// silent keeps the head of an answer and drops its body.
type silent struct {
	header http.Header
	status int
}

// Header is the answer's.
func (s *silent) Header() http.Header { return s.header }

// WriteHeader notes the status.
func (s *silent) WriteHeader(status int) { s.status = status }

// Write drops b.
func (s *silent) Write(b []byte) (int, error) { return len(b), nil }

// identify says who makes the request, or the status of its refusal.
func (g *Gate) identify(r *http.Request) (access.Principal, int) {
	if g.cfg.Tokens == nil {
		// Without authentication only this machine is served, and a page that resolved its own name to us is not us.
		if !listener.Loopback(r.Host) {
			return access.Principal{}, http.StatusForbidden
		}
		return access.Principal{Name: "local", Role: access.Admin}, 0
	}
	if who, found := g.cfg.Tokens.Bearer(r); found {
		return who, 0
	}
	if !g.wrong.Allow() {
		return access.Principal{}, http.StatusTooManyRequests
	}
	return access.Principal{}, http.StatusUnauthorized
}

// whileAllowed returns the context of a stream: it ends with the request, with the server, and soon after the token was
// removed or stands for another name or role, since what the stream may show was decided when it began.
func (g *Gate) whileAllowed(r *http.Request) (context.Context, func()) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(g.cfg.Draining, cancel)
	var wg sync.WaitGroup
	if g.cfg.Tokens != nil {
		was := access.PrincipalOf(r.Context())
		wg.Go(func() {
			t := time.NewTicker(access.RereadEvery)
			defer t.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
				if who, found := g.cfg.Tokens.Bearer(r); !found || who != was {
					g.cfg.Logger.Info("a stream ends, since its token was removed or changed", "actor", was.Name, "request_id", RequestID(ctx))
					cancel()
					return
				}
			}
		})
	}
	return ctx, func() { stop(); cancel(); wg.Wait() }
}

func (g *Gate) limiter(token string, publish bool) *rate.Limiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := share{token, publish}
	l, ok := g.limiters[of]
	if !ok {
		limit := rate.Limit(g.cfg.Rate)
		if publish {
			limit = rate.Limit(g.cfg.PublishRate)
		}
		l = rate.NewLimiter(limit, max(1, int(2*limit)))
		g.limiters[of] = l
	}
	return l
}

// serve bounds and audits a request that may pass.
func (g *Gate) serve(w *recorder, r *http.Request, ru Rule, pattern string) {
	if r.ContentLength != 0 {
		if detail := mediaProblem(r, &ru); detail != "" {
			g.refused.refuse(w, http.StatusUnsupportedMediaType, refusedBodyType, detail)
			return
		}
	}
	of, reason := &g.requests, refusedRequests
	w.stream = ru.Stream
	if ru.Stream {
		of, reason = &g.streams, refusedStreams
	}
	who := access.PrincipalOf(r.Context()).Name
	if status, detail := of.enter(who); status != 0 {
		g.refused.refuse(w, status, reason, detail)
		return
	}
	defer of.leave(who)
	release, status := g.bodies.hold(w, r, &ru)
	if status != 0 {
		g.refuseBody(w, status, &ru)
		return
	}
	defer release()
	if ru.Stream && r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream") // a body that has no end is not written to be thrown away
		w.WriteHeader(http.StatusOK)
		return
	}
	if ru.Stream {
		ctx, end := g.whileAllowed(r)
		defer end()
		r = r.WithContext(ctx) //nolint:contextcheck // it is the request's, and the server's end ends it too
	} else {
		ctx, cancel := context.WithTimeout(r.Context(), RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
	}
	if !ru.Change {
		g.cfg.Mux.ServeHTTP(w, r)
		return
	}
	g.serveAudited(w, r, pattern)
	if ru.Least != access.Publisher { // what is published shows once it is applied
		g.cfg.Changed()
	}
}

// Problem answers with an RFC 9457 problem.
func Problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Code      string `json:"code"`
		Detail    string `json:"detail"`
		RequestID string `json:"request_id,omitempty"`
	}{http.StatusText(status), status, Code(status), detail, w.Header().Get(requestIDHeader)})
}
