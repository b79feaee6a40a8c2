package consumer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/boot"
	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
)

// Worker is a member of the consumer group, with everything that runs beside it. It is made by New and works while Run does. Its other
// methods may be called at any time, concurrently.
type Worker struct {
	cfg   Config
	log   *slog.Logger
	began time.Time

	kafka   *kafkalog.Client
	emitter *invalidation.Emitter // nil without Redis
	foreign *invalidation.Foreign // nil without datasets that are cached
	tiers   *consistency.Reader   // nil without a sampler
	boot    *boot.Boot

	ran, ended atomic.Bool
	parts      atomic.Pointer[parts] // nil until the servers were there
}

// parts are what runs once the servers are there.
type parts struct {
	worker  *worker.Worker
	replays *jobs.Runner
	sampler *consistency.Sampler // nil for none
	expirer *replica.Expirer
	census  *census
}

// New checks the configuration. It does not touch the network. Errors wrap ErrConfig.
func New(cfg Config) (*Worker, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("make worker: %w", err)
	}
	w := &Worker{cfg: cfg, log: cfg.Logger, began: time.Now().UTC(), boot: boot.New(cfg.Logger, cfg.FailFast)}
	if err := w.open(); err != nil {
		_ = w.Close() // nothing was done with it
		return nil, fmt.Errorf("make worker: %w: %w", ErrConfig, err)
	}
	return w, nil
}

// open makes the clients, none of which connects yet.
func (w *Worker) open() (err error) {
	c := w.cfg
	w.kafka, err = kafkalog.New(kafkalog.Config{
		Brokers: c.Kafka.Brokers, ClientID: c.Kafka.ClientID, TLS: c.Kafka.TLS, GetTLS: c.Kafka.GetTLS, SASL: c.Kafka.SASL, Logger: c.Logger,
	})
	if err != nil || c.Redis == nil {
		return err
	}
	w.emitter, err = invalidation.NewEmitter(c.Redis, invalidation.EmitterConfig{Namespace: c.Namespace, Lanes: c.Lanes, Hold: c.Hold, Logger: c.Logger})
	if err != nil || !c.Datasets.Cached() {
		return err
	}
	if w.foreign, err = invalidation.NewForeign(c.ExternalRedis, invalidation.ForeignConfig{Again: c.ExternalAgain}); err != nil || c.Samples < 0 {
		return err
	}
	if err := c.sampler().Check(); err != nil {
		return fmt.Errorf("Samples (Records), StaleAfter (Alarm): %w", err)
	}
	w.tiers, err = consistency.NewReader(c.Redis, c.Namespace, c.Lanes)
	return err
}

// Close closes the connections to Redis and Kafka. Call it when Run has returned. It may be called twice.
func (w *Worker) Close() error {
	var errs []error
	if w.foreign != nil {
		errs = append(errs, w.foreign.Close())
	}
	if w.emitter != nil {
		errs = append(errs, w.emitter.Close())
	}
	if w.kafka != nil {
		errs = append(errs, w.kafka.Close())
	}
	return errors.Join(errs...)
}

// Run carries events until ctx ends; then the running transactions finish and Run returns nil. It waits for servers that are away, at
// start as well unless Config.FailFast is set. Any other error can only be healed by another configuration. Run may be called once.
func (w *Worker) Run(ctx context.Context) error {
	if w.ran.Swap(true) {
		return errors.New("run worker: Run was called before; make another worker with New")
	}
	defer w.ended.Store(true)
	for _, text := range w.cfg.Datasets.Warnings() {
		w.log.WarnContext(ctx, "declaration of a dataset is outdated", "detail", text)
	}
	err := w.work(ctx)
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ctx.Err())) {
		return nil // it was waiting
	}
	if err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	return nil
}

// work boots the worker and runs it; reading it from top to bottom is the order of the boot.
func (w *Worker) work(ctx context.Context) error {
	dbs, err := w.awaitServers(ctx)
	if err != nil {
		return err
	}
	defer dbs.close()
	wc := w.cfg.worker()
	wc.Kafka, wc.Replica = w.kafka, dbs.main
	p := &parts{
		expirer: dbs.main.NewExpirer(w.cfg.Retention.replica()),
		census:  &census{db: dbs.main, datasets: w.cfg.Datasets.All(), log: w.log},
	}
	if w.cfg.Datasets.Cached() {
		wc.Foreign, wc.Namespace = w.foreign, w.cfg.Namespace
	}
	if w.cfg.Datasets.Cached() || dbs.formerLanes {
		if w.emitter == nil {
			return fmt.Errorf("%w: Redis is missing, and the namespace %s has lanes of datasets that were cached; give a client, so that their entries become stale", ErrConfig, w.cfg.Namespace)
		}
		wc.Emitter, wc.LaneLog = w.emitter, dbs.main.Lanes(w.cfg.Namespace)
	}
	if w.tiers != nil {
		sc := w.cfg.sampler()
		sc.Replica, sc.Tiers = dbs.main.Rows, w.tiers
		if p.sampler, err = consistency.New(sc); err != nil {
			return err
		}
		wc.Changed = p.sampler.Changed
	}
	if p.worker, err = worker.New(wc); err != nil {
		return err
	}
	rc := jobs.Config{
		Owner: wc.Owner, Namespace: w.cfg.Namespace, Datasets: wc.Datasets, Kafka: wc.Kafka, Replica: dbs.replays, Logger: w.log,
	}
	if wc.Emitter != nil {
		rc.Lanes = p.worker
	}
	if p.replays, err = jobs.New(rc); err != nil {
		return err
	}
	w.parts.Store(p)
	return w.run(ctx, p, dbs)
}

// run runs all parts until ctx ends or one fails.
func (w *Worker) run(ctx context.Context, p *parts, dbs *databases) error {
	g, ctx := errgroup.WithContext(ctx)
	if w.foreign != nil {
		g.Go(func() error { return w.foreign.Run(ctx) })
	}
	if p.sampler != nil {
		g.Go(func() error { return p.sampler.Run(ctx) })
	}
	g.Go(func() error { return p.expirer.Run(ctx) })
	g.Go(func() error { return p.census.run(ctx) })
	g.Go(func() error { return roster.Announce(ctx, dbs.main.SQL(), w.state, w.log) })
	g.Go(func() error { return p.replays.Run(ctx) })
	g.Go(func() error { return p.worker.Run(ctx) })
	return g.Wait()
}

// awaitServers waits until MySQL and, if a dataset is cached, Redis let the worker begin. Kafka is asked only when nothing is to be
// waited for: the worker waits for it by itself.
func (w *Worker) awaitServers(ctx context.Context) (dbs *databases, err error) {
	g, ctx := errgroup.WithContext(ctx)
	if w.cfg.FailFast {
		g.Go(func() error { return w.boot.Until(ctx, "kafka: ask for its version", w.askKafka) })
	}
	g.Go(func() error {
		return w.boot.Until(ctx, "mysql: open the replica", func(ctx context.Context) (err error) {
			dbs, err = openDatabases(ctx, &w.cfg)
			return err
		})
	})
	if w.cfg.Datasets.Cached() {
		g.Go(func() error {
			return w.boot.Until(ctx, "redis: check the lanes", func(ctx context.Context) error { return boot.Redis(ctx, w.emitter) })
		})
	}
	if err := g.Wait(); err != nil {
		dbs.close()
		return nil, err
	}
	return dbs, nil
}

func (w *Worker) askKafka(ctx context.Context) error {
	missing, err := w.kafka.CheckVersions(ctx)
	if err == nil && len(missing) > 0 {
		err = errors.New(strings.Join(missing, "; "))
	}
	return err
}

// newID names this process uniquely.
func newID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	var b [4]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(b[:]))
}
