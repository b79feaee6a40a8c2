package shop_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The service of the README publishes, carries the change with a worker of its own, waits for its write and reads it.
func TestServiceOfTheReadme(t *testing.T) {
	kafka, rs, my := testenv.StartKafka(t, testenv.KafkaOptions{}), testenv.StartRedis(t, testenv.RedisOptions{}), testenv.MySQL(t)
	set, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range set.All() {
		kafka.CreateTopicNamed(t, d.Topic, 2)
	}
	kafka.CreateTopicNamed(t, schemas.InvalidationTopic("shop"), 1)
	dsn := my.NewDatabase(t)
	db := my.Open(t, dsn)
	mig, err := migrations.New(db, migrations.Config{NoLock: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mig.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ddl, err := tables.Migrate(t.Context(), db, set.All(), false); err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate datasets: %v, %v", err, ddl)
	}

	s := &shop.Service{Brokers: kafka.Brokers, Redis: rs.Client(t), DB: db, DSN: dsn}
	working, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Work(working) }()
	t.Cleanup(func() {
		stop()
		if err := testenv.Await(t, done); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tok, err := s.Publish(ctx, shop.Row{Version: 7, Body: []byte(`{"id":42,"name":"Ada","email":"ada@example.com"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if u, err := s.Read(ctx, tok); err != nil || u != (shop.User{Name: "Ada", Email: "ada@example.com"}) {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, err := db.ExecContext(ctx, "DELETE FROM users"); err != nil {
		t.Fatal(err)
	}
	if err := rs.Client(t).FlushAll(ctx).Err(); err != nil { // the shared entry too
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func(ctx context.Context) error {
		_, err := s.Read(ctx, schemas.Token{})
		if errors.Is(err, invalidation.ErrNotFound) {
			return nil
		}
		return errors.Join(errors.New("a missing row: want ErrNotFound"), err)
	})
}
