package prom_test

import (
	"context"
	"fmt"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/prom"
	"github.com/freshet/freshet/schemas"
)

// A node without Redis works all the same: its caches ask their loaders, and the metrics show it.
func ExampleNewCollector() {
	datasets, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: []byte("dataset: items\ntopic: items\nschema: items.json\nkey: [id]\nreplica: {table: items}\ncache: {key: \"item:{id}\"}\n")},
		"items.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}`)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer rdb.Close()
	node, err := invalidation.Join(context.Background(), rdb, invalidation.Config{Namespace: "shop", Datasets: datasets, JoinWait: time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()
	items, err := invalidation.NewCache(node, invalidation.CacheConfig[string]{
		Dataset: "items", Load: func(context.Context, string, invalidation.Source) (invalidation.Loaded[string], error) {
			return invalidation.Loaded[string]{Value: "a pen", Found: true, Version: 1}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(prom.NewCollector(node))
	if _, err := items.Get(context.Background(), "1"); err != nil {
		fmt.Println(err)
		return
	}
	families, err := reg.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range families {
		switch f.GetName() {
		case "freshet_cache_misses_total":
			fmt.Println(f.GetName(), f.GetMetric()[0].GetCounter().GetValue())
		case "freshet_cache_load_duration_seconds":
			fmt.Println(f.GetName(), f.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
	// Output:
	// freshet_cache_load_duration_seconds 1
	// freshet_cache_misses_total 1
}
