package invalidation_test

import (
	"context"
	"fmt"
	"testing/fstest"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// A node reads through a cache, and reads its own write after waiting for it. The worker's half, which makes the lane and
// emits, is played by an Emitter here.
func Example() {
	ctx := context.Background()
	redisServer, err := miniredis.Run()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer redisServer.Close()
	rdb := redis.NewClient(&redis.Options{Addr: redisServer.Addr()})
	defer rdb.Close()
	datasets, err := schemas.LoadDatasets(fstest.MapFS{
		"users.yaml": {Data: []byte("dataset: users\nschema: user.json\nkey: [id]\nreplica: {table: users}\ncache: {key: \"user:{id}\"}\n")},
		"user.json":  {Data: []byte(`{"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}`)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	users, _ := datasets.Get("users")
	worker, _ := invalidation.NewEmitter(rdb, invalidation.EmitterConfig{Namespace: "shop", SkipServerCheck: true})
	defer worker.Close()
	root, _ := worker.Root(ctx, 0, lane.RootRequest{Hashes: map[string]string{"users": users.CacheHash()}})

	node, err := invalidation.Join(ctx, rdb, invalidation.Config{Namespace: "shop", Datasets: datasets})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()
	name, version := "Ada", int64(1) // the database
	cache, err := invalidation.NewCache(node, invalidation.CacheConfig[string]{
		Dataset: "users",
		Load: func(_ context.Context, _ string, from invalidation.Source) (invalidation.Loaded[string], error) {
			return invalidation.Loaded[string]{Value: name, Version: version, Found: true, From: from}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		u, err := cache.Get(ctx, "42")
		fmt.Println(u, err)
	}

	name, version = "Grace", 2
	const source = "freshet.users/dG9waWM/0"
	_, err = worker.Emit(ctx, 0, root.Root, 0, lane.Emission{Source: source, Items: []lane.Item{{Key: "user:42", Version: 2}}})
	fmt.Println("told:", err)
	fmt.Println("waited:", node.WaitFor(ctx, schemas.NewToken(source, 0)))
	u, err := cache.Get(ctx, "42")
	fmt.Println(u, err)
	fmt.Println("loads:", cache.Stats().Loads)
	// Output:
	// Ada <nil>
	// Ada <nil>
	// Ada <nil>
	// told: <nil>
	// waited: <nil>
	// Grace <nil>
	// loads: 2
}
