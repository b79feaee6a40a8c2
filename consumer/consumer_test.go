package consumer_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is for hangs only.
const patience = 60 * time.Second

const (
	itemSchema = `{"type":"object","required":["id","name"],"properties":{"id":{"type":"string","minLength":1,"maxLength":64},"name":{"type":"string","maxLength":40}}}`
	itemYAML   = "dataset: items\ntopic: %s\nschema: items.json\nkey: [id]\nreplica: {table: items}\n"
	itemCache  = "cache: {key: \"item:{id}\"}\n"
)

// declare returns one dataset, items, that is cached if cache is not empty.
func declare(t *testing.T, topic, cache string) *schemas.Datasets {
	t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{"items.json": {Data: []byte(itemSchema)}, "items.yaml": {Data: fmt.Appendf(nil, itemYAML+cache, topic)}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// service is a program with a worker in it: its servers, its database with all tables, and the worker's configuration.
type service struct {
	t   *testing.T
	db  *sql.DB
	rdb *redis.Client
	cfg consumer.Config
}

func newService(t *testing.T) *service {
	t.Helper()
	kafka, my, rs := testenv.Kafka(t), testenv.MySQL(t), testenv.Redis(t)
	dsn, ns := my.NewDatabase(t), rs.Namespace(t)
	s := &service{t: t, db: my.Open(t, dsn), rdb: rs.Client(t)}
	s.cfg = consumer.Config{
		Datasets: declare(t, kafka.CreateTopic(t, 2), itemCache), Namespace: ns, Kafka: consumer.Kafka{Brokers: kafka.Brokers},
		MySQL: consumer.MySQL{DSN: dsn}, Redis: s.rdb, Version: "v1.2.3", Address: "127.0.0.1:80", SessionTimeout: 6 * time.Second,
	}
	kafka.CreateTopicNamed(t, schemas.InvalidationTopic(ns), 1)
	mig, err := migrations.New(s.db, migrations.Config{NoLock: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mig.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ddl, err := tables.Migrate(t.Context(), s.db, s.cfg.Datasets.All(), false); err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate datasets: %v, %v", err, ddl)
	}
	return s
}

// run runs a worker until stop is called, which returns what Run returned.
func (s *service) run() (w *consumer.Worker, stop func() error) {
	s.t.Helper()
	w, err := consumer.New(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	ended := false
	stop = func() error {
		cancel()
		ended = true
		return errors.Join(testenv.Await(s.t, done), w.Close())
	}
	s.t.Cleanup(func() {
		if !ended {
			_ = stop()
		}
	})
	return w, stop
}

func (s *service) producer() *producer.Producer {
	s.t.Helper()
	p, err := producer.New(producer.Config{Brokers: s.cfg.Kafka.Brokers, Datasets: s.cfg.Datasets})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = p.Close() })
	return p
}

// event is a version of the one item.
func event(version int64, name string) schemas.Event {
	return schemas.Event{Dataset: "items", Key: "a", Op: schemas.Upsert, Version: version, Data: fmt.Appendf(nil, `{"id":"a","name":%q}`, name)}
}

func (s *service) ready(w *consumer.Worker) {
	s.t.Helper()
	testenv.Eventually(s.t, patience, func(context.Context) error {
		if why := w.NotReady(); len(why) > 0 {
			return errors.New(strings.Join(why, "; "))
		}
		return nil
	})
}

// An embedded worker carries an event into MySQL and drops the entry that a node has in its memory.
func TestWorkerCarriesAnEventToEveryTier(t *testing.T) {
	s := newService(t)
	var problem atomic.Pointer[string]
	s.cfg.NotReady = func() []string {
		if p := problem.Load(); p != nil {
			return []string{*p}
		}
		return nil
	}
	w, stop := s.run()
	s.ready(w)
	node, err := invalidation.Join(t.Context(), s.rdb, invalidation.Config{Namespace: s.cfg.Namespace, Datasets: s.cfg.Datasets})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	var loads atomic.Int64
	items, err := invalidation.NewCache(node, invalidation.CacheConfig[string]{Dataset: "items", LocalOnly: true, Load: func(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[string], error) {
		loads.Add(1)
		l := invalidation.Loaded[string]{From: invalidation.Primary, Found: true}
		err := s.db.QueryRowContext(ctx, "SELECT name, _version FROM items WHERE id = ?", key).Scan(&l.Value, &l.Version)
		return l, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	pub := s.producer()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for version, name := range []string{"", "first", "second"} {
		if version == 0 {
			continue
		}
		tok, err := pub.Publish(ctx, event(int64(version), name))
		if err != nil {
			t.Fatal(err)
		}
		if err := node.WaitFor(ctx, tok); err != nil {
			t.Fatal(err)
		}
		if got, err := items.Get(ctx, "a"); err != nil || got != name {
			t.Errorf("version %d: got %q, %v", version, got, err)
		}
		testenv.Eventually(t, patience, func(ctx context.Context) error { // what is loaded while the lane gets its root is not kept
			before := loads.Load()
			got, err := items.Get(ctx, "a")
			if err == nil && (got != name || loads.Load() != before) {
				err = fmt.Errorf("version %d: got %q, which the node does not keep in its memory", version, got)
			}
			return err
		})
	}
	s.check(w)
	sentence := "the key of the service is unreadable"
	problem.Store(&sentence)
	if got := w.NotReady(); !slices.Equal(got, []string{sentence}) {
		t.Errorf("not ready: %q, want what the service says", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if why := strings.Join(w.NotReady(), ";"); !strings.Contains(why, "has ended") {
		t.Errorf("after the end: %q", why)
	}
	cancel()
	if err := w.Run(ctx); err == nil {
		t.Error("Run was called twice")
	}
}

// check looks at what a worker shows of itself after two events.
func (s *service) check(w *consumer.Worker) {
	s.t.Helper()
	st := w.Stats()
	if st.Work == nil || st.Work.Events != 2 || st.Work.Datasets["items"].Events != 2 || len(st.Work.Consumer.Partitions) != 3 || st.Consistency == nil || len(st.Waiting) > 0 {
		s.t.Errorf("stats: %+v", st)
	}
	testenv.Eventually(s.t, patience, func(ctx context.Context) error {
		var text []byte
		if err := s.db.QueryRowContext(ctx, "SELECT state FROM freshet_worker").Scan(&text); err != nil {
			return err
		}
		var got api.WorkerState
		if err := json.Unmarshal(text, &got); err != nil {
			return err
		}
		if got.Version != s.cfg.Version || got.Address != s.cfg.Address || got.Consistency == nil || len(got.Partitions) != 3 || len(got.Datasets) != 1 || got.Datasets[0].Events != 2 {
			return fmt.Errorf("announced %s", text)
		}
		return nil
	})
}

// A worker whose servers are away waits and says for what, or ends with the error if that is what it should do.
func TestWorkerWithoutServers(t *testing.T) {
	cfg := consumer.Config{
		Datasets: declare(t, "t", ""), Kafka: consumer.Kafka{Brokers: []string{"127.0.0.1:1"}}, MySQL: consumer.MySQL{DSN: "u:hunter2@tcp(127.0.0.1:1)/d"},
	}
	w, err := consumer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	testenv.Eventually(t, patience, func(context.Context) error {
		why, waits := strings.Join(w.NotReady(), ";"), w.Stats().Waiting
		if _, ok := waits["mysql: open the replica"]; !ok || !strings.Contains(why, "refused") {
			return fmt.Errorf("waits for %v: %s", waits, why)
		}
		return nil
	})
	cancel()
	if err := errors.Join(testenv.Await(t, done), w.Close()); err != nil {
		t.Errorf("after ctx has ended: %v", err)
	}
	cfg.FailFast = true
	if w, err = consumer.New(cfg); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel = context.WithTimeout(t.Context(), patience/4)
	defer cancel()
	if err := w.Run(ctx); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("FailFast: %v", err)
	}
}

// Entries of a dataset that is no longer cached must become stale, so a worker that cannot reach them does not run.
func TestWorkerNeedsRedisForLanesThatExist(t *testing.T) {
	s := newService(t)
	_, stop := s.run()
	if _, err := s.producer().Publish(t.Context(), event(1, "first")); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		var lanes int
		err := s.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM freshet_lane").Scan(&lanes)
		if err == nil && lanes == 0 {
			err = errors.New("the namespace has no lanes yet")
		}
		return err
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	d, _ := s.cfg.Datasets.Get("items")
	s.cfg.Datasets, s.cfg.Redis = declare(t, d.Topic, ""), nil
	w, err := consumer.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.Run(ctx); !errors.Is(err, consumer.ErrConfig) || !strings.Contains(err.Error(), "Redis is missing") {
		t.Errorf("got %v", err)
	}
}

func TestNewChecksItsConfiguration(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer rdb.Close()
	good := consumer.Config{
		Datasets: declare(t, "t", itemCache), Kafka: consumer.Kafka{Brokers: []string{"127.0.0.1:1"}}, MySQL: consumer.MySQL{DSN: "u:hunter2@tcp(127.0.0.1:1)/d"}, Redis: rdb,
	}
	for want, edit := range map[string]func(*consumer.Config){
		"":                              func(*consumer.Config) {},
		"Datasets is missing":           func(c *consumer.Config) { c.Datasets = nil },
		"Redis is missing":              func(c *consumer.Config) { c.Redis = nil },
		"namespace":                     func(c *consumer.Config) { c.Namespace = "Shop" },
		"brokers: none given":           func(c *consumer.Config) { c.Kafka.Brokers = nil },
		"Mechanism is missing":          func(c *consumer.Config) { c.Kafka.SASL.User = "u" },
		"MySQL.DSN is missing":          func(c *consumer.Config) { c.MySQL.DSN = "" },
		"multiStatements":               func(c *consumer.Config) { c.MySQL.DSN += "?multiStatements=true" },
		"MySQL.MaxConns is negative":    func(c *consumer.Config) { c.MySQL.MaxConns = -1 },
		"Writers is negative":           func(c *consumer.Config) { c.Writers = -1 },
		"above KeepDisplaced":           func(c *consumer.Config) { c.Window = 48 * time.Hour },
		"Records is 101; give 1 to 100": func(c *consumer.Config) { c.Samples = 101 },
		"Alarm is -1s":                  func(c *consumer.Config) { c.StaleAfter = -time.Second },
	} {
		c := good
		edit(&c)
		w, err := consumer.New(c)
		switch {
		case err == nil:
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if want != "" {
				t.Errorf("%q: it is taken", want)
			}
		case want == "" || !errors.Is(err, consumer.ErrConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%q: got %v", want, err)
		}
	}
}
