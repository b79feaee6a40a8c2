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
}

func openRig(ctx context.Context, c config.Config, f ApplyConfig, log *slog.Logger) (*rig, error) {
	set, name, err := declare(!f.NoCache)
	if err != nil {
		return nil, err
	}
	c.Kafka.Group, c.Namespace = "freshet-"+name, name
	b := &rig{cfg: c, log: log, set: set}
	b.ds, _ = set.Get(name)
	if err := b.open(ctx, f); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *rig) open(ctx context.Context, f ApplyConfig) (err error) {
	if b.kafka, err = connect.Kafka(b.cfg, b.log); err != nil {
		return err
	}
	if err := migrate(ctx, b.cfg, b.set, b.log); err != nil {
		return err
	}
	if b.db, err = connect.Replica(ctx, b.cfg, b.log); err != nil {
		return err
	}
	if broken, err := b.db.Prepare(ctx, b.set.All()); err != nil || len(broken) > 0 {
		return errors.Join(append(asErrors(broken), err)...)
	}
	if err := b.kafka.CreateTopics(ctx, []kafkalog.TopicSpec{{Name: b.ds.Topic, Partitions: f.Partitions}}); err != nil {
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
func declare(cached bool) (*schemas.Datasets, string, error) {
	var b [4]byte
	_, _ = rand.Read(b[:])
	name := "bench_" + hex.EncodeToString(b[:])
	cache := ""
	if cached {
		cache = "cache:\n  key: \"" + name + ":{id}\"\n"
	}
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"bench.yaml": {Data: []byte("dataset: " + name + "\ntopic: freshet." + name + "\nschema: bench.json\nkey: [id]\nreplica:\n  table: " + name + "\n" + cache)},
		"bench.json": {Data: []byte(`{"type":"object","required":["id","name","email","n","body"],"properties":{"id":{"type":"string","maxLength":32},
			"name":{"type":"string","maxLength":100},"email":{"type":"string","maxLength":100},"n":{"type":"integer"},"active":{"type":"boolean"},"body":{"type":"string","maxLength":60000}}}`)},
	})
	return set, name, err
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
		wc.Emitter, wc.Lanes = b.emitter, b.db.Lanes(b.cfg.Namespace)
	}
	return worker.New(wc)
}

func (b *rig) producer() (*producer.Producer, error) {
	return producer.New(producer.Config{Brokers: b.cfg.Kafka.Brokers, Datasets: b.set, Source: "//freshet/bench", Logger: b.log})
}

// publish fills the topic and gives the rate.
func (b *rig) publish(ctx context.Context, ev *events) (float64, error) {
	p, err := b.producer()
	if err != nil {
		return 0, err
	}
	defer p.Close()
	started := time.Now()
	failed := make(chan error, 1)
	for i := range ev.events {
		err := p.PublishAsync(ctx, ev.at(i), func(_ schemas.Token, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		if err != nil {
			return 0, fmt.Errorf("publish: %w", err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	select {
	case err := <-failed:
		return 0, fmt.Errorf("publish: %w", err)
	default:
	}
	return float64(ev.events) / time.Since(started).Seconds(), nil
}

// Close removes the topic, the table and the rows that the rig made, as far as the servers still answer.
func (b *rig) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	if b.emitter != nil {
		errs = append(errs, b.emitter.Close())
	}
	if b.rdb != nil {
		errs = append(errs, b.rdb.Close())
	}
	if b.db != nil {
		for _, stmt := range []struct {
			text string
			args []any
		}{
			{"DROP TABLE IF EXISTS `" + b.ds.Replica.Table + "`", nil},
			{"DELETE FROM freshet_meta WHERE name = ?", []any{[]byte("dataset:" + b.ds.Name)}},
			{"DELETE FROM freshet_position WHERE grp = ?", []any{b.cfg.Kafka.Group}},
		} {
			if _, err := b.db.SQL().ExecContext(ctx, stmt.text, stmt.args...); err != nil {
				errs = append(errs, fmt.Errorf("clean up: %w", err))
			}
		}
		errs = append(errs, b.db.Close())
	}
	if b.kafka != nil {
		errs = append(errs, b.kafka.DeleteTopics(ctx, []string{b.ds.Topic}), b.kafka.Close())
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
