package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// LatencyConfig is the size of the benchmark Latency. Every field but Warmup is required.
type LatencyConfig struct {
	Rate     int           // events per second
	Nodes    int           // caching nodes
	Duration time.Duration // how long each way is measured
	Warmup   time.Duration // how long each way runs before it is measured
	Records  int           // records that change in turn
	// Outbox: each change is a transaction in the database of relay.dsn that inserts into the outbox, and a relay publishes it.
	// Times begin with the commit, and nothing is measured by hand.
	Outbox bool
}

// latencySize is about how many bytes of data an event has.
const latencySize = 200

// events is how many events each way publishes, and warming how many of them come first and are not timed.
func (f LatencyConfig) events() (all, warming int) {
	warming = int(float64(f.Rate) * f.Warmup.Seconds())
	return warming + int(float64(f.Rate)*f.Duration.Seconds()), warming
}

// LatencyResult is the result of Latency. Times are in milliseconds.
type LatencyResult struct {
	Events  int                `json:"events"`
	Acked   map[string]float64 `json:"publish_to_ack_ms"`
	Began   map[string]float64 `json:"publish_to_transaction_ms"`
	Row     map[string]float64 `json:"publish_to_row_ms"`
	Nodes   map[string]float64 `json:"publish_to_nodes_ms"`
	ByHand  map[string]float64 `json:"by_hand_ms"`
	HandRow map[string]float64 `json:"by_hand_row_ms"`
	CPU     map[string]float64 `json:"cpu_us_per_event"`         // "worker" is this process, its nodes and its publisher too
	HandCPU map[string]float64 `json:"by_hand_cpu_us_per_event"` // likewise
	Batches float64            `json:"events_per_transaction"`
	Ratio   float64            `json:"ratio_p99"`

	nodes  int // how many cached the records
	outbox bool
}

// Latency measures how long a change takes until its row is visible and until every node dropped its entry, and how long the same
// path takes by hand.
func Latency(ctx context.Context, c config.Config, f LatencyConfig, log *slog.Logger) (*LatencyResult, error) {
	b, err := openRig(ctx, c, ApplyConfig{Partitions: 8}, log)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	all, warming := f.events()
	res := &LatencyResult{Events: all - warming, nodes: f.Nodes, outbox: f.Outbox}
	watch := newCPUWatch(ctx, b.cfg, b.db)
	if err := b.throughFreshet(ctx, f, watch, res); err != nil {
		return nil, err
	}
	if f.Outbox {
		return res, nil
	}
	if err := b.byHand(ctx, f, watch, res); err != nil {
		return nil, err
	}
	res.Ratio = res.Nodes["p99"] / res.ByHand["p99"]
	return res, nil
}

// latencyRow is a line of the result.
type latencyRow struct {
	what string
	ms   map[string]float64
}

// Print writes the result as text.
func (r *LatencyResult) Print(w io.Writer) {
	from := "publish"
	if r.outbox {
		from = "commit"
	}
	rows := []latencyRow{
		{from + " → acknowledged by Kafka", r.Acked},
		{from + " → transaction begins", r.Began},
		{from + " → row visible", r.Row},
		{fmt.Sprintf("%s → dropped on %d nodes", from, r.nodes), r.Nodes},
	}
	if !r.outbox {
		rows = append(rows, latencyRow{"by hand → row visible", r.HandRow},
			latencyRow{fmt.Sprintf("by hand → heard by %d subscribers", r.nodes), r.ByHand})
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%-36s p50 %.2f ms, p99 %.2f ms\n", row.what, row.ms["p50"], row.ms["p99"])
	}
	fmt.Fprintf(w, "%.1f events a transaction\n", r.Batches)
	if r.outbox {
		return
	}
	printCPU(w, r.CPU, "all of Freshet", r.HandCPU, "by hand")
	fmt.Fprintf(w, "ratio_p99=%.2f\n", r.Ratio)
}

// timings collects durations from many goroutines.
type timings struct {
	mu  sync.Mutex
	all []time.Duration
}

func (t *timings) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, d)
}

func (t *timings) quantiles() map[string]float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all) == 0 {
		return map[string]float64{"p50": 0, "p99": 0}
	}
	slices.Sort(t.all)
	at := func(percent int) float64 { return milliseconds(t.all[(len(t.all)*percent+99)/100-1]) }
	return map[string]float64{"p50": at(50), "p99": at(99)}
}

// timedReplica notes when each event's transaction began and when its row was committed.
type timedReplica struct {
	db *replica.DB

	mu           sync.Mutex
	began        map[eventKey]time.Time
	batches      int // that held one of them
	starts, rows timings
}

// eventKey identifies an event: the relay makes ids of its own.
type eventKey struct {
	key     string
	version int64
}

// begin notes when an event began its way.
func (r *timedReplica) begin(ev *schemas.Event, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began[eventKey{ev.Key, ev.Version}] = at
}

// Apply applies a batch and notes the times.
func (r *timedReplica) Apply(ctx context.Context, b *replica.Batch) (replica.Result, error) {
	start := time.Now()
	res, err := r.db.Apply(ctx, b)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	counted := false
	for _, c := range b.Changes {
		id := eventKey{c.Event.Key, c.Event.Version}
		if began, ok := r.began[id]; ok && err == nil {
			if !counted {
				counted = true
				r.batches++
			}
			delete(r.began, id)
			r.starts.add(start.Sub(began))
			r.rows.add(now.Sub(began))
		}
	}
	return res, err
}

func (b *rig) throughFreshet(ctx context.Context, f LatencyConfig, watch *cpuWatch, res *LatencyResult) error {
	timed := &timedReplica{db: b.db, began: map[eventKey]time.Time{}}
	w, err := b.worker(timed.Apply)
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	g, run := errgroup.WithContext(run)
	g.Go(func() error { return w.Run(run) })
	g.Go(func() error {
		defer cancel()
		nodes, err := b.joinNodes(run, f.Nodes)
		defer func() {
			for _, n := range nodes {
				n.close()
			}
		}()
		if err != nil {
			return err
		}
		return b.publishTimed(run, f, timed, nodes, watch, res)
	})
	err = g.Wait()
	res.Batches = float64(res.Events) / float64(max(timed.batches, 1))
	res.Began, res.Row = timed.starts.quantiles(), timed.rows.quantiles()
	return err
}

// cachingNode is a caching process in miniature.
type cachingNode struct {
	rdb   redis.UniversalClient
	node  *invalidation.Node
	cache *invalidation.Cache[map[string]any]
}

func (n *cachingNode) close() {
	_ = n.node.Close()
	_ = n.rdb.Close()
}

func (b *rig) joinNodes(ctx context.Context, count int) ([]*cachingNode, error) {
	var out []*cachingNode
	for range count {
		rdb, err := connect.Redis(b.cfg)
		if err != nil {
			return out, err
		}
		node, err := invalidation.Join(ctx, rdb, invalidation.Config{Namespace: b.cfg.Namespace, Lanes: b.cfg.Lanes, Datasets: b.set, JoinWait: 15 * time.Second, Logger: b.log})
		if err != nil {
			return out, errors.Join(err, rdb.Close())
		}
		n := &cachingNode{rdb: rdb, node: node}
		out = append(out, n)
		n.cache, err = invalidation.NewCache(node, invalidation.CacheConfig[map[string]any]{Dataset: b.ds.Name, Load: b.load})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

func (b *rig) load(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[map[string]any], error) {
	row, err := b.db.Rows.Get(ctx, b.ds, key)
	out := invalidation.Loaded[map[string]any]{Version: row.Version, Found: row.Found && !row.Deleted, From: invalidation.Primary}
	if err == nil && out.Found {
		out.Value = row.Properties(b.ds)
	}
	return out, err
}

// publishTimed publishes at the rate. Of each event it waits until all nodes have dropped what they held of the record.
func (b *rig) publishTimed(ctx context.Context, f LatencyConfig, timed *timedReplica, nodes []*cachingNode, watch *cpuWatch, res *LatencyResult) (err error) {
	pub, err := b.changer(ctx, f.Outbox)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pub.close()) }()
	evs := newWorkload("insert", b.ds.Name, f.Records, f.Records, latencySize)
	if err := b.warm(ctx, evs, nodes); err != nil {
		return err
	}
	var acked, seen timings
	var stale atomic.Int64
	limit := rate.NewLimiter(rate.Limit(f.Rate), 1)
	g, ctx := errgroup.WithContext(ctx)
	all, warming := f.events()
	for i := range all {
		if err := limit.Wait(ctx); err != nil {
			break
		}
		ev := evs.next(i % f.Records)
		ev.Version = int64(2 + i/f.Records)
		if i == warming {
			watch.start()
		}
		g.Go(func() error {
			var began time.Time
			tok, err := pub.change(ctx, ev, func(at time.Time) {
				if began = at; i >= warming {
					timed.begin(&ev, at)
				}
			})
			if err != nil {
				return err
			}
			acknowledged := time.Since(began)
			var everywhere errgroup.Group
			for _, n := range nodes {
				everywhere.Go(func() error {
					err := n.node.WaitFor(ctx, tok)
					if v, ok := n.cache.Peek(ev.Key); ok && v.Version < ev.Version {
						stale.Add(1)
					}
					return err
				})
			}
			if err := everywhere.Wait(); err != nil {
				return err
			}
			if i >= warming {
				acked.add(acknowledged)
				seen.add(time.Since(began))
			}
			return nil
		})
	}
	err = g.Wait()
	res.CPU = watch.perEvent(res.Events)
	res.Acked, res.Nodes = acked.quantiles(), seen.quantiles()
	if n := stale.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d entries were still there after their invalidation was seen", n))
	}
	return err
}

// warm writes every record once and lets every node cache it.
func (b *rig) warm(ctx context.Context, evs *workload, nodes []*cachingNode) error {
	pub, err := b.producer()
	if err != nil {
		return err
	}
	defer pub.Close()
	var all []schemas.Event
	for i := range evs.events {
		all = append(all, evs.next(i))
	}
	tok, err := pub.Publish(ctx, all...)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := n.node.WaitFor(ctx, tok); err != nil {
			return err
		}
		for _, ev := range all {
			if _, err := n.cache.Get(ctx, ev.Key); err != nil {
				return fmt.Errorf("warm cache: %w", err)
			}
		}
	}
	return nil
}
