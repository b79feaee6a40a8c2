package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/consumer"
)

func workerCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Carry changes from Kafka into MySQL, Redis and every node, until interrupted",
		Long: "Run a member of the consumer group. Several workers share the partitions; one that dies is taken over.\n" +
			"Faults of Kafka, MySQL and Redis are waited out, also at start unless --fail-fast is given: /readyz and the log say what for.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			return runWorker(cmd.Context(), l.Config, log, nil)
		},
	}
	config.Bind(cmd.Flags(), "datasets", "namespace", "fail_fast", "kafka", "mysql", "redis", "worker", "log")
	return cmd
}

// besideWorker runs in the worker's process for as long as it does, also while the worker waits for servers at start.
type besideWorker func(ctx context.Context, notReady func() []string, reg *prometheus.Registry) error

// runWorker runs a worker until ctx ends. Its listener and what goes beside it answer from the beginning; the worker itself
// follows as soon as the servers let it.
func runWorker(ctx context.Context, c config.Config, log *slog.Logger, beside besideWorker) error {
	limitMemory(ctx, c.Worker, log)
	set, err := connect.Datasets(c)
	if err != nil {
		return err
	}
	cc, closeRedis, err := connect.Consumer(c, set, log)
	if err != nil {
		return err
	}
	defer closeRedis()
	cc.Version, cc.NotReady = release(), c.Files().Problems
	g, ctx := errgroup.WithContext(ctx)
	var w *consumer.Worker
	reg := prometheus.NewRegistry()
	var h *health
	if c.Worker.Listen != "" {
		h, err = listenHealth(ctx, "worker.listen", c.Worker.Listen, reg, func() []string { return w.NotReady() }, log)
		if err != nil {
			return err
		}
		cc.Address = h.Addr()
	}
	if w, err = consumer.New(cc); err != nil {
		return usageError{err}
	}
	defer w.Close()
	reg.MustRegister(telemetry.NewWorkerCollector(w.Stats), telemetry.NewFilesCollector(c.Files()),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if h != nil {
		log.Info("listening", "address", h.Addr())
		g.Go(func() error { return h.Run(ctx) })
	}
	if beside != nil {
		g.Go(func() error { return beside(ctx, w.NotReady, reg) })
	}
	g.Go(func() error { return w.Run(ctx) })
	return g.Wait()
}
