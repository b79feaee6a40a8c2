package devstack_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// openReplica makes Freshet's tables and those of the shop, and opens the replica.
func openReplica(t *testing.T, s *devstack.Stack) (*replica.DB, *schemas.Datasets) {
	t.Helper()
	ctx := t.Context()
	connector, err := s.MySQL.Connector()
	if err != nil {
		t.Fatal(err)
	}
	m, err := replica.Open(ctx, replica.Config{MySQL: mysql.Config{Connector: connector, PlainSession: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close replica: %v", err)
		}
	})
	mig, err := migrations.New(m.SQL(), migrations.Config{NoLock: true})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := mig.Up(ctx)
	if err != nil {
		t.Fatalf("migrations: %v", err)
	}
	if len(steps) == 0 {
		t.Error("no migration ran on a fresh database")
	}
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tables.Migrate(ctx, m.SQL(), datasets.All(), false); err != nil {
		t.Fatalf("migrate datasets: %v", err)
	}
	again, err := tables.Plan(ctx, m.SQL(), datasets.All())
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Statements) != 0 || len(again.Problems) != 0 {
		t.Errorf("a second plan wants %d statements and has %d problems", len(again.Statements), len(again.Problems))
	}
	broken, err := m.Prepare(ctx, datasets.All())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Errorf("prepare: %v", b)
	}
	return m, datasets
}

// Freshet's migrations, DDL, fence and guarded writes work on the embedded server, also from several writers at once.
func TestReplicaOnTheStack(t *testing.T) {
	m, datasets := openReplica(t, start(t, devstack.Config{}))
	users, ok := datasets.Get("users")
	if !ok {
		t.Fatal("no dataset users")
	}
	ctx := t.Context()
	const sources, batches, records = 4, 6, 20
	var g errgroup.Group
	for s := range sources {
		g.Go(func() error { return apply(ctx, m, users, s, batches, records) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= records; id++ {
		row, err := m.Rows.Get(ctx, users, fmt.Sprint(id))
		if err != nil {
			t.Fatal(err)
		}
		want := int64(sources * batches)
		if !row.Found || row.Version != want || row.Deleted != (id%5 == 0) {
			t.Errorf("user %d: version %d, deleted %v; want %d, %v", id, row.Version, row.Deleted, want, id%5 == 0)
		}
	}
}

// apply takes a source and writes its share of the versions of every record, newest first.
func apply(ctx context.Context, m *replica.DB, users *schemas.Dataset, s, batches, records int) error {
	source := schemas.SourceName(users.Topic, "AAAAAAAAAAAAAAAAAAAAAA", int32(s))
	pos, err := m.Positions.Take(ctx, "group", "owner", 1, []replica.Claim{{Source: source}})
	if err != nil {
		return fmt.Errorf("take: %w", err)
	}
	for i := range batches {
		b := &replica.Batch{Source: source, Fence: pos[0].Fence, Next: int64((i + 1) * records)}
		for id := 1; id <= records; id++ {
			ev := schemas.Event{Dataset: "users", Key: fmt.Sprint(id), Op: schemas.Upsert, Version: int64((batches-i)*4 - s)}
			ev.Data = fmt.Appendf(nil, `{"id":%d,"email":"a@b","name":"v%d","updated_at":"2026-01-02T03:04:05.5Z"}`, id, ev.Version)
			if id%5 == 0 {
				ev.Op, ev.Data = schemas.Delete, nil
			}
			row, err := users.Check(&ev)
			if err != nil {
				return err
			}
			b.Changes = append(b.Changes, &replica.Change{
				Dataset: users, Values: row.Values, Deleted: ev.Op == schemas.Delete, Version: ev.Version, At: 1,
				Offset: int64(i*records + id - 1), Event: &ev, CacheKey: "user:" + ev.Key,
			})
		}
		if _, err := m.Apply(ctx, b); err != nil {
			return fmt.Errorf("apply batch %d: %w", i, err)
		}
	}
	return nil
}

// Kafka keeps topics, their ids and their records over a restart.
func TestKafkaSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	first := publish(t, dir, datasets, "1")
	second := publish(t, dir, datasets, "2")
	if len(first) != 1 || len(second) != 1 {
		t.Fatalf("tokens of %d and %d sources, want one each", len(first), len(second))
	}
	for source, off := range first {
		if got, ok := second[source]; !ok || got != off+1 {
			t.Errorf("after the restart the next record of %s has offset %d (%v), want %d", source, got, ok, off+1)
		}
	}
}

// publish runs a stack on dir for as long as it takes to append one event, and returns the event's token.
func publish(t *testing.T, dir string, datasets *schemas.Datasets, key string) map[string]int64 {
	t.Helper()
	s, err := devstack.Start(t.Context(), devstack.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	client, err := kafkalog.New(kafkalog.Config{Brokers: []string{s.Kafka}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if err := client.CreateTopics(ctx, []kafkalog.TopicSpec{{Name: "freshet.users"}}); err != nil {
		t.Fatal(err)
	}
	p, err := producer.New(producer.Config{Brokers: []string{s.Kafka}, Datasets: datasets, Source: "//test"})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := p.Publish(ctx, schemas.Event{
		Dataset: "users", Key: key, Op: schemas.Upsert, Version: 1, Data: []byte(`{"id":` + key + `,"email":"a@b","name":"n"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return tok.Offsets()
}
