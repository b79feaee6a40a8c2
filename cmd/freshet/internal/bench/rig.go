// Package bench measures Freshet against the limit of the servers it runs on, which need to be idle otherwise.
package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// rig is what a benchmark runs on: a dataset under a name that nothing else has, with its topic, table, group and
// namespace, on the servers of the settings. Close removes all of it.
type rig struct {
	cfg     config.Config
	log     *slog.Logger
	set     *schemas.Datasets
	ds      *schemas.Dataset
	kafka   *kafkalog.Client
	db      *replica.DB
	rdb     redis.UniversalClient // nil for a dataset without cache section
	emitter *invalidation.Emitter // likewise
	full    bool                  // tables begin with the rows of fillTable

	consumer, profiles string // of a turn
}

func openRig(ctx context.Context, c config.Config, f ApplyConfig, log *slog.Logger) (*rig, error) {
	var id [4]byte
	_, _ = rand.Read(id[:])
	name := "bench_" + hex.EncodeToString(id[:])
	set, err := declare(name, !f.NoCache)
	if err != nil {
		return nil, err
	}
	b := newRig(c, set, name, log)
	if err := b.open(ctx, f); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func newRig(c config.Config, set *schemas.Datasets, name string, log *slog.Logger) *rig {
	c.Kafka.Group, c.Namespace = "freshet-"+name, name
	b := &rig{cfg: c, log: log, set: set}
	b.ds, _ = set.Get(name)
	return b
}

func (b *rig) open(ctx context.Context, f ApplyConfig) error {
	if err := migrate(ctx, b.cfg, b.set, b.log); err != nil {
		return err
	}
	if err := b.connect(ctx, f); err != nil {
		return err
	}
	if broken, err := b.db.Prepare(ctx, b.set.All()); err != nil || len(broken) > 0 {
		return errors.Join(append(asErrors(broken), err)...)
	}
	return b.kafka.CreateTopics(ctx, []kafkalog.TopicSpec{{Name: b.ds.Topic, Partitions: f.Partitions}})
}

// connect opens the connections of one process.
func (b *rig) connect(ctx context.Context, f ApplyConfig) (err error) {
	if b.kafka, err = connect.Kafka(b.cfg, b.log); err != nil {
		return err
	}
	if b.db, err = connect.Replica(ctx, b.cfg, b.log); err != nil {
		return err
	}
	if f.NoCache {
		return nil
	}
	if b.rdb, err = connect.Redis(b.cfg); err != nil {
		return err
	}
	b.emitter, err = invalidation.NewEmitter(b.rdb, invalidation.EmitterConfig{Namespace: b.cfg.Namespace, Lanes: b.cfg.Lanes, Hold: b.cfg.Worker.Hold, Logger: b.log})
	return err
}

// declare declares the one dataset of a benchmark.
func declare(name string, cached bool) (*schemas.Datasets, error) {
	cache := ""
	if cached {
		cache = "cache:\n  key: \"" + name + ":{id}\"\n"
	}
	return schemas.LoadDatasets(fstest.MapFS{
		"bench.yaml": {Data: []byte("dataset: " + name + "\ntopic: freshet." + name + "\nschema: bench.json\nkey: [id]\nreplica:\n  table: " + name + "\n" + cache)},
		"bench.json": {Data: []byte(rowSchema)},
	})
}

func migrate(ctx context.Context, c config.Config, set *schemas.Datasets, log *slog.Logger) error {
	db, err := connect.Migrations(c)
	if err != nil {
		return err
	}
	defer db.Close()
	m, err := migrations.New(db, migrations.Config{Logger: log})
	if err != nil {
		return err
	}
	if _, err := m.Up(ctx); err != nil {
		return err
	}
	_, err = tables.Migrate(ctx, db, set.All(), false)
	return err
}

// worker makes a worker; apply, if not nil, stands between it and the rig's database.
func (b *rig) worker(apply func(context.Context, *replica.Batch) (replica.Result, error)) (*worker.Worker, error) {
	wc := worker.Config{
		Group: b.cfg.Kafka.Group, Owner: "bench", Datasets: b.set, Kafka: b.kafka, Replica: b.db, Apply: apply, Logger: b.log,
		Consumer: connect.ConsumerConfig(b.cfg),
	}
	if b.emitter != nil {
		wc.Emitter, wc.LaneLog = b.emitter, b.db.Lanes(b.cfg.Namespace)
	}
	return worker.New(wc)
}

func (b *rig) producer() (*producer.Producer, error) {
	return producer.New(producer.Config{Brokers: b.cfg.Kafka.Brokers, Datasets: b.set, Source: "//freshet/bench", Logger: b.log})
}

// publish fills the topic and returns the rate, and how many bytes of data an event has on average.
func (b *rig) publish(ctx context.Context, events int, next func(i int) schemas.Event) (rate float64, size int, err error) {
	p, err := b.producer()
	if err != nil {
		return 0, 0, err
	}
	defer p.Close()
	started := time.Now()
	failed := make(chan error, 1)
	for i := range events {
		ev := next(i)
		size += len(ev.Data)
		err := p.PublishAsync(ctx, ev, func(_ schemas.Token, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		if err != nil {
			return 0, 0, fmt.Errorf("publish: %w", err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		return 0, 0, fmt.Errorf("publish: %w", err)
	}
	select {
	case err := <-failed:
		return 0, 0, fmt.Errorf("publish: %w", err)
	default:
	}
	return float64(events) / time.Since(started).Seconds(), size / events, nil
}

// Close removes the topic, the tables and the rows that the rig made, as far as the servers still answer, and disconnects.
func (b *rig) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	if b.db != nil {
		table := mysql.Quote(b.ds.Replica.Table)
		errs = append(errs, b.exec(ctx, "DROP TABLE IF EXISTS "+table+", "+b.plainTable()+", "+b.fillTable()), b.forget(ctx))
		for _, note := range []string{"dataset:", "schema:"} {
			errs = append(errs, b.exec(ctx, "DELETE FROM freshet_meta WHERE name = ?", []byte(note+b.ds.Name)))
		}
	}
	if b.kafka != nil {
		errs = append(errs, b.kafka.DeleteTopics(ctx, []string{b.ds.Topic}))
	}
	return errors.Join(append(errs, b.disconnect())...)
}

// disconnect closes what connect opened.
func (b *rig) disconnect() error {
	var errs []error
	if b.emitter != nil {
		errs = append(errs, b.emitter.Close())
	}
	if b.rdb != nil {
		errs = append(errs, b.rdb.Close())
	}
	if b.db != nil {
		errs = append(errs, b.db.Close())
	}
	if b.kafka != nil {
		errs = append(errs, b.kafka.Close())
	}
	return errors.Join(errs...)
}

func asErrors(broken []*tables.DatasetError) []error {
	out := make([]error, len(broken))
	for i, e := range broken {
		out[i] = e
	}
	return out
}
