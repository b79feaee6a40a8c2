package console

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/console/session"
	"github.com/freshet/freshet/internal/console/text"
)

// views are the templates, parsed for each language.
type views struct {
	pages map[string]map[string]*template.Template // by language, by name
}

// page is what every template gets.
type page struct {
	// Screen is where it is; Title its title, in the person's language.
	Name, Title string
	// Path is the address in the console, with the query.
	Path  string
	Query map[string][]string
	Nav   []navItem
	Who   *session.Session
	Prefs preferences
	// Live: an EventSource at the same address gets changes.
	Live    bool
	Version string
	// Notice reports what a form did, Problem what the API refused.
	Notice string
	Error  *APIError
	// Data is the screen's own.
	Data any

	base string
	// part is the template that is written; "" is the whole layout.
	part string
	text func(key string, args ...any) string
}

type navItem struct {
	Path, Title string
	Here        bool
}

// May reports whether the person's role is enough; templates name roles in words.
func (p *page) May(least string) (bool, error) {
	role, err := access.ParseRole(least)
	return p.Who != nil && p.Who.Role.May(role), err
}

// Q is a value of the address.
func (p *page) Q(name string) string {
	if v := p.Query[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// With is the page's own address with one value set, or removed if it is empty.
func (p *page) With(name string, value any) string {
	q := url.Values{}
	for k, v := range p.Query {
		if k != name && k != "done" {
			q[k] = v
		}
	}
	if text := fmt.Sprint(value); text != "" {
		q.Set(name, text)
	}
	path, _, _ := strings.Cut(p.Path, "?")
	if len(q) == 0 {
		return p.base + path
	}
	return p.base + path + "?" + q.Encode()
}

func loadViews(c *Console) (*views, error) {
	v := &views{pages: map[string]map[string]*template.Template{}}
	names, err := fs.Glob(web, "web/pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("find pages: %w", err)
	}
	for _, l := range text.Languages() {
		v.pages[l.Tag] = map[string]*template.Template{}
		shared, err := template.New("").Funcs(c.functions(l.Tag)).ParseFS(web, "web/parts/*.html")
		if err != nil {
			return nil, fmt.Errorf("read parts of pages: %w", err)
		}
		for _, file := range names {
			own, err := shared.Clone()
			if err == nil {
				own, err = own.ParseFS(web, file)
			}
			if err != nil {
				return nil, fmt.Errorf("read page: %w", err)
			}
			v.pages[l.Tag][strings.TrimSuffix(path.Base(file), ".html")] = own
		}
	}
	return v, nil
}

// content renders what is in the middle of a page, which is also what a live page gets.
func (v *views) content(p *page) ([]byte, error) { return v.render(p, "main") }

func (v *views) render(p *page, part string) ([]byte, error) {
	t, ok := v.pages[p.Prefs.Language][p.Name]
	if !ok {
		return nil, fmt.Errorf("there is no template %s", p.Name)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, part, p); err != nil {
		return nil, fmt.Errorf("render %s: %w", p.Name, err)
	}
	return b.Bytes(), nil
}

// write renders a page and sends it.
func (c *Console) write(w http.ResponseWriter, r *http.Request, status int, p *page) {
	b, err := c.views.render(p, cmp.Or(p.part, "layout"))
	if err != nil {
		c.cfg.Logger.Error("page cannot be shown", "page", p.Name, "error", err)
		http.Error(w, "the page could not be made; the server's log has the reason", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Vary", "Accept-Encoding, Accept-Language, Cookie")
	if !zips(r) || r.Method == http.MethodHead {
		w.WriteHeader(status)
		_, _ = w.Write(b) //nolint:gosec // html/template escaped it
		return
	}
	h.Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z := gzip.NewWriter(w)
	_, _ = z.Write(b)
	_ = z.Close()
}
