package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
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

// workerProcess is a worker, its listener and what goes beside it.
type workerProcess struct {
	c      config.Config
	log    *slog.Logger
	began  time.Time
	set    *schemas.Datasets
	kafka  *kafkalog.Client
	boot   *boot
	reg    *prometheus.Registry
	worker atomic.Pointer[worker.Worker] // nil until the servers were there
}

// runWorker runs a worker until ctx ends. Its listener and what goes beside it answer from the beginning; the worker itself
// follows as soon as the servers let it.
func runWorker(ctx context.Context, c config.Config, log *slog.Logger, beside besideWorker) error {
	limitMemory(ctx, c.Worker.Memory, log)
	set, err := connect.Datasets(c)
	if err != nil {
		return err
	}
	for _, text := range set.Warnings() {
		log.WarnContext(ctx, "declaration of a dataset is outdated", "text", text)
	}
	kafka, err := connect.Kafka(c, log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	p := &workerProcess{c: c, log: log, began: time.Now().UTC(), set: set, kafka: kafka, boot: newBoot(log, c.FailFast), reg: prometheus.NewRegistry()}
	p.reg.MustRegister(telemetry.NewWaitingCollector(p.boot.lasting), telemetry.NewFilesCollector(c.Files()),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	g, ctx := errgroup.WithContext(ctx)
	address := ""
	if c.Worker.Listen != "" {
		h, err := listenHealth(ctx, c.Worker.Listen, p.reg, p.notReady, log)
		if err != nil {
			return err
		}
		log.Info("listening", "address", h.Addr())
		g.Go(func() error { return h.Run(ctx) })
		address = h.Addr()
	}
	if beside != nil {
		g.Go(func() error { return beside(ctx, p.notReady, p.reg) })
	}
	g.Go(func() error {
		err := p.work(ctx, address)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // it was waiting
		}
		return err
	})
	return g.Wait()
}

// notReady lists why the worker cannot do its work, and the files that it could not connect with once more.
func (p *workerProcess) notReady() []string {
	why := p.boot.waiting()
	if w := p.worker.Load(); w != nil {
		why = append(why, w.NotReady()...)
	} else if len(why) == 0 {
		why = append(why, "this worker is starting")
	}
	return append(why, p.c.Files().Problems()...)
}

// work boots the worker and runs it; reading it from top to bottom is the order of the boot.
func (p *workerProcess) work(ctx context.Context, address string) error {
	c, set, log := p.c, p.set, p.log
	held, err := connect.Hold(c)
	if err != nil {
		return err
	}
	var emitter *invalidation.Emitter
	var foreign *invalidation.Foreign
	if anyCached(set) {
		if emitter, err = connect.Emitter(c, log); err != nil {
			return err
		}
		defer emitter.Close()
		rdb, err := connect.ForeignRedis(c)
		if err != nil {
			return err
		}
		defer rdb.Close()
		if foreign, err = invalidation.NewForeign(rdb, invalidation.ForeignConfig{Again: c.Worker.ForeignAgain}); err != nil {
			return err
		}
		defer foreign.Close()
	}
	dbs, err := p.awaitServers(ctx, emitter)
	if err != nil {
		return err
	}
	defer dbs.close()
	db := dbs.main
	logBroken(log, dbs.broken)
	wc := worker.Config{
		Group: c.Kafka.Group, Owner: workerID(c.Worker.ID), Datasets: set, Kafka: p.kafka, Replica: db,
		Window: c.Worker.Window, KeepDisplaced: c.Worker.KeepDisplaced, Hold: held, Logger: log,
		BindTo: c.Namespace, MaxKeyRate: c.Worker.MaxKeyRate, Consumer: connect.ConsumerConfig(c), DeadTopics: c.Worker.DeadTopics,
	}
	var sampler *consistency.Sampler
	switch {
	case emitter != nil:
		wc.Foreign, wc.Namespace = foreign, c.Namespace
		var closeSampler func()
		if sampler, closeSampler, err = openSampler(c, &wc, db, log); err != nil {
			return err
		}
		defer closeSampler()
	case dbs.formerLanes:
		if emitter, err = connect.Emitter(c, log); err != nil {
			return err
		}
		defer emitter.Close()
	}
	if emitter != nil {
		wc.Emitter, wc.LaneLog = emitter, db.Lanes(c.Namespace)
	}
	return p.run(ctx, address, wc, dbs, foreign, sampler)
}

// awaitServers waits until MySQL and, for an emitter, Redis let the worker begin. Kafka is asked only when nothing is to be waited
// for: the worker waits for it by itself.
func (p *workerProcess) awaitServers(ctx context.Context, emitter *invalidation.Emitter) (dbs *databases, err error) {
	g, ctx := errgroup.WithContext(ctx)
	if p.c.FailFast {
		g.Go(func() error { return p.boot.until(ctx, "kafka: ask for its version", p.askKafka) })
	}
	g.Go(func() error {
		return p.boot.until(ctx, "mysql: open the replica", func(ctx context.Context) (err error) {
			dbs, err = openDatabases(ctx, p.c, p.log, p.set)
			return err
		})
	})
	if emitter != nil {
		g.Go(func() error {
			return p.boot.until(ctx, "redis: check the lanes", func(ctx context.Context) error { return checkRedis(ctx, emitter) })
		})
	}
	if err := g.Wait(); err != nil {
		dbs.close()
		return nil, err
	}
	return dbs, nil
}

func (p *workerProcess) askKafka(ctx context.Context) error {
	missing, err := p.kafka.CheckVersions(ctx)
	if err == nil && len(missing) > 0 {
		err = errors.New(strings.Join(missing, "; "))
	}
	return err
}

// run runs the worker and what needs it.
func (p *workerProcess) run(ctx context.Context, address string, wc worker.Config, dbs *databases, foreign *invalidation.Foreign, sampler *consistency.Sampler) error {
	w, err := worker.New(wc)
	if err != nil {
		return err
	}
	rc := jobs.Config{
		Owner: wc.Owner, Namespace: p.c.Namespace, Datasets: wc.Datasets, Kafka: wc.Kafka, Replica: dbs.replays, Logger: p.log,
	}
	if wc.Emitter != nil {
		rc.Lanes = w
	}
	replays, err := jobs.New(rc)
	if err != nil {
		return err
	}
	p.reg.MustRegister(telemetry.NewWorkerCollector(w.Stats))
	p.worker.Store(w)
	g, ctx := errgroup.WithContext(ctx)
	if foreign != nil {
		g.Go(func() error { return foreign.Run(ctx) })
	}
	if sampler != nil {
		p.reg.MustRegister(telemetry.NewConsistencyCollector(sampler.Stats))
		g.Go(func() error { return sampler.Run(ctx) })
	}
	expirer := newExpirer(dbs.main, p.c.Retention)
	p.reg.MustRegister(telemetry.NewExpirerCollector(expirer.Removed))
	g.Go(func() error { return expirer.Run(ctx) })
	say := func() api.WorkerState { return p.state(wc.Owner, address, w, sampler) }
	g.Go(func() error { return admin.AnnounceWorker(ctx, dbs.main.SQL(), say, p.log) })
	g.Go(func() error { return replays.Run(ctx) })
	g.Go(func() error { return w.Run(ctx) })
	return g.Wait()
}

func newExpirer(db *replica.DB, r config.Retention) *replica.Expirer {
	return db.NewExpirer(replica.Retention{DeadLetters: r.DeadLetters, Tombstones: r.Tombstones, Audit: r.Audit, Replays: r.Replays})
}

// logBroken logs which datasets cannot be written. Each is paused with its first event; the others flow.
func logBroken(log *slog.Logger, broken []*tables.DatasetError) {
	for _, b := range broken {
		log.Error("dataset cannot be written as things are", "dataset", b.Dataset, "error", b)
	}
}

func openEmitter(ctx context.Context, c config.Config, log *slog.Logger) (*invalidation.Emitter, error) {
	e, err := connect.Emitter(c, log)
	if err != nil {
		return nil, err
	}
	if err := checkRedis(ctx, e); err != nil {
		_ = e.Close() // nothing was done with it
		return nil, err
	}
	return e, nil
}

// state is what a worker says of itself to the process that looks at all of them.
func (p *workerProcess) state(owner, address string, w *worker.Worker, sampler *consistency.Sampler) api.WorkerState {
	st := api.WorkerState{Owner: owner, Version: release(), Began: p.began, Address: address, NotReady: p.notReady()}
	if sampler != nil {
		seen := sampler.Stats()
		st.Consistency = &seen
	}
	stats := w.Stats()
	for _, d := range slices.Sorted(maps.Keys(stats.Datasets)) {
		s := stats.Datasets[d]
		st.Datasets = append(st.Datasets, api.WorkerDataset{
			Dataset: d, Events: s.Events, Superseded: s.Superseded, Conflicts: s.Conflicts, Misplaced: s.Misplaced, VersionsWentBack: s.VersionsWentBack(),
		})
	}
	for _, part := range stats.Consumer.Partitions {
		wp := api.WorkerPartition{
			Topic: part.Partition.Topic, Partition: part.Partition.ID, Applied: part.Applied, Committed: part.Committed, Paused: part.Paused,
			Stopped: part.Lost || part.Stopped,
		}
		if part.LastError != nil {
			wp.Error = part.LastError.Error()
		} else if d, ok := p.set.ByTopic(wp.Topic); ok && stats.Foreign[d.Name] > 0 {
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

// workerID names this process uniquely.
func workerID(given string) string {
	if given != "" {
		return given
	}
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	var b [4]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(b[:]))
}
