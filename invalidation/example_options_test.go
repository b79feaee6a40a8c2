package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/invalidation"
)

// A tag makes every entry that carries it stale at once. The loader labels its entries; a service, or a dataset's cache.tags,
// states the tag.
func ExampleNode_Invalidate() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{
		Load: func(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
			l, err := s.load(ctx, key, from)
			l.Tags = []string{"team:1"}
			return l, err
		},
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = users.Get(ctx, "1")
	_, _ = users.Get(ctx, "2")
	tok, err := s.node.Invalidate(ctx, nil, []string{"team:1"})
	if err == nil {
		err = s.node.WaitFor(ctx, tok)
	}
	_, first := users.Peek("1")
	_, second := users.Peek("2")
	fmt.Println(first, second, err)
	// Output: false false <nil>
}

// StaleIfError serves an entry past its LocalTTL when the loader fails. An entry that was invalidated is never served.
func ExampleCacheConfig_staleIfError() {
	s := newExampleShop()
	defer s.close()
	down := false
	users := s.cache(invalidation.CacheConfig[string]{
		LocalOnly: true, LocalTTL: time.Nanosecond, StaleIfError: time.Minute,
		Load: func(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
			if down {
				return invalidation.Loaded[string]{}, errors.New("the database is away")
			}
			return s.load(ctx, key, from)
		},
	})
	name, err := users.Get(context.Background(), "1")
	fmt.Println(name, err)
	down = true
	name, err = users.Get(context.Background(), "1")
	fmt.Println(name, err)
	// Output:
	// Ada <nil>
	// Ada <nil>
}

// Cost bounds the local tier by what values occupy.
func ExampleCacheConfig_maxCost() {
	s := newExampleShop()
	defer s.close()
	users := s.cache(invalidation.CacheConfig[string]{
		MaxCost: 64 << 20,
		Cost:    func(key, value string) int64 { return int64(len(key) + len(value)) },
	})
	name, err := users.Get(context.Background(), "1")
	fmt.Println(name, err)
	// Output: Ada <nil>
}

// Options that exclude each other are refused, and the error states both.
func ExampleNewCache() {
	s := newExampleShop()
	defer s.close()
	_, err := invalidation.NewCache(s.node, invalidation.CacheConfig[string]{Dataset: "users", Load: s.load, LocalOnly: true, TTL: time.Minute})
	fmt.Println(errors.Is(err, invalidation.ErrConfig))
	// Output: true
}

// Before a worker has created the lanes, or while Redis is away, a node works all the same: its caches ask their loaders.
func ExampleJoin() {
	s := newExampleShop()
	defer s.close()
	datasets, err := loadUserDatasets()
	if err != nil {
		panic(err)
	}
	node, err := invalidation.Join(context.Background(), s.client, invalidation.Config{Namespace: "without-lanes", Datasets: datasets})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()
	users, err := invalidation.NewCache(node, invalidation.CacheConfig[string]{Dataset: "users", Load: s.load})
	if err != nil {
		fmt.Println(err)
		return
	}
	name, err := users.Get(context.Background(), "1")
	fmt.Println(name, err)
	// Output: Ada <nil>
}
