package relay_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const within = 60 * time.Second

// bed is a source database with an outbox, and the topics of the datasets items and others.
type bed struct {
	t        *testing.T
	kafka    *testenv.KafkaServer
	mysql    *testenv.MySQLServer
	dsn      string
	db       *sql.DB
	datasets *schemas.Datasets
	topics   map[string]string // by dataset
	log      *slog.Logger
}

func newBed(t *testing.T) *bed {
	t.Helper()
	return newBedOn(t, testenv.Kafka(t), testenv.MySQL(t))
}

func newBedOn(t *testing.T, ks *testenv.KafkaServer, my *testenv.MySQLServer) *bed {
	t.Helper()
	b := &bed{t: t, kafka: ks, mysql: my, dsn: my.NewDatabase(t), topics: map[string]string{
		"items": ks.CreateTopic(t, 3), "others": ks.Topic(t),
	}}
	b.db = my.Open(t, b.dsn)
	for _, stmt := range outbox.DDL() {
		b.exec(stmt)
	}
	files := fstest.MapFS{"item.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"string","maxLength":100},"n":{"type":"integer"},"pad":{"type":"string"}}}`)}}
	for name, topic := range b.topics {
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "dataset: %s\ntopic: %s\nschema: item.json\nkey: [id]\nreplica: {table: %s}\n", name, topic, name)}
	}
	set, err := schemas.LoadDatasets(files)
	if err != nil {
		t.Fatal(err)
	}
	b.datasets = set
	b.log = slog.New(slog.NewTextHandler(&testLog{t: t}, nil))
	return b
}

// testLog writes to the test's log while the test runs.
type testLog struct {
	mu   sync.Mutex
	t    *testing.T
	over bool
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over && l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (b *bed) exec(text string, args ...any) sql.Result {
	b.t.Helper()
	res, err := b.db.ExecContext(b.t.Context(), text, args...)
	if err != nil {
		b.t.Fatalf("%s: %v", text, err)
	}
	return res
}

func (b *bed) number(query string, args ...any) int64 {
	b.t.Helper()
	var n int64
	if err := b.db.QueryRowContext(b.t.Context(), query, args...).Scan(&n); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// text is a query's one text.
func (b *bed) text(query string) string {
	b.t.Helper()
	var s string
	if err := b.db.QueryRowContext(b.t.Context(), query).Scan(&s); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
	return s
}

// enqueue inserts an upsert and returns its id.
func (b *bed) enqueue(dataset, key string, n int) int64 {
	b.t.Helper()
	id, err := b.exec("INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES (?, ?, 'upsert', ?)", dataset, key, itemData(key, n)).LastInsertId()
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func itemData(key string, n int) string { return fmt.Sprintf(`{"id":%q,"n":%d}`, key, n) }

// pool opens the source as the relay's functions want it.
func (b *bed) pool() *mysql.Pool {
	b.t.Helper()
	p, err := mysql.Open(b.t.Context(), mysql.Config{DSN: b.dsn})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.Close() })
	return p
}

// running is a relay that runs.
type running struct {
	*relay.Relay

	stop func() // and wait for its end
}

func (b *bed) relay(change ...func(*relay.Config)) *running {
	b.t.Helper()
	kafka, err := kafkalog.New(kafkalog.Config{Brokers: b.kafka.Brokers})
	if err != nil {
		b.t.Fatal(err)
	}
	cfg := relay.Config{MySQL: mysql.Config{DSN: b.dsn}, Kafka: kafka, Datasets: b.datasets, Lease: 2 * time.Second, Logger: b.log}
	for _, c := range change {
		c(&cfg)
	}
	r, err := relay.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			b.t.Errorf("relay: %v", err)
		}
	}()
	x := &running{Relay: r, stop: func() {
		cancel()
		testenv.Await(b.t, done)
		_ = kafka.Close()
	}}
	b.t.Cleanup(x.stop)
	return x
}

// event is a record of a topic.
type event struct {
	id, key, op string
	version     int64
	data        string
	time        time.Time
	offset      int64
	partition   int32
}

// consume reads a topic from its beginning. The function that it returns waits until at least n events are there.
func (b *bed) consume(topic string) func(n int) []event {
	b.t.Helper()
	c := b.kafka.Client(b.t, kgo.ConsumeTopics(topic))
	var all []event
	return func(n int) []event {
		b.t.Helper()
		ctx, cancel := context.WithTimeout(b.t.Context(), within)
		defer cancel()
		for len(all) < n {
			f := c.PollFetches(ctx)
			if ctx.Err() != nil {
				b.t.Fatalf("%d of %d events came", len(all), n)
			}
			f.EachRecord(func(r *kgo.Record) { all = append(all, read(b.t, r)) })
		}
		return all
	}
}

func read(t testing.TB, r *kgo.Record) event {
	t.Helper()
	e := event{key: string(r.Key), data: string(r.Value), time: r.Timestamp, offset: r.Offset, partition: r.Partition}
	for _, h := range r.Headers {
		switch h.Key {
		case "ce_id":
			e.id = string(h.Value)
		case "ce_type":
			e.op = string(h.Value)
		case "ce_sequence":
			v, err := strconv.ParseInt(string(h.Value), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			e.version = v
		}
	}
	return e
}

// eventually waits for a condition.
func (b *bed) eventually(what string, cond func() bool) {
	b.t.Helper()
	testenv.Eventually(b.t, within, func(context.Context) error {
		if !cond() {
			return fmt.Errorf("not yet: %s", what)
		}
		return nil
	})
}

// drained waits until the outbox has only its marker.
func (b *bed) drained() {
	b.t.Helper()
	b.eventually("the outbox is empty", func() bool {
		return b.number("SELECT COUNT(*) FROM freshet_outbox WHERE dataset <> ''") == 0
	})
}
