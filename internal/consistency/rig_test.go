package consistency_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	itemSchema = `{"type":"object","required":["id"],"properties":{"id":{"type":"string","minLength":1,"maxLength":64},"n":{"type":"integer"}}}`
	topic      = "freshet.items"
	source     = topic + "/dG9waWMtb25l/0"
	patience   = 60 * time.Second // for hangs only
)

// What the sampler asks for is what the replica and the reader give.
var (
	_ consistency.Replica = (*replica.Rows)(nil)
	_ consistency.Tiers   = (*consistency.Reader)(nil)
)

// rig is a replica table and a namespace of one lane, with both halves of a worker's work in the test's hands.
type rig struct {
	t       *testing.T
	set     *schemas.Datasets
	items   *schemas.Dataset
	db      *sql.DB
	replica *replica.DB
	rdb     *redis.Client
	ns      string
	emitter *invalidation.Emitter
	tiers   *consistency.Reader
	log     *logs

	mu     sync.Mutex // guards what follows
	root   string
	start  int64 // of the source in that root
	offset int64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	rs, my := testenv.Redis(t), testenv.MySQL(t)
	r := &rig{t: t, rdb: rs.Client(t), ns: rs.Namespace(t), log: &logs{}}
	var err error
	r.set, err = schemas.LoadDatasets(fstest.MapFS{
		"s.json":     {Data: []byte(itemSchema)},
		"items.yaml": {Data: []byte("dataset: items\nschema: s.json\nkey: [id]\nreplica: {table: items}\ncache: {key: \"item:{id}\"}\n")},
		"logs.yaml":  {Data: []byte("dataset: logs\nschema: s.json\nkey: [id]\nreplica: {table: logs}\n")},
	})
	r.must(err)
	r.items, _ = r.set.Get("items")
	dsn := my.NewDatabase(t)
	r.db = my.Open(t, dsn)
	mig, err := migrations.New(r.db, migrations.Config{NoLock: true})
	r.must(err)
	_, err = mig.Up(t.Context())
	r.must(err)
	_, err = tables.Migrate(t.Context(), r.db, r.set.All(), false)
	r.must(err)
	r.replica, err = replica.Open(t.Context(), replica.Config{MySQL: mysql.Config{DSN: dsn}})
	r.must(err)
	t.Cleanup(func() { r.must(r.replica.Close()) })
	r.exec("INSERT INTO freshet_topic (topic, topic_id, partitions) VALUES (?, ?, 1)", topic, "dG9waWMtb25l")
	r.exec("INSERT INTO freshet_position (source, grp, owner, next_offset) VALUES (?, 'g', '', 0)", source)
	r.emitter, err = invalidation.NewEmitter(r.rdb, invalidation.EmitterConfig{Namespace: r.ns})
	r.must(err)
	t.Cleanup(func() { r.must(r.emitter.Close()) })
	r.flush()
	r.tiers, err = consistency.NewReader(r.rdb, r.ns, 1)
	r.must(err)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) exec(text string, args ...any) {
	r.t.Helper()
	if _, err := r.db.ExecContext(context.WithoutCancel(r.t.Context()), text, args...); err != nil {
		r.t.Errorf("%s: %v", text, err)
	}
}

// flush makes the lane, or makes it again.
func (r *rig) flush() {
	r.t.Helper()
	st, err := r.emitter.State(r.t.Context(), 0, nil, nil)
	r.must(err)
	rep, err := r.emitter.Root(r.t.Context(), 0, lane.RootRequest{Expected: st.Root, Group: "g", Hashes: map[string]string{"items": r.items.CacheHash()}})
	r.must(err)
	r.mu.Lock()
	r.root, r.start = rep.Root, r.offset
	r.mu.Unlock()
}

// apply is the first half of a change: the row and the position, in one transaction.
func (r *rig) apply(key string, version int64) {
	r.t.Helper()
	tx, err := r.db.BeginTx(r.t.Context(), nil)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer func() { _ = tx.Rollback() }() // nothing after a commit
	_, err = tx.Exec("INSERT INTO items (id, n, _version, _deleted, _at) VALUES (?, ?, ?, 0, 0) ON DUPLICATE KEY UPDATE n = VALUES(n), _version = VALUES(_version)", key, version, version)
	if err == nil {
		_, err = tx.Exec("UPDATE freshet_position SET next_offset = next_offset + 1 WHERE source = ?", source)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		r.t.Errorf("apply: %v", err)
	}
}

// emit is the second half of everything that was applied: these names, and a watermark that reports that there were no others.
func (r *rig) emit(items ...lane.Item) {
	r.t.Helper()
	r.emitWith(nil, items...)
}

func (r *rig) emitWith(tags []string, items ...lane.Item) {
	r.t.Helper()
	ctx := context.WithoutCancel(r.t.Context())
	r.mu.Lock()
	defer r.mu.Unlock()
	var next int64
	if err := r.db.QueryRowContext(ctx, "SELECT next_offset FROM freshet_position WHERE source = ?", source).Scan(&next); err != nil {
		r.t.Error(err)
		return
	}
	to := max(r.offset, next-1)
	rep, err := r.emitter.Emit(ctx, 0, r.root, r.start, lane.Emission{Source: source, From: r.offset, To: to, Items: items, Tags: tags})
	if err != nil || rep.Status != lane.OK {
		r.t.Errorf("emit: %v, status %d", err, rep.Status)
	}
	r.offset = to + 1
	r.exec("UPDATE freshet_position SET next_offset = GREATEST(next_offset, ?) WHERE source = ?", r.offset, source)
}

func (r *rig) change(key string, version int64) {
	r.t.Helper()
	r.apply(key, version)
	r.emit(lane.Item{Key: "item:" + key, Version: version})
}

// plant puts a shared entry in its place by hand, as no protocol would.
func (r *rig) plant(key string, version int64, tags ...string) {
	r.t.Helper()
	k := lane.KeysOf(r.ns, 0)
	m, err := r.rdb.HMGet(r.t.Context(), k.Meta, "root", "seq").Result()
	r.must(err)
	text := strings.Join(tags, "\n")
	b := fmt.Sprintf("V %d %s %s 99999999999999 %d\n%s%d", version, m[0], m[1], len(text), text, version)
	r.must(r.rdb.Set(r.t.Context(), k.Value("item:"+key), b, time.Hour).Err())
}

func (r *rig) unplant(key string) {
	r.t.Helper()
	r.must(r.rdb.Del(r.t.Context(), lane.KeysOf(r.ns, 0).Value("item:"+key)).Err())
}

// Bounds of nodes that suit tests; alarm and confirm are well above.
const (
	maxStaleness = 400 * time.Millisecond
	alarm        = time.Second
)

// node joins with a cache whose loads read the replica.
func (r *rig) node(id string) (*invalidation.Node, *invalidation.Cache[int64]) {
	r.t.Helper()
	n, err := invalidation.Join(r.t.Context(), r.rdb, invalidation.Config{
		Namespace: r.ns, Datasets: r.set, ID: id, PollInterval: 100 * time.Millisecond, MaxStaleness: maxStaleness,
	})
	r.must(err)
	r.t.Cleanup(func() { r.must(n.Close()) })
	c, err := invalidation.NewCache(n, invalidation.CacheConfig[int64]{Dataset: "items", Load: func(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[int64], error) {
		row, err := r.replica.Rows.Get(ctx, r.items, key)
		return invalidation.Loaded[int64]{Value: row.Version, Version: row.Version, Found: row.Found, From: invalidation.Primary}, err
	}})
	r.must(err)
	return n, c
}

// holds waits until the cache serves that version from memory.
func (r *rig) holds(c *invalidation.Cache[int64], key string, version int64) {
	r.t.Helper()
	testenv.Eventually(r.t, patience, func(ctx context.Context) error {
		if _, err := c.Get(ctx, key); err != nil {
			return err
		}
		if l, ok := c.Peek(key); !ok || l.Version != version {
			return fmt.Errorf("holds version %d, %t; want %d", l.Version, ok, version)
		}
		return nil
	})
}

// sampler runs with windows that suit tests, unless cfg has its own.
func (r *rig) sampler(cfg consistency.Config) *consistency.Sampler {
	r.t.Helper()
	cfg.Datasets, cfg.Replica, cfg.Tiers, cfg.Logger = r.set, r.replica.Rows, r.tiers, slog.New(slog.NewTextHandler(r.log, nil))
	if cfg.Windows == nil {
		cfg.Windows = []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, alarm}
	}
	if cfg.Records == 0 {
		cfg.Records = 100
	}
	cfg.Interval, cfg.Alarm, cfg.Confirm = 20*time.Millisecond, alarm, alarm
	s, err := consistency.New(cfg)
	r.must(err)
	ctx, stop := context.WithCancel(r.t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	r.t.Cleanup(func() {
		stop()
		r.must(testenv.Await(r.t, done))
	})
	return s
}

// window finds the counts of a tier at the i-th window.
func window(t testing.TB, s report.Stats, tier string, i int) report.Window {
	t.Helper()
	for _, w := range s.Windows {
		if w.Tier != tier {
			continue
		}
		if i == 0 {
			return w
		}
		i--
	}
	t.Fatalf("no such window of %s: %+v", tier, s.Windows)
	return report.Window{}
}

// logs keeps what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
