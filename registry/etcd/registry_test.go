package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/registry"
	"github.com/freshet/freshet/registry/etcd"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is for hangs only.
const patience = 60 * time.Second

// server is an etcd and a client for it.
type server struct {
	*testenv.EtcdServer

	t      *testing.T
	client *http.Client
}

func start(t *testing.T) *server {
	t.Helper()
	return &server{EtcdServer: testenv.StartEtcd(t), t: t, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

func (s *server) await(key, part string) {
	s.t.Helper()
	s.AwaitKey(s.t, key, part)
}

func (s *server) registry(login func(context.Context) (string, string, error)) *etcd.Registry {
	s.t.Helper()
	// The first member does not answer.
	r, err := etcd.New(etcd.Config{Endpoints: []string{"http://127.0.0.1:1", s.Endpoint + "/"}, Prefix: "/apps/freshet/", TTL: 3 * time.Second, Login: login, Client: s.client})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// admin changes etcd's users and roles.
func (s *server) admin(path string, in map[string]any) {
	s.t.Helper()
	var out map[string]any
	if err := s.Call(s.t.Context(), path, in, &out); err != nil {
		s.t.Fatal(err)
	}
}

// secure makes the user root, and lets no one in without a login.
func (s *server) secure() {
	s.t.Helper()
	s.admin("/v3/auth/user/add", map[string]any{"name": "root", "password": "r"})
	s.admin("/v3/auth/user/grant", map[string]any{"user": "root", "role": "root"})
	s.admin("/v3/auth/enable", map[string]any{})
}

// login gets a token of root.
func (s *server) login() {
	s.t.Helper()
	var out struct {
		Token string `json:"token"`
	}
	s.Token = ""
	if err := s.Call(s.t.Context(), "/v3/auth/authenticate", map[string]any{"name": "root", "password": "r"}, &out); err != nil {
		s.t.Fatal(err)
	}
	s.Token = out.Token
}

func instance(status registry.Status) registry.Instance {
	return registry.Instance{ID: "w-1", Role: "worker", Namespace: "shop", Address: "w1:7788", Version: "v1.2.3", Status: status, Note: "private"}
}

const key = "/apps/freshet/shop/worker/w-1"

// keep runs a Keeper until the returned function is called, which waits for its end.
func keep(t *testing.T, r *etcd.Registry, status func() registry.Status) (*registry.Keeper, func()) {
	t.Helper()
	k, err := registry.New(registry.Config{Registry: r, Instance: func() registry.Instance { return instance(status()) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	end := func() {
		cancel()
		if err := testenv.Await(t, done); err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(end)
	return k, end
}

// A key tells the instance, follows its status, outlives a restart of etcd and the loss of its data, and ends with the process.
func TestKeyFollowsItsProcess(t *testing.T) {
	t.Parallel()
	s := start(t)
	var status atomic.Value
	status.Store(registry.Passing)
	k, end := keep(t, s.registry(nil), func() registry.Status { return status.Load().(registry.Status) })
	s.await(key, `{"id":"w-1","role":"worker","namespace":"shop","address":"w1:7788","version":"v1.2.3","status":"passing"}`)
	status.Store(registry.Warning)
	s.await(key, `"status":"warning"`)
	s.Kill(t)
	testenv.Eventually(t, patience, func(context.Context) error {
		if st := k.Stats(); st.Listed || st.Err == nil {
			return fmt.Errorf("stats: %+v", st)
		}
		return nil
	})
	s.Restart(t)
	s.await(key, `"status":"warning"`)
	s.RestartEmpty(t)
	s.await(key, `"status":"warning"`)
	end()
	s.await(key, "")
}

// A key that no one renews ends by itself.
func TestKeyEndsWithoutRenewal(t *testing.T) {
	t.Parallel()
	s := start(t)
	if err := s.registry(nil).Register(t.Context(), instance(registry.Passing)); err != nil {
		t.Fatal(err)
	}
	s.await(key, "passing")
	s.await(key, "")
}

// unanswered loses the answers of writes: etcd does what it was asked, and the client never learns it.
type unanswered struct{ http.RoundTripper }

func (u unanswered) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := u.RoundTripper.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "/v3/kv/put") {
		return nil, errors.Join(context.Canceled, resp.Body.Close())
	}
	return resp, err
}

// A process that ends while its first write has no answer does not stay listed for the rest of the TTL.
func TestKeyEndsAfterAWriteWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	s := start(t)
	r, err := etcd.New(etcd.Config{Endpoints: []string{s.Endpoint}, Prefix: "/apps/freshet", TTL: 48 * time.Hour, Client: &http.Client{Transport: unanswered{s.client.Transport}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Register(t.Context(), instance(registry.Passing)); !errors.Is(err, context.Canceled) {
		t.Fatalf("the write had an answer: %v", err)
	}
	s.await(key, "passing")
	if err := r.Deregister(t.Context(), instance(registry.Passing)); err != nil {
		t.Fatal(err)
	}
	s.await(key, "")
}

// An instance is found by those who look for its role, and by no others.
func TestList(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, r := t.Context(), s.registry(nil)
	list := func(namespace, role string, want ...registry.Instance) {
		t.Helper()
		got, err := r.List(ctx, namespace, role)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s of %s: %+v, %v; want %+v", role, namespace, got, err, want)
		}
	}
	list("shop", "worker")
	worker, relay := instance(registry.Warning), instance(registry.Passing)
	relay.Role = "relay"
	for _, i := range []registry.Instance{worker, relay} {
		if err := r.Register(ctx, i); err != nil {
			t.Fatal(err)
		}
	}
	worker.Note, relay.Note = "", "" // they are not for clients
	list("shop", "worker", worker)
	list("shop", "relay", relay)
	list("shop", "work")
	list("sho", "worker")
	s.Kill(t)
	if _, err := r.List(ctx, "shop", "worker"); err == nil {
		t.Error("an etcd that is away lists nothing without an error")
	}
}

// A token that ran out is replaced, as it does when a process writes nothing for a while.
func TestTokenRunsOut(t *testing.T) {
	t.Parallel()
	s := &server{EtcdServer: testenv.StartEtcd(t, "--auth-token-ttl", "1"), t: t, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	ctx := t.Context()
	s.secure()
	r := s.registry(func(context.Context) (string, string, error) { return "root", "r", nil })
	if err := r.Register(ctx, instance(registry.Passing)); err != nil {
		t.Fatal(err)
	}
	s.login()                                      // a token that is as old as that of the registry
	end := time.Now().Add(2500 * time.Millisecond) // each use would make it last longer
	testenv.Eventually(t, patience, func(context.Context) error {
		if left := time.Until(end); left > 0 {
			return fmt.Errorf("%s left", left)
		}
		return nil
	})
	var out map[string]any
	if err := s.Call(ctx, "/v3/kv/range", map[string]any{"key": []byte(key)}, &out); err == nil || !strings.Contains(err.Error(), "401") {
		t.Fatalf("the token did not run out: %v", err)
	}
	if err := r.Register(ctx, instance(registry.Warning)); err != nil {
		t.Fatal(err)
	}
	s.login()
	s.await(key, "warning")
}

// With authentication, the least rights are enough, and a new token is fetched when etcd forgot the old one.
func TestKeyWithLogin(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := t.Context()
	admin := s.admin
	admin("/v3/auth/user/add", map[string]any{"name": "freshet", "password": "s3cret"})
	admin("/v3/auth/role/add", map[string]any{"name": "apps"})
	admin("/v3/auth/role/grant", map[string]any{"name": "apps", "perm": map[string]any{"permType": "WRITE", "key": []byte("/apps/freshet/"), "range_end": []byte("/apps/freshet0")}})
	admin("/v3/auth/user/grant", map[string]any{"user": "freshet", "role": "apps"})
	s.secure()
	password := "wrong-0"
	r := s.registry(func(context.Context) (string, string, error) { return "freshet", password, nil })
	if err := r.Register(ctx, instance(registry.Passing)); err == nil || strings.Contains(err.Error(), password) || !strings.Contains(err.Error(), "check user and password") {
		t.Errorf("with a wrong password: %v", err)
	}
	password = "s3cret"
	if err := r.Register(ctx, instance(registry.Passing)); err != nil {
		t.Fatal(err)
	}
	s.login()
	s.await(key, "passing")
	s.Restart(t) // tokens are kept in memory
	if err := r.Register(ctx, instance(registry.Warning)); err != nil {
		t.Fatal(err)
	}
	s.login()
	s.await(key, "warning")
	other := instance(registry.Passing)
	elsewhere, err := etcd.New(etcd.Config{Endpoints: []string{s.Endpoint}, Prefix: "/other", Client: s.client, Login: func(context.Context) (string, string, error) { return "freshet", password, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Register(ctx, other); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("outside of its rights: %v", err)
	}
}

func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for _, cfg := range []etcd.Config{{}, {Endpoints: []string{"etcd-1:2379"}}, {Endpoints: []string{"http://a:b@etcd-1:2379"}}, {Endpoints: []string{"http://e:1"}, TTL: time.Second}} {
		if _, err := etcd.New(cfg); !errors.Is(err, registry.ErrConfig) || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
