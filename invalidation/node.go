package invalidation

import (
	"cmp"
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/registry"
	"github.com/freshet/freshet/schemas"
)

// Defaults of Config.
const (
	DefaultMaxStaleness = 10 * time.Second
	DefaultPollInterval = time.Second
	DefaultLeaseTTL     = lane.DefaultLeaseTTL
	DefaultHold         = lane.DefaultHold
	DefaultJoinWait     = 2 * time.Second
)

// cacheTimeout and controlTimeout bound one read or write: a cache that is slower than its source is none.
const (
	cacheTimeout   = 500 * time.Millisecond
	controlTimeout = time.Second
)

// maxTrouble is how many reads of the shared tier may fail in a row before it is passed by.
const maxTrouble = 3

// Errors of a Node.
var (
	// ErrConfig comes, wrapped, from Join and NewCache for a configuration that cannot work.
	ErrConfig = errors.New("configuration refused")
	// ErrClosed: the node is closed.
	ErrClosed = errors.New("node is closed")
	// ErrNoPublisher: Invalidate was called on a node whose Config.Publisher is nil.
	ErrNoPublisher = errors.New("node has no publisher: set Config.Publisher to invalidate from here")
)

// Publisher lets a node invalidate: it appends to the topic that carries other writers' invalidations, so that workers
// emit them like all others. *producer.Producer implements it.
type Publisher interface {
	// Invalidate publishes names of cache keys and tags of a namespace. Calling it again does no harm.
	Invalidate(ctx context.Context, namespace string, names, tags []string) (schemas.Token, error)
}

// Config of a Node. The zero value of every field but Namespace and Datasets works.
type Config struct {
	// Namespace is the workers' namespace; required.
	Namespace string
	// Datasets are the declarations that producers and workers use too; required.
	Datasets *schemas.Datasets
	// Lanes is the namespace's fixed number of lanes, as the workers have it; 0 means 1.
	Lanes int
	// Sharded follows the lanes by sharded Pub/Sub: set it if and only if the workers publish so. Redis 7.
	Sharded bool
	// MaxStaleness: a local entry is served only while every invalidation up to that long ago is known to have been seen.
	// 0 means DefaultMaxStaleness; more than three times PollInterval.
	MaxStaleness time.Duration
	// PollInterval is how often the node compares itself with the lane; 0 means DefaultPollInterval.
	PollInterval time.Duration
	// LeaseTTL is how long a lease to fill a shared entry lives, at least as long as the slowest load; 0 means
	// DefaultLeaseTTL.
	LeaseTTL time.Duration
	// Hold is the namespace's hold, as the workers have it; 0 means DefaultHold. Negative: the namespace has none,
	// because every load of every node reads the primary.
	Hold time.Duration
	// JoinWait is how long Join waits for the first look at the lane before it returns a node that bypasses; 0 means
	// DefaultJoinWait.
	JoinWait time.Duration
	// ID names the node in Stats, in logs and in Redis's CLIENT LIST; "" means the host's name and a random part.
	ID string
	// Address is host:port of this process's metrics, for those who look at all nodes (service discovery); "" means none.
	Address string
	// Registry lists the process in etcd, Consul or a registry of your own, with ID, Address (then required) and the status warning while
	// NotReady is not empty, until Close; nil: nowhere. A registry that is away delays nothing but Close, by at most two seconds.
	Registry registry.Registry
	// Publisher lets Invalidate work; nil: it returns ErrNoPublisher.
	Publisher Publisher
	// Logger; nil discards.
	Logger *slog.Logger
	// TracerProvider records a span when the node has dropped what a change of a sampled trace made stale; nil: none.
	TracerProvider trace.TracerProvider
}

// Node follows a namespace's lanes on behalf of the caches of one process: it drops local entries that became stale, and
// knows of each lane whether it has seen every invalidation. Make one per process and namespace with Join, and end it with Close.
type Node struct {
	cfg      Config
	log      *slog.Logger
	datasets map[string]*dataset
	names    []string // of datasets

	given    redis.UniversalClient // Join's; only asked whether it gets through where the others do not
	commands redis.UniversalClient // cache reads and fills
	control  redis.UniversalClient // subscriptions and syncs, so that reads cannot starve them
	scripts  *lane.Scripts         // over commands
	reader   *lane.Scripts         // over control

	clock logical
	lanes []*follower
	began time.Time

	jumps  atomic.Int64  // how often the machine was suspended
	nonce  uint64        // makes the tokens of this process unlike those of any other with the same ID
	tokens atomic.Uint64 // numbers the fill attempts
	// suspended is the monotonic time at which the last suspension of the machine was seen: what was read before is older than
	// it looks.
	suspended atomic.Int64
	waited    atomic.Int64 // logical time of the last WaitFor that succeeded
	waitedAt  atomic.Int64 // monotonic time of it
	waits     waits

	keeper *registry.Keeper // nil without Config.Registry

	caches atomic.Pointer[[]localTier]
	crew   crew
	behind chan struct{} // a place for each fill that may run behind its answer

	passes   atomic.Bool            // given gets through, and the node's own connections do not
	unlisted atomic.Pointer[string] // why Nodes does not show the node

	ctx    context.Context //nolint:containedctx // the life of the node's goroutines; ended by Close
	cancel context.CancelFunc
	mu     sync.Mutex // guards closed and registration, and that nothing is added to wg after Close
	closed bool
	wg     sync.WaitGroup
}

// localTier is what a node asks of a cache.
type localTier interface {
	// drop removes the entry of a cache key unless it is as new as version; 0 always removes.
	drop(name string, version int64)
	// title reports what it caches; a node has one cache of each.
	title() string
	// held returns the local entry of a cache key, without its value.
	held(name string) (Held, bool)
	// Stats returns a snapshot.
	Stats() CacheStats
}

// dataset is a dataset with a cache section and what each lane says of it.
type dataset struct {
	declared *schemas.Dataset
	hash     string
	lanes    []agreement
}

// agreement is what one lane says of one dataset.
type agreement struct {
	// agreed: the lane was written with the same cache section. Else keys and tags may differ, and both tiers are left
	// alone for the dataset's keys in that lane.
	agreed atomic.Bool
	// since is the logical time since when it has been agreed: entries from before are void.
	since atomic.Int64
	// known: the lane has a cache section of the dataset. differs: it is another one.
	known, differs atomic.Bool
}

// Join makes a node and begins to follow the lanes. It returns once each lane was looked at, or after Config.JoinWait: a
// node whose lane or Redis is missing works all the same, its caches ask their loaders, and it continues trying (Stats says
// so). ctx bounds the joining only; the node lives until Close.
//
// rdb is a *redis.Client of a single Redis or behind Sentinel (redis.NewFailoverClient), or a *redis.ClusterClient that
// reads from masters. The node has connections of its own, made from the client's options; the client must stay open as
// long as the node, which does not close it. Errors wrap ErrConfig, or are ctx's.
func Join(ctx context.Context, rdb redis.UniversalClient, cfg Config) (*Node, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Logger.With("component", "node", "node", cfg.ID), datasets: map[string]*dataset{}, began: time.Now()}
	for _, d := range cfg.Datasets.All() {
		if u := d.Unbuilt(); len(u) > 0 {
			return nil, fmt.Errorf("%w: dataset %s: %w: %s", ErrConfig, d.Name, ErrNotBuilt, strings.Join(u, "; "))
		}
		if d.Cache != nil {
			n.datasets[d.Name] = &dataset{declared: d, hash: d.CacheHash(), lanes: make([]agreement, cfg.Lanes)}
			n.names = append(n.names, d.Name)
		}
	}
	if err := n.connect(rdb); err != nil {
		return nil, err
	}
	n.clock.seed = maphash.MakeSeed()
	n.nonce = rand.Uint64()
	n.caches.Store(&[]localTier{})
	n.crew.next = make(chan job)
	n.behind = make(chan struct{}, cacheConnections()/2) // the other connections are left to readers
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for i := range cfg.Lanes {
		n.lanes = append(n.lanes, newFollower(n, i))
	}
	if err := n.enlist(); err != nil {
		n.cancel()
		return nil, errors.Join(err, n.commands.Close(), n.control.Close())
	}
	for _, f := range n.lanes {
		n.wg.Go(f.receive)
		n.wg.Go(f.syncs)
	}
	n.wg.Go(n.watchClocks)
	n.wg.Go(readiness{n}.watch)
	n.wg.Go((&presence{n: n, keys: presenceOf(n.cfg.Namespace), version: moduleVersion()}).run)
	if err := n.reach(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("join namespace %s: %w", cfg.Namespace, err), n.Close())
	}
	return n, nil
}

// reach waits for the first look at each lane, for JoinWait in all.
func (n *Node) reach(ctx context.Context) error {
	t := time.NewTimer(n.cfg.JoinWait)
	defer t.Stop()
	for _, f := range n.lanes {
		select {
		case <-f.first:
		case <-t.C:
			n.log.Info("a lane was not reached yet; its keys bypass the caches until it is", "lane", f.n, "wait_seconds", n.cfg.JoinWait)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := f.refused(); err != nil {
			return err
		}
	}
	return nil
}

func (cfg *Config) fill() error {
	if err := lane.CheckNamespace(cfg.Namespace); err != nil {
		return fmt.Errorf("Namespace: %w: %w", ErrConfig, err)
	}
	if cfg.Datasets == nil {
		return fmt.Errorf("%w: Datasets is nil; give what schemas.LoadDatasets returned", ErrConfig)
	}
	if cfg.Lanes < 0 || cfg.Lanes > lane.MaxLanes {
		return fmt.Errorf("%w: Lanes is %d; a namespace has 1 to %d", ErrConfig, cfg.Lanes, lane.MaxLanes)
	}
	for _, f := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"MaxStaleness", &cfg.MaxStaleness, DefaultMaxStaleness},
		{"PollInterval", &cfg.PollInterval, DefaultPollInterval},
		{"LeaseTTL", &cfg.LeaseTTL, DefaultLeaseTTL},
		{"JoinWait", &cfg.JoinWait, DefaultJoinWait},
	} {
		if *f.v < 0 {
			return fmt.Errorf("%w: %s is %s; it must not be negative", ErrConfig, f.name, *f.v)
		}
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	if cfg.MaxStaleness <= 3*cfg.PollInterval {
		return fmt.Errorf("%w: MaxStaleness is %s; it must be more than three times PollInterval, which is %s",
			ErrConfig, cfg.MaxStaleness, cfg.PollInterval)
	}
	cfg.Lanes = cmp.Or(cfg.Lanes, lane.DefaultLanes)
	cfg.Hold = cmp.Or(cfg.Hold, DefaultHold)
	if cfg.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "node"
		}
		cfg.ID = host + "-" + cryptorand.Text()[:6]
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// cacheConnections is how many connections cache reads and fills have.
func cacheConnections() int { return 10 * runtime.GOMAXPROCS(0) }

// connect makes the node's own clients. Reads and syncs are apart, so that neither can starve the other.
func (n *Node) connect(rdb redis.UniversalClient) error {
	err := checkClient(rdb)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	n.given = rdb
	n.commands = dedicated(rdb, clientRole{name: "cache", timeout: cacheTimeout, retries: 1, pool: cacheConnections()})
	n.control = dedicated(rdb, clientRole{name: "node", timeout: controlTimeout, pool: 4 + n.cfg.Lanes})
	lanes := lane.Config{Namespace: n.cfg.Namespace, Lanes: n.cfg.Lanes, Hold: n.cfg.Hold, LeaseTTL: n.cfg.LeaseTTL}
	if n.scripts, err = lane.New(n.commands, lanes); err == nil {
		n.reader, err = lane.New(n.control, lanes)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

// Close ends the node and waits for its goroutines and for the loads that run. Its caches return ErrClosed from then on.
// Calling it again does nothing.
func (n *Node) Close() error {
	n.mu.Lock()
	again := n.closed
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	n.wg.Wait()
	n.suspended.Store(math.MaxInt64) // no local entry is within its bound any more, so that hits need not look whether the node is closed
	for _, f := range n.lanes {
		f.view.suspect()
	}
	if again {
		return nil
	}
	if err := errors.Join(n.commands.Close(), n.control.Close()); err != nil {
		return fmt.Errorf("close node: %w", err)
	}
	return nil
}

// enter keeps Close from returning until leave is called; false after Close.
func (n *Node) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.wg.Add(1)
	return true
}

func (n *Node) leave() { n.wg.Done() }

// register makes the node drop entries of c.
func (n *Node) register(c localTier) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	old := *n.caches.Load()
	for _, o := range old {
		if o.title() == c.title() {
			return fmt.Errorf("%w: the node has a cache of %s already; share it", ErrConfig, c.title())
		}
	}
	all := append(append([]localTier(nil), old...), c)
	n.caches.Store(&all)
	return nil
}

// drop is called with the stripe of name locked.
func (n *Node) drop(name string, version int64) {
	for _, c := range *n.caches.Load() {
		c.drop(name, version)
	}
}

// now is the monotonic time since the node began; never 0.
func (n *Node) now() int64 { return int64(time.Since(n.began)) + 1 }

// token names a fill attempt.
func (n *Node) token() string {
	return fmt.Sprintf("%s-%x-%x", n.cfg.ID, n.nonce, n.tokens.Add(1))
}

// Invalidate makes the named cache entries and everything with one of the tags stale on all nodes. It needs
// Config.Publisher and takes effect when a worker has read it; WaitFor waits for that.
func (n *Node) Invalidate(ctx context.Context, names, tags []string) (schemas.Token, error) {
	if n.cfg.Publisher == nil {
		return schemas.Token{}, ErrNoPublisher
	}
	tok, err := n.cfg.Publisher.Invalidate(ctx, n.cfg.Namespace, names, tags)
	if err != nil {
		return schemas.Token{}, fmt.Errorf("publish invalidation: %w", err)
	}
	return tok, nil
}
