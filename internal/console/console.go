package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/console/session"
	"github.com/freshet/freshet/internal/console/text"
)

// ErrConfig is returned, wrapped, from New when a field of a Config is missing or wrong.
var ErrConfig = errors.New("configuration of the console")

// traceID is replaced by the id of a trace in Config.TraceURL.
const traceID = "{trace_id}"

// Config of a Console. API is required; the zero value of every other field works.
type Config struct {
	// API is the admin API behind its gate.
	API http.Handler
	// Tokens sign people in; nil: no authentication, as in the API.
	Tokens *access.TokenFile
	// BasePath is where a proxy shows the console, such as "/freshet"; "" is the root.
	BasePath string
	// TraceURL is where a trace is shown, with {trace_id} in its place; "": nowhere.
	TraceURL string
	// Draining ends when the server stops, and with it the live pages; nil: they end with their requests.
	Draining context.Context //nolint:containedctx // the server's life
	// Version is shown.
	Version string
	// Logger; nil discards.
	Logger *slog.Logger
}

// Console serves the page. It is safe for concurrent use.
type Console struct {
	cfg     Config
	keeper  *session.Keeper
	texts   *text.Catalog
	views   *views
	assets  *assets
	mux     *http.ServeMux
	screens []*screen
	live    livePages
}

// New reads templates, messages and assets, and lays out the screens. Errors wrap ErrConfig.
func New(cfg Config) (*Console, error) {
	if cfg.API == nil {
		return nil, fmt.Errorf("%w: API is missing", ErrConfig)
	}
	cfg.BasePath = strings.TrimRight(cfg.BasePath, "/")
	if cfg.BasePath != "" && (!strings.HasPrefix(cfg.BasePath, "/") || strings.ContainsAny(cfg.BasePath, "?#%\" ")) {
		return nil, fmt.Errorf("%w: the base path begins with / and is a path, such as /freshet", ErrConfig)
	}
	if u, err := url.Parse(cfg.TraceURL); cfg.TraceURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || !strings.Contains(cfg.TraceURL, traceID)) {
		return nil, fmt.Errorf("%w: the address of traces is http or https and holds %s, such as https://jaeger.example.com/trace/%s", ErrConfig, traceID, traceID)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Draining == nil {
		cfg.Draining = context.Background()
	}
	c := &Console{cfg: cfg, keeper: &session.Keeper{Tokens: cfg.Tokens, Path: cfg.BasePath + "/"}, mux: http.NewServeMux()}
	var err error
	if c.texts, err = text.Load(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if c.assets, err = loadAssets(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c.screens = screens()
	if c.views, err = loadViews(c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c.routes()
	return c, nil
}

func (c *Console) routes() {
	c.mux.HandleFunc("GET /assets/{version}/{name}", c.assets.serve)
	c.mux.HandleFunc("GET /sign-in", c.showSignIn)
	c.mux.HandleFunc("POST /sign-in", c.signIn)
	c.mux.HandleFunc("POST /sign-out", c.signOut)
	c.mux.HandleFunc("POST /preferences", c.savePreferences)
	for _, path := range []string{"/openapi.json", "/metrics", "/readyz"} {
		c.mux.HandleFunc("GET /about"+path, func(w http.ResponseWriter, r *http.Request) { c.passOn(w, r, path) })
	}
	for _, s := range c.screens {
		pattern := s.path
		if pattern == "/" {
			pattern = "/{$}"
		}
		if s.load != nil {
			c.mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) { c.show(w, r, s) })
		}
		if s.act != nil {
			c.mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) { c.act(w, r, s) })
		}
	}
}

// ServeHTTP serves the console's pages, and leaves all else to the API.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if under, ok := strings.CutPrefix(r.URL.Path, c.cfg.BasePath+"/"); ok && c.cfg.BasePath != "" {
		r = stripped(r, under, c.cfg.BasePath)
	}
	if ofAPI(r.URL.Path) {
		c.cfg.API.ServeHTTP(w, r)
		return
	}
	_, pattern := c.mux.Handler(r)
	if pattern == "" && !strings.Contains(r.Header.Get("Accept"), "text/html") {
		c.cfg.API.ServeHTTP(w, r) // whose problem says what a program needs to know
		return
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'")
	h.Set("Referrer-Policy", "same-origin")
	gate.Describe(w, pattern, "", false)
	if pattern == "" {
		c.showNothing(w, r)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	c.mux.ServeHTTP(w, r)
}

// stripped is r without the path that a proxy shows the console under. A proxy may remove that path itself.
func stripped(r *http.Request, path, base string) *http.Request {
	out := r.Clone(r.Context())
	out.URL.Path = "/" + path
	if r.URL.RawPath != "" {
		out.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, base)
	}
	return out
}

// ofAPI reports whether a path belongs to the admin API.
func ofAPI(path string) bool {
	switch path {
	case "/livez", "/readyz", "/metrics", "/openapi.json", "/v1":
		return true
	}
	return strings.HasPrefix(path, "/v1/")
}
