package console

import (
	"net/http"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/console/text"
)

const (
	preferencesCookie = "freshet_view"
	preferencesLife   = 365 * 24 * time.Hour
)

// preferences are how a person wants pages to look. They are in a cookie, since they belong to the person and not to an address.
type preferences struct {
	// Theme is light, dark, or "" for what the system says.
	Theme string
	// Language is a tag, or "" for what the browser asks for.
	Language string
	// Absolute: times are shown as dates, else as ages.
	Absolute bool
	// Zone is the browser's time zone; UTC if it is not known.
	Zone *time.Location
}

// preferencesOf reads the cookie. What it does not understand is not set.
func preferencesOf(r *http.Request) preferences {
	p := preferences{Zone: time.UTC}
	if c, err := r.Cookie(preferencesCookie); err == nil {
		for field := range strings.SplitSeq(c.Value, "|") {
			name, value, _ := strings.Cut(field, ":")
			p.set(name, value)
		}
	}
	p.Language = text.Choose(p.Language, r.Header.Get("Accept-Language"))
	return p
}

func (p *preferences) set(name, value string) {
	switch name {
	case "theme":
		if value == "light" || value == "dark" || value == "" {
			p.Theme = value
		}
	case "language":
		p.Language = value
	case "time":
		p.Absolute = value == "absolute"
	case "zone":
		if zone, err := time.LoadLocation(value); err == nil && len(value) < 64 {
			p.Zone = zone
		}
	}
}

func (p *preferences) value() string {
	form := "relative"
	if p.Absolute {
		form = "absolute"
	}
	return "theme:" + p.Theme + "|language:" + p.Language + "|time:" + form + "|zone:" + p.Zone.String()
}

// savePreferences changes those that the form has and returns to the page. It needs no session: it changes this browser's pages only.
func (c *Console) savePreferences(w http.ResponseWriter, r *http.Request) {
	p := preferencesOf(r)
	for _, name := range []string{"theme", "language", "time", "zone"} {
		if r.PostFormValue(name) != "" {
			p.set(name, strings.TrimPrefix(r.PostFormValue(name), "system"))
		}
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // it is no secret, and plain HTTP is served on loopback
		Name: preferencesCookie, Value: p.value(), Path: c.keeper.Path, MaxAge: int(preferencesLife / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	if r.Header.Get("Accept") == "application/json" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	c.redirect(w, local(r.PostFormValue("back")))
}

// local returns a path of the console; what leads elsewhere becomes the overview.
func local(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return "/"
	}
	return path
}

// redirect sends the browser to a path of the console.
func (c *Console) redirect(w http.ResponseWriter, path string) {
	w.Header().Set("Location", c.cfg.BasePath+path)
	w.WriteHeader(http.StatusSeeOther)
}
