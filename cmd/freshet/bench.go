package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing/fstest"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/internal/config"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

func (p *program) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure Freshet against the limit of the servers it runs on",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s apply", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(p.benchApplyCommand())
	return cmd
}

// benchFlags are the size of a benchmark.
type benchFlags struct {
	events     int
	keys       int
	partitions int
	size       int
	noCache    bool
}

func (p *program) benchApplyCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Events per second through the worker, beside the bare guarded upsert on the same database",
		Long: "Publishes events to a topic of its own, lets a worker in this process carry them into a table of its own, and then writes the\n" +
			"same rows with the bare prepared statement, as many connections and rows a batch. Both are removed afterwards.\n" +
			"Use a database, a Redis and a Kafka that have nothing else to do.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			if f.events < 1 || f.partitions < 1 || f.size < 0 {
				return usageError{fmt.Errorf("events, partitions and size must be positive")}
			}
			return p.benchApply(cmd.Context(), l.Config, f, log)
		},
	}
	cmd.Flags().IntVar(&f.events, "events", 500_000, "events to publish")
	cmd.Flags().IntVar(&f.keys, "keys", 0, "distinct records, chosen with a skew; 0: every event its own")
	cmd.Flags().IntVar(&f.partitions, "partitions", 8, "partitions of the topic")
	cmd.Flags().IntVar(&f.size, "size", 200, "bytes of a row, about")
	cmd.Flags().BoolVar(&f.noCache, "no-cache", false, "a dataset without cache section: no invalidation")
	config.Bind(cmd.Flags(), "kafka", "mysql", "redis", "worker", "log")
	return cmd
}

// benchSet declares the one dataset of a benchmark under a name that nothing else has.
func benchSet(cached bool) (*schemas.Datasets, string, error) {
	var b [4]byte
	_, _ = rand.Read(b[:])
	name := "bench_" + hex.EncodeToString(b[:])
	cache := ""
	if cached {
		cache = "cache:\n  key: \"" + name + ":{id}\"\n"
	}
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"bench.yaml": {Data: []byte("dataset: " + name + "\ntopic: freshet." + name + "\nschema: bench.json\nkey: [id]\nreplica:\n  table: freshet_" + name + "\n" + cache)},
		"bench.json": {Data: []byte(`{"type":"object","required":["id","name","email","n","body"],"properties":{"id":{"type":"string","maxLength":32},
			"name":{"type":"string","maxLength":100},"email":{"type":"string","maxLength":100},"n":{"type":"integer"},"active":{"type":"boolean"},"body":{"type":"string","maxLength":60000}}}`)},
	})
	return set, name, err
}

// benchEvents makes the events in the order in which they are published: versions grow per record.
type benchEvents struct {
	dataset string
	flags   benchFlags
	body    string
	skew    func() int
	version map[int]int64
}

func newBenchEvents(dataset string, f benchFlags, skew func() int) *benchEvents {
	const rest = 110 // bytes of a row that are not the body
	return &benchEvents{dataset: dataset, flags: f, body: strings.Repeat("b", max(0, f.size-rest)), skew: skew, version: map[int]int64{}}
}

func (b *benchEvents) at(i int) schemas.Event {
	n := i
	v := int64(1)
	if b.flags.keys > 0 {
		n = b.skew()
		b.version[n]++
		v = b.version[n]
	}
	id := fmt.Sprintf("r%09d", n)
	data, _ := json.Marshal(map[string]any{
		"id": id, "name": "Name of " + id, "email": id + "@example.com", "n": i, "active": i%2 == 0, "body": b.body,
	})
	return schemas.Event{Dataset: b.dataset, Key: id, Op: schemas.Upsert, Version: v, Data: data}
}

// publishBench fills the topic and gives the rate.
func publishBench(ctx context.Context, c config.Config, set *schemas.Datasets, ev *benchEvents, log *slog.Logger) (float64, error) {
	p, err := producer.New(producer.Config{Brokers: c.Kafka.Brokers, Datasets: set, Source: "//freshet/bench", Logger: log})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	started := time.Now()
	failed := make(chan error, 1)
	for i := range ev.flags.events {
		err := p.PublishAsync(ctx, ev.at(i), func(_ schemas.Token, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		if err != nil {
			return 0, fmt.Errorf("publish: %w", err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	select {
	case err := <-failed:
		return 0, fmt.Errorf("publish: %w", err)
	default:
	}
	return float64(ev.flags.events) / time.Since(started).Seconds(), nil
}

func makeBenchTopic(ctx context.Context, kafka *kafkalog.Client, topic string, partitions int) (remove func(), err error) {
	if err := kafka.CreateTopics(ctx, []kafkalog.TopicSpec{{Name: topic, Partitions: partitions}}); err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		defer cancel()
		_ = kafka.DeleteTopics(ctx, []string{topic})
	}, nil
}
