package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
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
			return usageError{fmt.Errorf("say what: %s apply, publish, latency or relay", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(benchApplyCommand(p), benchPublishCommand(p), benchLatencyCommand(p), benchRelayCommand(p), benchBackfillCommand(p))
	return cmd
}

func benchApplyCommand(p *program) *cobra.Command {
	var f bench.ApplyConfig
	var t bench.TurnConfig
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Events per second through the worker, beside a consumer written by hand and the bare guarded upsert",
		Long: "Publishes events to a topic of its own. Three consumers then take turns with the same events and the same batch sizes, each turn in\n" +
			"a process of its own: worker is Freshet's; hand is a consumer written with franz-go that polls, keeps each record's newest state, writes\n" +
			"guarded upserts on two connections and commits, without any check, fence, dead letter or invalidation; bare writes the same rows from\n" +
			"memory. hand and bare write a plain table. All of it is removed afterwards.\n" +
			"Workloads: mixed writes --records records in random order, about half of the events find a row; insert has a new record in each event;\n" +
			"update finds a row each time; skew has 20 events a record, most of them of a few records; delete deletes a row with each event; replay\n" +
			"delivers once more what is applied.\n" +
			"Use a database, a Redis and a Kafka that have nothing else to do.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			if err := checkApply(f); err != nil {
				return err
			}
			if t.Rig != "" {
				limitMemory(cmd.Context(), l.Config.Worker, log)
				m, err := bench.Turn(cmd.Context(), l.Config, f, t, log)
				if err != nil {
					return err
				}
				return p.printJSON(m)
			}
			f.Spawn = spawnTurn
			r, err := bench.Apply(cmd.Context(), l.Config, f, log)
			return p.printBench(r, err)
		},
	}
	cmd.Flags().StringVar(&f.Workload, "workload", "mixed", strings.Join(bench.Workloads(), ", "))
	cmd.Flags().IntVar(&f.Events, "events", 300_000, "events to publish")
	cmd.Flags().IntVar(&f.Records, "records", 200_000, "distinct records; insert, skew and delete have their own number")
	cmd.Flags().IntVar(&f.Partitions, "partitions", 8, "partitions of the topic")
	cmd.Flags().IntVar(&f.Size, "size", 290, "bytes of data in an event, about; at most 4000")
	cmd.Flags().IntVar(&f.Turns, "turns", 5, "turns of each consumer")
	cmd.Flags().StringSliceVar(&f.Consumers, "consumers", []string{bench.ConsumerWorker, bench.ConsumerHand, bench.ConsumerBare}, "which consumers take turns")
	cmd.Flags().BoolVar(&f.NoCache, "no-cache", false, "a dataset without cache section: no invalidation")
	cmd.Flags().StringVar(&f.Profiles, "profiles", "", "folder for a CPU and an allocation profile of each consumer's last turn, for go tool pprof")
	cmd.Flags().StringVar(&t.Rig, "rig", "", "")
	cmd.Flags().StringVar(&t.Consumer, "consumer", "", "")
	cmd.Flags().IntVar(&t.Turn, "turn", 0, "")
	cmd.Flags().StringVar(&t.Profiles, "profiles-of-turn", "", "")
	for _, inner := range []string{"rig", "consumer", "turn", "profiles-of-turn"} { // of the processes that run a turn
		_ = cmd.Flags().MarkHidden(inner)
	}
	config.Bind(cmd.Flags(), "kafka", "mysql", "redis", "worker", "log")
	return cmd
}

func checkApply(f bench.ApplyConfig) error {
	known := []string{bench.ConsumerWorker, bench.ConsumerHand, bench.ConsumerBare}
	switch {
	case f.Events < 1 || f.Records < 1 || f.Partitions < 1 || f.Turns < 1:
		return usageError{errors.New("--events, --records, --partitions and --turns must be at least 1")}
	case f.Size < 0 || f.Size > 4000:
		return usageError{errors.New("--size must be between 0 and 4000")}
	case !slices.Contains(bench.Workloads(), f.Workload):
		return usageError{fmt.Errorf("--workload %q is unknown; use %s", f.Workload, strings.Join(bench.Workloads(), ", "))}
	case len(f.Consumers) == 0:
		return usageError{errors.New("--consumers is empty; name some of " + strings.Join(known, ", "))}
	}
	for _, c := range f.Consumers {
		if !slices.Contains(known, c) {
			return usageError{fmt.Errorf("--consumers has %q; use %s", c, strings.Join(known, ", "))}
		}
	}
	return nil
}

// spawnTurn runs this command once more, as the process of one turn.
func spawnTurn(ctx context.Context, t bench.TurnConfig) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	inner := append(slices.Clone(os.Args[1:]), "--rig", t.Rig, "--consumer", t.Consumer, "--turn", strconv.Itoa(t.Turn), "--profiles-of-turn", t.Profiles)
	cmd := exec.CommandContext(ctx, self, inner...) //nolint:gosec // this program with the arguments that it was given
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run a process for the turn: %w", err)
	}
	return out, nil
}

func benchPublishCommand(p *program) *cobra.Command {
	var f bench.PublishConfig
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "What an event costs the service that publishes it, beside franz-go and kafka-go's Writer",
		Long: "Publishes the same events by three clients in turns, in this process, with the same linger, batches, compression and acknowledgements.\n" +
			"Freshet's producer checks each event against its schema and encodes it; \"encoded\" is the same producer without these two steps;\n" +
			"franz-go and kafka-go send records that were encoded before. kafka-go's Writer is not idempotent. Only Kafka is needed; the topic is removed afterwards.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			if f.Events < 1 || f.Partitions < 1 || f.Turns < 1 || f.Size < 0 || f.Size > 4000 {
				return usageError{errors.New("--events, --partitions and --turns must be at least 1, --size between 0 and 4000")}
			}
			r, err := bench.Publish(cmd.Context(), l.Config, f, log)
			return p.printBench(r, err)
		},
	}
	cmd.Flags().IntVar(&f.Events, "events", 500_000, "events of a turn")
	cmd.Flags().IntVar(&f.Partitions, "partitions", 8, "partitions of the topic")
	cmd.Flags().IntVar(&f.Size, "size", 290, "bytes of data in an event, about; at most 4000")
	cmd.Flags().IntVar(&f.Turns, "turns", 5, "turns of each client")
	cmd.Flags().StringVar(&f.Profiles, "profiles", "", "folder for a CPU and an allocation profile of each client's last turn, for go tool pprof")
	config.Bind(cmd.Flags(), "kafka", "producer", "log")
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
	cmd.Flags().BoolVar(&f.Outbox, "outbox", false, "change a row and enqueue its event in the database of relay.dsn, where a relay publishes it; nothing is measured by hand")
	config.Bind(cmd.Flags(), "kafka", "mysql", "redis", "worker", "relay", "log")
	return cmd
}

func benchRelayCommand(p *program) *cobra.Command {
	var f bench.RelayConfig
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "How fast a relay drains an outbox, and what it costs the writers of the same database",
		Long: "Fills an outbox in the database of relay.dsn and drains it with a relay in this process. Then writers change records, with one outbox row\n" +
			"in each transaction, in turns without and with a relay. The database must have no outbox; its tables and the topic are removed afterwards.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			if f.Rows < 1 || f.Partitions < 1 || f.Turns < 1 || f.Writers < 1 || f.Size < 0 || f.Size > 4000 || f.Duration <= 0 {
				return usageError{errors.New("--rows, --partitions, --turns, --writers and --duration must be positive, --size between 0 and 4000")}
			}
			r, err := bench.Relay(cmd.Context(), l.Config, f, log)
			return p.printBench(r, err)
		},
	}
	cmd.Flags().IntVar(&f.Rows, "rows", 1_000_000, "rows of the backlog")
	cmd.Flags().IntVar(&f.Size, "size", 290, "bytes of data in an event, about; at most 4000")
	cmd.Flags().IntVar(&f.Partitions, "partitions", 8, "partitions of the topic")
	cmd.Flags().IntVar(&f.Writers, "writers", 16, "connections that change records")
	cmd.Flags().DurationVar(&f.Duration, "duration", 10*time.Second, "length of each turn of the writers")
	cmd.Flags().IntVar(&f.Turns, "turns", 3, "turns of the writers with and without the relay")
	config.Bind(cmd.Flags(), "kafka", "producer", "relay", "log")
	return cmd
}

func benchBackfillCommand(p *program) *cobra.Command {
	var f bench.BackfillConfig
	cmd := &cobra.Command{
		Use:   "backfill",
		Short: "How fast existing rows are loaded while writers change them, and what it costs those writers",
		Long: "Fills a table in the database of relay.dsn, times writers that change its rows at a rate, and times them again while all rows are loaded\n" +
			"through the outbox and a relay publishes. The database must have no outbox; its tables and the topic are removed afterwards.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			if f.Rows < 1 || f.Partitions < 1 || f.Rate < 1 || f.Writers < 1 || f.Size < 0 || f.Size > 4000 || f.Duration <= 0 {
				return usageError{errors.New("--rows, --partitions, --rate, --writers and --duration must be positive, --size between 0 and 4000")}
			}
			r, err := bench.Backfill(cmd.Context(), l.Config, f, log)
			return p.printBench(r, err)
		},
	}
	cmd.Flags().IntVar(&f.Rows, "rows", 1_000_000, "rows of the source table")
	cmd.Flags().IntVar(&f.Size, "size", 290, "bytes of data in an event, about; at most 4000")
	cmd.Flags().IntVar(&f.Partitions, "partitions", 8, "partitions of the topic")
	cmd.Flags().IntVar(&f.Rate, "rate", 2000, "changes a second of the writers")
	cmd.Flags().IntVar(&f.Writers, "writers", 8, "connections that change records")
	cmd.Flags().DurationVar(&f.Duration, "duration", 10*time.Second, "how long the writers are timed alone")
	cmd.Flags().Float64Var(&f.Rest, "rest", 0, "as of freshet backfill; 0: its default")
	config.Bind(cmd.Flags(), "kafka", "producer", "relay", "log")
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
