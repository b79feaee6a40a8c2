package invalidation_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

const userSource = "freshet.users/dG9waWMtb25l/0"

// pollInterval is that of nodes in tests.
const pollInterval = 100 * time.Millisecond

// rig is a namespace with its worker's half: a database, and an emitter that tells what changes in it.
type rig struct {
	t        testing.TB
	server   *testenv.RedisServer
	rdb      redis.UniversalClient
	ns       string
	lanes    int
	datasets *schemas.Datasets
	emitter  *invalidation.Emitter
	db       *database

	mu     sync.Mutex // guards what follows
	roots  []string   // by lane
	offset int64      // next offset of userSource
}

// newRig makes a namespace on server, or on the shared one for nil; its lane does not exist yet.
func newRig(t testing.TB, server *testenv.RedisServer) *rig {
	t.Helper()
	if server == nil {
		server = testenv.Redis(t)
	}
	r := newRigOn(t, server.Client(t), server.Namespace(t), 1)
	r.server = server
	return r
}

// newRigOn makes a namespace of several lanes behind any kind of client; no lane exists yet.
func newRigOn(t testing.TB, rdb redis.UniversalClient, ns string, lanes int) *rig {
	t.Helper()
	r := &rig{t: t, rdb: rdb, ns: ns, lanes: lanes, roots: make([]string, lanes), datasets: userDatasets(t), db: &database{}}
	r.db.primary, r.db.secondary = map[string]row{}, map[string]row{}
	e, err := invalidation.NewEmitter(r.rdb, invalidation.EmitterConfig{Namespace: r.ns, Lanes: lanes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, e.Close()) })
	r.emitter = e
	return r
}

// withLane also creates the lane.
func withLane(t testing.TB) *rig {
	t.Helper()
	r := newRig(t, nil)
	r.setRoot(nil)
	return r
}

func userDatasets(t testing.TB) *schemas.Datasets {
	t.Helper()
	d, err := loadUserDatasets()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func loadUserDatasets() (*schemas.Datasets, error) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return schemas.LoadDatasets(fstest.MapFS{
		"users.yaml": file("dataset: users\nschema: user.json\nkey: [id]\nreplica: {table: users}\ncache: {key: \"user:{id}\", derived: [\"user:name:{name}\"]}\n"),
		"logs.yaml":  file("dataset: logs\nschema: user.json\nkey: [id]\nreplica: {table: logs}\n"),
		"user.json":  file(`{"type":"object","properties":{"id":{"type":"string","maxLength":64},"name":{"type":"string","maxLength":64}},"required":["id"]}`),
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// setRoot creates the lane, or flushes it. hashes nil: what the datasets say.
func (r *rig) setRoot(hashes map[string]string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if hashes == nil {
		hashes = r.hashes()
	}
	for n := range r.lanes {
		r.setRootOf(n, hashes, 0)
	}
}

// hashes are those of the datasets' cache sections.
func (r *rig) hashes() map[string]string {
	d, _ := r.datasets.Get("users")
	return map[string]string{"users": d.CacheHash()}
}

// setRootOf creates or flushes one lane; the caller holds mu.
func (r *rig) setRootOf(n int, hashes map[string]string, hold time.Duration) {
	r.t.Helper()
	ctx := context.Background()
	st, err := r.emitter.State(ctx, n, nil, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	rep, err := r.emitter.Root(ctx, n, lane.RootRequest{Expected: st.Root, Group: "g", Hashes: hashes, HoldMillis: hold.Milliseconds()})
	if err != nil || rep.Status != lane.OK {
		r.t.Fatalf("set root: %v, status %d", err, rep.Status)
	}
	r.roots[n] = rep.Root
}

// emit reports one offset: each lane of its own keys, all lanes of the tags.
func (r *rig) emit(items []lane.Item, tags ...string) int64 {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range r.lanes {
		e := lane.Emission{Source: userSource, From: r.offset, To: r.offset, Tags: tags}
		for _, it := range items {
			if lane.Of(it.Key, r.lanes) == n {
				e.Items = append(e.Items, it)
			}
		}
		rep, err := r.emitter.Emit(context.Background(), n, r.roots[n], 0, e)
		if err != nil || rep.Status != lane.OK {
			r.t.Errorf("emit: %v, status %d", err, rep.Status)
		}
	}
	r.offset++
	return r.offset - 1
}

// change writes a new version of a user and tells.
func (r *rig) change(key string) row {
	r.t.Helper()
	v := r.db.change(key, false)
	r.emit([]lane.Item{{Key: "user:" + key, Version: v.version}})
	return v
}

func (r *rig) join(cfg invalidation.Config) *invalidation.Node {
	r.t.Helper()
	return r.joinBy(r.rdb, cfg)
}

// joinBy joins with intervals that suit tests, unless cfg has its own.
func (r *rig) joinBy(rdb redis.UniversalClient, cfg invalidation.Config) *invalidation.Node {
	r.t.Helper()
	cfg.Namespace, cfg.Lanes = r.ns, r.lanes
	return r.joinAs(rdb, cfg)
}

// joinAs is joinBy for a node that may believe something else of the namespace.
func (r *rig) joinAs(rdb redis.UniversalClient, cfg invalidation.Config) *invalidation.Node {
	r.t.Helper()
	cfg.Namespace, cfg.Lanes, cfg.Datasets = cmp.Or(cfg.Namespace, r.ns), cmp.Or(cfg.Lanes, r.lanes), r.datasets
	if cfg.PollInterval == 0 {
		cfg.PollInterval = pollInterval
	}
	n, err := invalidation.Join(r.t.Context(), rdb, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { check(r.t, n.Close()) })
	return n
}

func (r *rig) cache(n *invalidation.Node) *invalidation.Cache[string] {
	r.t.Helper()
	return r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load})
}

func (r *rig) cacheOf(n *invalidation.Node, cfg invalidation.CacheConfig[string]) *invalidation.Cache[string] {
	r.t.Helper()
	cfg.Dataset = "users"
	c, err := invalidation.NewCache(n, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// filled waits until no fill of c runs behind its answer any more.
func filled[V any](t testing.TB, c *invalidation.Cache[V]) {
	t.Helper()
	eventually(t, "fills behind their answers end", func() bool { return c.Stats().Filling == 0 })
}

// row is a record; its value tells its key and version.
type row struct {
	version int64
	value   string
	deleted bool
	tags    []string
}

// database is a primary and a secondary that sees only what was replicated to it.
type database struct {
	mu                 sync.Mutex
	primary, secondary map[string]row
	lagging            bool
	noVersions         bool
	loads              atomic.Int64
}

func (d *database) change(key string, deleted bool) row {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.primary[key].version + 1
	d.primary[key] = row{version: v, value: key + "@" + strconv.FormatInt(v, 10), deleted: deleted, tags: d.primary[key].tags}
	if !d.lagging {
		d.secondary[key] = d.primary[key]
	}
	return d.primary[key]
}

func (d *database) lag(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lagging = on
	if !on {
		d.secondary = maps.Clone(d.primary)
	}
}

func (d *database) read(key string, from invalidation.Source) invalidation.Loaded[string] {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := d.secondary
	if from == invalidation.Primary {
		rows = d.primary
	}
	v, ok := rows[key]
	l := invalidation.Loaded[string]{Value: v.value, Version: v.version, Found: ok && !v.deleted, Tags: v.tags, From: from}
	if d.noVersions {
		l.Version = 0
	}
	return l
}

func (d *database) load(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
	d.loads.Add(1)
	return d.read(key, from), nil
}

func get(t testing.TB, c *invalidation.Cache[string], key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // for hangs only
	defer cancel()
	v, err := c.Get(ctx, key)
	if err != nil {
		t.Errorf("Get: %v", err)
	}
	return v
}

func wantGet(t testing.TB, c *invalidation.Cache[string], key, want string) {
	t.Helper()
	if got := get(t, c, key); got != want {
		t.Errorf("Get gave %q, want %q", got, want)
	}
	filled(t, c)
}

// eventually wants cond within five seconds.
// patience is for hangs only: what is waited for takes a fraction of it on an idle machine.
const patience = 30 * time.Second

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	testenv.Eventually(t, patience, func(context.Context) error {
		if !cond() {
			return errors.New(what + ": not yet")
		}
		return nil
	})
}

// current waits until the node has seen each lane's newest entry.
func (r *rig) current(n *invalidation.Node) {
	r.t.Helper()
	for i := range r.lanes {
		testenv.Eventually(r.t, patience, func(ctx context.Context) error {
			want, err := r.rdb.HGet(ctx, lane.KeysOf(r.ns, i).Meta, "last").Result()
			if err != nil {
				return fmt.Errorf("read head of lane %d: %w", i, err)
			}
			if l := n.Stats().Lanes[i]; l.Last != want || !l.Fresh {
				return fmt.Errorf("lane %d ends at %s, the node is at %s, fresh %t", i, want, l.Last, l.Fresh)
			}
			return nil
		})
	}
}

// cable lets a test disturb a client's connections.
type cable struct {
	// deaf swallows what arrives on connections that subscribed, blind what arrives on the others; mute swallows everything.
	deaf, blind, mute atomic.Bool
	swallowed         atomic.Int64 // bytes
}

// client is one over the cable.
func (c *cable) client(t testing.TB, s *testenv.RedisServer) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if c.mute.Load() {
			<-ctx.Done()
			return nil, fmt.Errorf("dial: %w", ctx.Err())
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr)
		if err != nil {
			return nil, err
		}
		return &wire{Conn: conn, cable: c}, nil
	}})
	t.Cleanup(func() { check(t, rdb.Close()) })
	return rdb
}

type wire struct {
	net.Conn
	cable      *cable
	subscribed atomic.Bool
}

func (w *wire) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("subscribe")) {
		w.subscribed.Store(true)
	}
	return w.Conn.Write(p)
}

func (w *wire) swallows() bool {
	c := w.cable
	return c.mute.Load() || c.deaf.Load() && w.subscribed.Load() || c.blind.Load() && !w.subscribed.Load()
}

func (w *wire) Read(p []byte) (int, error) {
	for {
		n, err := w.Conn.Read(p)
		if err != nil || !w.swallows() {
			return n, err
		}
		w.cable.swallowed.Add(int64(n))
	}
}

// reemit reports every record again, as a worker does after a flush without hold.
func (r *rig) reemit() {
	r.t.Helper()
	var items []lane.Item
	r.db.mu.Lock()
	for k, v := range r.db.primary {
		items = append(items, lane.Item{Key: "user:" + k, Version: v.version})
	}
	r.db.mu.Unlock()
	r.emit(items)
}
