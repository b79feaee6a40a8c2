package consul_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/registry"
	"github.com/freshet/freshet/registry/consul"
)

// agent answers the routes of Consul's agent that the package uses, as its documentation describes them.
type agent struct {
	t  *testing.T
	mu sync.Mutex // guards what follows
	// token is the one that it wants, "" for none.
	token    string
	services map[string]map[string]any // by ID
	checks   map[string]string         // status by check ID
	outputs  []string
	requests []string
	unknown  int // status for an unknown check
}

func newAgent(t *testing.T) (*agent, *httptest.Server) {
	t.Helper()
	a := &agent{t: t, services: map[string]map[string]any{}, checks: map[string]string{}, unknown: http.StatusNotFound}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	return a, s
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, r.Method+" "+r.URL.Path)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		a.t.Error(err)
	}
	if name, listing := strings.CutPrefix(r.URL.Path, "/v1/health/service/"); listing && r.Method == http.MethodGet {
		a.list(w, name)
		return
	}
	if r.Method != http.MethodPut {
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if a.token != "" && r.Header.Get("X-Consul-Token") != a.token {
		http.Error(w, "Permission denied: token with AccessorID 'x' lacks permission 'service:write'", http.StatusForbidden)
		return
	}
	switch path := r.URL.Path; {
	case path == "/v1/agent/service/register":
		a.register(w, body)
	case strings.HasPrefix(path, "/v1/agent/check/update/"):
		a.update(w, strings.TrimPrefix(path, "/v1/agent/check/update/"), body)
	case strings.HasPrefix(path, "/v1/agent/service/deregister/"):
		id := strings.TrimPrefix(path, "/v1/agent/service/deregister/")
		if _, ok := a.services[id]; !ok {
			http.Error(w, "Unknown service ID \""+id+"\"", http.StatusNotFound)
			return
		}
		delete(a.services, id)
		delete(a.checks, "service:"+id)
	default:
		http.Error(w, "no such route", http.StatusNotFound)
	}
}

// list answers as the documentation shows it, with the node's own check beside that of the service.
func (a *agent) list(w http.ResponseWriter, name string) {
	type check struct{ CheckID, Status string }
	type entry struct {
		Node    map[string]string
		Service map[string]any
		Checks  []check
	}
	all := []entry{}
	for id, s := range a.services {
		if s["Name"] != name {
			continue
		}
		all = append(all, entry{map[string]string{"Node": "host-1"}, map[string]any{
			"ID": id, "Service": name, "Tags": s["Tags"], "Address": s["Address"], "Port": s["Port"], "Meta": s["Meta"],
		}, []check{{"serfHealth", "passing"}, {"service:" + id, a.checks["service:"+id]}}})
	}
	if err := json.NewEncoder(w).Encode(all); err != nil {
		a.t.Error(err)
	}
}

// register refuses fields that the documentation does not list.
func (a *agent) register(w http.ResponseWriter, body []byte) {
	var s map[string]any
	if err := json.Unmarshal(body, &s); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for field := range s {
		if !slices.Contains([]string{"ID", "Name", "Tags", "Address", "Port", "Meta", "Check"}, field) {
			a.t.Errorf("field %s", field)
		}
	}
	check, ok := s["Check"].(map[string]any)
	for field := range check {
		if !slices.Contains([]string{"CheckID", "TTL", "Status", "DeregisterCriticalServiceAfter"}, field) {
			a.t.Errorf("field Check.%s", field)
		}
	}
	id, named := s["ID"].(string)
	checkID, checked := check["CheckID"].(string)
	status, stated := check["Status"].(string)
	if !ok || !named || !checked || !stated {
		http.Error(w, "Invalid service", http.StatusBadRequest)
		return
	}
	a.services[id], a.checks[checkID] = s, status
}

func (a *agent) update(w http.ResponseWriter, id string, body []byte) {
	var u struct{ Status, Output string }
	if err := json.Unmarshal(body, &u); err != nil || !slices.Contains([]string{"passing", "warning", "critical"}, u.Status) {
		http.Error(w, "Invalid check status", http.StatusBadRequest)
		return
	}
	if _, ok := a.checks[id]; !ok {
		http.Error(w, "Unknown check ID \""+id+"\"", a.unknown)
		return
	}
	a.checks[id] = u.Status
	a.outputs = append(a.outputs, u.Output)
}

// lose makes the agent forget everything, as one that starts without its data.
func (a *agent) lose(unknown int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.services)
	clear(a.checks)
	a.unknown = unknown
}

func (a *agent) state(id string) (service map[string]any, status string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.services[id], a.checks["service:"+id]
}

func instance(status registry.Status, note string) registry.Instance {
	return registry.Instance{ID: "w-1", Role: "worker", Namespace: "shop", Address: "https://w1.internal:7788", Version: "v1.2.3", Status: status, Note: note}
}

const id = "freshet-worker-w-1"

func TestServiceFollowsItsProcess(t *testing.T) {
	t.Parallel()
	a, server := newAgent(t)
	a.token = "secret-1"
	token := "secret-0"
	r, err := consul.New(consul.Config{Endpoint: server.URL, Client: server.Client(), Token: func(context.Context) (string, error) { return token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := r.Register(ctx, instance("", "")); err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), token) {
		t.Errorf("with a wrong token: %v", err)
	}
	token = "secret-1"
	register := func(status registry.Status, note string) {
		t.Helper()
		if err := r.Register(ctx, instance(status, note)); err != nil {
			t.Fatal(err)
		}
		want := string(status)
		if want == "" {
			want = "passing"
		}
		if _, got := a.state(id); got != want {
			t.Errorf("status %q, want %q", got, want)
		}
	}
	register("", "")
	s, _ := a.state(id)
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"Address":"w1.internal","Check":{"CheckID":"service:freshet-worker-w-1","DeregisterCriticalServiceAfter":"2m30s","Status":"passing","TTL":"15s"},` +
		`"ID":"freshet-worker-w-1","Meta":{"namespace":"shop","scheme":"https","version":"v1.2.3"},"Name":"freshet-worker","Port":7788,"Tags":["shop"]}`
	if string(got) != want {
		t.Errorf("registered:\n%s\nwant\n%s", got, want)
	}
	before := len(a.requests)
	register(registry.Warning, "a lane cannot be read")
	if n := len(a.requests) - before; n != 1 || a.outputs[len(a.outputs)-1] != "a lane cannot be read" {
		t.Errorf("%d requests, output %q", n, a.outputs)
	}
	for _, unknown := range []int{http.StatusNotFound, http.StatusInternalServerError} {
		a.lose(unknown)
		register(registry.Critical, "")
	}
	listed := instance(registry.Critical, "")
	for namespace, want := range map[string][]registry.Instance{"shop": {listed}, "other": nil} {
		if got, err := r.List(ctx, namespace, "worker"); err != nil || !slices.Equal(got, want) {
			t.Errorf("workers of %s: %+v, %v; want %+v", namespace, got, err, want)
		}
	}
	if got, err := r.List(ctx, "shop", "relay"); err != nil || got != nil {
		t.Errorf("relays: %+v, %v", got, err)
	}
	for range 2 { // the second time it is gone already
		if err := r.Deregister(ctx, instance("", "")); err != nil {
			t.Error(err)
		}
	}
	if s, _ := a.state(id); s != nil {
		t.Error("it is listed after it left")
	}
}

func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for _, cfg := range []consul.Config{{Endpoint: "agent:8500"}, {Endpoint: "http://a:b@agent:8500"}, {TTL: time.Second}} {
		if _, err := consul.New(cfg); !errors.Is(err, registry.ErrConfig) || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
