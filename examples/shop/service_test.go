package shop_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The service of the README publishes, waits for its write and reads it. The worker between the two is played by the test.
func TestServiceOfTheReadme(t *testing.T) {
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "freshet.users"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	my := testenv.MySQL(t)
	db := my.Open(t, my.NewDatabase(t))
	exec := func(stmt string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE users (id BIGINT PRIMARY KEY, display_name VARCHAR(200), email VARCHAR(254), _version BIGINT NOT NULL, _deleted TINYINT NOT NULL)")
	exec("INSERT INTO users VALUES (42, 'Ada', 'ada@example.com', 7, 0)")

	s := &shop.Service{Brokers: kafka.ListenAddrs(), Redis: rdb, DB: db}
	tok, err := s.Publish(t.Context(), shop.Row{Version: 7, Body: []byte(`{"id":42,"name":"Ada","email":"ada@example.com"}`)})
	if err != nil {
		t.Fatal(err)
	}
	sources := slices.Collect(maps.Keys(tok.Offsets()))
	if len(sources) != 1 {
		t.Fatalf("the token has sources %v, want one", sources)
	}
	set, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]string{}
	for _, d := range set.All() {
		hashes[d.Name] = d.CacheHash()
	}
	worker, err := invalidation.NewEmitter(rdb, invalidation.EmitterConfig{Namespace: "shop", SkipServerCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close()
	root, err := worker.Root(t.Context(), 0, lane.RootRequest{Hashes: hashes})
	if err != nil {
		t.Fatal(err)
	}
	emission := lane.Emission{Source: sources[0], Items: []lane.Item{{Key: "user:42", Version: 7}}}
	if _, err := worker.Emit(t.Context(), 0, root.Root, 0, emission); err != nil {
		t.Fatal(err)
	}
	if u, err := s.Read(t.Context(), tok); err != nil || u != (shop.User{Name: "Ada", Email: "ada@example.com"}) {
		t.Errorf("got %+v, %v", u, err)
	}
	exec("DELETE FROM users")
	if err := rdb.FlushAll(t.Context()).Err(); err != nil { // the shared entry too
		t.Fatal(err)
	}
	if _, err := worker.Root(t.Context(), 0, lane.RootRequest{Hashes: hashes}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(t.Context(), schemas.Token{}); !errors.Is(err, invalidation.ErrNotFound) {
		t.Errorf("a missing row: %v, want ErrNotFound", err)
	}
}
