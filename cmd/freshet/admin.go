package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/boot"
	"github.com/freshet/freshet/internal/console"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/producer/prom"
	"github.com/freshet/freshet/registry"
)

func adminCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "admin",
		Short: "Serve the admin API: state of every tier, dead letters, replays, publishing over HTTP",
		Long: "Serve the admin API until interrupted. It listens on loopback; for another address name a file of tokens\n" +
			"(admin.tokens_file), made with `freshet admin token`. `freshet serve` runs a worker in the same process.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.service(cmd)
			if err != nil {
				return err
			}
			traces, flush, err := telemetry.Tracing(cmd.Context(), p.environ, "freshet", release(), log)
			if err != nil {
				return usageError{err}
			}
			defer flush()
			with := shared{reg: prometheus.NewRegistry(), traces: traces}
			telemetry.Register(with.reg, release(), l.Config.Files(), log)
			return runAdmin(cmd.Context(), l, log, drainDelay(l.Config, l.Config.Admin.Listen), with)
		},
	}
	config.Bind(cmd.Flags(), "datasets", "namespace", "fail_fast", "drain_delay", "kafka", "mysql", "redis", "producer", "admin", "registry", "log")
	cmd.AddCommand(tokenCommand(p), openAPICommand(p))
	return cmd
}

func serveCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a worker and the admin API in one process, until interrupted",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.service(cmd)
			if err != nil {
				return err
			}
			delay := drainDelay(l.Config, l.Config.Worker.Listen, l.Config.Admin.Listen)
			return p.runWorker(cmd.Context(), l.Config, log, delay, func(ctx context.Context, with shared) error {
				return runAdmin(ctx, l, log, delay, with)
			})
		},
	}
	config.Bind(cmd.Flags(), "datasets", "namespace", "fail_fast", "drain_delay", "kafka", "mysql", "redis", "worker", "registry", "producer", "admin", "log")
	return cmd
}

func tokenCommand(p *program) *cobra.Command {
	var name, role string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make a token and the line by which a file of tokens knows it",
		Args:  args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			r, err := access.ParseRole(role)
			if err != nil {
				return usageError{fmt.Errorf("--role: %w", err)}
			}
			token, line, err := access.NewToken(name, r)
			if err != nil {
				return usageError{fmt.Errorf("--name: %w", err)}
			}
			if p.json {
				return p.printJSON(map[string]string{"token": token, "line": line})
			}
			fmt.Fprintf(p.out, "token, shown only now:    %s\nline for the tokens file: %s\n", token, line)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "who will bear it; it is listed in the audit log")
	cmd.Flags().StringVar(&role, "role", "viewer", "viewer, operator, admin, publisher or follower")
	return cmd
}

func openAPICommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "openapi", Short: "Print the OpenAPI 3.1 document of the admin API", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			b, err := admin.OpenAPI(release())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.out, "%s\n", b)
			return err
		},
	}
}

// runAdmin runs the admin API until ctx ends and it has drained. It listens from the beginning; what needs MySQL follows as soon as that allows it.
func runAdmin(ctx context.Context, l *config.Loaded, log *slog.Logger, delay time.Duration, with shared) error {
	c, reg := l.Config, with.reg
	start := boot.New(log.With("component", "admin", "namespace", c.Namespace), c.FailFast)
	reg.MustRegister(telemetry.NewWaitingCollector("admin", start.Lasting))
	ac := admin.Config{
		Listen: c.Admin.Listen, Rate: float64(c.Admin.Rate), PublishRate: float64(c.Admin.PublishRate), Namespace: c.Namespace, Lanes: c.Lanes,
		Group: c.Kafka.Group, Drain: delay, Beside: with.ready, Waiting: start.Waiting, TracerProvider: with.traces,
		Metrics: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), Version: release(), Logger: log,
		Doctor: diagnose(c, log), Settings: func() []api.Setting { return settingsOf(l) }, Folder: os.DirFS(c.Datasets),
	}
	if c.Relay.DSN != "" {
		out := &outboxReader{cfg: c, log: log}
		defer out.close()
		ac.Outbox = out.read
	}
	var err error
	var keeper *registry.Keeper
	ac.Warnings = func() []string { return append(c.Files().Problems(), keeper.Problems()...) }
	if ac.Tokens, err = openTokens(c); err != nil {
		return err
	}
	if ac.TLS, err = connect.AdminTLS(c); err != nil {
		return usageError{err}
	}
	if ac.Datasets, err = connect.Datasets(c); err != nil {
		return err
	}
	const keepIdle = 30 * time.Second // the API asks all the time
	if ac.Kafka, err = connect.KafkaKeeping(c, keepIdle, log); err != nil {
		return err
	}
	defer ac.Kafka.Close()
	if ac.Datasets.Cached() {
		rdb, err := connect.Redis(c)
		if err != nil {
			return err
		}
		defer rdb.Close()
		ac.Redis = rdb
	}
	pub, err := openPublisher(c, log)
	if err != nil {
		return err
	}
	defer pub.Close()
	ac.Producer = pub.Producer
	reg.MustRegister(prom.NewCollector(pub.Producer))
	ac.Front = func(api http.Handler, draining context.Context) (http.Handler, error) {
		return console.New(console.Config{API: api, Tokens: ac.Tokens, BasePath: c.Admin.BasePath, TraceURL: c.Admin.TraceURL, Draining: draining, Version: release(), Logger: log.With("component", "console")})
	}
	s, err := admin.New(ac) //nolint:contextcheck // what it makes takes the contexts of requests
	if errors.Is(err, admin.ErrConfig) || errors.Is(err, console.ErrConfig) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if keeper, err = keepAdmin(c, ac, s, log); err != nil {
		return err
	}
	reg.MustRegister(telemetry.NewAdminCollector(s), telemetry.NewReadyCollector("admin", s.Readiness), telemetry.NewRegistryCollector("admin", keeper))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return keeper.Run(ctx) })
	g.Go(func() error { return serveAdmin(ctx, c, s, start, &ac) })
	return g.Wait()
}

// keepAdmin lists the API in the registry. Beside a worker, which is listed, it need not be where other machines reach it.
func keepAdmin(c config.Config, ac admin.Config, s *admin.Server, log *slog.Logger) (*registry.Keeper, error) {
	address := advertised(c.Admin.Advertise, c.Admin.Listen, ac.TLS != nil)
	if address == "" && ac.Beside != nil {
		return nil, nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "admin" // the rest is unique
	}
	id := fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
	return keepListed(c, listed{"admin", id, address, s.Readiness}, log)
}

// settingsOf lists every setting in force; secrets are masked.
func settingsOf(l *config.Loaded) []api.Setting {
	var out []api.Setting
	for _, v := range l.Values() {
		out = append(out, api.Setting(v))
	}
	return out
}

// serveAdmin serves, and opens the replica meanwhile.
func serveAdmin(ctx context.Context, c config.Config, s *admin.Server, start *boot.Boot, ac *admin.Config) error {
	rc, err := connect.ReplicaConfig(c, ac.Logger)
	if err != nil {
		return err
	}
	var db *replica.DB
	defer func() {
		if db != nil {
			_ = db.Close() // nothing is served any more
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Run(ctx) })
	g.Go(func() error {
		err := start.Until(ctx, "mysql: open the replica of the admin API", func(ctx context.Context) error {
			opened, err := replica.Open(ctx, rc)
			if err != nil {
				return err
			}
			if err := boot.Replica(ctx, opened, c.Namespace, c.Kafka.Group, ac.Datasets, ac.Logger); err != nil {
				_ = opened.Close() // nothing was done with it
				return err
			}
			db = opened
			return nil
		})
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // it was waiting
			}
			return err
		}
		return s.Attach(db)
	})
	return g.Wait()
}
