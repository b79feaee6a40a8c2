package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/internal/livefile"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/invalidation"
	nodeprom "github.com/freshet/freshet/invalidation/prom"
	"github.com/freshet/freshet/producer"
	producerprom "github.com/freshet/freshet/producer/prom"
	"github.com/freshet/freshet/schemas"
)

// nowhere is an address where no server is: none is asked.
const nowhere = "127.0.0.1:1"

// exporter is a kind of process, or a package, with the collectors that it registers.
type exporter struct {
	title, text string
	collectors  []prometheus.Collector
}

// exporters lists all of them. What a collector shows of a snapshot decides what the page has, so the snapshots have everything.
func exporters(ctx context.Context) ([]exporter, error) {
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: []byte("dataset: items\ntopic: items\nschema: items.json\nkey: [id]\nreplica: {table: items}\ncache: {key: \"item:{id}\"}\n")},
		"items.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}`)},
	})
	if err != nil {
		return nil, fmt.Errorf("declare a dataset: %w", err)
	}
	kafka, err := kafkalog.New(kafkalog.Config{Brokers: []string{nowhere}})
	if err != nil {
		return nil, fmt.Errorf("make a Kafka client: %w", err)
	}
	api, err := admin.New(admin.Config{Datasets: set, Namespace: "default", Group: "freshet", Kafka: kafka}) //nolint:contextcheck // what it makes takes the contexts of requests
	if err != nil {
		return nil, fmt.Errorf("make an admin API: %w", err)
	}
	node, err := cachingNode(ctx, set)
	if err != nil {
		return nil, err
	}
	files, err := oneFile()
	if err != nil {
		return nil, err
	}
	pub, err := producer.New(producer.Config{Brokers: []string{nowhere}, Datasets: set})
	if err != nil {
		return nil, fmt.Errorf("make a producer: %w", err)
	}
	waits := func() map[string]time.Duration { return nil }
	ready := func() listener.Readiness { return listener.Readiness{} }
	return []exporter{
		{"Every process", "`freshet worker`, `freshet admin`, `freshet serve` and `freshet relay`. Beside these, each has the metrics of the Go runtime (`go_…`) and of the process (`process_…`).", []prometheus.Collector{
			telemetry.NewProcessCollector("v0.0.0"), telemetry.NewFilesCollector(files), telemetry.NewLogCollector(slog.New(slog.DiscardHandler)),
			telemetry.NewReadyCollector("worker", ready), telemetry.NewReadyCollector("admin", ready), telemetry.NewReadyCollector("relay", ready),
			telemetry.NewRegistryCollector("worker", nil), telemetry.NewRegistryCollector("admin", nil), telemetry.NewRegistryCollector("relay", nil),
		}},
		{"Workers", "`freshet worker` and `freshet serve`.", []prometheus.Collector{telemetry.NewWorkerCollector(work{}, set, "default")}},
		{"Admin API", "`freshet admin` and `freshet serve`. They show the metrics of a producer too, that of `POST /v1/events`.", []prometheus.Collector{
			telemetry.NewAdminCollector(members{api}), telemetry.NewWaitingCollector("admin", waits),
		}},
		{"Relays", "`freshet relay`.", []prometheus.Collector{telemetry.NewRelayCollector(func() relay.Stats { return relay.Stats{} }, set)}},
		{"Producers", "Services that register the collector of `producer/prom`; `freshet admin` and `freshet serve`.", []prometheus.Collector{producerprom.NewCollector(pub)}},
		{"Nodes and caches", "Services that register the collector of `invalidation/prom`.", []prometheus.Collector{nodeprom.NewCollector(node)}},
	}, nil
}

// oneFile is a set with one file.
func oneFile() (*livefile.Set, error) {
	set := &livefile.Set{}
	_, err := livefile.Open(set, "mysql.password_file", func([][]byte) (struct{}, error) { return struct{}{}, nil }, os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open a file: %w", err)
	}
	return set, nil
}

// cachingNode is a node whose Redis is away, with one cache.
func cachingNode(ctx context.Context, set *schemas.Datasets) (*invalidation.Node, error) {
	node, err := invalidation.Join(ctx, redis.NewClient(&redis.Options{Addr: nowhere, MaxRetries: -1}), invalidation.Config{
		Namespace: "default", Datasets: set, JoinWait: time.Millisecond,
	})
	if err != nil {
		return nil, fmt.Errorf("join a namespace: %w", err)
	}
	_, err = invalidation.NewCache(node, invalidation.CacheConfig[string]{
		Dataset: "items", Load: func(context.Context, string, invalidation.Source) (invalidation.Loaded[string], error) {
			return invalidation.Loaded[string]{}, nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make a cache: %w", err)
	}
	return node, nil
}

// work is a worker with one partition.
type work struct{}

func (work) Stats() consumer.Stats {
	return consumer.Stats{
		Work:        &consumer.WorkStats{Consumer: consumer.GroupStats{Partitions: []consumer.PartitionStats{{Partition: consumer.Partition{Topic: "items"}}}}},
		Consistency: &report.Stats{Windows: []report.Window{{Tier: report.TierShared}, {Tier: report.TierLocal}}},
	}
}

func (work) Measures() consumer.Measures { return consumer.Measures{Lanes: []time.Duration{0}} }

// members is an admin API without nodes.
type members struct{ *admin.Server }

func (members) Members(context.Context) admin.Members { return admin.Members{Counted: true} }
