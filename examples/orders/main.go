// Command orders is an example: a service that writes its own MySQL tables and an outbox in one transaction, and reads
// through a cache. Run several of it behind a balancer: a client that changes an order finds the change in every process.
//
// A change is never lost between the commit and the publication, because the event commits with the row. The answer of a
// write has the order's version; a read that brings the version waits until it is visible, in whichever process.
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
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

//go:embed datasets
var files embed.FS

//go:embed source.sql
var ownTable string

// options of one process.
type options struct {
	listen, redis, source, replica, namespace string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8081", "address of this process")
	flag.StringVar(&o.redis, "redis", "redis://127.0.0.1:6379/0", "URL of Redis")
	flag.StringVar(&o.source, "source", "freshet:freshet@tcp(127.0.0.1:3306)/shop", "DSN of the service's own database, which has the outbox")
	flag.StringVar(&o.replica, "replica", "freshet:freshet@tcp(127.0.0.1:3306)/freshet", "DSN of the replica that freshet worker writes")
	flag.StringVar(&o.namespace, "namespace", "default", "the worker's namespace")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, o options, log *slog.Logger) (err error) {
	sub, err := fs.Sub(files, "datasets")
	if err != nil {
		return fmt.Errorf("read datasets: %w", err)
	}
	datasets, err := schemas.LoadDatasets(sub)
	if err != nil {
		return fmt.Errorf("load datasets: %w", err)
	}
	s, err := open(ctx, o, datasets, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	server := &http.Server{Addr: o.listen, Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", o.listen, err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return fmt.Errorf("end requests: %w", err)
	}
	return nil
}

// open connects a process to its databases and to Redis. Where it fails, nothing is left open. It needs no Kafka: that is
// the relay's and the worker's.
func open(ctx context.Context, o options, datasets *schemas.Datasets, log *slog.Logger) (_ *service, err error) {
	s := &service{log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.box, err = outbox.New(outbox.Config{Datasets: datasets}); err != nil {
		return nil, fmt.Errorf("make outbox: %w", err)
	}
	replica, err := sql.Open("mysql", o.replica)
	if err != nil {
		return nil, fmt.Errorf("read DSN of the replica: %w", err)
	}
	s.closers = append(s.closers, replica.Close)
	if s.own, err = sql.Open("mysql", o.source); err != nil {
		return nil, fmt.Errorf("read DSN of the source: %w", err)
	}
	s.closers = append(s.closers, s.own.Close)
	if _, err = s.own.ExecContext(ctx, ownTable); err != nil {
		return nil, fmt.Errorf("create own table: %w", err)
	}
	redisOptions, err := redis.ParseURL(o.redis)
	if err != nil {
		return nil, fmt.Errorf("read URL of Redis: %w", err)
	}
	rdb := redis.NewClient(redisOptions)
	s.closers = append(s.closers, rdb.Close)
	node, err := invalidation.Join(ctx, rdb, invalidation.Config{Namespace: o.namespace, Datasets: datasets, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("join namespace %s: %w", o.namespace, err)
	}
	s.closers = append(s.closers, node.Close)
	s.cache, err = invalidation.NewCache(node, invalidation.CacheConfig[order]{Dataset: "orders", Load: loader(replica)})
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	return s, nil
}

// close closes in the reverse order of opening.
func (s *service) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}
