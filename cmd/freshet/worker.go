package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/admin"
	"github.com/freshet/freshet/consistency"
	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/config"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/telemetry"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

func (p *program) workerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Carry changes from Kafka into MySQL, Redis and every node, until interrupted",
		Long: "Run a member of the consumer group. Several workers share the partitions; one that dies is taken over.\n" +
			"Faults of Kafka, MySQL and Redis are waited out: /readyz and the log say what the worker waits for.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			return runWorker(cmd.Context(), l.Config, log, nil)
		},
	}
	config.Bind(cmd.Flags(), "datasets", "namespace", "kafka", "mysql", "redis", "worker", "log")
	return cmd
}

// leanGC makes the collector run at half its usual growth, unless GOGC says otherwise: a worker turns over much and keeps
// little, and its memory is better spent on the servers beside it.
func leanGC() {
	const percent = 50
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// besideWorker runs in the worker's process for as long as it does.
type besideWorker func(ctx context.Context, w *consumer.Worker, reg *prometheus.Registry) error

// runWorker boots a worker; reading it from top to bottom is the order of the boot.
func runWorker(ctx context.Context, c config.Config, log *slog.Logger, beside besideWorker) error {
	leanGC()
	began := time.Now().UTC()
	set, err := loadDatasets(c)
	if err != nil {
		return err
	}
	kafka, err := openKafka(c, log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	db, err := openReplica(ctx, c, log)
	if err != nil {
		return err
	}
	defer db.Close()
	broken, err := prepareReplica(ctx, c, db, set)
	if err != nil {
		return err
	}
	logBroken(log, broken)
	wc := consumer.Config{
		Group: c.Kafka.Group, Owner: workerID(c.Worker.ID), Datasets: set, Kafka: kafka, Replica: db, Topics: db,
		Window: c.Worker.Window, KeepDisplaced: c.Worker.KeepDisplaced, Logger: log,
		Binding: db, BindTo: c.Namespace, Misplaced: db, MaxKeyRate: c.Worker.MaxKeyRate, Consumer: consumerConfig(c), Pauses: db, Restarts: db, DeadTopics: c.Worker.DeadTopics,
	}
	if wc.Hold, err = hold(c); err != nil {
		return err
	}
	var foreign *invalidation.Foreign
	var sampler *consistency.Sampler
	if anyCached(set) {
		rdb, err := openForeignRedis(c)
		if err != nil {
			return err
		}
		defer rdb.Close()
		if foreign, err = invalidation.NewForeign(rdb, invalidation.ForeignConfig{Again: c.Worker.ForeignAgain}); err != nil {
			return err
		}
		defer foreign.Close()
		wc.Foreign = foreign
		emitter, err := openEmitter(ctx, c, log)
		if err != nil {
			return err
		}
		defer emitter.Close()
		wc.Emitter, wc.Lanes, wc.Hashes = emitter, db.LaneLog(c.Namespace), db
		wc.Namespace, wc.Outbox = c.Namespace, db
		var closeSampler func()
		if sampler, closeSampler, err = openSampler(c, &wc, db, log); err != nil {
			return err
		}
		defer closeSampler()
	} else if emitter, err := formerEmitter(ctx, c, db, log); err != nil {
		return err
	} else if emitter != nil {
		defer emitter.Close()
		wc.Emitter, wc.Lanes, wc.Hashes = emitter, db.LaneLog(c.Namespace), db
	}
	w, err := consumer.New(wc)
	if err != nil {
		return err
	}
	say := func(address string) func() admin.WorkerState {
		return func() admin.WorkerState {
			return workerState(wc.Owner, address, began, set, w, notReady(w, &c)(), sampler)
		}
	}
	replays, closeReplays, err := openReplayer(ctx, c, log, w, &wc)
	if err != nil {
		return err
	}
	defer closeReplays()
	return serveWorker(ctx, c, w, log, withAll(foreign, sampler, newExpirer(db, c.Retention), beside), func(ctx context.Context, address string) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return admin.AnnounceWorker(ctx, db.DB(), say(address), log) })
		g.Go(func() error { return replays.Run(ctx) })
		return g.Wait()
	})
}

// replayWriters are enough for the partitions that a replay reads at a time, its lease, and a spare one.
const replayWriters = 4

// openReplayer makes what runs replays beside w, with database connections of its own.
func openReplayer(ctx context.Context, c config.Config, log *slog.Logger, w *consumer.Worker, wc *consumer.Config) (*consumer.Replayer, func(), error) {
	c.Worker.Writers, c.MySQL.MaxConns = replayWriters, 0
	db, err := openReplica(ctx, c, log)
	if err != nil {
		return nil, nil, err
	}
	closeAll := func() { _ = db.Close() } // nothing is written any more
	if _, err := db.Prepare(ctx, wc.Datasets.All()); err != nil {
		closeAll()
		return nil, nil, fmt.Errorf("check replica tables: %w", err)
	}
	rc := consumer.ReplayConfig{Owner: wc.Owner, Namespace: c.Namespace, Datasets: wc.Datasets, Kafka: wc.Kafka, Jobs: db, Log: db, Logger: log}
	if wc.Emitter != nil {
		rc.Lanes = w
	}
	r, err := consumer.NewReplayer(rc)
	if err != nil {
		closeAll()
	}
	return r, closeAll, err
}

// withAll also runs the second passes of foreign keys, and the sampler.
func withAll(f *invalidation.Foreign, sampler *consistency.Sampler, expirer *replica.Expirer, beside besideWorker) besideWorker {
	return func(ctx context.Context, w *consumer.Worker, reg *prometheus.Registry) error {
		g, ctx := errgroup.WithContext(ctx)
		if f != nil {
			g.Go(func() error { return f.Run(ctx) })
		}
		if sampler != nil {
			reg.MustRegister(telemetry.NewConsistencyCollector(sampler.Stats))
			g.Go(func() error { return sampler.Run(ctx) })
		}
		reg.MustRegister(telemetry.NewExpirerCollector(expirer.Removed))
		g.Go(func() error { return expirer.Run(ctx) })
		if beside != nil {
			g.Go(func() error { return beside(ctx, w, reg) })
		}
		return g.Wait()
	}
}

func newExpirer(db *replica.MySQL, r config.Retention) *replica.Expirer {
	return db.NewExpirer(replica.Retention{DeadLetters: r.DeadLetters, Audit: r.Audit, Replays: r.Replays})
}

func consumerConfig(c config.Config) kafkalog.ConsumerConfig {
	return kafkalog.ConsumerConfig{
		SessionTimeout: c.Worker.SessionTimeout, Writers: c.Worker.Writers, MaxRecords: c.Worker.MaxBatch,
		MaxBatchBytes: c.Worker.MaxBatchBytes, Budget: c.Worker.FetchBudget,
	}
}

// serveWorker runs the worker, its listener and what goes beside it until ctx ends.
func serveWorker(
	ctx context.Context, c config.Config, w *consumer.Worker, log *slog.Logger, beside besideWorker, announce func(ctx context.Context, address string) error,
) error {
	reg := prometheus.NewRegistry()
	reg.MustRegister(telemetry.NewWorkerCollector(w.Stats), telemetry.NewFilesCollector(c.Files()), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	g, ctx := errgroup.WithContext(ctx)
	address := ""
	if c.Worker.Listen != "" {
		h, err := listenHealth(ctx, c.Worker.Listen, reg, notReady(w, &c), log)
		if err != nil {
			return err
		}
		log.Info("listening", "address", h.Addr())
		g.Go(func() error { return h.Run(ctx) })
		address = h.Addr()
	}
	if beside != nil {
		g.Go(func() error { return beside(ctx, w, reg) })
	}
	g.Go(func() error { return announce(ctx, address) })
	g.Go(func() error { return w.Run(ctx) })
	return g.Wait()
}

// logBroken logs which datasets cannot be written. Each is paused with its first event; the others flow.
func logBroken(log *slog.Logger, broken []*replica.DatasetError) {
	for _, b := range broken {
		log.Error("dataset cannot be written as things are", "dataset", b.Dataset, "error", b)
	}
}

// notReady lists why the worker cannot do its work, and the files that it could not connect with once more.
func notReady(w *consumer.Worker, c *config.Config) func() []string {
	return func() []string { return append(w.NotReady(), c.Files().Problems()...) }
}

// formerEmitter returns an emitter for a namespace whose datasets all lost their cache sections, nil if it never had lanes: the lanes have to be
// told, or nodes that still have a section would serve entries that no worker makes stale any more. Redis may be away meanwhile.
func formerEmitter(ctx context.Context, c config.Config, db *replica.MySQL, log *slog.Logger) (*invalidation.Emitter, error) {
	known, err := db.LaneLog(c.Namespace).Known(ctx)
	if err != nil || !known {
		return nil, err
	}
	return newEmitter(c, log)
}

func openEmitter(ctx context.Context, c config.Config, log *slog.Logger) (*invalidation.Emitter, error) {
	e, err := newEmitter(c, log)
	if err != nil {
		return nil, err
	}
	if err := e.Check(ctx); err != nil {
		return nil, fmt.Errorf("check redis: %w", err)
	}
	return e, nil
}

func newEmitter(c config.Config, log *slog.Logger) (*invalidation.Emitter, error) {
	rdb, err := openRedis(c)
	if err != nil {
		return nil, err
	}
	h, err := hold(c)
	if err != nil {
		return nil, err
	}
	return invalidation.NewEmitter(rdb, invalidation.EmitterConfig{Namespace: c.Namespace, Lanes: c.Lanes, Hold: h, Logger: log})
}

func asErrors(broken []*replica.DatasetError) []error {
	out := make([]error, len(broken))
	for i, e := range broken {
		out[i] = e
	}
	return out
}

// workerState is what a worker says of itself to whoever looks at all of them.
func workerState(owner, address string, began time.Time, set *schemas.Datasets, w *consumer.Worker, notReady []string, sampler *consistency.Sampler) admin.WorkerState {
	st := admin.WorkerState{Owner: owner, Version: release(), Began: began, Address: address, NotReady: notReady}
	if sampler != nil {
		seen := sampler.Stats()
		st.Consistency = &seen
	}
	stats := w.Stats()
	for _, d := range slices.Sorted(maps.Keys(stats.Datasets)) {
		s := stats.Datasets[d]
		st.Datasets = append(st.Datasets, admin.WorkerDataset{
			Dataset: d, Events: s.Events, Superseded: s.Superseded, Conflicts: s.Conflicts, Misplaced: s.Misplaced, VersionsWentBack: s.VersionsWentBack(),
		})
	}
	for _, p := range stats.Consumer.Partitions {
		wp := admin.WorkerPartition{
			Topic: p.Partition.Topic, Partition: p.Partition.ID, Applied: p.Applied, Committed: p.Committed, Paused: p.Paused, Stopped: p.Lost || p.Stopped,
		}
		if p.LastError != nil {
			wp.Error = p.LastError.Error()
		} else if d, ok := set.ByTopic(wp.Topic); ok && stats.Foreign[d.Name] > 0 {
			wp.Error = "only records of other tables so far; /readyz of its worker says more"
		}
		st.Partitions = append(st.Partitions, wp)
	}
	return st
}

func anyCached(set *schemas.Datasets) bool {
	for _, d := range set.All() {
		if d.Cache != nil {
			return true
		}
	}
	return false
}
