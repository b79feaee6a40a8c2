package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
)

// A node that is cut off from Redis gets no requests as long as others serve from memory. When all of them are cut off, all
// of them answer.
func TestNodesWithoutRedisStayInService(t *testing.T) {
	s := newSite(t, nil)
	s.links[0].Hold()
	s.awaitServed("two", "three")
	s.links[1].Hold()
	s.links[2].Hold()
	s.awaitServed("one", "two", "three")
	u := s.user(false)
	if err := u.write(t.Context(), http.MethodPost, "/login", map[string]any{"user": "ada"}, http.StatusCreated); err != nil {
		t.Errorf("a login without Redis: %v", err)
	}
	for _, l := range s.links[1:] {
		l.Release()
	}
	s.awaitServed("two", "three")
}

// The configuration for nginx sends requests to every node, whatever its cache says.
func TestNginxUsesEveryNode(t *testing.T) {
	path := balancer(t, "nginx")
	s := newNodes(t, nil)
	for _, l := range s.links {
		l.Hold()
	}
	s.nginx(path)
}

// nginx starts nginx with the file in deploy, on a socket, where no other process can take its place, and waits until it uses
// all nodes.
func (s *site) nginx(path string) {
	t := s.t
	t.Helper()
	conf, err := os.ReadFile("../../deploy/nginx/freshet.conf")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s.socket, s.url = filepath.Join(dir, "s"), "http://nginx"
	changes := []string{"listen 127.0.0.1:8080", "listen unix:" + s.socket}
	for i, address := range s.nodes {
		changes = append(changes, fmt.Sprintf("server 127.0.0.1:%d ", 8081+i), "server "+address+" ")
	}
	const around = "worker_processes 1; error_log stderr; pid nginx.pid; events {} http { access_log off; include freshet.conf; }"
	for name, text := range map[string]string{"nginx.conf": around, "freshet.conf": strings.NewReplacer(changes...).Replace(string(conf))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testenv.StartProcess(t, "nginx", exec.Command(path, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-g", "daemon off;"))
	s.awaitServed(s.nodes...)
}

// hidesChecks verifies that HAProxy answers the checks' paths itself, however a client writes them.
func (f *fleet) hidesChecks(url string) {
	f.t.Helper()
	client := http.Client{Timeout: patience}
	for _, path := range []string{"/cachez", "/%63achez", "/readyz", "/ready%7A"} {
		req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			f.t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			f.t.Fatal(err)
		}
		if resp.StatusCode != http.StatusNotFound {
			f.t.Errorf("%s%s: status %d", url, path, resp.StatusCode)
		}
		if err := resp.Body.Close(); err != nil {
			f.t.Error(err)
		}
	}
}
