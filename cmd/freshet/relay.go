package main

import (
	"context"
	"log/slog"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/internal/tracecontext"
	"github.com/freshet/freshet/registry"
)

func relayCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Publish the outbox of a service's database, until interrupted",
		Long: "Publish the rows of freshet_outbox in the database of relay.dsn, and delete those that Kafka has. Any number of relays may run: one is\n" +
			"active, the others take over when it ends. Faults of the database and of Kafka are waited out: /readyz and the log say what for.\n" +
			"The tables are those of freshet outbox ddl.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.service(cmd)
			if err != nil {
				return err
			}
			return p.runRelay(cmd.Context(), l.Config, log)
		},
	}
	config.Bind(cmd.Flags(), "datasets", "namespace", "drain_delay", "kafka", "producer", "relay", "registry", "admin.tokens_file", "admin.tls", "log")
	return cmd
}

// runRelay runs a relay until ctx ends and it has drained. Its listener answers from the beginning.
func (p *program) runRelay(ctx context.Context, c config.Config, log *slog.Logger) error {
	set, err := connect.Datasets(c)
	if err != nil {
		return err
	}
	kafka, err := connect.Kafka(c, log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	rc, err := connect.Relay(c, set, kafka, log)
	if err != nil {
		return err
	}
	traces, flush, err := telemetry.Tracing(ctx, p.environ, "freshet", release(), log)
	if err != nil {
		return usageError{err}
	}
	defer flush()
	rc.Tracer = tracecontext.Tracer(traces)
	r, err := relay.New(rc)
	if err != nil {
		return usageError{err}
	}
	var keeper *registry.Keeper
	ready := func() listener.Readiness {
		degraded := slices.Concat(r.Degraded(), c.Files().Problems(), keeper.Problems())
		return listener.Readiness{Draining: ctx.Err() != nil, NotReady: r.NotReady(), Degraded: degraded}
	}
	var h *health
	reg, address := prometheus.NewRegistry(), ""
	if c.Relay.Listen != "" {
		hc, err := healthGuard(c, "relay", c.Relay.Listen, c.Relay.MetricsOpen)
		if err != nil {
			return err
		}
		hc.reg, hc.ready, hc.log = reg, ready, log
		if h, err = listenHealth(ctx, hc); err != nil {
			return err
		}
		address = h.Advertised(c.Relay.Advertise)
	}
	if keeper, err = keepListed(c, listed{"relay", r.ID(), address, ready}, log); err != nil {
		return err
	}
	telemetry.Register(reg, release(), c.Files(), log)
	reg.MustRegister(telemetry.NewRelayCollector(r.Stats, set), telemetry.NewReadyCollector("relay", ready), telemetry.NewRegistryCollector("relay", keeper))
	work, stop := drain(ctx, drainDelay(c, c.Relay.Listen), log)
	defer stop()
	g, work := errgroup.WithContext(work)
	if h != nil {
		log.Info("listening", "component", "relay", "address", h.Addr())
		g.Go(func() error { return h.Run(work) })
	}
	g.Go(func() error { return besides(ctx, work, keeper.Run) }) // it leaves as soon as the process drains
	g.Go(func() error { return r.Run(work) })
	return g.Wait()
}
