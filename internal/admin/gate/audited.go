package gate

import (
	"context"
	"encoding/json"
	"net"
	"net/http"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

// maxAuditBody bounds what of a request's body the audit log keeps; a longer one is not kept.
const maxAuditBody = 64 << 10

// serveAudited writes the audit log before the change, with what was asked for and from where, and after it with its outcome.
func (g *Gate) serveAudited(w *recorder, r *http.Request, pattern string) {
	e := g.entry(r, access.PrincipalOf(r.Context()), pattern)
	if asked := askedFor(r); len(asked) > 0 {
		e.Detail["request"] = asked
	}
	id, err := g.audit().write(r.Context(), e)
	if err != nil {
		g.cfg.Logger.Error("change is refused, since the audit log cannot be written", "action", e.Action, "error", err)
		Problem(w, http.StatusServiceUnavailable, "the audit log cannot be written, so nothing was changed")
		return
	}
	n := &notes{m: map[string]any{}}
	g.cfg.Mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), notesKey{}, n)))
	e.Of, e.Outcome, e.Detail = id, w.code(), n.all()
	// The client may be gone by now; the outcome is written all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), RequestTimeout)
	defer cancel()
	if _, err := g.audit().write(ctx, e); err != nil {
		g.cfg.Logger.Error("outcome of a change is missing from the audit log", "action", e.Action, "audit_id", id, "error", err)
	}
}

// auditRefusal notes a change that the token's role does not allow.
func (g *Gate) auditRefusal(r *http.Request, who access.Principal, pattern string) {
	e := g.entry(r, who, pattern)
	e.Outcome = http.StatusForbidden
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), RequestTimeout)
	defer cancel()
	if _, err := g.audit().write(ctx, e); err != nil {
		g.cfg.Logger.Error("a refused change is missing from the audit log", "action", e.Action, "error", err)
	}
}

func (g *Gate) audit() Log { return Log{g.cfg.DB()} }

func (g *Gate) entry(r *http.Request, who access.Principal, pattern string) api.Entry {
	e := api.Entry{Actor: who.Name, Role: who.Role.String(), Action: g.cfg.Operation(pattern), Target: r.URL.EscapedPath(), Detail: map[string]any{}}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		e.Detail["client"] = host
	}
	if id := RequestID(r.Context()); id != "" {
		e.Detail["request_id"] = id
	}
	return e
}

// askedFor returns the members of the body that say what is to be changed and why, without a record's content or the names
// that are made of it.
func askedFor(r *http.Request) map[string]json.RawMessage {
	body := BodyText(r.Body)
	var asked map[string]json.RawMessage
	if len(body) > maxAuditBody || json.Unmarshal([]byte(body), &asked) != nil {
		return nil
	}
	for _, content := range []string{"data", "names", "tags"} {
		delete(asked, content)
	}
	return asked
}
