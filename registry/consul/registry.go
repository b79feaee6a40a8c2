// Package consul lists instances in Consul through the HTTP API of the machine's own agent: no client library is linked.
//
// An instance is the service SERVICE-ROLE with the ID SERVICE-ROLE-ID, the tag NAMESPACE, and a check with a time to live whose status is
// the instance's. Consul's DNS and catalog leave critical instances out, and with only_passing those with a warning.
package consul

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/freshet/freshet/registry"
)

const (
	// DefaultEndpoint is the default of Config.Endpoint: the agent of this machine.
	DefaultEndpoint = "http://127.0.0.1:8500"
	// DefaultService is the default of Config.Service.
	DefaultService = "freshet"
	// forgetAfter is the least after which Consul removes a critical service.
	forgetAfter = time.Minute
	// maxAnswer bounds what is read of an answer, maxReason what is reported of a refusal.
	maxAnswer      = 4 << 20
	maxReason      = 1 << 10
	requestTimeout = 5 * time.Second
)

// Config of a Registry. The zero value works.
type Config struct {
	// Endpoint is the URL of an agent; "" means DefaultEndpoint. Checks belong to the agent, so it must always be the same one.
	Endpoint string
	// Service begins the names of the services; "" means DefaultService.
	Service string
	// TTL is after how long without a renewal an instance is critical; a minute or ten TTLs later Consul forgets it. 0 means registry.DefaultTTL, at
	// least 3 s.
	TTL time.Duration
	// Token returns the ACL token, called for each request; nil: none. It needs service:write for the services.
	Token func(ctx context.Context) (string, error)
	// Client makes the requests, with TLS if it is to have any; nil: one whose requests end after five seconds.
	Client *http.Client
}

// Registry is a Consul agent. It is safe for concurrent use.
type Registry struct {
	cfg Config

	mu    sync.Mutex      // guards known
	known map[string]bool // service IDs that the agent took
}

var _ registry.Registry = (*Registry)(nil)

// New checks cfg and connects to nothing. Errors wrap registry.ErrConfig.
func New(cfg Config) (*Registry, error) {
	cfg.Endpoint = strings.TrimSuffix(cmp.Or(cfg.Endpoint, DefaultEndpoint), "/")
	if u, err := url.Parse(cfg.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("%w: Endpoint is not a URL such as %s without a password", registry.ErrConfig, DefaultEndpoint)
	}
	cfg.Service = cmp.Or(cfg.Service, DefaultService)
	cfg.TTL = cmp.Or(cfg.TTL, registry.DefaultTTL)
	if cfg.TTL < 3*time.Second {
		return nil, fmt.Errorf("%w: TTL is %s; give at least 3s", registry.ErrConfig, cfg.TTL)
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: requestTimeout}
	}
	return &Registry{cfg: cfg, known: map[string]bool{}}, nil
}

// TTL implements registry.Registry.
func (r *Registry) TTL() time.Duration { return r.cfg.TTL }

// service is the body of /v1/agent/service/register.
type service struct {
	ID      string            `json:"ID"`
	Name    string            `json:"Name"`
	Tags    []string          `json:"Tags"`
	Address string            `json:"Address"`
	Port    int               `json:"Port"`
	Meta    map[string]string `json:"Meta"`
	Check   check             `json:"Check"`
}

type check struct {
	CheckID string          `json:"CheckID"`
	TTL     string          `json:"TTL"`
	Status  registry.Status `json:"Status"`
	Forget  string          `json:"DeregisterCriticalServiceAfter"`
}

// Register implements registry.Registry: it registers the service where the agent does not know it, and updates its check.
func (r *Registry) Register(ctx context.Context, inst registry.Instance) error {
	host, port, err := inst.HostPort()
	if err = errors.Join(inst.Check(), err); err != nil {
		return err
	}
	inst.Status = cmp.Or(inst.Status, registry.Passing)
	name := r.cfg.Service + "-" + inst.Role
	id := name + "-" + inst.ID
	r.mu.Lock()
	known := r.known[id]
	r.mu.Unlock()
	update := map[string]any{"Status": inst.Status, "Output": inst.Note}
	if known {
		err := r.put(ctx, "/v1/agent/check/update/"+url.PathEscape(checkOf(id)), update)
		var no *refusal
		if !errors.As(err, &no) || no.status != http.StatusNotFound && no.status != http.StatusInternalServerError {
			return err
		}
		// The agent forgot the check, as it does when it starts with nothing: 404, or 500 in releases before 1.11.
	}
	scheme := "http"
	if strings.HasPrefix(inst.Address, "https://") {
		scheme = "https"
	}
	s := service{
		ID: id, Name: name, Tags: []string{inst.Namespace}, Address: host, Port: port,
		Meta:  map[string]string{"namespace": inst.Namespace, "scheme": scheme, "version": inst.Version},
		Check: check{checkOf(id), r.cfg.TTL.String(), inst.Status, max(10*r.cfg.TTL, forgetAfter).String()},
	}
	if err := r.put(ctx, "/v1/agent/service/register", s); err != nil {
		return fmt.Errorf("register service: %w", err)
	}
	r.mu.Lock()
	r.known[id] = true
	r.mu.Unlock()
	return r.put(ctx, "/v1/agent/check/update/"+url.PathEscape(checkOf(id)), update)
}

// List returns the instances of a role in a namespace that the whole datacenter knows, also those that are not passing. The token needs
// service:read for the service and node:read; without them Consul lists nothing.
func (r *Registry) List(ctx context.Context, namespace, role string) ([]registry.Instance, error) {
	name := r.cfg.Service + "-" + role
	var found []struct {
		Service struct {
			ID, Address string
			Port        int
			Meta        map[string]string
		}
		Checks []struct {
			CheckID string
			Status  registry.Status
		}
	}
	if err := r.call(ctx, http.MethodGet, "/v1/health/service/"+url.PathEscape(name), nil, &found); err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var all []registry.Instance
	for _, f := range found {
		s := f.Service
		if s.Meta["namespace"] != namespace {
			continue
		}
		inst := registry.Instance{
			ID: strings.TrimPrefix(s.ID, name+"-"), Role: role, Namespace: namespace, Address: net.JoinHostPort(s.Address, strconv.Itoa(s.Port)), Version: s.Meta["version"],
		}
		if s.Meta["scheme"] == "https" {
			inst.Address = "https://" + inst.Address
		}
		for _, c := range f.Checks {
			if c.CheckID == checkOf(s.ID) {
				inst.Status = c.Status
			}
		}
		all = append(all, inst)
	}
	return all, nil
}

func checkOf(id string) string { return "service:" + id }

// Deregister implements registry.Registry.
func (r *Registry) Deregister(ctx context.Context, inst registry.Instance) error {
	id := r.cfg.Service + "-" + inst.Role + "-" + inst.ID
	r.mu.Lock()
	delete(r.known, id)
	r.mu.Unlock()
	err := r.put(ctx, "/v1/agent/service/deregister/"+url.PathEscape(id), nil)
	var no *refusal
	if errors.As(err, &no) && no.status == http.StatusNotFound {
		return nil
	}
	return err
}

// refusal is an answer that is not 200. Its text is Consul's own.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return fmt.Sprintf("Consul answered %d: %s", e.status, e.text) }

func (r *Registry) put(ctx context.Context, path string, in any) error {
	return r.call(ctx, http.MethodPut, path, in, nil)
}

// call decodes the answer into out, unless that is nil.
func (r *Registry) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, r.cfg.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if r.cfg.Token != nil {
		token, err := r.cfg.Token(ctx)
		if err != nil {
			return fmt.Errorf("get the token of Consul: %w", err)
		}
		req.Header.Set("X-Consul-Token", token)
	}
	resp, err := r.cfg.Client.Do(req)
	if err != nil {
		return err //nolint:wrapcheck // it names method and URL
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return &refusal{resp.StatusCode, strings.TrimSpace(string(text[:min(len(text), maxReason)]))}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}
