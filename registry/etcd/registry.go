// Package etcd lists instances in etcd, version 3.4 or newer, through its JSON gateway: no client library is linked.
//
// An instance is the key PREFIX/NAMESPACE/ROLE/ID, whose value is registry.Instance as JSON. The key has a lease, so it ends with the
// process. Watch PREFIX/ to follow them.
package etcd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/freshet/freshet/registry"
)

// DefaultPrefix is the default of Config.Prefix.
const DefaultPrefix = "freshet"

const (
	// maxAnswer bounds what is read of an answer.
	maxAnswer      = 4 << 20
	requestTimeout = 5 * time.Second
)

// Config of a Registry.
type Config struct {
	// Endpoints are the URLs of the members, such as http://etcd-1:2379; required. They are tried in order.
	Endpoints []string
	// Prefix of the keys; "" means DefaultPrefix.
	Prefix string
	// TTL is how long a key outlives its process, in whole seconds; 0 means registry.DefaultTTL, at least 3 s.
	TTL time.Duration
	// Login returns user and password; nil: etcd has no authentication. It is called whenever a token is needed.
	Login func(ctx context.Context) (user, password string, err error)
	// Client makes the requests, with TLS if it is to have any; nil: one whose requests end after five seconds.
	Client *http.Client
}

// Registry is etcd. It is safe for concurrent use.
type Registry struct {
	cfg Config

	mu     sync.Mutex // guards what follows
	token  string
	leases map[string]lease // by key
}

// lease is that of a key, and the value that was written with it.
type lease struct{ id, value string }

var _ registry.Registry = (*Registry)(nil)

// New checks cfg and connects to nothing. Errors wrap registry.ErrConfig.
func New(cfg Config) (*Registry, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, fmt.Errorf("%w: Endpoints is empty; give URLs such as http://etcd-1:2379", registry.ErrConfig)
	}
	for _, e := range cfg.Endpoints {
		if u, err := url.Parse(e); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return nil, fmt.Errorf("%w: an endpoint is not a URL such as http://etcd-1:2379 without a password", registry.ErrConfig)
		}
	}
	cfg.TTL = cmp.Or(cfg.TTL, registry.DefaultTTL)
	if cfg.TTL < 3*time.Second {
		return nil, fmt.Errorf("%w: TTL is %s; give at least 3s", registry.ErrConfig, cfg.TTL)
	}
	cfg.Prefix = strings.TrimSuffix(cmp.Or(cfg.Prefix, DefaultPrefix), "/")
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: requestTimeout}
	}
	return &Registry{cfg: cfg, leases: map[string]lease{}}, nil
}

// TTL implements registry.Registry.
func (r *Registry) TTL() time.Duration { return r.cfg.TTL }

// Key returns where an instance is listed.
func (r *Registry) Key(inst registry.Instance) string {
	return strings.Join([]string{r.cfg.Prefix, inst.Namespace, inst.Role, inst.ID}, "/")
}

// Register implements registry.Registry: it writes the key when it is new or its value changed, and renews its lease.
func (r *Registry) Register(ctx context.Context, inst registry.Instance) error {
	if err := inst.Check(); err != nil {
		return err
	}
	inst.Status = cmp.Or(inst.Status, registry.Passing)
	value, err := json.Marshal(inst)
	if err != nil {
		return fmt.Errorf("encode instance: %w", err)
	}
	key := r.Key(inst)
	r.mu.Lock()
	l, known := r.leases[key]
	r.mu.Unlock()
	if known {
		if known, err = r.renew(ctx, l.id); err != nil {
			return err
		}
	}
	if !known {
		if l, err = r.grant(ctx); err != nil {
			return err
		}
		// Before the key is written: if that has no answer, Deregister still ends the lease.
		r.mu.Lock()
		r.leases[key] = l
		r.mu.Unlock()
	}
	if l.value == string(value) {
		return nil
	}
	put := map[string]any{"key": []byte(key), "value": value, "lease": l.id}
	if err := r.call(ctx, "/v3/kv/put", put, nil); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	l.value = string(value)
	r.mu.Lock()
	r.leases[key] = l
	r.mu.Unlock()
	return nil
}

// maxListed bounds what List asks for.
const maxListed = 1000

// List returns the instances of a role in a namespace, at most a thousand. The user needs read access to PREFIX/.
func (r *Registry) List(ctx context.Context, namespace, role string) ([]registry.Instance, error) {
	from := r.Key(registry.Instance{Namespace: namespace, Role: role}) // ends with a slash
	to := from[:len(from)-1] + "0"                                     // what follows a slash
	var out struct {
		Kvs []struct {
			Key   []byte `json:"key"`
			Value []byte `json:"value"`
		} `json:"kvs"`
	}
	if err := r.call(ctx, "/v3/kv/range", map[string]any{"key": []byte(from), "range_end": []byte(to), "limit": maxListed}, &out); err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var all []registry.Instance
	for _, kv := range out.Kvs {
		var inst registry.Instance
		if err := json.Unmarshal(kv.Value, &inst); err != nil {
			return nil, fmt.Errorf("list instances: the value of %s is not an instance: %w", kv.Key, err)
		}
		all = append(all, inst)
	}
	return all, nil
}

func (r *Registry) grant(ctx context.Context) (lease, error) {
	var out struct {
		ID string `json:"ID"`
	}
	err := r.call(ctx, "/v3/lease/grant", map[string]any{"TTL": int64(r.cfg.TTL / time.Second)}, &out)
	if err == nil && out.ID == "" {
		err = errors.New("the answer has no ID")
	}
	if err != nil {
		return lease{}, fmt.Errorf("grant lease: %w", err)
	}
	return lease{id: out.ID}, nil
}

// renew reports whether the lease still exists.
func (r *Registry) renew(ctx context.Context, id string) (bool, error) {
	var out struct {
		Result struct {
			TTL string `json:"TTL"`
		} `json:"result"`
	}
	if err := r.call(ctx, "/v3/lease/keepalive", map[string]any{"ID": id}, &out); err != nil {
		return false, fmt.Errorf("renew lease: %w", err)
	}
	return out.Result.TTL != "" && out.Result.TTL != "0", nil
}

// Deregister implements registry.Registry: it revokes the lease, and the key ends with it.
func (r *Registry) Deregister(ctx context.Context, inst registry.Instance) error {
	key := r.Key(inst)
	r.mu.Lock()
	l, known := r.leases[key]
	delete(r.leases, key)
	r.mu.Unlock()
	if !known {
		return nil
	}
	if err := r.call(ctx, "/v3/lease/revoke", map[string]any{"ID": l.id}, nil); err != nil {
		return fmt.Errorf("revoke lease: %w", err)
	}
	return nil
}

// refusal is an answer that is not 200. Its text is etcd's own.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return fmt.Sprintf("etcd answered %d: %s", e.status, e.text) }

// call sends a request to the first member that answers. A token that etcd does not know any more is replaced once.
func (r *Registry) call(ctx context.Context, path string, in, out any) error {
	err := r.try(ctx, path, in, out)
	var no *refusal
	if r.cfg.Login == nil || !errors.As(err, &no) || no.status != http.StatusUnauthorized && no.status != http.StatusBadRequest {
		return err
	}
	// Without a token etcd answers 400 (user name is empty), with an old one 401.
	r.mu.Lock()
	r.token = ""
	r.mu.Unlock()
	if err := r.login(ctx); err != nil {
		return err
	}
	return r.try(ctx, path, in, out)
}

func (r *Registry) login(ctx context.Context) error {
	user, password, err := r.cfg.Login(ctx)
	if err != nil {
		return fmt.Errorf("get the login of etcd: %w", err)
	}
	var out struct {
		Token string `json:"token"`
	}
	if err := r.try(ctx, "/v3/auth/authenticate", map[string]any{"name": user, "password": password}, &out); err != nil {
		return fmt.Errorf("log in to etcd; check user and password: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.token = out.Token
	return nil
}

func (r *Registry) try(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	var errs []error
	for _, e := range r.cfg.Endpoints {
		err := r.post(ctx, strings.TrimSuffix(e, "/")+path, body, out)
		var no *refusal
		if err == nil || errors.As(err, &no) && no.status < http.StatusInternalServerError {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *Registry) post(ctx context.Context, to string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	r.mu.Lock()
	token := r.token
	r.mu.Unlock()
	if token != "" {
		req.Header.Set("Authorization", token)
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
		var problem struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(text, &problem) // the status says enough
		return &refusal{resp.StatusCode, problem.Error}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}
