package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/freshet/freshet/internal/listener"
)

// health is the small listener of a worker or a relay: /livez, /readyz, /metrics and the profiles of the Go runtime. It has no authentication, so it binds to
// loopback only.
type health struct {
	listener net.Listener
	server   *listener.Server
}

// listenHealth opens the listener; setting is its name. notReady lists what the process waits for; empty means ready.
func listenHealth(ctx context.Context, setting, addr string, reg *prometheus.Registry, notReady func() []string, log *slog.Logger) (*health, error) {
	if err := requireLoopback(setting, addr); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; choose another address or port, or set it empty", setting, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := notReady(); len(why) > 0 {
			answer(w, http.StatusServiceUnavailable, why)
			return
		}
		answer(w, http.StatusOK, nil)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	return &health{listener: l, server: listener.New(listener.Config{Handler: localOnly(mux), Logger: log})}, nil
}

// Addr is the address that was bound.
func (h *health) Addr() string { return h.listener.Addr().String() }

// Run serves until ctx ends.
func (h *health) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = h.server.Close() })
	defer stop()
	if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, code int, why []string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	status := "ok"
	if code != http.StatusOK {
		status = "not ready"
	}
	_ = json.NewEncoder(w).Encode(struct {
		Status string   `json:"status"`
		Why    []string `json:"why,omitempty"`
	}{status, why})
}

// localOnly refuses requests for another host's name: a page whose author lets its name resolve to 127.0.0.1 is not this
// machine's.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !isLoopback(strings.Trim(host, "[]")) {
			answer(w, http.StatusForbidden, []string{"this listener answers to 127.0.0.1 and localhost only"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func requireLoopback(setting, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %w; give host:port", setting, err)
	}
	if isLoopback(host) {
		return nil
	}
	return fmt.Errorf("%s: %s is not a loopback address and this listener has no authentication; use 127.0.0.1", setting, addr)
}
