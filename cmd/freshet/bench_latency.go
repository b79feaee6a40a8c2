package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/config"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// latencyFlags are the flags of bench latency.
type latencyFlags struct {
	rate     int
	nodes    int
	duration time.Duration
	warmup   time.Duration
	records  int
}

// events is how many events each way publishes, and warming how many of them come first and are not timed.
func (f latencyFlags) events() (all, warming int) {
	warming = int(float64(f.rate) * f.warmup.Seconds())
	return warming + int(float64(f.rate)*f.duration.Seconds()), warming
}

func (p *program) benchLatencyCommand() *cobra.Command {
	var f latencyFlags
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "Time from publish until the row is visible and until every node dropped its entry, beside the same path by hand",
		Long: "Publishes at a rate, with caching nodes in this process. By hand means: produce, one upsert that commits by itself, one\n" +
			"PUBLISH to as many subscribers, one after the other for each event, many events at a time: no guarantees of any kind.\n" +
			"Each way first runs untimed for a while: a broker and a server that have just started would be measured otherwise.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			if f.rate < 1 || f.nodes < 1 || f.records < 1 || f.duration <= 0 || f.warmup < 0 {
				return usageError{errors.New("--rate, --nodes, --records and --duration must be positive, --warmup must not be negative")}
			}
			return p.benchLatency(cmd.Context(), l.Config, f, log)
		},
	}
	cmd.Flags().IntVar(&f.rate, "rate", 1000, "events per second")
	cmd.Flags().IntVar(&f.nodes, "nodes", 8, "caching nodes")
	cmd.Flags().DurationVar(&f.duration, "duration", 10*time.Second, "how long each way is measured")
	cmd.Flags().DurationVar(&f.warmup, "warmup", 5*time.Second, "how long each way runs before it is measured")
	cmd.Flags().IntVar(&f.records, "records", 2000, "records that change in turn")
	config.Bind(cmd.Flags(), "kafka", "mysql", "redis", "worker", "log")
	return cmd
}

// latencyResult is what bench latency prints; milliseconds.
type latencyResult struct {
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
}

func (p *program) benchLatency(ctx context.Context, c config.Config, f latencyFlags, log *slog.Logger) error {
	rig, err := openBench(ctx, c, benchFlags{partitions: 8}, log)
	if err != nil {
		return err
	}
	defer rig.Close()
	all, warming := f.events()
	res := latencyResult{Events: all - warming}
	watch := newCPUWatch(ctx, rig.cfg, rig.db)
	if err := rig.throughFreshet(ctx, f, watch, &res); err != nil {
		return err
	}
	if err := rig.byHand(ctx, f, watch, &res); err != nil {
		return err
	}
	res.Ratio = res.Nodes["p99"] / res.ByHand["p99"]
	if p.json {
		return p.printJSON(res)
	}
	for _, row := range []struct {
		what string
		ms   map[string]float64
	}{
		{"publish → acknowledged by Kafka", res.Acked},
		{"publish → transaction begins", res.Began},
		{"publish → row visible", res.Row},
		{fmt.Sprintf("publish → dropped on %d nodes", f.nodes), res.Nodes},
		{"by hand → row visible", res.HandRow},
		{fmt.Sprintf("by hand → heard by %d subscribers", f.nodes), res.ByHand},
	} {
		fmt.Fprintf(p.out, "%-36s p50 %.2f ms, p99 %.2f ms\n", row.what, row.ms["p50"], row.ms["p99"])
	}
	fmt.Fprintf(p.out, "%.1f events a transaction\n", res.Batches)
	p.printCPU(res.CPU, "all of Freshet", res.HandCPU, "by hand")
	fmt.Fprintf(p.out, "ratio_p99=%.2f\n", res.Ratio)
	return nil
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
	consumer.Replica

	mu           sync.Mutex
	began        map[string]time.Time // by event id
	batches      int                  // that held one of them
	starts, rows timings
}

func (r *timedReplica) Apply(ctx context.Context, b *replica.Batch) (replica.Result, error) {
	start := time.Now()
	res, err := r.Replica.Apply(ctx, b)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	counted := false
	for _, c := range b.Changes {
		if began, ok := r.began[c.Event.ID]; ok && err == nil {
			if !counted {
				counted = true
				r.batches++
			}
			delete(r.began, c.Event.ID)
			r.starts.add(start.Sub(began))
			r.rows.add(now.Sub(began))
		}
	}
	return res, err
}

func (b *benchRig) throughFreshet(ctx context.Context, f latencyFlags, watch *cpuWatch, res *latencyResult) error {
	timed := &timedReplica{Replica: b.db, began: map[string]time.Time{}}
	w, err := b.worker(timed)
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	g, run := errgroup.WithContext(run)
	g.Go(func() error { return w.Run(run) })
	g.Go(func() error {
		defer cancel()
		nodes, err := b.joinNodes(run, f.nodes)
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

// benchNode is a caching process in miniature.
type benchNode struct {
	rdb   redis.UniversalClient
	node  *invalidation.Node
	cache *invalidation.Cache[map[string]any]
}

func (n *benchNode) close() {
	_ = n.node.Close()
	_ = n.rdb.Close()
}

func (b *benchRig) joinNodes(ctx context.Context, count int) ([]*benchNode, error) {
	var out []*benchNode
	for range count {
		rdb, err := openRedis(b.cfg)
		if err != nil {
			return out, err
		}
		node, err := invalidation.Join(ctx, rdb, invalidation.Config{Namespace: b.cfg.Namespace, Lanes: b.cfg.Lanes, Datasets: b.set, JoinWait: 15 * time.Second, Logger: b.log})
		if err != nil {
			return out, errors.Join(err, rdb.Close())
		}
		n := &benchNode{rdb: rdb, node: node}
		out = append(out, n)
		n.cache, err = invalidation.NewCache(node, invalidation.CacheConfig[map[string]any]{Dataset: b.ds.Name, Load: b.load})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

func (b *benchRig) load(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[map[string]any], error) {
	row, err := b.db.Row(ctx, b.ds, key)
	out := invalidation.Loaded[map[string]any]{Version: row.Version, Found: row.Found && !row.Deleted, From: invalidation.Primary}
	if err == nil && out.Found {
		out.Value = row.Properties(b.ds)
	}
	return out, err
}

// publishTimed publishes at the rate. Of each event it waits until all nodes have dropped what they held of the record.
func (b *benchRig) publishTimed(ctx context.Context, f latencyFlags, timed *timedReplica, nodes []*benchNode, watch *cpuWatch, res *latencyResult) error {
	pub, err := b.producer()
	if err != nil {
		return err
	}
	defer pub.Close()
	evs := newBenchEvents(b.ds.Name, benchFlags{events: f.records, size: 200})
	if err := b.warm(ctx, pub, evs, nodes); err != nil {
		return err
	}
	var acked, seen timings
	var stale atomic.Int64
	limit := rate.NewLimiter(rate.Limit(f.rate), 1)
	g, ctx := errgroup.WithContext(ctx)
	all, warming := f.events()
	for i := range all {
		if err := limit.Wait(ctx); err != nil {
			break
		}
		ev := evs.at(i % f.records)
		ev.Version, ev.ID = int64(2+i/f.records), fmt.Sprintf("%08d-bench", i)
		began := time.Now()
		if i == warming {
			watch.start()
		}
		if i >= warming {
			timed.mu.Lock()
			timed.began[ev.ID] = began
			timed.mu.Unlock()
		}
		g.Go(func() error {
			tok, err := pub.Publish(ctx, ev)
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
func (b *benchRig) warm(ctx context.Context, pub *producer.Producer, evs *benchEvents, nodes []*benchNode) error {
	var all []schemas.Event
	for i := range evs.events {
		all = append(all, evs.at(i))
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
