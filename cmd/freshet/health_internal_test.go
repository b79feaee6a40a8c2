package main

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/internal/testenv"
)

// healthRig is a listener as a worker has it.
type healthRig struct {
	*health

	t     *testing.T
	state listener.Readiness
	tls   *tls.Config // of its clients; nil: plain HTTP
}

// newHealth opens and serves the listener of the settings.
func newHealth(t *testing.T, c config.Config) *healthRig {
	t.Helper()
	r := &healthRig{t: t}
	hc, err := healthGuard(c, "worker", c.Worker.Listen, c.Worker.MetricsOpen)
	if err != nil {
		t.Fatal(err)
	}
	hc.reg, hc.ready = prometheus.NewRegistry(), func() listener.Readiness { return r.state }
	hc.log = telemetry.NewLogger(io.Discard, "info", "text")
	if r.health, err = listenHealth(t.Context(), hc); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := testenv.Await(t, done); err != nil {
			t.Error(err)
		}
	})
	return r
}

// get asks as the bearer of a token; "" has none.
func (r *healthRig) get(path, token string) (int, string) {
	r.t.Helper()
	scheme := "http://"
	if r.tls != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, scheme+r.Addr()+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := (&http.Transport{TLSClientConfig: r.tls, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// want asks without a token unless one is given.
func (r *healthRig) want(status int, path string, token ...string) string {
	r.t.Helper()
	code, body := r.get(path, strings.Join(token, ""))
	if code != status {
		r.t.Errorf("%s: got %d %.200s, want %d", path, code, body, status)
	}
	return body
}

// openSettings returns settings for an address that other machines reach, with tokens.
func openSettings(t *testing.T) (c config.Config, tokens map[string]string) {
	t.Helper()
	tokens = map[string]string{}
	var lines []string
	for _, role := range []access.Role{access.Viewer, access.Admin, access.Publisher} {
		token, line, err := access.NewToken(role.String()+"-1", role)
		if err != nil {
			t.Fatal(err)
		}
		tokens[role.String()], lines = token, append(lines, line)
	}
	c.Worker.Listen, c.Admin.TokensFile = "0.0.0.0:0", filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(c.Admin.TokensFile, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return c, tokens
}

func TestHealthListenerOnLoopback(t *testing.T) {
	r := newHealth(t, config.Config{Worker: config.Worker{Listen: "127.0.0.1:0"}})
	r.state.NotReady = []string{"waiting for MySQL"}
	r.want(200, "/livez")
	if body := r.want(503, "/readyz"); !strings.Contains(body, "waiting for MySQL") {
		t.Errorf("readyz: %s", body)
	}
	r.state = listener.Readiness{Degraded: []string{"dataset users is paused"}}
	if body := r.want(200, "/readyz"); !strings.Contains(body, `"status":"degraded","why":["dataset users is paused"]`) {
		t.Errorf("readyz: %s", body)
	}
	r.state.Draining = true
	if body := r.want(503, "/readyz"); !strings.Contains(body, `"status":"draining"`) {
		t.Errorf("readyz: %s", body)
	}
	r.want(200, "/livez")
	r.want(200, "/metrics")
	if body := r.want(200, "/debug/pprof/goroutine?debug=1"); !strings.Contains(body, "health") {
		t.Errorf("profile of goroutines: %.100s", body)
	}
	r.want(404, "/debug/pprof/cmdline") // arguments may hold what is secret
	foreign, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign.Host = "rebound.example:7788"
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(foreign)
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != http.StatusForbidden {
		t.Errorf("a request for another host's name: %d, want 403", res.StatusCode)
	}
	if got := r.Advertised(""); got != "" {
		t.Errorf("loopback is advertised as %s", got)
	}
	if got := r.Advertised("worker.example:7788"); got != "worker.example:7788" {
		t.Errorf("advertised %s, want the setting", got)
	}
}

// An address that other machines reach needs something that says who may ask.
func TestHealthListenerRefusesToBeOpen(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "nonsense"} {
		_, err := listenHealth(t.Context(), healthConfig{section: "worker", addr: addr})
		if err == nil || !strings.Contains(err.Error(), "worker.listen is") || addr != "nonsense" && !strings.Contains(err.Error(), "worker.metrics_open") || !isUsage(err) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestHealthListenerWithTokens(t *testing.T) {
	c, tokens := openSettings(t)
	r := newHealth(t, c)
	r.state.NotReady = []string{"waiting for MySQL at db.internal"}
	r.want(200, "/livez")
	if body := r.want(503, "/readyz"); strings.Contains(body, "db.internal") {
		t.Errorf("a stranger is shown the reasons: %s", body)
	}
	if body := r.want(503, "/readyz", tokens["viewer"]); !strings.Contains(body, "db.internal") {
		t.Errorf("a viewer is not shown the reasons: %s", body)
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/goroutine", "/debug/pprof/profile?seconds=1"} {
		r.want(401, path)
		r.want(401, path, tokens["viewer"]+"x")
		r.want(403, path, tokens["publisher"])
	}
	r.want(200, "/metrics", tokens["viewer"])
	r.want(403, "/debug/pprof/goroutine", tokens["viewer"])
	r.want(200, "/debug/pprof/goroutine", tokens["admin"])
	if got := r.Advertised(""); got != "" {
		t.Errorf("the address of all interfaces is advertised as %s", got)
	}
}

func TestHealthListenerWithOpenMetrics(t *testing.T) {
	r := newHealth(t, config.Config{Worker: config.Worker{Listen: "0.0.0.0:0", MetricsOpen: true}})
	r.state.NotReady = []string{"waiting for MySQL at db.internal"}
	r.want(200, "/metrics")
	r.want(401, "/debug/pprof/goroutine")
	if body := r.want(503, "/readyz"); strings.Contains(body, "db.internal") {
		t.Errorf("a stranger is shown the reasons: %s", body)
	}
}

// Client certificates are asked for, and probes need none.
func TestHealthListenerWithCertificates(t *testing.T) {
	ours, theirs := testenv.NewAuthority(t), testenv.NewAuthority(t)
	c, dir := config.Config{}, t.TempDir()
	c.Worker.Listen = "0.0.0.0:0"
	cert, key := ours.SignPEM(t)
	c.Admin.TLS = config.AdminTLS{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"), ClientCAFile: filepath.Join(dir, "ca")}
	for path, text := range map[string][]byte{c.Admin.TLS.CertFile: cert, c.Admin.TLS.KeyFile: key, c.Admin.TLS.ClientCAFile: ours.PEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := newHealth(t, c)
	trust := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: ours.Pool, ServerName: "localhost", Certificates: certs}
	}
	r.tls = trust()
	r.want(200, "/readyz")
	r.want(401, "/metrics")
	r.tls = trust(ours.Sign(t))
	r.want(200, "/metrics")
	r.want(403, "/debug/pprof/goroutine")
	foreign := theirs.Sign(t)
	r.tls = trust()
	r.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil } // also unasked for
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.Addr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := (&http.Transport{TLSClientConfig: r.tls}).RoundTrip(req); err == nil {
		res.Body.Close()
		t.Errorf("a certificate of another authority is answered with %d", res.StatusCode)
	}
}

// Without the setting, a process drains only if something on another machine can know it.
func TestDrainDelay(t *testing.T) {
	for _, tc := range []struct {
		set   time.Duration
		addrs []string
		want  time.Duration
	}{
		{-1, []string{"127.0.0.1:7788", "[::1]:7789"}, 0},
		{-1, []string{""}, 0},
		{-1, []string{"127.0.0.1:7788", "0.0.0.0:7789"}, defaultDrain},
		{0, []string{"0.0.0.0:7789"}, 0},
		{time.Minute, []string{"127.0.0.1:7788"}, time.Minute},
	} {
		if got := drainDelay(config.Config{DrainDelay: tc.set}, tc.addrs...); got != tc.want {
			t.Errorf("%v at %v: %v, want %v", tc.set, tc.addrs, got, tc.want)
		}
	}
}
