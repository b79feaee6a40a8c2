package main

import (
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
	conf, err := os.ReadFile("nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s.socket = filepath.Join(dir, "s") // no port that another process could take first
	text := strings.Replace(string(conf), "listen 127.0.0.1:8080", "listen unix:"+s.socket, 1)
	for i, address := range s.nodes {
		text = strings.Replace(text, "127.0.0.1:808"+string(rune('1'+i)), address, 1)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.StartProcess(t, "nginx", exec.Command(path, "-p", dir, "-c", file, "-g", "daemon off;"))
	s.url = "http://nginx"
	s.awaitServed(s.nodes...)
}
