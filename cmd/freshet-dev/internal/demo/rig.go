package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	gomysql "github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// Group and Namespace of the demo's workers and lanes.
const (
	Group     = "freshet-demo"
	Namespace = "demo"
)

// partitions of each of the demo's topics.
const partitions = 2

// Rig is a Shop on an embedded stack, with everything that it needs.
type Rig struct {
	Shop *Shop
	// Replica is the connection from which the nodes load.
	Replica *replica.DB
	// Producer publishes invalidations.
	Producer *producer.Producer
	// source has the shop's own records and their events.
	source *source
}

// Open makes tables and topics on the stack and a Shop upon them. It fills in what reports where things are: Publisher, Rows,
// Redis, Namespace, EmptyRedis, DeadLetters, and NewWorker unless it is given; the rest of cfg is the caller's. The caller runs the Shop and then closes the Rig, and after it the stack.
func Open(ctx context.Context, stack *devstack.Stack, cfg Config) (*Rig, error) {
	r := &Rig{}
	if err := r.open(ctx, stack, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open the shop: %w", err), r.Close())
	}
	return r, nil
}

func (r *Rig) open(ctx context.Context, stack *devstack.Stack, cfg Config) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := r.prepare(ctx, stack, &cfg); err != nil {
		return err
	}
	var err error
	r.Producer, err = producer.New(producer.Config{
		Brokers: []string{stack.Kafka}, Datasets: cfg.Datasets, Source: "//shop/db", Logger: cfg.Logger,
		CloseTimeout: 5 * time.Second,
	})
	if err != nil {
		return err
	}
	if r.source, err = openSource(ctx, stack, cfg.Datasets, r.Producer, cfg.Logger); err != nil {
		return err
	}
	cfg.Publisher, cfg.Rows, cfg.Namespace = r.source, r.Replica.Rows, Namespace
	cfg.Redis = &redis.Options{Addr: stack.Redis}
	cfg.EmptyRedis = func(context.Context) error { stack.FlushRedis(); return nil }
	cfg.DeadLetters = r.deadLetters
	var made atomic.Int64
	if cfg.NewWorker == nil {
		cfg.NewWorker = func(ctx context.Context, wrap func(worker.Emitter) worker.Emitter) (Worker, error) {
			return NewStackWorker(ctx, stack, cfg, fmt.Sprintf("worker%d", made.Add(1)), wrap)
		}
	}
	r.Shop, err = New(cfg)
	return err
}

// prepare makes the tables and topics, and opens the replica for loaders.
func (r *Rig) prepare(ctx context.Context, stack *devstack.Stack, cfg *Config) error {
	connector, err := stack.MySQL.Connector()
	if err != nil {
		return err
	}
	if r.Replica, err = replica.Open(ctx, replica.Config{MySQL: mysql.Config{Connector: connector, PlainSession: true, ReadConns: 8, Logger: cfg.Logger}}); err != nil {
		return err
	}
	// The migrations' lock would need a connection that parses times, and this process has the database to itself.
	m, err := migrations.New(r.Replica.SQL(), migrations.Config{NoLock: true, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	if _, err := m.Up(ctx); err != nil {
		return err
	}
	if _, err := tables.Migrate(ctx, r.Replica.SQL(), cfg.Datasets.All(), false); err != nil {
		return err
	}
	client, err := kafkalog.New(kafkalog.Config{Brokers: []string{stack.Kafka}, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	topics := []kafkalog.TopicSpec{{Name: schemas.InvalidationTopic(Namespace), Partitions: 1}}
	for _, d := range cfg.Datasets.All() {
		topics = append(topics, kafkalog.TopicSpec{Name: d.Topic, Partitions: partitions})
	}
	return errors.Join(client.CreateTopics(ctx, topics), client.Close())
}

func (r *Rig) deadLetters(ctx context.Context) (int64, error) {
	counts, err := r.Replica.Letters.Count(ctx, "")
	if err != nil {
		return 0, err
	}
	var n int64
	for _, c := range counts {
		n += c
	}
	return n, nil
}

// Close ends what Open opened. The Shop must not run any more.
func (r *Rig) Close() error {
	var errs []error
	if r.source != nil {
		errs = append(errs, r.source.close())
	}
	if r.Producer != nil {
		errs = append(errs, r.Producer.Close())
	}
	if r.Replica != nil {
		errs = append(errs, r.Replica.Close())
	}
	return errors.Join(errs...)
}

// stackWorker is a worker whose every connection can be cut.
type stackWorker struct {
	worker  *worker.Worker
	wires   wires
	kafka   *kafkalog.Client
	replica *replica.DB
	redis   *redis.Client
	emitter *invalidation.Emitter
	sampler *consistency.Sampler
	jobs    *jobs.Runner

	owner string
	began time.Time
	log   *slog.Logger
}

// NewStackWorker makes a worker on the stack, under a name that begins with owner. Of cfg it takes Datasets, Session,
// CheckInterval and Logger.
func NewStackWorker(
	ctx context.Context, stack *devstack.Stack, cfg Config, owner string, wrap func(worker.Emitter) worker.Emitter,
) (Worker, error) {
	w := &stackWorker{}
	if err := w.open(ctx, stack, cfg, owner, wrap); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *stackWorker) open(
	ctx context.Context, stack *devstack.Stack, cfg Config, owner string, wrap func(worker.Emitter) worker.Emitter,
) error {
	dsn, err := gomysql.ParseDSN(stack.MySQL.DSN())
	if err != nil {
		return fmt.Errorf("parse the stack's DSN: %w", err)
	}
	dsn.DialFunc = w.wires.dial
	dsn.Logger = &gomysql.NopLogger{} // severed connections are no news
	connector, err := gomysql.NewConnector(dsn)
	if err != nil {
		return fmt.Errorf("make connector: %w", err)
	}
	session := orElse(cfg.Session, DefaultSession)
	w.replica, err = replica.Open(ctx, replica.Config{MySQL: mysql.Config{Connector: connector, PlainSession: true, Logger: cfg.Logger}, SessionTimeout: session})
	if err != nil {
		return err
	}
	w.redis = redis.NewClient(&redis.Options{Addr: stack.Redis, Dialer: w.wires.dial})
	w.emitter, err = invalidation.NewEmitter(w.redis, invalidation.EmitterConfig{
		Namespace: Namespace, SkipServerCheck: true, Logger: cfg.Logger,
	})
	if err != nil {
		return err
	}
	w.kafka, err = kafkalog.New(kafkalog.Config{Brokers: []string{stack.Kafka}, Dial: w.wires.dial, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	w.owner, w.began, w.log = fmt.Sprintf("%s-%d", owner, time.Now().UnixNano()), time.Now(), cfg.Logger
	tiers, err := consistency.NewReader(w.redis, Namespace, 1)
	if err != nil {
		return err
	}
	w.sampler, err = consistency.New(consistency.Config{
		Datasets: cfg.Datasets, Replica: w.replica.Rows, Tiers: tiers, Records: demoSamples, Alarm: staleAfter, Confirm: staleAfter / 4, Logger: cfg.Logger,
		Windows: []time.Duration{100 * time.Millisecond, time.Second, staleAfter},
	})
	if err != nil {
		return err
	}
	w.worker, err = worker.New(worker.Config{
		Group: Group, Owner: w.owner, Datasets: cfg.Datasets, Kafka: w.kafka,
		Replica: w.replica, Emitter: wrap(w.emitter), LaneLog: w.replica.Lanes(Namespace),
		Namespace:     Namespace,
		Consumer:      group.Config{SessionTimeout: session},
		CheckInterval: orElse(cfg.CheckInterval, DefaultCheckInterval), Logger: cfg.Logger, Changed: w.sampler.Changed,
	})
	if err != nil {
		return err
	}
	w.jobs, err = jobs.New(jobs.Config{
		Owner: w.owner, Namespace: Namespace, Datasets: cfg.Datasets, Kafka: w.kafka, Replica: w.replica, Lanes: w.worker, Logger: cfg.Logger,
	})
	return err
}

// Run is Worker's.
func (w *stackWorker) Run(ctx context.Context) error {
	defer w.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.sampler.Run(ctx) })
	g.Go(func() error { return w.jobs.Run(ctx) })
	g.Go(func() error { return roster.Announce(ctx, w.replica.SQL(), w.state, w.log) })
	g.Go(func() error { return w.worker.Run(ctx) })
	return g.Wait()
}

// Sever is Worker's.
func (w *stackWorker) Sever() { w.wires.cut() }

// close ends the worker's clients. What cannot be closed properly on severed wires is of no interest.
func (w *stackWorker) close() {
	w.wires.cut()
	if w.emitter != nil {
		_ = w.emitter.Close()
	}
	if w.redis != nil {
		_ = w.redis.Close()
	}
	if w.kafka != nil {
		_ = w.kafka.Close()
	}
	if w.replica != nil {
		_ = w.replica.Close()
	}
}

// wires are connections that can be cut all at once, permanently.
type wires struct {
	mu    sync.Mutex
	cutOf bool                  // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu
}

// errCut comes from dialing after cut.
var errCut = fmt.Errorf("wires are cut: %w", net.ErrClosed)

func (w *wires) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cutOf {
		return nil, errors.Join(errCut, c.Close())
	}
	if w.conns == nil {
		w.conns = map[net.Conn]struct{}{}
	}
	wc := &wire{Conn: c, of: w}
	w.conns[wc] = struct{}{}
	return wc, nil
}

// cut closes every connection and lets no other be made.
func (w *wires) cut() {
	w.mu.Lock()
	w.cutOf = true
	conns := w.conns
	w.conns = nil
	w.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
}

// wire is a connection that is forgotten when it is closed.
type wire struct {
	net.Conn

	of *wires
}

// Close is net.Conn's.
func (c *wire) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

var (
	_ Publisher = (*source)(nil)
	_ Rows      = (*replica.Rows)(nil)
)
