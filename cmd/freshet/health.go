package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/listener"
)

// healthConfig is what the listener of a worker or a relay is made of.
type healthConfig struct {
	// section is worker or relay, whose settings are listen and metrics_open.
	section, addr string
	metricsOpen   bool
	// tokens and tls guard an address that other hosts can reach; they are not used on loopback.
	tokens *access.TokenFile
	tls    *tls.Config

	reg   *prometheus.Registry
	ready func() listener.Readiness
	log   *slog.Logger
}

// healthGuard returns the settings of a section's listener. The tokens and the certificate are those of the admin API.
func healthGuard(c config.Config, section, addr string, metricsOpen bool) (healthConfig, error) {
	hc := healthConfig{section: section, addr: addr, metricsOpen: metricsOpen}
	if listener.Loopback(addr) {
		return hc, nil
	}
	var err error
	if hc.tokens, err = openTokens(c); err != nil {
		return hc, err
	}
	if hc.tls, err = connect.ProbeTLS(c); err != nil {
		return hc, usageError{err}
	}
	return hc, nil
}

// openTokens returns nil without a file of tokens.
func openTokens(c config.Config) (*access.TokenFile, error) {
	if c.Admin.TokensFile == "" {
		return nil, nil
	}
	tokens, err := access.OpenTokens(c.Admin.TokensFile, c.Files())
	if err != nil {
		return nil, usageError{err}
	}
	return tokens, nil
}

// health is the small listener of a worker or a relay: /livez, /readyz, /metrics and the profiles of the Go runtime.
type health struct {
	cfg      healthConfig
	local    bool // it is bound to loopback, and everybody on this machine may ask for everything
	listener net.Listener
	server   *listener.Server
}

// listenHealth opens the listener.
func listenHealth(ctx context.Context, cfg healthConfig) (*health, error) {
	setting := cfg.section + ".listen"
	guarded := cfg.metricsOpen || cfg.tokens != nil || cfg.tls != nil && cfg.tls.ClientCAs != nil
	err := listener.CheckAddress(setting, cfg.addr, guarded, "set admin.tokens_file (`freshet admin token` makes tokens), or admin.tls.cert_file, key_file and client_ca_file, or "+
		cfg.section+".metrics_open=true, which shows the metrics to everybody who reaches the address")
	if err != nil {
		return nil, usageError{err}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; choose another address or port, or set it empty", setting, err)
	}
	h := &health{cfg: cfg, local: listener.Loopback(cfg.addr), listener: l}
	if cfg.tls != nil && !h.local {
		h.listener = tls.NewListener(l, cfg.tls)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { listener.Readiness{}.Answer(w, false) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		cfg.ready().Answer(w, h.principal(r).Role.May(access.Viewer))
	})
	metrics := promhttp.HandlerFor(cfg.reg, promhttp.HandlerOpts{})
	if !cfg.metricsOpen {
		metrics = h.only(access.Viewer, metrics)
	}
	mux.Handle("GET /metrics", metrics)
	mux.Handle("GET /debug/pprof/", h.only(access.Admin, http.HandlerFunc(pprof.Index)))
	mux.Handle("GET /debug/pprof/profile", h.only(access.Admin, http.HandlerFunc(pprof.Profile)))
	h.server = listener.New(listener.Config{Handler: h.hostOnly(mux), Logger: cfg.log})
	return h, nil
}

// Addr is the address that was bound.
func (h *health) Addr() string { return h.listener.Addr().String() }

// Advertised is where other machines reach the listener, "" if they do not.
func (h *health) Advertised(setting string) string {
	return advertised(setting, h.Addr(), h.cfg.tls != nil && !h.local)
}

// Run serves until ctx ends, and then lets requests that are under way finish.
func (h *health) Run(ctx context.Context) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		const finish = 5 * time.Second
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), finish)
		defer cancel()
		if h.server.Shutdown(end) != nil {
			_ = h.server.Close() // what is still under way has had its time
		}
	})
	err := h.server.Serve(h.listener)
	if !stop() {
		<-ended // Serve returns when Shutdown begins, not when requests have ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}

// principal is who asks: everybody on loopback is an admin; elsewhere a token decides, or a client certificate, which stands for a viewer.
func (h *health) principal(r *http.Request) access.Principal {
	if h.local {
		return access.Principal{Name: "local", Role: access.Admin}
	}
	if h.cfg.tokens != nil {
		if who, found := h.cfg.tokens.Bearer(r); found {
			return who
		}
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return access.Principal{Name: r.TLS.PeerCertificates[0].Subject.CommonName, Role: access.Viewer}
	}
	return access.Principal{}
}

// only lets those pass who have the role.
func (h *health) only(least access.Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch who := h.principal(r); {
		case who.Role.May(least):
			next.ServeHTTP(w, r)
		case who.Role == 0:
			w.Header().Set("WWW-Authenticate", `Bearer realm="freshet"`)
			gate.Problem(w, http.StatusUnauthorized, "give a token of the role "+least.String()+": Authorization: Bearer …")
		default:
			gate.Problem(w, http.StatusForbidden, "this needs the role "+least.String()+", the caller has "+who.Role.String())
		}
	})
}

// hostOnly refuses, on loopback, requests for another host's name: a page whose author lets its name resolve to 127.0.0.1 is not this
// machine's.
func (h *health) hostOnly(next http.Handler) http.Handler {
	if !h.local {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !listener.Loopback(r.Host) {
			gate.Problem(w, http.StatusForbidden, "this listener answers to 127.0.0.1 and localhost only")
			return
		}
		next.ServeHTTP(w, r)
	})
}
