package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/bench"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
)

func benchCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure Freshet against the limit of the servers it runs on",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s apply or latency", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(benchApplyCommand(p), benchLatencyCommand(p))
	return cmd
}

func benchApplyCommand(p *program) *cobra.Command {
	var f bench.ApplyConfig
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
			if f.Events < 1 || f.Partitions < 1 || f.Size < 0 {
				return usageError{errors.New("--events and --partitions must be at least 1, --size not negative")}
			}
			leanGC()
			r, err := bench.Apply(cmd.Context(), l.Config, f, log)
			return p.printBench(r, err)
		},
	}
	cmd.Flags().IntVar(&f.Events, "events", 500_000, "events to publish")
	cmd.Flags().IntVar(&f.Keys, "keys", 0, "distinct records, chosen with a skew; 0: every event its own")
	cmd.Flags().IntVar(&f.Partitions, "partitions", 8, "partitions of the topic")
	cmd.Flags().IntVar(&f.Size, "size", 200, "bytes of a row, about")
	cmd.Flags().BoolVar(&f.NoCache, "no-cache", false, "a dataset without cache section: no invalidation")
	config.Bind(cmd.Flags(), "kafka", "mysql", "redis", "worker", "log")
	return cmd
}

func benchLatencyCommand(p *program) *cobra.Command {
	var f bench.LatencyConfig
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "Time from publish until the row is visible and until every node dropped its entry, beside the same path by hand",
		Long: "Publishes at a rate, with caching nodes in this process. By hand means: produce, one upsert that commits by itself, one\n" +
			"PUBLISH to as many subscribers, one after the other for each event, many events at a time: no guarantees of any kind.\n" +
			"Each way first runs untimed for a while: a broker and a server that have just started would be measured otherwise.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			if f.Rate < 1 || f.Nodes < 1 || f.Records < 1 || f.Duration <= 0 || f.Warmup < 0 {
				return usageError{errors.New("--rate, --nodes, --records and --duration must be positive, --warmup must not be negative")}
			}
			r, err := bench.Latency(cmd.Context(), l.Config, f, log)
			return p.printBench(r, err)
		},
	}
	cmd.Flags().IntVar(&f.Rate, "rate", 1000, "events per second")
	cmd.Flags().IntVar(&f.Nodes, "nodes", 8, "caching nodes")
	cmd.Flags().DurationVar(&f.Duration, "duration", 10*time.Second, "how long each way is measured")
	cmd.Flags().DurationVar(&f.Warmup, "warmup", 5*time.Second, "how long each way runs before it is measured")
	cmd.Flags().IntVar(&f.Records, "records", 2000, "records that change in turn")
	config.Bind(cmd.Flags(), "kafka", "mysql", "redis", "worker", "log")
	return cmd
}

// printBench prints what a benchmark found, as JSON if that was asked for.
func (p *program) printBench(r interface{ Print(w io.Writer) }, err error) error {
	switch {
	case err != nil:
		return err
	case p.json:
		return p.printJSON(r)
	}
	r.Print(p.out)
	return nil
}
