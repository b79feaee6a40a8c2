package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/internal/config"
	"github.com/freshet/freshet/schemas"
)

func (p *program) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure Freshet against the limit of the servers it runs on",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s apply or latency", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(p.benchApplyCommand(), p.benchLatencyCommand())
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
				return usageError{errors.New("--events and --partitions must be at least 1, --size not negative")}
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

// benchEvents makes the events in the order in which they are published: versions grow per record.
type benchEvents struct {
	dataset string
	events  int
	body    string
	skew    *rand.Zipf // nil: every event is a record of its own
	version map[int]int64
}

func newBenchEvents(dataset string, f benchFlags) *benchEvents {
	const rest = 110 // bytes of a row that are not the body
	b := &benchEvents{dataset: dataset, events: f.events, body: strings.Repeat("b", max(0, f.size-rest)), version: map[int]int64{}}
	if f.keys > 0 {
		b.skew = rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 10, uint64(f.keys-1))
	}
	return b
}

func (b *benchEvents) at(i int) schemas.Event {
	n, v := i, int64(1)
	if b.skew != nil {
		n = int(b.skew.Uint64())
		b.version[n]++
		v = b.version[n]
	}
	id := fmt.Sprintf("r%09d", n)
	data, _ := json.Marshal(map[string]any{
		"id": id, "name": "Name of " + id, "email": id + "@example.com", "n": i, "active": i%2 == 0, "body": b.body,
	})
	return schemas.Event{Dataset: b.dataset, Key: id, Op: schemas.Upsert, Version: v, Data: data}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
