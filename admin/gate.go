package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// requestTimeout bounds a request that is not a stream.
	requestTimeout = 30 * time.Second
	// wrongTokens bounds how many wrong tokens a second get an answer of their own.
	wrongTokens      = 10
	wrongTokensBurst = 100
)

// rule is what the gate knows of a route.
type rule struct {
	// public: no token is needed. Only what says nothing about anybody's data may be.
	public bool
	least  Role
	// change: the request changes something. It is written to the audit log before and after, and refused when it cannot
	// be.
	change bool
	// stream: the answer has no end of its own, so it has no deadline and is counted.
	stream bool
	// body is the greatest size of the request's body; 0 means maxBody.
	body int64
	// events: the body holds CloudEvents; else it is JSON.
	events bool
}

func (ru *rule) bodyLimit() int64 { return cmp.Or(ru.body, maxBody) }

// gate is the one way to the mux.
type gate struct {
	mux    *http.ServeMux
	rules  map[string]rule
	tokens *TokenFile // nil: no authentication
	srv    *Server
	bodies *bodies

	wrong *rate.Limiter
	// perToken bounds the requests a second of one token, publishing those of routes that publish: each has its own share.
	perToken, publishing rate.Limit
	refused              refusals

	mu       sync.Mutex // guards what follows
	limiters map[share]*rate.Limiter

	streams, requests slots
}

// share is what a rate is counted for.
type share struct {
	token   string
	publish bool
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	rec := &recorder{ResponseWriter: w}
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { //nolint:errorlint // a panic's value, which is compared as it is
				panic(v)
			}
			g.srv.log.Error("handler panicked", "path", r.URL.Path, "panic", v)
			if rec.status == 0 {
				problem(rec, http.StatusInternalServerError, "the request could not be handled")
			}
		}
	}()
	g.admit(rec, r)
}

// admit decides who may pass.
func (g *gate) admit(w *recorder, r *http.Request) {
	_, pattern := g.mux.Handler(r)
	ru, known := g.rules[pattern]
	odd := unclean(r)
	if known && ru.public && !odd {
		if g.tokens == nil || r.Header.Get("Authorization") != "" { // probes without a token are no guesses
			if who, status := g.identify(r); status == 0 {
				r = r.WithContext(withPrincipal(r.Context(), who))
			}
		}
		g.mux.ServeHTTP(w, r)
		return
	}
	who, status := g.identify(r)
	switch {
	case status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="freshet"`)
		problem(w, status, "give a token: Authorization: Bearer …; `freshet admin token` makes one")
		return
	case status == http.StatusTooManyRequests:
		g.refused.refuse(w, status, refusedWrongToken, "too many requests with wrong tokens; wait a second")
		return
	case status != 0:
		problem(w, status, "this request is not taken from here just now")
		return
	}
	if !g.limiter(who.Name, ru.least == Publisher).Allow() {
		g.refused.refuse(w, http.StatusTooManyRequests, refusedRate, "too many requests with this token; wait a second")
		return
	}
	switch {
	case odd:
		problem(w, http.StatusNotFound, "there is no such route: the path has an empty or a dot segment; encode what belongs to a name")
	case pattern == "":
		g.noRoute(w, r)
	case repeated(r) != "":
		problem(w, http.StatusUnprocessableEntity, "the query parameter "+repeated(r)+" is there twice; give it once")
	case !known:
		problem(w, http.StatusForbidden, "this route has no rule, so nobody may use it")
	case !g.srv.attached.Load() && !bare[pattern]:
		g.refused.refuse(w, http.StatusServiceUnavailable, refusedStarting, "the API is starting; /readyz lists what it waits for")
	case !who.Role.may(ru.least):
		if ru.change {
			g.auditRefusal(r, who, pattern)
		}
		problem(w, http.StatusForbidden, "this needs the role "+ru.least.String()+", the token has "+who.Role.String())
	default:
		g.serve(w, r.WithContext(withPrincipal(r.Context(), who)), ru, pattern)
	}
}

// noRoute says what is wrong with the path or the method, which the mux knows.
func (g *gate) noRoute(w http.ResponseWriter, r *http.Request) {
	said := &silent{header: http.Header{}}
	g.mux.ServeHTTP(said, r)
	if said.status != http.StatusMethodNotAllowed {
		problem(w, http.StatusNotFound, "there is no such route; GET /openapi.json lists all")
		return
	}
	allow := said.header.Get("Allow")
	w.Header().Set("Allow", allow)
	problem(w, said.status, "this route does not take the method "+r.Method+"; it takes "+allow)
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
func (g *gate) identify(r *http.Request) (Principal, int) {
	if g.tokens == nil {
		// Without authentication only this machine is served, and a page that resolved its own name to us is not us.
		if !loopbackHost(r.Host) {
			return Principal{}, http.StatusForbidden
		}
		return Principal{Name: "local", Role: Admin}, 0
	}
	if who, found := g.bearer(r); found {
		return who, 0
	}
	if !g.wrong.Allow() {
		return Principal{}, http.StatusTooManyRequests
	}
	return Principal{}, http.StatusUnauthorized
}

// bearer finds who bears the token of the request, if there is one and it is known.
func (g *gate) bearer(r *http.Request) (Principal, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, false
	}
	return g.tokens.find(strings.TrimSpace(token))
}

// whileAllowed returns the context of a stream: it ends with the request, with the server, and soon after the token was
// removed or stands for another name or role, since what the stream may show was decided when it began.
func (g *gate) whileAllowed(r *http.Request) (context.Context, func()) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(g.srv.draining, cancel)
	var wg sync.WaitGroup
	if g.tokens != nil {
		was := principalOf(r.Context())
		wg.Go(func() {
			t := time.NewTicker(rereadEvery)
			defer t.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
				if who, found := g.bearer(r); !found || who != was {
					g.srv.log.Info("a stream ends, since its token was removed or changed", "name", was.Name, "path", r.URL.Path)
					cancel()
					return
				}
			}
		})
	}
	return ctx, func() { stop(); cancel(); wg.Wait() }
}

func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (g *gate) limiter(token string, publish bool) *rate.Limiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := share{token, publish}
	l, ok := g.limiters[of]
	if !ok {
		limit := g.perToken
		if publish {
			limit = g.publishing
		}
		l = rate.NewLimiter(limit, max(1, int(2*limit)))
		g.limiters[of] = l
	}
	return l
}

// serve bounds and audits a request that may pass.
func (g *gate) serve(w *recorder, r *http.Request, ru rule, pattern string) {
	if r.ContentLength != 0 {
		if detail := mediaProblem(r, &ru); detail != "" {
			g.refused.refuse(w, http.StatusUnsupportedMediaType, refusedBodyType, detail)
			return
		}
	}
	of, reason := &g.requests, refusedRequests
	if ru.stream {
		of, reason = &g.streams, refusedStreams
	}
	who := principalOf(r.Context()).Name
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
	if ru.stream && r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream") // a body that has no end is not written to be thrown away
		w.WriteHeader(http.StatusOK)
		return
	}
	if ru.stream {
		ctx, end := g.whileAllowed(r)
		defer end()
		r = r.WithContext(ctx) //nolint:contextcheck // it is the request's, and the server's end ends it too
	} else {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
	}
	if !ru.change {
		g.mux.ServeHTTP(w, r)
		return
	}
	g.serveAudited(w, r, pattern)
	if ru.least != Publisher { // what is published shows once it is applied
		g.srv.forget()
	}
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write notes that the answer began.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find the writer's other sides.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// problem answers with an RFC 9457 problem.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(status), status, detail})
}
