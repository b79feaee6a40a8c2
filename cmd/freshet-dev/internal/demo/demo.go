// Package demo is the engine of `freshet-dev`: a small shop whose records change all the time, whose changes travel
// through the real producer, worker and lanes, and whose records are read all the time by several nodes, each with its own
// connections as a process of its own would have. An Oracle that knows the truth judges every single read.
//
// Faults are methods of Shop: PauseNode, CutNode, DropMessages, KillWorker, FlushRedis. Chaos does them by itself.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// Defaults of Config.
const (
	DefaultNodes         = 3
	DefaultRate          = 100
	DefaultReads         = 500
	DefaultRecords       = 200
	DefaultCheckInterval = time.Second
	DefaultSession       = 10 * time.Second
	// RepairAllowance is what the Oracle grants a worker for filling a lane again, once it has noticed the loss.
	RepairAllowance = 2 * time.Second
)

// Errors of a Shop.
var (
	// ErrNotRunning: the shop is not running yet, or no longer.
	ErrNotRunning = errors.New("the shop is not running")
	// ErrNoNode: there is no node of that number.
	ErrNoNode = errors.New("no such node")
	// ErrWriting: Converged was asked while writes continue.
	ErrWriting = errors.New("writes continue: stop them first")
)

// Publisher is how the shop reports what changed.
type Publisher interface {
	// PublishAsync commits a change and calls done with its event's token when it is published; events of one record keep
	// their order.
	PublishAsync(ctx context.Context, ev schemas.Event, done func(schemas.Token, error)) error
	// Publisher lets the nodes invalidate what no event changed.
	invalidation.Publisher
}

// Rows reads the replica; *replica.Rows does.
type Rows interface {
	Get(ctx context.Context, ds *schemas.Dataset, key string) (replica.Row, error)
}

// Worker is one worker with connections of its own.
type Worker interface {
	// Run carries events until ctx ends.
	Run(ctx context.Context) error
	// Sever closes the worker's connections, whatever is under way on them, as the death of its process would. It may be
	// called again.
	Sever()
}

// Config of a Shop. Datasets, Publisher, Rows, Redis, NewWorker and Namespace are required; everything else may be zero.
type Config struct {
	// Datasets are those of examples/shop.
	Datasets *schemas.Datasets
	// Folder is where their declarations are, for the console; nil: it neither shows nor checks declarations.
	Folder fs.FS
	// Publisher sends the shop's changes.
	Publisher Publisher
	// Rows is what nodes load from.
	Rows Rows
	// Redis states where the lanes are; each node makes its own client with its own Dialer.
	Redis *redis.Options
	// Namespace of the lanes.
	Namespace string
	// NewWorker makes a worker. It puts wrap around the worker's Emitter, so that the Oracle learns what was acknowledged.
	NewWorker func(ctx context.Context, wrap func(worker.Emitter) worker.Emitter) (Worker, error)
	// EmptyRedis empties Redis; nil: FlushRedis is refused.
	EmptyRedis func(ctx context.Context) error
	// DeadLetters counts them, for Snapshot; nil: not shown.
	DeadLetters func(ctx context.Context) (int64, error)
	// Nodes is the number of nodes; 0 means DefaultNodes.
	Nodes int
	// Rate is the number of changes per second; 0 means DefaultRate.
	Rate int
	// Reads is the number of reads per second and node; 0 means DefaultReads.
	Reads int
	// Records is the number of records of each dataset; 0 means DefaultRecords. The embedded MySQL copies a whole table
	// for each statement: thousands are slow.
	Records int
	// MaxStaleness and PollInterval are the nodes'; 0 means the defaults of package invalidation.
	MaxStaleness, PollInterval time.Duration
	// CheckInterval and Session are the worker's CheckInterval and its group's session time-out, which lengthen the bound
	// after a loss of Redis; 0 means DefaultCheckInterval and DefaultSession.
	CheckInterval, Session time.Duration
	// Seed makes the choices of traffic, readers and chaos repeatable as far as concurrency allows.
	Seed uint64
	// Chaos reports whether faults happen by themselves from the start; see SetChaos.
	Chaos bool
	// Stale plants one stale copy at the start; see PlantStale.
	Stale bool
	// Logger; nil discards.
	Logger *slog.Logger
}

// Shop is the running demonstration. New makes it, Run runs it.
type Shop struct {
	cfg     Config
	log     *slog.Logger
	oracle  *Oracle
	traffic *traffic
	workers *workers
	nodes   []*node
	latency latencies
	chaos   atomic.Bool
	letters atomic.Int64

	mu      sync.Mutex
	running bool    // guarded by mu
	flushed int64   // guarded by mu
	history []Event // newest last; guarded by mu
	broken  []Violation
}

// Event is something that happened, for people to read.
type Event struct {
	At   time.Time
	Text string
}

// Violation is a read that was not allowed to serve what it served.
type Violation struct {
	At       time.Time
	Node     int
	Dataset  string
	Key      string
	Verdict  Verdict
	Got      int64 // version served; 0: said not to exist
	Want     int64 // version that it had to reach
	ReadTook time.Duration
}

// New checks the configuration. It does not touch the network.
func New(cfg Config) (*Shop, error) {
	for name, absent := range map[string]bool{
		"Datasets": cfg.Datasets == nil, "Publisher": cfg.Publisher == nil, "Rows": cfg.Rows == nil,
		"Redis": cfg.Redis == nil, "NewWorker": cfg.NewWorker == nil, "Namespace": cfg.Namespace == "",
	} {
		if absent {
			return nil, fmt.Errorf("demo: %s is missing", name)
		}
	}
	if cfg.Nodes < 0 || cfg.Rate < 0 || cfg.Reads < 0 || cfg.Records < 0 {
		return nil, errors.New("demo: Nodes, Rate, Reads and Records must not be negative")
	}
	cfg.Nodes = orElse(cfg.Nodes, DefaultNodes)
	cfg.Rate = orElse(cfg.Rate, DefaultRate)
	cfg.Reads = orElse(cfg.Reads, DefaultReads)
	cfg.Records = orElse(cfg.Records, DefaultRecords)
	cfg.MaxStaleness = orElse(cfg.MaxStaleness, invalidation.DefaultMaxStaleness)
	cfg.PollInterval = orElse(cfg.PollInterval, invalidation.DefaultPollInterval)
	cfg.CheckInterval = orElse(cfg.CheckInterval, DefaultCheckInterval)
	cfg.Session = orElse(cfg.Session, DefaultSession)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Shop{cfg: cfg, log: cfg.Logger.With("component", "demo")}
	// Versions grow with time, so that a second run over a Kafka that remembers the first continues above it.
	first := time.Now().UnixMicro()
	s.oracle = NewOracle(cfg.MaxStaleness, first)
	t, err := newTraffic(cfg, s.oracle, first)
	if err != nil {
		return nil, err
	}
	t.sample = s.latency.begin
	s.traffic = t
	s.workers = newWorkers(cfg, s.log, s.oracle)
	for i := range cfg.Nodes {
		s.nodes = append(s.nodes, newNode(i, s))
	}
	s.chaos.Store(cfg.Chaos)
	return s, nil
}

func orElse[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Run runs the shop until ctx ends: worker, nodes, readers, writes, and faults if they are switched on. It returns nil
// then, or the error that kept it from continuing.
func (s *Shop) Run(ctx context.Context) error {
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return s.workers.run(running) })
	if err := s.join(running); err != nil {
		g.Go(func() error { return err })
	} else {
		s.setRunning(true)
		for _, n := range s.nodes {
			g.Go(func() error { return n.read(running) })
		}
		g.Go(func() error { return s.traffic.run(running) })
		g.Go(func() error { return s.measure(running) })
		g.Go(func() error { return s.tend(running) })
		g.Go(func() error { return s.runChaos(running) })
		if s.cfg.Stale {
			g.Go(func() error {
				if err := s.PlantStale(running); err != nil && running.Err() == nil {
					return err
				}
				return nil
			})
		}
	}
	err := g.Wait()
	s.setRunning(false)
	s.closeNodes()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("run the shop: %w", err)
	}
	return nil
}

func (s *Shop) join(ctx context.Context) error {
	for _, n := range s.nodes {
		if err := n.join(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Shop) closeNodes() {
	for _, n := range s.nodes {
		n.close()
	}
}

func (s *Shop) setRunning(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = on
}

func (s *Shop) isRunning() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// maxHistory bounds the events and violations that are kept.
const maxHistory = 100

// tell notes an event.
func (s *Shop) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, Event{time.Now(), fmt.Sprintf(format, args...)})
	if len(s.history) > maxHistory {
		s.history = s.history[1:]
	}
}

func (s *Shop) violated(v Violation) {
	s.log.Error("a read served what it must not", "dataset", v.Dataset, "node", v.Node, "got", v.Got, "want", v.Want, "verdict", v.Verdict)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.broken) < maxHistory {
		s.broken = append(s.broken, v)
	}
}

// tend ends the faults whose time is over, and asks for the number of dead letters.
func (s *Shop) tend(ctx context.Context) error {
	often, seldom := time.NewTicker(20*time.Millisecond), time.NewTicker(time.Second)
	defer often.Stop()
	defer seldom.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-often.C:
			for _, n := range s.nodes {
				n.heal(now)
			}
		case <-seldom.C:
			if s.cfg.DeadLetters == nil {
				continue
			}
			n, err := s.cfg.DeadLetters(ctx)
			if err != nil {
				if ctx.Err() == nil {
					s.log.Warn("dead letters cannot be counted", "error", err)
				}
				continue
			}
			s.letters.Store(n)
		}
	}
}
