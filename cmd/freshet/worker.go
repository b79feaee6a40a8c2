package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/registry"
)

func workerCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Carry changes from Kafka into MySQL, Redis and every node, until interrupted",
		Long: "Run a member of the consumer group. Several workers share the partitions; one that dies is taken over.\n" +
			"Faults of Kafka, MySQL and Redis are waited out, also at start unless --fail-fast is given: /readyz and the log say what for.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.service(cmd)
			if err != nil {
				return err
			}
			return p.runWorker(cmd.Context(), l.Config, log, drainDelay(l.Config, l.Config.Worker.Listen), nil)
		},
	}
	config.Bind(cmd.Flags(), "datasets", "namespace", "fail_fast", "drain_delay", "kafka", "mysql", "redis", "worker", "registry", "admin.tokens_file", "admin.tls", "log")
	return cmd
}

// besideWorker runs in the worker's process for as long as it does, also while the worker waits for servers at start. It drains by
// itself once ctx ends.
type besideWorker func(ctx context.Context, with shared) error

// shared is what the parts of one process have together.
type shared struct {
	reg    *prometheus.Registry
	traces trace.TracerProvider      // nil: none
	ready  func() listener.Readiness // of the worker; nil without one
}

// runWorker runs a worker until ctx ends and it has drained. Its listener and what goes beside it answer from the beginning; the worker
// itself follows as soon as the servers let it.
func (p *program) runWorker(ctx context.Context, c config.Config, log *slog.Logger, delay time.Duration, beside besideWorker) error {
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
	cc.Version = release()
	traces, flush, err := telemetry.Tracing(ctx, p.environ, "freshet", release(), log)
	if err != nil {
		return usageError{err}
	}
	defer flush()
	cc.TracerProvider = traces
	var w *consumer.Worker
	var keeper *registry.Keeper
	cc.Degraded = func() []string { return append(c.Files().Problems(), keeper.Problems()...) }
	asked := ctx
	ready := func() listener.Readiness {
		return listener.Readiness{Draining: asked.Err() != nil, NotReady: w.NotReady(), Degraded: w.Degraded()}
	}
	reg := prometheus.NewRegistry()
	var h *health
	if c.Worker.Listen != "" {
		hc, err := healthGuard(c, "worker", c.Worker.Listen, c.Worker.MetricsOpen)
		if err != nil {
			return err
		}
		hc.reg, hc.ready, hc.log = reg, ready, log
		if h, err = listenHealth(ctx, hc); err != nil {
			return err
		}
		cc.Address = h.Advertised(c.Worker.Advertise)
	}
	if w, err = consumer.New(cc); err != nil {
		return usageError{err}
	}
	defer w.Close()
	if keeper, err = keepListed(c, listed{"worker", w.ID(), cc.Address, ready}, log); err != nil {
		return err
	}
	telemetry.Register(reg, release(), c.Files(), log)
	reg.MustRegister(telemetry.NewWorkerCollector(w, set, c.Namespace), telemetry.NewReadyCollector("worker", ready), telemetry.NewRegistryCollector("worker", keeper))
	work, stop := drain(ctx, delay, log)
	defer stop()
	g, work := errgroup.WithContext(work)
	if h != nil {
		log.Info("listening", "component", "worker", "address", h.Addr())
		g.Go(func() error { return h.Run(work) })
	}
	if beside != nil {
		g.Go(func() error {
			return besides(ctx, work, func(ctx context.Context) error { return beside(ctx, shared{reg, traces, ready}) })
		})
	}
	g.Go(func() error { return besides(ctx, work, keeper.Run) }) // it leaves as soon as the process drains
	g.Go(func() error { return w.Run(work) })
	return g.Wait()
}

// besides runs fn until one of two contexts ends.
func besides(asked, work context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancel(work)
	defer cancel()
	stop := context.AfterFunc(asked, cancel)
	defer stop()
	return fn(ctx)
}
