package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/console"
	"github.com/freshet/freshet/internal/kafkalog"
)

// Console is the admin server of the demo, with its page. OpenConsole makes it.
type Console struct {
	server *admin.Server
	kafka  *kafkalog.Client
	redis  *redis.Client
	url    string
	stop   context.CancelFunc
	ended  chan error
}

// OpenConsole serves the admin API and the console of a Rig on a loopback address, such as admin.DefaultListen. If its port is taken, another
// one is chosen, so that two demos run beside each other. The caller closes the console before the Rig.
func OpenConsole(ctx context.Context, stack *devstack.Stack, r *Rig, cfg Config, listen string) (*Console, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Console{ended: make(chan error, 1)}
	if err := c.open(ctx, stack, r, cfg, listen); err != nil {
		return nil, errors.Join(fmt.Errorf("open the console: %w", err), c.Close())
	}
	return c, nil
}

func (c *Console) open(ctx context.Context, stack *devstack.Stack, r *Rig, cfg Config, listen string) (err error) {
	if c.kafka, err = kafkalog.New(kafkalog.Config{Brokers: []string{stack.Kafka}, Logger: cfg.Logger}); err != nil {
		return err
	}
	c.redis = redis.NewClient(&redis.Options{Addr: stack.Redis})
	listen = free(ctx, listen)
	c.server, err = admin.New(admin.Config{ //nolint:contextcheck // what it makes takes the contexts of requests
		Listen: listen, Datasets: cfg.Datasets, Folder: cfg.Folder, Namespace: Namespace, Group: Group, Kafka: c.kafka, Replica: r.Replica, Redis: c.redis, Producer: r.Producer,
		Version: "demo", Rate: 1000, Logger: cfg.Logger,
		Front: func(api http.Handler, draining context.Context) (http.Handler, error) {
			return console.New(console.Config{API: api, Draining: draining, Version: "demo", Logger: cfg.Logger})
		},
	})
	if err != nil {
		return err
	}
	c.url = "http://" + listen + "/"
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	go func() { c.ended <- c.server.Run(running) }()
	return nil
}

// free returns the address, or one with a port of the system's choice if the address is taken.
func free(ctx context.Context, listen string) string {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		host, _, _ := net.SplitHostPort(listen)
		if l, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0")); err != nil {
			return listen // Run reports why
		}
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// URL is where the page is.
func (c *Console) URL() string { return c.url }

// Close ends the server and its clients.
func (c *Console) Close() error {
	var errs []error
	if c.stop != nil {
		c.stop()
		errs = append(errs, <-c.ended)
	}
	if c.redis != nil {
		errs = append(errs, c.redis.Close())
	}
	if c.kafka != nil {
		errs = append(errs, c.kafka.Close())
	}
	return errors.Join(errs...)
}

// state is what the worker reports of itself for the console.
func (w *stackWorker) state() api.WorkerState {
	s := w.worker.Stats()
	st := api.WorkerState{Owner: w.owner, Version: "demo", Began: w.began}
	if w.sampler != nil {
		stats := w.sampler.Stats()
		st.Consistency = &stats
	}
	for _, p := range s.Consumer.Partitions {
		one := api.WorkerPartition{
			Topic: p.Partition.Topic, Partition: p.Partition.ID, Applied: p.Applied, Committed: p.Committed, Paused: p.Paused, Stopped: p.Lost || p.Stopped,
		}
		if p.LastError != nil {
			one.Error = p.LastError.Error()
		}
		st.Partitions = append(st.Partitions, one)
	}
	return st
}

// staleAfter is when a copy that is older than its row is an alarm in the demo, where people wait for it.
const staleAfter = 12 * time.Second

// demoSamples is how many records a worker looks at each second.
const demoSamples = 40
