package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/schemas"
)

func partitionsCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "partitions",
		Short: "Let partitions continue that wait for a decision",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s restart or accept", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(partitionsRestart(p), partitionsAccept(p))
	return cmd
}

// restartReport is what partitions restart prints with --json.
type restartReport struct {
	Source string `json:"source"`
	// Next is the position in the replica, First and Last are the bounds of the log.
	Next  int64 `json:"next_offset"`
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	At    int64 `json:"at"`
}

// withReplica makes a command of one that needs the replica and Kafka, and has one argument.
func (p *program) withReplica(run func(ctx context.Context, db *replica.DB, kafka *kafkalog.Client, name string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, a []string) error {
		l, log, err := p.load(cmd)
		if err != nil {
			return err
		}
		db, err := connect.Replica(cmd.Context(), l.Config, log)
		if err != nil {
			return err
		}
		defer db.Close()
		kafka, err := connect.Kafka(l.Config, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer kafka.Close()
		return run(cmd.Context(), db, kafka, a[0])
	}
}

func partitionsRestart(p *program) *cobra.Command {
	var at, who string
	cmd := &cobra.Command{
		Use:   "restart TOPIC/PARTITION",
		Short: "Say where a partition continues whose records were lost, or whose next batch cannot be read",
		Long: "A partition is stopped, and readiness says so, when Kafka deleted records that were never read, when the log was cut\n" +
			"behind what was read, or when a batch cannot be read. First publish again from the source what may be missing: what the\n" +
			"lost records said is in no replica. Then this command notes where to continue; the worker that owns the partition flushes\n" +
			"every lane and continues there within seconds. A partition that is not stopped is left alone, and the exit code is 1.",
		Args: args(cobra.ExactArgs(1)),
	}
	cmd.RunE = p.withReplica(func(ctx context.Context, db *replica.DB, kafka *kafkalog.Client, name string) error {
		r, err := findRestart(ctx, kafka, db, name, at)
		if err != nil {
			return err
		}
		if r.Next >= r.First { // else records are lost, whatever a worker said last
			workers, err := roster.Workers(ctx, db.SQL())
			if err != nil {
				return err
			}
			if owner, ok := flowing(workers, name); ok {
				return fmt.Errorf("%s is not stopped: worker %s reads it and said so %.0f s ago, so nothing was changed; if readiness names the partition, try again in a few seconds", name, owner.Owner, owner.Seconds)
			}
		}
		if err := db.Restarts.Note(ctx, r.Source, r.At, cmp.Or(who, whoami())); err != nil {
			return err
		}
		if p.json {
			return p.printJSON(r)
		}
		fmt.Fprintf(p.out, "%s stands at offset %d and the log has %d to %d; if it is stopped, it continues at %d as soon as its worker sees this\n", name, r.Next, r.First, r.Last, r.At)
		return nil
	})
	config.Bind(cmd.Flags(), "kafka", "mysql", "log")
	cmd.Flags().StringVar(&at, "at", "", "where: first (the oldest record that Kafka has), last (what comes next), or an offset")
	cmd.Flags().StringVar(&who, "who", "", "who decides it; empty: user and host")
	return cmd
}

// flowing returns the live worker that has a partition and is not stopped there; ok is false where there is none, or another one says
// that it is stopped.
func flowing(workers []api.WorkerState, name string) (owner api.WorkerState, ok bool) {
	for _, w := range workers {
		for _, p := range w.Partitions {
			switch {
			case !w.Alive || fmt.Sprintf("%s/%d", p.Topic, p.Partition) != name:
			case p.Stopped:
				return owner, false
			default:
				owner, ok = w, true
			}
		}
	}
	return owner, ok
}

// findRestart learns where the partition stands and where it shall continue.
func findRestart(ctx context.Context, kafka *kafkalog.Client, db *replica.DB, name, at string) (r restartReport, err error) {
	topic, number, ok := strings.Cut(name, "/")
	id, perr := strconv.ParseInt(number, 10, 32)
	if !ok || perr != nil {
		return r, usageError{fmt.Errorf("%q is not a partition; name it TOPIC/NUMBER, as readiness does", name)}
	}
	info, err := kafka.Topic(ctx, topic)
	if err != nil {
		return r, fmt.Errorf("look for topic %s: %w", topic, err)
	}
	offsets, err := kafka.Offsets(ctx, topic)
	if err != nil {
		return r, err
	}
	o, ok := offsets[int32(id)]
	if !ok {
		return r, usageError{fmt.Errorf("topic %s has no partition %d; it has %d", topic, id, info.Partitions)}
	}
	r = restartReport{Source: schemas.SourceName(topic, info.ID, int32(id)), First: o.First, Last: o.HighWater}
	if r.Next, err = db.Positions.Next(ctx, r.Source); err != nil {
		return r, err
	}
	if r.Next < 0 {
		return r, usageError{fmt.Errorf("no worker has read %s; name the partition as readiness does: with cdc.table, TOPIC#DATASET/NUMBER", name)}
	}
	switch at {
	case "":
		return r, usageError{errors.New("say where: --at first, --at last or --at OFFSET")}
	case "first":
		r.At = o.First
	case "last":
		r.At = o.HighWater
	default:
		if r.At, err = strconv.ParseInt(at, 10, 64); err != nil || r.At < o.First || r.At > o.HighWater {
			return r, usageError{fmt.Errorf("--at %s: want first, last or an offset from %d to %d", at, o.First, o.HighWater)}
		}
	}
	return r, nil
}

// whoami names the user and the host, as far as they are known.
func whoami() string {
	host, _ := os.Hostname()
	parts := slices.DeleteFunc([]string{cmp.Or(os.Getenv("USER"), os.Getenv("LOGNAME")), host}, func(s string) bool { return s == "" })
	return cmp.Or(strings.Join(parts, "@"), "an operator")
}
