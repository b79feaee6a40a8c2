package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// Record is what the nodes cache: the record's properties, with the version and a hash of its content for the Oracle.
type Record struct {
	Version int64          `json:"version"`
	Sum     uint64         `json:"sum"`
	Data    map[string]any `json:"data"`
}

// readersPerNode is how many goroutines read on each node.
const readersPerNode = 2

// node is one simulated process: a Node of package invalidation with its caches, its own link to Redis, and readers.
type node struct {
	i    int
	shop *Shop
	link *link

	rdb    *redis.Client
	inv    *invalidation.Node
	caches map[string]*invalidation.Cache[Record]

	reads, errs, stale, wrong, unjudged atomic.Int64

	mu       sync.Mutex
	awake    chan struct{} // closed while the readers may read; guarded by mu, like what follows
	paused   time.Time     // until when; zero: not
	cut      time.Time
	dropping time.Time
}

func newNode(i int, s *Shop) *node {
	n := &node{i: i, shop: s, link: newLink(), awake: make(chan struct{})}
	close(n.awake)
	return n
}

func (n *node) join(ctx context.Context) error {
	cfg := &n.shop.cfg
	opts := *cfg.Redis
	opts.Dialer = n.link.Dial
	n.rdb = redis.NewClient(&opts)
	var err error
	n.inv, err = invalidation.Join(ctx, n.rdb, invalidation.Config{
		Namespace: cfg.Namespace, Datasets: cfg.Datasets, MaxStaleness: cfg.MaxStaleness, PollInterval: cfg.PollInterval,
		ID: fmt.Sprintf("node%d", n.i), Publisher: cfg.Publisher, Logger: cfg.Logger,
	})
	if err != nil {
		return fmt.Errorf("join as node %d: %w", n.i, err)
	}
	n.caches = map[string]*invalidation.Cache[Record]{}
	for _, k := range n.shop.traffic.kinds {
		c, err := invalidation.NewCache(n.inv, invalidation.CacheConfig[Record]{Dataset: k.dataset.Name, Load: n.load(k.dataset)})
		if err != nil {
			return fmt.Errorf("make cache of node %d: %w", n.i, err)
		}
		n.caches[k.dataset.Name] = c
	}
	return nil
}

// load reads the replica, which has one server only: every read is a primary read.
func (n *node) load(ds *schemas.Dataset) func(context.Context, string, invalidation.Source) (invalidation.Loaded[Record], error) {
	return func(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[Record], error) {
		out := invalidation.Loaded[Record]{From: invalidation.Primary}
		row, err := n.shop.cfg.Rows.Get(ctx, ds, key)
		if err != nil {
			return out, fmt.Errorf("load record: %w", err)
		}
		out.Version = row.Version
		if row.Found && !row.Deleted {
			out.Found = true
			out.Value = Record{Version: row.Version, Sum: sum(ds, row.Values), Data: row.Properties(ds)}
		}
		return out, nil
	}
}

// close ends the node; a link that is stopped would keep it waiting.
func (n *node) close() {
	n.link.start()
	if n.inv != nil {
		if err := n.inv.Close(); err != nil {
			n.shop.log.Warn("node did not close cleanly", "node", n.i, "error", err)
		}
	}
	if n.rdb != nil {
		if err := n.rdb.Close(); err != nil {
			n.shop.log.Warn("client of a node did not close cleanly", "node", n.i, "error", err)
		}
	}
}

// read reads records until ctx ends, hot ones most.
func (n *node) read(ctx context.Context) error {
	var wg sync.WaitGroup
	for r := range readersPerNode {
		wg.Go(func() { n.reader(ctx, uint64(n.i*readersPerNode+r)) })
	}
	wg.Wait()
	return nil
}

func (n *node) reader(ctx context.Context, stream uint64) {
	r := rand.New(rand.NewPCG(n.shop.cfg.Seed, 1000+stream))
	zipf := newZipf(r, n.shop.cfg.Records)
	perTick := float64(n.shop.cfg.Reads) / readersPerNode * tick.Seconds()
	t := time.NewTicker(tick)
	defer t.Stop()
	for due := 0.0; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for due += perTick; due >= 1; due-- {
			select {
			case <-n.gate():
			case <-ctx.Done():
				return
			}
			kinds := n.shop.traffic.kinds
			n.readOne(ctx, kinds[r.IntN(len(kinds))], zipf.next())
		}
	}
}

// readOne reads a record and has the Oracle judge what came.
func (n *node) readOne(ctx context.Context, k *kind, id int) {
	key := k.keys[id]
	began := n.shop.oracle.Now()
	v, err := n.caches[k.dataset.Name].Get(ctx, key)
	served := Served{Found: err == nil, Version: v.Version, Sum: v.Sum}
	if err != nil && !errors.Is(err, invalidation.ErrNotFound) {
		if ctx.Err() == nil {
			n.errs.Add(1)
		}
		return
	}
	if !served.Found {
		served = Served{}
	}
	n.reads.Add(1)
	verdict, want := n.shop.oracle.Judge(k.cacheKeys[id], began, served)
	switch verdict {
	case Good:
		return
	case Unjudged:
		n.unjudged.Add(1)
		return
	case Stale:
		n.stale.Add(1)
	case Wrong:
		n.wrong.Add(1)
	}
	n.shop.violated(Violation{
		At: time.Now(), Node: n.i, Dataset: k.dataset.Name, Key: key, Verdict: verdict, Got: served.Version, Want: want,
		ReadTook: n.shop.oracle.Now() - began,
	})
}

func (n *node) gate() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.awake
}

// pause stops readers and network until then.
func (n *node) pause(until time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.paused.IsZero() {
		n.awake = make(chan struct{})
	}
	n.paused = until
	n.link.stop()
}

// disconnect stops the network until then; the readers continue.
func (n *node) disconnect(until time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = until
	n.link.stop()
}

// dropMessages loses the messages of the subscription until then.
func (n *node) dropMessages(until time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropping = until
	n.link.drop(true)
}

// heal ends faults whose time is over.
func (n *node) heal(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	over := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	if over(n.dropping) {
		n.dropping = time.Time{}
		n.link.drop(false)
	}
	if over(n.cut) {
		n.cut = time.Time{}
	}
	if over(n.paused) {
		n.paused = time.Time{}
		close(n.awake)
	}
	if n.paused.IsZero() && n.cut.IsZero() {
		n.link.start()
	}
}

// reachable reports whether the node has its network and its readers.
func (n *node) reachable() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.paused.IsZero() && n.cut.IsZero()
}
