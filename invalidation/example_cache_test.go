package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// exampleShop is one process that caches, with what is elsewhere in production: Redis, a worker, and the database.
type exampleShop struct {
	redis  *miniredis.Miniredis
	client *redis.Client
	worker *invalidation.Emitter
	root   string
	offset int64
	node   *invalidation.Node
	rows   map[string]invalidation.Loaded[string] // the replica table
}

func newExampleShop() *exampleShop {
	s := &exampleShop{rows: map[string]invalidation.Loaded[string]{}}
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	s.redis, err = miniredis.Run()
	must(err)
	s.client = redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	datasets, err := loadUserDatasets()
	must(err)
	users, _ := datasets.Get("users")
	s.worker, err = invalidation.NewEmitter(s.client, invalidation.EmitterConfig{Namespace: "shop", SkipServerCheck: true})
	must(err)
	reply, err := s.worker.Root(context.Background(), 0, lane.RootRequest{Hashes: map[string]string{"users": users.CacheHash()}})
	must(err)
	s.root = reply.Root
	// Before the node joins: a message that arrives later would drop what an example has just cached.
	s.change("1", "Ada")
	s.change("2", "Grace")
	s.node, err = invalidation.Join(context.Background(), s.client, invalidation.Config{Namespace: "shop", Datasets: datasets, Publisher: s})
	must(err)
	return s
}

func (s *exampleShop) close() {
	_ = s.node.Close()
	_ = s.worker.Close()
	_ = s.client.Close()
	s.redis.Close()
}

// change writes a row and does what a worker does after the commit. The token stands for the change.
func (s *exampleShop) change(key, name string) schemas.Token {
	version := s.rows[key].Version + 1
	s.rows[key] = invalidation.Loaded[string]{Value: name, Version: version, Found: true}
	return s.emit([]lane.Item{{Key: "user:" + key, Version: version}}, nil)
}

func (s *exampleShop) emit(items []lane.Item, tags []string) schemas.Token {
	tok := schemas.NewToken(userSource, s.offset)
	em := lane.Emission{Source: userSource, From: s.offset, To: s.offset, Items: items, Tags: tags}
	if _, err := s.worker.Emit(context.Background(), 0, s.root, 0, em); err != nil {
		panic(err)
	}
	s.offset++
	return tok
}

// Invalidate is a producer's part: *producer.Producer sends the names through Kafka to a worker.
func (s *exampleShop) Invalidate(_ context.Context, _ string, names, tags []string) (schemas.Token, error) {
	var items []lane.Item
	for _, name := range names {
		items = append(items, lane.Item{Key: name})
	}
	return s.emit(items, tags), nil
}

// load is what a service writes: it reads one record, with its version.
func (s *exampleShop) load(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
	row := s.rows[key]
	row.From = from
	return row, nil
}

func (s *exampleShop) cache(cfg invalidation.CacheConfig[string]) *invalidation.Cache[string] {
	cfg.Dataset = "users"
	if cfg.Load == nil {
		cfg.Load = s.load
	}
	c, err := invalidation.NewCache(s.node, cfg)
	if err != nil {
		panic(err)
	}
	return c
}

// A record that does not exist is an error of its own, and is cached like any other.
func ExampleCache_Get() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{})
	name, err := users.Get(context.Background(), "1")
	fmt.Println(name, err)
	_, err = users.Get(context.Background(), "3")
	fmt.Println(errors.Is(err, invalidation.ErrNotFound))
	// Output:
	// Ada <nil>
	// true
}

// GetMany reads many records with one load. What does not exist is missing in the answer.
func ExampleCache_GetMany() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{
		LoadMany: func(_ context.Context, keys []string, from invalidation.Source) (map[string]invalidation.Loaded[string], error) {
			fmt.Println("one load of", len(keys))
			out := map[string]invalidation.Loaded[string]{}
			for _, key := range keys {
				if row, ok := s.rows[key]; ok {
					row.From = from
					out[key] = row
				}
			}
			return out, nil
		},
	})
	names, err := users.GetMany(context.Background(), []string{"1", "2", "3"})
	fmt.Println(names, err)
	// Output:
	// one load of 3
	// map[1:Ada 2:Grace] <nil>
}

// GetAtLeast waits until there is a version, for a caller that knows which one it wrote.
func ExampleCache_GetAtLeast() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.change("1", "Ada Lovelace")
	name, err := users.GetAtLeast(ctx, "1", 2)
	fmt.Println(name, err)
	// Output: Ada Lovelace <nil>
}

// GetWithin returns nothing that is older than its bound, whatever the node's MaxStaleness allows.
func ExampleCache_GetWithin() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{})
	name, err := users.GetWithin(context.Background(), "1", time.Second)
	fmt.Println(name, err)
	// Output: Ada <nil>
}

// Peek looks into this process's memory and loads nothing.
func ExampleCache_Peek() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{})
	_, held := users.Peek("1")
	fmt.Println(held)
	_, err := users.Get(context.Background(), "1")
	entry, held := users.Peek("1")
	fmt.Println(entry.Value, entry.Version, held, err)
	// Output:
	// false
	// Ada 1 true <nil>
}

// WaitFor makes a process read its own write, or that of another process which sent its token.
func ExampleNode_WaitFor() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = users.Get(ctx, "1")
	tok := s.change("1", "Ada Lovelace")
	fmt.Println(s.node.WaitFor(ctx, tok))
	name, err := users.Get(ctx, "1")
	fmt.Println(name, err)
	// Output:
	// <nil>
	// Ada Lovelace <nil>
}

// Invalidate makes entries stale for every node, without an event.
func ExampleCache_Invalidate() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = users.Get(ctx, "1")
	tok, err := users.Invalidate(ctx, "1")
	if err == nil {
		err = s.node.WaitFor(ctx, tok)
	}
	_, held := users.Peek("1")
	fmt.Println(held, err)
	// Output: false <nil>
}

// A cache of lookups has a derived template. A change of any record that has, or had, the name makes its entry stale.
func ExampleCacheConfig_derived() {
	s := newExampleShop()
	defer s.close()
	byName := s.cache(invalidation.CacheConfig[string]{
		Derived: "user:name:{name}",
		Load: func(_ context.Context, name string, from invalidation.Source) (invalidation.Loaded[string], error) {
			out := invalidation.Loaded[string]{From: from}
			for id, row := range s.rows {
				if row.Value == name {
					out.Value, out.Found = id, true
				}
			}
			return out, nil
		},
	})
	id, err := byName.Get(context.Background(), "Grace")
	fmt.Println(id, err)
	// Output: 2 <nil>
}

// LocalOnly caches in this process alone: entries still follow the lanes.
func ExampleCacheConfig_localOnly() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{LocalOnly: true, MaxEntries: 1000})
	name, err := users.Get(context.Background(), "2")
	fmt.Println(name, err)
	// Output: Grace <nil>
}

// OnLoad receives each call of a loader, for a histogram.
func ExampleCacheConfig_onLoad() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{OnLoad: func(l invalidation.LoadInfo) {
		fmt.Println(l.Dataset, l.Keys, l.Err)
	}})
	name, err := users.Get(context.Background(), "1")
	fmt.Println(name, err)
	// Output:
	// users 1 <nil>
	// Ada <nil>
}

// NotReady reports why a node serves nothing from its memory, for the readiness of the service around it.
func ExampleNode_NotReady() {
	s := newExampleShop()
	defer s.close()
	fmt.Println(len(s.node.NotReady()))
	_ = s.node.Close()
	fmt.Println(len(s.node.NotReady()) > 0)
	// Output:
	// 0
	// true
}
