package producer_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

const within = 20 * time.Second

func shopDatasets(t testing.TB) *schemas.Datasets {
	t.Helper()
	set, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(3, "freshet.users", "freshet.orders")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func open(t *testing.T, cfg producer.Config) *producer.Producer {
	t.Helper()
	cfg.Datasets = shopDatasets(t)
	if cfg.CloseTimeout == 0 {
		cfg.CloseTimeout = time.Millisecond
	}
	p, err := producer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func user(id int, version int64) schemas.Event {
	return schemas.Event{
		Dataset: "users", Key: fmt.Sprint(id), Op: schemas.Upsert, Version: version,
		Data: fmt.Appendf(nil, `{"id":%d,"email":"u%d@example.org","name":"User %d"}`, id, id, version),
	}
}

// read returns the events of a topic, as a worker decodes them, until there are n.
func read(t *testing.T, c *kfake.Cluster, dataset string, n int) []schemas.Event {
	t.Helper()
	d, ok := shopDatasets(t).Get(dataset)
	if !ok {
		t.Fatalf("no dataset %s", dataset)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(d.Topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var out []schemas.Event
	for len(out) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("%v: got %d events of %d", err, len(out), n)
		}
		for _, r := range fs.Records() {
			rec := schemas.Record{Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				rec.Headers = append(rec.Headers, schemas.Header{Key: h.Key, Value: h.Value})
			}
			evs, err := d.Decode(rec)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, evs...)
		}
	}
	return out
}

func TestPublish(t *testing.T) {
	c := cluster(t)
	p := open(t, producer.Config{Brokers: c.ListenAddrs(), Source: "//shop/db", Compression: "zstd"})
	committed := time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
	ev := user(42, 7)
	ev.Time = committed
	tok, err := p.Publish(t.Context(), ev, schemas.Event{Dataset: "users", Key: "43", Op: schemas.Delete, Version: 9})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]schemas.Event{}
	for _, ev := range read(t, c, "users", 2) {
		got[ev.Key] = ev
	}
	up, del := got["42"], got["43"]
	if up.Op != schemas.Upsert || up.Version != 7 || string(up.Data) != string(ev.Data) || !up.Time.Equal(committed) || up.Source != "//shop/db" {
		t.Errorf("upsert came as %+v", up)
	}
	if del.Op != schemas.Delete || del.Version != 9 {
		t.Errorf("delete came as %+v", del)
	}
	id, err := uuid.Parse(up.ID)
	if err != nil || id.Version() != 7 || up.ID == del.ID {
		t.Errorf("ids %q and %q, want two of UUID version 7", up.ID, del.ID)
	}
	info := c.TopicInfo("freshet.users")
	for source, offset := range tok.Offsets() {
		topic, topicID, part, err := schemas.ParseSource(source)
		if err != nil || topic != "freshet.users" || offset != c.PartitionInfo(topic, part).HighWatermark-1 {
			t.Errorf("token has %s → %d: %v", source, offset, err)
		}
		if want := base64.RawURLEncoding.EncodeToString(info.TopicID[:]); topicID != want {
			t.Errorf("topic id is %q, want the cluster's %q", topicID, want)
		}
	}
	if s := p.Stats(); s.Published != 2 || s.Buffered != 0 || s.Failed != 0 {
		t.Errorf("stats: %+v", s)
	}
}

func TestPublishNothing(t *testing.T) {
	c := cluster(t)
	p := open(t, producer.Config{Brokers: c.ListenAddrs()})
	if tok, err := p.Publish(t.Context()); err != nil || !tok.IsZero() {
		t.Errorf("got %v, %v", tok, err)
	}
}

func TestPublishRefusesAllOfThem(t *testing.T) {
	c := cluster(t)
	p := open(t, producer.Config{Brokers: c.ListenAddrs()})
	badMail := user(3, 1)
	badMail.Data = []byte(`{"id":3,"email":"secret nonsense","name":"x"}`)
	old := user(4, 0)
	stranger := schemas.Event{Dataset: "boats", Key: "1", Op: schemas.Upsert, Version: 1, Data: []byte(`{}`)}
	_, err := p.Publish(t.Context(), user(1, 1), badMail, user(2, 1), old, stranger)
	var pe *producer.PublishError
	if !errors.As(err, &pe) || pe.Sent || !errors.Is(err, schemas.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	want := []struct {
		index  int
		reason schemas.Reason
		field  string
	}{{1, schemas.ReasonSchema, "email"}, {3, schemas.ReasonVersion, "version"}, {4, schemas.ReasonDataset, "dataset"}}
	if len(pe.Events) != len(want) {
		t.Fatalf("got %d events in %v", len(pe.Events), err)
	}
	for i, w := range want {
		e := pe.Events[i]
		var fe *schemas.FieldError
		if !errors.As(e, &fe) || e.Index != w.index || fe.Reason != w.reason || !strings.Contains(fe.Field, w.field) {
			t.Errorf("got %v, want index %d, reason %s, field %s", e, w.index, w.reason, w.field)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error holds the value: %v", err)
	}
	for part := range int32(3) {
		if n := c.PartitionInfo("freshet.users", part).HighWatermark; n != 0 {
			t.Errorf("%d records were sent", n)
		}
	}
}

func TestPublishTooLarge(t *testing.T) {
	c := cluster(t)
	p := open(t, producer.Config{Brokers: c.ListenAddrs()})
	for pad, ok := range map[int]bool{999_000: true, 1_000_001: false} {
		ev := user(1, 1)
		ev.Data = fmt.Appendf(nil, `{"id":1,"email":"a@b","name":"x","preferences":{"p":"%s"}}`, strings.Repeat("p", pad))
		_, err := p.Publish(t.Context(), ev)
		if ok != (err == nil) {
			t.Errorf("%d bytes: got %v", pad, err)
		}
		if err != nil && (schemas.ReasonOf(err) != schemas.ReasonTooLarge || !strings.Contains(err.Error(), "1,000,000")) {
			t.Errorf("%d bytes: got %v, want a clear limit", pad, err)
		}
	}
}

func TestPublishKafkaAway(t *testing.T) {
	p := open(t, producer.Config{Brokers: []string{"127.0.0.1:1", "127.0.0.1:2"}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := p.Publish(ctx, user(1, 1))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, producer.ErrOutcomeUnknown) || !strings.Contains(err.Error(), "127.0.0.1:1,127.0.0.1:2") {
		t.Errorf("got %v, want the deadline and the brokers", err)
	}
}

func TestPublishKafkaGoesAway(t *testing.T) {
	c := cluster(t)
	p := open(t, producer.Config{Brokers: c.ListenAddrs()})
	if _, err := p.Publish(t.Context(), user(1, 1)); err != nil {
		t.Fatal(err)
	}
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "freshet.users", Err: kerr.NotEnoughReplicas, Count: -1})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	ev := user(1, 2)
	_, err := p.Publish(ctx, ev)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, producer.ErrOutcomeUnknown) ||
		!strings.Contains(err.Error(), c.ListenAddrs()[0]) || !strings.Contains(err.Error(), "Not Enough Replicas") {
		t.Errorf("got %v, want the deadline, the brokers and the trouble", err)
	}
	clear(ev.Data) // the caller may use its buffer again, although the event is still under way
	h.Remove()
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := read(t, c, "users", 2)
	if got[1].Version != 2 || !strings.Contains(string(got[1].Data), `"User 2"`) {
		t.Errorf("the event arrived as %+v", got[1])
	}
}

func TestPublishNoTopic(t *testing.T) {
	c := cluster(t)
	p := open(t, producer.Config{Brokers: c.ListenAddrs()})
	_, err := p.Publish(t.Context(), schemas.Event{Dataset: "products", Key: "A", Op: schemas.Delete, Version: 1})
	if !errors.Is(err, producer.ErrNoTopic) || !strings.Contains(err.Error(), "freshet.products") || !strings.Contains(err.Error(), "freshet migrate datasets") {
		t.Errorf("got %v, want the topic and what to do", err)
	}
}

// Some of the events of a Publish may fail; the token covers the others.
func TestPublishPartly(t *testing.T) {
	c := cluster(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "freshet.orders", Err: kerr.TopicAuthorizationFailed, Count: -1})
	p := open(t, producer.Config{Brokers: c.ListenAddrs()})
	tok, err := p.Publish(t.Context(), user(1, 1), schemas.Event{Dataset: "orders", Key: orderKey(t), Op: schemas.Delete, Version: 1})
	var pe *producer.PublishError
	if !errors.As(err, &pe) || !pe.Sent || len(pe.Events) != 1 || pe.Events[0].Index != 1 || !errors.Is(err, producer.ErrRefused) {
		t.Fatalf("got %v", err)
	}
	if n := len(tok.Offsets()); n != 1 {
		t.Errorf("token has %d sources, want 1", n)
	}
}

func orderKey(t *testing.T) string {
	t.Helper()
	d, ok := shopDatasets(t).Get("orders")
	if !ok {
		t.Fatal("no dataset orders")
	}
	values := make([]any, len(d.Key))
	for i, col := range d.Replica.Columns[:d.Replica.KeyColumns] {
		values[i] = int64(7)
		if col.Property.Kind == schemas.KindString {
			values[i] = "x"
		}
	}
	key, err := d.FormatKey(values...)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestPublishAsync(t *testing.T) {
	const users, versions = 10, 100
	c := cluster(t)
	p := open(t, producer.Config{Brokers: c.ListenAddrs(), MaxBufferedBytes: 20_000, Compression: "lz4"})
	var mu sync.Mutex
	var tok schemas.Token
	acked := 0
	buf := make([]byte, 0, 200)
	for v := range int64(versions) {
		for id := range users {
			ev := user(id+1, v+1)
			ev.Data = append(buf[:0], ev.Data...) // one buffer for all events
			err := p.PublishAsync(t.Context(), ev, func(tk schemas.Token, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				tok = tok.Merge(tk)
				acked++
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if acked != users*versions {
		t.Errorf("got %d outcomes, want %d", acked, users*versions)
	}
	next := map[string]int64{}
	for _, ev := range read(t, c, "users", users*versions) {
		if next[ev.Key]++; ev.Version != next[ev.Key] || !strings.Contains(string(ev.Data), fmt.Sprintf("User %d\"", ev.Version)) {
			t.Fatalf("record %s: got version %d, want %d, with its own data", ev.Key, ev.Version, next[ev.Key])
		}
	}
	for source, offset := range tok.Offsets() {
		_, _, part, err := schemas.ParseSource(source)
		if err != nil || offset != c.PartitionInfo("freshet.users", part).HighWatermark-1 {
			t.Errorf("token has %s → %d: %v", source, offset, err)
		}
	}
}

func TestPublishAsyncRefuses(t *testing.T) {
	c := cluster(t)
	p := open(t, producer.Config{Brokers: c.ListenAddrs()})
	done := func(schemas.Token, error) { t.Error("done was called") }
	err := p.PublishAsync(t.Context(), user(1, 0), done)
	var fe *schemas.FieldError
	if !errors.As(err, &fe) || fe.Field != "version" {
		t.Errorf("got %v, want the field", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.PublishAsync(t.Context(), user(1, 1), done); !errors.Is(err, producer.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestCloseReports(t *testing.T) {
	c := cluster(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "freshet.users", Err: kerr.NotEnoughReplicas, Count: -1})
	p := open(t, producer.Config{Brokers: c.ListenAddrs(), CloseTimeout: 20 * time.Millisecond})
	outcome := make(chan error, 1)
	if err := p.PublishAsync(t.Context(), user(1, 1), func(_ schemas.Token, err error) { outcome <- err }); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err == nil || !strings.Contains(err.Error(), "1 record") {
		t.Errorf("Close: got %v, want a count", err)
	}
	if err := <-outcome; !errors.Is(err, producer.ErrClosed) {
		t.Errorf("outcome: %v", err)
	}
}

const plainUser = `{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}`

func TestNewRefuses(t *testing.T) {
	shopSet := shopDatasets(t)
	for name, tc := range map[string]struct {
		cfg  producer.Config
		want string
	}{
		"brokers":     {producer.Config{Datasets: shopSet}, "brokers"},
		"address":     {producer.Config{Datasets: shopSet, Brokers: []string{"kafka"}}, "host:port"},
		"datasets":    {producer.Config{Brokers: []string{"a:1"}}, "Datasets"},
		"compression": {producer.Config{Datasets: shopSet, Brokers: []string{"a:1"}, Compression: "brotli"}, "brotli"},
		"timeout":     {producer.Config{Datasets: shopSet, Brokers: []string{"a:1"}, CloseTimeout: -1}, "CloseTimeout"},
		"delivery":    {producer.Config{Datasets: shopSet, Brokers: []string{"a:1"}, DeliveryTimeout: -1}, "DeliveryTimeout"},
	} {
		if _, err := producer.New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want it to name %s", name, err, tc.want)
		}
	}
}

func TestNewRefusesUnbuilt(t *testing.T) {
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"u.yaml": {Data: []byte("dataset: boats\nschema: u.json\nkey: [id]\non_data_loss: resync\nreplica: {table: boats}\n")},
		"u.json": {Data: []byte(plainUser)},
	})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := set.Get("boats")
	if len(d.Unbuilt()) == 0 {
		t.Skip("this release has all that the declaration asks for")
	}
	if _, err := producer.New(producer.Config{Brokers: []string{"a:1"}, Datasets: set}); err == nil || !strings.Contains(err.Error(), "boats") || !strings.Contains(err.Error(), "on_data_loss") {
		t.Errorf("got %v, want the dataset and the feature by name", err)
	}
}

// Topics that other tools write are not for publishers.
func TestPublishToForeignFormat(t *testing.T) {
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"u.yaml": {Data: []byte("dataset: boats\nformat: debezium\nschema: u.json\nkey: [id]\nreplica: {table: boats}\n")},
		"u.json": {Data: []byte(plainUser)},
	})
	if err != nil {
		t.Fatal(err)
	}
	check, err := producer.NewChecker(set, "")
	if err != nil {
		t.Skipf("this release has no such dataset: %v", err)
	}
	_, err = check.Check(schemas.Event{Dataset: "boats", Key: "1", Op: schemas.Delete, Version: 1})
	if schemas.ReasonOf(err) != schemas.ReasonDataset || !strings.Contains(err.Error(), "debezium") {
		t.Errorf("got %v, want a refusal that names the format", err)
	}
}
