package worker_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is for hangs only: what is waited for takes a fraction of it on an idle machine.
const patience = 60 * time.Second

const itemSchema = `{"type":"object","required":["id"],"properties":{"id":{"type":"string","minLength":1,"maxLength":64},
	"name":{"type":"string","maxLength":40},"n":{"type":"integer"}}}`

// bed is a database, a namespace, two topics of one partition each, items and others, and workers in this process.
type bed struct {
	t        *testing.T
	kafka    *testenv.KafkaServer
	redis    *testenv.RedisServer
	mysql    *testenv.MySQLServer
	client   *kafkalog.Client
	producer *kgo.Client
	dsn      string
	db       *sql.DB
	rdb      *redis.Client
	ns       string
	group    string
	datasets *schemas.Datasets
	workers  int
	// losesNothing: rebuilds do not accept a loss; dryRun: they change nothing.
	losesNothing, dryRun bool
}

// servers are those of a bed; what is nil is shared.
type servers struct {
	kafka *testenv.KafkaServer
	redis *testenv.RedisServer
	mysql *testenv.MySQLServer
}

func newBed(t *testing.T, s servers) *bed {
	t.Helper()
	if s.kafka == nil {
		s.kafka = testenv.Kafka(t)
	}
	if s.redis == nil {
		s.redis = testenv.Redis(t)
	}
	if s.mysql == nil {
		s.mysql = testenv.MySQL(t)
	}
	b := &bed{t: t, kafka: s.kafka, redis: s.redis, mysql: s.mysql, dsn: s.mysql.NewDatabase(t), ns: s.redis.Namespace(t)}
	b.group = b.ns
	b.db, b.rdb = s.mysql.Open(t, b.dsn), s.redis.Client(t)
	b.producer = s.kafka.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	b.datasets = b.declare("")
	var err error
	if b.client, err = kafkalog.New(kafkalog.Config{Brokers: s.kafka.Brokers}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.client.Close() })
	for _, d := range b.datasets.All() {
		s.kafka.CreateTopicNamed(t, d.Topic, 1)
	}
	mig, err := migrations.New(b.db, migrations.Config{NoLock: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = mig.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.migrate(b.datasets)
	return b
}

// declare returns the datasets with another cache key of items, as a later release of a program might have it.
func (b *bed) declare(suffix string) *schemas.Datasets {
	b.t.Helper()
	topic := map[string]string{}
	for _, name := range []string{"items", "others"} {
		if b.datasets != nil {
			d, _ := b.datasets.Get(name)
			topic[name] = d.Topic
			continue
		}
		topic[name] = b.kafka.Topic(b.t)
	}
	yaml := func(name, suffix string) *fstest.MapFile {
		return &fstest.MapFile{Data: fmt.Appendf(nil, "dataset: %s\ntopic: %s\nschema: s.json\nkey: [id]\nreplica: {table: %s}\ncache: {key: \"%[1]s%[4]s:{id}\"}\n",
			name, topic[name], name, suffix)}
	}
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": yaml("items", suffix), "others.yaml": yaml("others", ""), "s.json": {Data: []byte(itemSchema)},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return set
}

func (b *bed) migrate(set *schemas.Datasets) {
	b.t.Helper()
	if ddl, err := tables.Migrate(b.t.Context(), b.db, set.All(), false); err != nil || len(ddl.Problems) > 0 {
		b.t.Fatalf("migrate datasets: %v, %v", err, ddl)
	}
}

func (b *bed) dataset(name string) *schemas.Dataset {
	d, ok := b.datasets.Get(name)
	if !ok {
		b.t.Fatalf("no dataset %s", name)
	}
	return d
}

// running is a Worker that runs until the test ends or stop is called.
type running struct {
	*worker.Worker

	replica *replica.DB
	// stop ends it and waits for it; kill does not wait: something may block it.
	stop, kill func()
}

// start runs a worker with small batches and short intervals; edit may change its configuration.
func (b *bed) start(edit func(*worker.Config, *replica.Config)) *running {
	b.t.Helper()
	b.workers++
	owner := fmt.Sprintf("w%d", b.workers)
	log := slog.New(slog.NewTextHandler(testLog{b.t}, &slog.HandlerOptions{Level: slog.LevelInfo})).With("worker", owner)
	emitter, err := invalidation.NewEmitter(b.rdb, invalidation.EmitterConfig{Namespace: b.ns, Logger: log})
	if err != nil {
		b.t.Fatal(err)
	}
	rc := replica.Config{MySQL: mysql.Config{DSN: b.dsn, LockWait: time.Second, Logger: log}, SessionTimeout: session}
	cfg := worker.Config{
		Group: b.group, Owner: owner, Datasets: b.datasets, Kafka: b.client, Emitter: emitter, Logger: log,
		Consumer: group.Config{
			SessionTimeout: session, Heartbeat: 200 * time.Millisecond, FetchWait: 50 * time.Millisecond, MaxRecords: 20,
			CommitInterval: 50 * time.Millisecond, WatchInterval: 300 * time.Millisecond,
		},
		CheckInterval: 100 * time.Millisecond, ProbeInterval: 100 * time.Millisecond,
	}
	if edit != nil {
		edit(&cfg, &rc)
	}
	db, err := replica.Open(b.t.Context(), rc)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := db.Prepare(b.t.Context(), cfg.Datasets.All()); err != nil {
		b.t.Fatal(err)
	}
	cfg.Replica, cfg.LaneLog, cfg.BindTo = db, db.Lanes(b.ns), b.ns
	w, err := worker.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := testenv.Await(b.t, done); err != nil {
			b.t.Errorf("Run: %v", err)
		}
		if err := errors.Join(emitter.Close(), db.Close()); err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	return &running{Worker: w, replica: db, stop: stop, kill: cancel}
}

// session is the group's session timeout here.
const session = 2 * time.Second

// testLog brings a worker's log into the test's.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// put publishes one upsert to partition 0 and returns its offset.
func (b *bed) put(dataset, key string, version int64) int64 {
	b.t.Helper()
	return b.putAt(0, dataset, key, version)
}

func (b *bed) putAt(partition int32, dataset, key string, version int64) int64 {
	b.t.Helper()
	data, err := json.Marshal(map[string]any{"id": key, "name": fmt.Sprint("v", version), "n": version})
	if err != nil {
		b.t.Fatal(err)
	}
	d := b.dataset(dataset)
	rec, err := d.Encode(&schemas.Event{ID: fmt.Sprint(key, version), Source: "//test", Dataset: dataset, Key: key, Op: schemas.Upsert, Version: version, Data: data})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.produce(d.Topic, partition, rec.Key, rec.Value, rec.Headers)
}

// putMany publishes version 1 of n records k0 …
func (b *bed) putMany(dataset string, n int) {
	b.t.Helper()
	for i := range n {
		b.put(dataset, fmt.Sprint("k", i), 1)
	}
}

// poison publishes bytes that no event is made of, under a record's key.
func (b *bed) poison(dataset, key string) int64 {
	b.t.Helper()
	return b.produce(b.dataset(dataset).Topic, 0, []byte(key), []byte("{"), nil)
}

func (b *bed) produce(topic string, partition int32, key, value []byte, headers []schemas.Header) int64 {
	b.t.Helper()
	r := &kgo.Record{Topic: topic, Partition: partition, Key: key, Value: value}
	for _, h := range headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	if err := b.producer.ProduceSync(b.t.Context(), r).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
	return r.Offset
}

func (b *bed) source(dataset string) string {
	b.t.Helper()
	info, err := b.client.Topic(b.t.Context(), b.dataset(dataset).Topic)
	if err != nil {
		b.t.Fatal(err)
	}
	return schemas.SourceName(info.Name, info.ID, 0)
}

// end is the offset behind the topic's last record.
func (b *bed) end(dataset string) int64 {
	b.t.Helper()
	o, err := b.client.Offsets(b.t.Context(), b.dataset(dataset).Topic)
	if err != nil {
		b.t.Fatal(err)
	}
	return o[0].HighWater
}

// committed is the group's offset, -1 without one.
func (b *bed) committed(ctx context.Context, dataset string) (int64, error) {
	topic := b.dataset(dataset).Topic
	got, err := b.client.CommittedOffsets(ctx, b.group, []string{topic})
	if err != nil {
		return 0, err
	}
	if at, ok := got[topic][0]; ok {
		return at, nil
	}
	return -1, nil
}

func (b *bed) next(ctx context.Context, dataset string) (next int64, err error) {
	err = b.db.QueryRowContext(ctx, "SELECT next_offset FROM freshet_position WHERE source = ?", b.source(dataset)).Scan(&next)
	return next, err
}

// awaitDone waits until everything that was published is applied, emitted and committed.
func (b *bed) awaitDone(dataset string) {
	b.t.Helper()
	end, source := b.end(dataset), b.source(dataset)
	testenv.Eventually(b.t, patience, func(ctx context.Context) error {
		next, err := b.next(ctx, dataset)
		if err != nil {
			return err
		}
		committed, err := b.committed(ctx, dataset)
		if err != nil {
			return err
		}
		wm, err := b.rdb.HGet(ctx, b.keys().Meta, "wm:"+source).Int64()
		if err != nil {
			return fmt.Errorf("read watermark: %w", err)
		}
		if next != end || committed != end || wm != end-1 {
			return fmt.Errorf("%s: the log ends at %d; next offset %d, committed %d, watermark %d", dataset, end, next, committed, wm)
		}
		return nil
	})
}

// awaitRow waits until a record has that version.
func (b *bed) awaitRow(dataset, key string, version int64) {
	b.t.Helper()
	testenv.Eventually(b.t, patience, func(ctx context.Context) error {
		got := b.version(ctx, dataset, key)
		if got != version {
			return fmt.Errorf("%s %s has version %d, want %d", dataset, key, got, version)
		}
		return nil
	})
}

// version is a row's version, 0 without a row.
func (b *bed) version(ctx context.Context, dataset, key string) (v int64) {
	err := b.db.QueryRowContext(ctx, "SELECT _version FROM "+dataset+" WHERE id = ?", key).Scan(&v)
	if err != nil && !errors.Is(err, sql.ErrNoRows) && ctx.Err() == nil {
		b.t.Error(err)
	}
	return v
}

func (b *bed) count(table string) (n int) {
	b.t.Helper()
	if err := b.db.QueryRowContext(b.t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bed) exec(stmt string, args ...any) {
	b.t.Helper()
	if _, err := b.db.ExecContext(b.t.Context(), stmt, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) keys() lane.Keys { return lane.KeysOf(b.ns, 0) }

func (b *bed) root() string {
	b.t.Helper()
	root, err := b.rdb.HGet(b.t.Context(), b.keys().Meta, "root").Result()
	if err != nil {
		b.t.Fatal(err)
	}
	return root
}

// hold puts a shared entry of a record into Redis, as a node's fill leaves it, and says later whether it is gone.
func (b *bed) hold(dataset, key string, version int64) (gone func() bool) {
	b.t.Helper()
	name, err := b.dataset(dataset).CacheKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	at := b.keys().Value(name)
	v := fmt.Sprintf("V %d %s 1 4102444800000 0\n{}", version, b.root())
	if err := b.rdb.Set(b.t.Context(), at, v, time.Hour).Err(); err != nil {
		b.t.Fatal(err)
	}
	return func() bool {
		n, err := b.rdb.Exists(context.WithoutCancel(b.t.Context()), at).Result()
		if err != nil {
			b.t.Error(err)
		}
		return n == 0
	}
}

// awaitStats waits until the worker's numbers are as ok wants them.
func awaitStats(t *testing.T, w *running, what string, ok func(worker.Stats) bool) {
	t.Helper()
	testenv.Eventually(t, patience, func(context.Context) error {
		if st := w.Stats(); !ok(st) {
			return fmt.Errorf("%s; stats %+v; not ready: %q", what, st, whys(w))
		}
		return nil
	})
}

// whys returns all reasons of readiness.
func whys(w *running) []string { return append(w.NotReady(), w.Degraded()...) }

// awaitReason waits until readiness returns a reason that contains every one of the texts.
func awaitReason(t *testing.T, w *running, texts ...string) {
	t.Helper()
	testenv.Eventually(t, patience, func(context.Context) error {
		for _, reason := range whys(w) {
			found := true
			for _, x := range texts {
				found = found && strings.Contains(reason, x)
			}
			if found {
				return nil
			}
		}
		return fmt.Errorf("no reason has %q: %q", texts, whys(w))
	})
}

func awaitReady(t *testing.T, w *running) {
	t.Helper()
	testenv.Eventually(t, patience, func(context.Context) error {
		if reasons := whys(w); len(reasons) > 0 {
			return fmt.Errorf("not ready: %q", reasons)
		}
		return nil
	})
}
