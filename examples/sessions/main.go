// Command sessions is an example: a session store for services that run as several nodes behind a balancer. A user may
// come to another node with each request and never finds an older session there than the one they wrote last.
//
// A session is written to the service's own table and published; the worker carries it to the replica and tells the nodes,
// whose caches serve the reads. The answer of a write has a token, which the client sends with the next request.
package main

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

//go:embed datasets
var files embed.FS

// options of one node.
type options struct {
	listen, brokers, redis, dsn, namespace string
	lanes                                  int
	drain                                  time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8081", "address of this node")
	flag.StringVar(&o.brokers, "brokers", "127.0.0.1:9092", "Kafka, host:port separated by commas")
	flag.StringVar(&o.redis, "redis", "redis://127.0.0.1:6379/0", "URL of Redis")
	flag.StringVar(&o.dsn, "mysql", "freshet:freshet@tcp(127.0.0.1:3306)/freshet", "DSN of the replica's database; the service's own table is in it, too")
	flag.StringVar(&o.namespace, "namespace", "default", "the worker's namespace")
	flag.IntVar(&o.lanes, "lanes", 0, "the worker's number of lanes; 0 means 1")
	flag.DurationVar(&o.drain, "drain", 5*time.Second, "how long the checks fail before the listener closes; longer than the balancer needs to notice")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	datasets, err := schemas.LoadDatasets(declarations())
	if err == nil {
		err = run(ctx, o, datasets, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sessions:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and then until the balancer has noticed and the requests under way are answered.
func run(ctx context.Context, o options, datasets *schemas.Datasets, log *slog.Logger) (err error) {
	n, err := open(ctx, o, datasets, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	server := &http.Server{Addr: o.listen, Handler: n.handler, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", o.listen, err)
	case <-ctx.Done():
	}
	n.draining.Store(true)
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", o.listen, err)
	case <-time.After(o.drain):
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return fmt.Errorf("end requests: %w", err)
	}
	return nil
}

// node is one process of the service.
type node struct {
	handler  http.Handler
	draining atomic.Bool
	closers  []func() error
}

// open connects a node to everything. Where it fails, nothing is left open.
func open(ctx context.Context, o options, datasets *schemas.Datasets, log *slog.Logger) (_ *node, err error) {
	n := &node{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	db, err := sql.Open("mysql", o.dsn)
	if err != nil {
		return nil, fmt.Errorf("read DSN: %w", err)
	}
	n.closers = append(n.closers, db.Close)
	if _, err = db.ExecContext(ctx, ownTable); err != nil {
		return nil, fmt.Errorf("create own table: %w", err)
	}
	redisOptions, err := redis.ParseURL(o.redis)
	if err != nil {
		return nil, fmt.Errorf("read URL of Redis: %w", err)
	}
	rdb := redis.NewClient(redisOptions)
	n.closers = append(n.closers, rdb.Close)
	follower, err := invalidation.Join(ctx, rdb, invalidation.Config{Namespace: o.namespace, Datasets: datasets, Lanes: o.lanes, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("join namespace %s: %w", o.namespace, err)
	}
	n.closers = append(n.closers, follower.Close)
	cache, err := invalidation.NewCache(follower, invalidation.CacheConfig[session]{Dataset: "sessions", Load: loader(db)})
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	p, err := producer.New(producer.Config{Brokers: strings.Split(o.brokers, ","), Datasets: datasets, Source: "//sessions", Logger: log})
	if err != nil {
		return nil, fmt.Errorf("make producer: %w", err)
	}
	n.closers = append(n.closers, p.Close)
	s := &service{store: &store{own: db, publisher: p, cache: cache}, draining: &n.draining, log: log}
	if n.handler, err = s.handler(follower); err != nil {
		return nil, err
	}
	return n, nil
}

// close closes in the reverse order of opening.
func (n *node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	return errors.Join(errs...)
}

// declarations are the files that the worker reads, too.
func declarations() fs.FS {
	sub, err := fs.Sub(files, "datasets")
	if err != nil {
		panic("sessions: embedded folder: " + err.Error()) // the folder is part of the program
	}
	return sub
}
