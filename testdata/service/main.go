// Command service is a program of another module. It uses each public package as a service does: it publishes, caches, carries changes
// with a worker of its own, and makes the tables.
package main

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/invalidation/msgpack"
	nodeprom "github.com/freshet/freshet/invalidation/prom"
	"github.com/freshet/freshet/invalidation/readyours"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/producer/producertest"
	producerprom "github.com/freshet/freshet/producer/prom"
	"github.com/freshet/freshet/registry"
	"github.com/freshet/freshet/registry/consul"
	"github.com/freshet/freshet/registry/etcd"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
	"github.com/freshet/freshet/schemas/compat"
)

type user struct{ Name string }

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	datasets, err := schemas.LoadDatasets(os.DirFS("datasets"))
	if err != nil {
		return err
	}
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()
	if err := publish(ctx, datasets); err != nil {
		return err
	}
	if err := enqueue(ctx, datasets, nil); err != nil {
		return err
	}
	if err := cache(ctx, datasets, rdb); err != nil {
		return err
	}
	if err := migrate(ctx); err != nil {
		return err
	}
	if err := inspect(datasets); err != nil {
		return err
	}
	return work(ctx, datasets, rdb)
}

func vault(context.Context) (user, password string, err error) { return "shop", "secret", nil }

func certificate() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }

func publish(ctx context.Context, datasets *schemas.Datasets) error {
	p, err := producer.New(producer.Config{
		Brokers: []string{"127.0.0.1:9092"}, Datasets: datasets, GetTLS: certificate,
		SASL: producer.SASL{Mechanism: "scram-sha-512", Credentials: vault},
	})
	if err != nil {
		return err
	}
	defer p.Close()
	prometheus.MustRegister(producerprom.NewCollector(p))
	var rec *producertest.Recorder
	for _, pub := range []interface {
		Publish(ctx context.Context, events ...schemas.Event) (schemas.Token, error)
	}{p, rec} {
		if _, err := pub.Publish(ctx, schemas.Event{Dataset: "users", Key: "42", Op: schemas.Delete, Version: 8}); err != nil {
			return err
		}
	}
	for _, t := range p.Stats().Troubled {
		fmt.Fprintln(os.Stdout, t.Topic, t.Err)
	}
	return nil
}

func cache(ctx context.Context, datasets *schemas.Datasets, rdb redis.UniversalClient) error {
	listed, err := registries()
	if err != nil {
		return err
	}
	node, err := invalidation.Join(ctx, rdb, invalidation.Config{Namespace: "shop", Datasets: datasets, Address: "shop-1:9100", Registry: listed})
	if err != nil {
		return err
	}
	defer node.Close()
	prometheus.MustRegister(nodeprom.NewCollector(node))
	users, err := invalidation.NewCache(node, invalidation.CacheConfig[user]{Dataset: "users", Load: load, Codec: msgpack.Codec[user]{}})
	if err != nil {
		return err
	}
	m, err := readyours.New(readyours.Config{Waiter: node, Wait: time.Second})
	if err != nil {
		return err
	}
	http.Handle("/", m.Wrap(http.NotFoundHandler()))
	_, err = users.Get(ctx, "42")
	fmt.Fprintln(os.Stdout, lane.KeysOf("shop", lane.Of("user:42", 1)))
	return err
}

// registries returns where nodes are listed.
func registries() (registry.Registry, error) {
	if os.Getenv("CONSUL") != "" {
		return consul.New(consul.Config{})
	}
	return etcd.New(etcd.Config{Endpoints: []string{"http://127.0.0.1:2379"}})
}

func load(context.Context, string, invalidation.Source) (invalidation.Loaded[user], error) {
	return invalidation.Loaded[user]{Value: user{"Ada"}, Found: true}, nil
}

func migrate(ctx context.Context) error {
	db, err := sql.Open("mysql", "shop:secret@tcp(127.0.0.1:3306)/shop")
	if err != nil {
		return err
	}
	defer db.Close()
	m, err := migrations.New(db, migrations.Config{})
	if err != nil {
		return err
	}
	steps, err := m.Up(ctx)
	fmt.Fprintln(os.Stdout, len(steps))
	return err
}

func inspect(datasets *schemas.Datasets) error {
	for _, d := range datasets.All() {
		result, err := cdc.New(cdc.Config{Dataset: d}).Decode(schemas.Record{})
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, result)
	}
	fmt.Fprintln(os.Stdout, compat.Datasets(datasets, datasets, compat.Config{}), report.Sum(), api.WorkerState{})
	return nil
}

func work(ctx context.Context, datasets *schemas.Datasets, rdb redis.UniversalClient) error {
	w, err := consumer.New(consumer.Config{
		Datasets: datasets, Namespace: "shop", Redis: rdb,
		Kafka:     consumer.Kafka{Brokers: []string{"127.0.0.1:9092"}, GetTLS: certificate, SASL: consumer.SASL{Mechanism: "plain", User: "shop", Password: "secret"}},
		MySQL:     consumer.MySQL{DSN: "shop:secret@tcp(127.0.0.1:3306)/shop", Credentials: vault, GetTLS: certificate},
		Retention: consumer.Retention{Audit: -1},
	})
	if err != nil {
		return err
	}
	defer w.Close()
	http.HandleFunc("/readyz", func(out http.ResponseWriter, _ *http.Request) { fmt.Fprintln(out, w.NotReady()) })
	http.HandleFunc("/lag", func(out http.ResponseWriter, _ *http.Request) {
		if s := w.Stats(); s.Work != nil {
			lag(out, s.Work.Consumer)
		}
	})
	return w.Run(ctx)
}

func lag(out http.ResponseWriter, g consumer.GroupStats) {
	behind := map[consumer.Partition]int64{}
	for _, p := range g.Partitions {
		behind[p.Partition] += p.LastStable - p.Applied
	}
	fmt.Fprintln(out, behind)
}

// enqueue writes an event in the transaction that changed its record.
func enqueue(ctx context.Context, datasets *schemas.Datasets, tx *sql.Tx) error {
	for _, stmt := range outbox.DDL() {
		fmt.Fprintln(os.Stdout, stmt)
	}
	box, err := outbox.New(outbox.Config{Datasets: datasets})
	if err != nil {
		return err
	}
	event := schemas.Event{Dataset: "users", Key: "1", Op: schemas.Delete}
	if err := box.Check(event); err != nil {
		return err
	}
	versions, err := box.Enqueue(ctx, tx, event)
	fmt.Fprintln(os.Stdout, versions)
	return err
}
