package invalidation_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

func TestEmitterRefusesClients(t *testing.T) {
	closing := func(c redis.UniversalClient) redis.UniversalClient {
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	var none *redis.Client
	for name, c := range map[string]struct {
		rdb   redis.UniversalClient
		lanes int
		err   error // nil: any
		word  string
	}{
		"nil":       {nil, 0, nil, "no Redis client"},
		"typed nil": {none, 0, nil, "no Redis client"},
		"replicas":  {closing(redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, RouteRandomly: true})), 0, invalidation.ErrUnfit, "RouteRandomly"},
		"ring":      {closing(redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}, HeartbeatFn: func(context.Context, *redis.Client) bool { return true }})), 0, invalidation.ErrNotBuilt, "Ring"},
		"many":      {closing(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})), lane.MaxLanes + 1, nil, "above"},
		"negative":  {closing(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})), -1, nil, "negative"},
	} {
		_, err := invalidation.NewEmitter(c.rdb, invalidation.EmitterConfig{Namespace: "n", Lanes: c.lanes})
		if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	rdb := closing(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}))
	if _, err := invalidation.NewEmitter(rdb, invalidation.EmitterConfig{Namespace: "A"}); !errors.Is(err, lane.ErrNamespace) {
		t.Errorf("namespace: got %v", err)
	}
}

func TestEmitterCheck(t *testing.T) {
	srv := testenv.StartRedis(t, testenv.RedisOptions{})
	rdb := srv.Client(t)
	set := func(t *testing.T, name, value string) {
		t.Helper()
		if err := rdb.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: "check", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for policy, want := range map[string]struct {
		err  error
		warn bool
	}{
		"noeviction":     {nil, false},
		"volatile-ttl":   {nil, true},
		"volatile-lru":   {nil, true},
		"allkeys-lru":    {invalidation.ErrUnfit, false},
		"allkeys-random": {invalidation.ErrUnfit, false},
	} {
		log.Reset()
		set(t, "maxmemory-policy", policy)
		err := e.Check(t.Context())
		if !errors.Is(err, want.err) || strings.Contains(log.String(), policy) != want.warn {
			t.Errorf("%s: got %v, log %q", policy, err, log.String())
		}
		if err != nil && !strings.Contains(err.Error(), "noeviction") {
			t.Errorf("%s: no fix in %q", policy, err)
		}
	}
	skip := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: "check", SkipServerCheck: true})
	set(t, "maxmemory-policy", "allkeys-lru")
	if err := skip.Check(t.Context()); err != nil {
		t.Errorf("skipped: got %v", err)
	}
	set(t, "maxmemory-policy", "noeviction")
	if err := rdb.HSet(t.Context(), lane.KeysOf("check", 0).Meta, "root", "1", "lanes", "3").Err(); err != nil {
		t.Fatal(err)
	}
	if err := e.Check(t.Context()); !errors.Is(err, invalidation.ErrUnfit) || !strings.Contains(err.Error(), "3 lanes") {
		t.Errorf("another number of lanes: got %v", err)
	}
}

// TestEmitterCheckReplica: a replica is refused for now, and a master whose writes no replica must have is warned about.
func TestEmitterCheckReplica(t *testing.T) {
	master, replica := testenv.StartRedis(t, testenv.RedisOptions{}), testenv.StartRedis(t, testenv.RedisOptions{})
	host, port, _ := strings.Cut(master.Addr, ":")
	rdb := replica.Client(t)
	if err := rdb.Do(t.Context(), "REPLICAOF", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: "replica"})
	if err := e.Check(t.Context()); err == nil || errors.Is(err, invalidation.ErrUnfit) || !strings.Contains(err.Error(), "replica") {
		t.Errorf("replica: got %v", err)
	}
	var log strings.Builder
	m := newEmitter(t, master.Client(t), invalidation.EmitterConfig{Namespace: "replica", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	testenv.Eventually(t, waitLimit, func(ctx context.Context) error {
		if err := m.Check(ctx); err != nil {
			return err
		}
		if !strings.Contains(log.String(), "min-replicas-to-write") {
			return errors.New("no warning yet")
		}
		return nil
	})
	log.Reset()
	if err := master.Client(t).ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, waitLimit, m.Check) // the master learns within a second how far its replica is
	if strings.Contains(log.String(), "min-replicas") {
		t.Errorf("guarded master: log %q", log.String())
	}
}

// A user who may do what the documentation says can carry lanes and nodes; one who may do less is refused by the command.
func TestEmitterCheckUser(t *testing.T) {
	srv := testenv.StartRedis(t, testenv.RedisOptions{})
	owner := srv.Client(t)
	rules := strings.Fields("~{fr:* &{fr:* -@all +@read +@write +@connection +eval +evalsha +script|load +publish +subscribe +time -@dangerous -@admin +info")
	login := func(name string, less ...string) *redis.Client {
		t.Helper()
		args := []any{"ACL", "SETUSER", name, "on", ">secret", "resetkeys", "resetchannels"}
		for _, r := range append(slices.Clone(rules), less...) {
			args = append(args, r)
		}
		if err := owner.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		c := redis.NewClient(&redis.Options{Addr: srv.Addr, Username: name, Password: "secret"})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	var log strings.Builder
	good := login("good")
	e := newEmitter(t, good, invalidation.EmitterConfig{Namespace: "acl", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err := e.Check(t.Context()); err != nil || !strings.Contains(log.String(), "append-only file") {
		t.Errorf("a good user: %v, log %q", err, log.String())
	}
	r := newRigOn(t, good, "acl", 1)
	r.setRoot(nil)
	r.change("1")
	n := r.join(invalidation.Config{ID: "a"})
	c := r.cache(n)
	r.current(n)
	wantGet(t, c, "1", "1@1")
	r.change("1")
	r.current(n)
	wantGet(t, c, "1", "1@2")
	eventually(t, "the node is seen and answers", func() bool {
		all, err := invalidation.Nodes(t.Context(), good, "acl")
		got, askErr := invalidation.Ask(t.Context(), good, "acl", invalidation.Question{Names: []string{"user:1"}}, 1, time.Second)
		return err == nil && askErr == nil && len(all) == 1 && len(got) == 1 && len(got[0].Held) == 1
	})
	for word, less := range map[string]string{"XADD": "-xadd", "PUBLISH": "-publish", "UNLINK": "-unlink", "INFO": "-info", "EVAL": "-eval", "HSET": "resetkeys"} {
		err := newEmitter(t, login("no-"+word, less), invalidation.EmitterConfig{Namespace: "acl"}).Check(t.Context())
		if !errors.Is(err, invalidation.ErrUnfit) || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "ACL SETUSER") {
			t.Errorf("a user without %s: %v", word, err)
		}
	}
}

// Redis 6.2 refuses a whole ACL SETUSER for one word that it does not know, so the advice for every Redis has no such word.
func TestAdviceSuitsRedis62(t *testing.T) {
	srv := testenv.StartRedis(t, testenv.RedisOptions{})
	if err := srv.Client(t).Do(t.Context(), "ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-xadd").Err(); err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Addr: srv.Addr, Username: "poor", Password: "secret"})
	t.Cleanup(func() { _ = c.Close() })
	err := newEmitter(t, c, invalidation.EmitterConfig{Namespace: "acl"}).Check(t.Context())
	if err == nil {
		t.Fatal("a user without XADD is taken")
	}
	doc, readErr := os.ReadFile("../docs/scaling.md")
	if readErr != nil {
		t.Fatal(readErr)
	}
	for _, text := range []string{err.Error(), string(doc)} {
		_, advice, found := strings.Cut(text, "~{fr:* &{fr:*")
		advice, _, _ = strings.Cut(advice, "\n")
		advice, _, _ = strings.Cut(advice, ";")
		if !found || !strings.Contains(advice, "+publish") {
			t.Fatalf("no advice in %.200q", text)
		}
		for _, word := range []string{"spublish", "ssubscribe", "%R", "%W", "(", "cluster"} {
			if strings.Contains(advice, word) {
				t.Errorf("advice for every Redis has %q: %s", word, advice)
			}
		}
	}
}

// TestEmitterConnections: an Emitter's connections are its own, say who they are, and leave the caller's client alone.
func TestEmitterConnections(t *testing.T) {
	srv := testenv.StartRedis(t, testenv.RedisOptions{})
	rdb := redis.NewClient(&redis.Options{Addr: srv.Addr, DB: 3, MaxRetries: -1, ReadTimeout: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: "own"})
	newRoot(t, e)
	list, err := rdb.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for line := range strings.Lines(list) {
		if strings.Contains(line, "name=freshet-emit-") {
			found = strings.Contains(line, " db=3 ") && strings.Contains(line, "resp=2")
		}
	}
	if !found {
		t.Errorf("no connection of the emitter in\n%s", list)
	}
	if n, err := rdb.Exists(t.Context(), lane.KeysOf("own", 0).Meta).Result(); err != nil || n != 1 {
		t.Errorf("lane is not in the client's database: %d, %v", n, err)
	}
	if o := rdb.Options(); o.MaxRetries != 0 || o.ClientName != "" || o.ReadTimeout != 0 {
		t.Errorf("the caller's options changed: %d %q %v", o.MaxRetries, o.ClientName, o.ReadTimeout)
	}
}
