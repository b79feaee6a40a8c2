package console

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/console/session"
)

// maxForm bounds what a form sends; an edited event is the greatest.
const maxForm = 2 << 20

// visitOf is who asks for what; nil after an answer that asks the person to sign in.
func (c *Console) visitOf(w http.ResponseWriter, r *http.Request) *visit {
	who, ok := c.keeper.Find(w, r)
	if !ok {
		if streams(r) {
			http.Error(w, "sign in", http.StatusUnauthorized)
		} else {
			c.redirect(w, link("/sign-in", "back", r.URL.RequestURI()))
		}
		return nil
	}
	_, pattern := c.mux.Handler(r)
	gate.Describe(w, pattern, who.Name, streams(r))
	prefs := preferencesOf(r)
	return &visit{
		Request: r, who: who, prefs: prefs,
		client: client{api: c.cfg.API, authorization: who.Authorization, host: r.Host, remote: r.RemoteAddr},
		text:   func(key string, args ...any) string { return c.texts.Text(prefs.Language, key, args...) },
	}
}

// show serves a screen, or the stream of one.
func (c *Console) show(w http.ResponseWriter, r *http.Request, s *screen) {
	v := c.visitOf(w, r)
	switch {
	case v == nil:
	case streams(r):
		c.follow(w, v, s)
	default:
		p, status := c.load(v, s)
		if e, ok := p.Data.(exporter); ok && v.param("format") != "" {
			c.export(w, v, s, e)
			return
		}
		if v.param("part") == "list" && s.name == "find" && status == http.StatusOK {
			p.part = "found"
		}
		c.write(w, r, status, p)
	}
}

// load asks the API for what a screen shows. A refusal becomes the page's error.
func (c *Console) load(v *visit, s *screen) (*page, int) {
	p := c.page(v, s)
	if !v.may(s.least) {
		p.Name, p.Error = "refused", &APIError{Status: http.StatusForbidden, Detail: v.text("This page needs the role %s; you have %s.", s.least, v.who.Role)}
		return p, http.StatusForbidden
	}
	data, err := s.load(v)
	if err != nil {
		return c.failed(v, p, err)
	}
	p.Data = data
	return p, http.StatusOK
}

// page is what templates get of a visit, without the screen's own data.
func (c *Console) page(v *visit, s *screen) *page {
	p := &page{
		Name: s.name, Title: v.text(s.title), Path: v.URL.RequestURI(), Query: v.URL.Query(), Who: v.who, Prefs: v.prefs, Live: s.every > 0, Version: c.cfg.Version,
		Notice: notice(v), text: v.text, base: c.cfg.BasePath,
	}
	for _, other := range c.screens {
		if other.nav && v.may(other.least) {
			p.Nav = append(p.Nav, navItem{Path: other.path, Title: v.text(other.title), Here: other.name == s.name})
		}
	}
	return p
}

// failed turns p into the page of an error.
func (c *Console) failed(v *visit, p *page, err error) (*page, int) {
	var problem *APIError
	if !errors.As(err, &problem) {
		c.cfg.Logger.Error("page cannot be loaded", "page", p.Name, "error", err)
		problem = &APIError{Status: http.StatusInternalServerError, Detail: v.text("The page could not be loaded; the server's log has the reason.")}
	}
	p.Name, p.Error, p.Live = "refused", problem, false
	return p, problem.Status
}

// act carries out a form.
func (c *Console) act(w http.ResponseWriter, r *http.Request, s *screen) {
	v := c.visitOf(w, r)
	if v == nil {
		return
	}
	p := c.page(v, s)
	p.Path, p.Live = local(r.PostFormValue("back")), false
	if !v.who.Genuine(r.PostFormValue(session.FormField)) {
		p.Name, p.Error = "refused", &APIError{Status: http.StatusForbidden, Detail: v.text("This form is not from your session. Open the page again and repeat.")}
		c.write(w, r, http.StatusForbidden, p)
		return
	}
	out, err := s.act(v)
	switch {
	case err != nil:
		failed, status := c.failed(v, p, err)
		c.write(w, r, status, failed)
	case out.to != "":
		c.redirect(w, out.to)
	default:
		p.Name, p.Data = out.name, out.data
		c.write(w, r, cmp.Or(out.status, http.StatusOK), p)
	}
}

// showNothing answers an address that has no screen.
func (c *Console) showNothing(w http.ResponseWriter, r *http.Request) {
	v := c.visitOf(w, r)
	if v == nil {
		return
	}
	p := c.page(v, &screen{name: "refused", title: "Not found"})
	p.Error = &APIError{Status: http.StatusNotFound, Detail: v.text("There is no page at this address.")}
	c.write(w, r, http.StatusNotFound, p)
}

// notice is what the form before this page did. The address has only its name, so an address cannot make a page say something else.
func notice(v *visit) string {
	text, ok := notices()[v.param("done")]
	if !ok {
		return ""
	}
	return v.text(text)
}

// notices are the English texts of what forms did.
func notices() map[string]string {
	return map[string]string{
		"paused":      "The dataset is paused. Workers stop with it within a few seconds.",
		"resumed":     "The dataset continues.",
		"invalidated": "The cached copies of the record were made stale.",
		"flushed":     "The node forgot its local entries.",
		"started":     "The job was started.",
		"changed":     "The job was changed.",
		"redriven":    "The dead letters were redriven.",
		"discarded":   "The dead letters were discarded.",
		"edited":      "The corrected event was published.",
		"published":   "The event was published.",
	}
}
