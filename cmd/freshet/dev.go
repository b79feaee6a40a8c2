//go:build !nodev

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/demo"
	"github.com/freshet/freshet/internal/devstack"
	"github.com/freshet/freshet/internal/telemetry"
	"github.com/freshet/freshet/schemas"
)

const (
	// devPlainFor is how long dev runs without a terminal when no duration is given.
	devPlainFor = 30 * time.Second
	// devSettle bounds how long every copy may take to agree once the writes have stopped.
	devSettle = 60 * time.Second
	// devLineEvery is the time between two plain lines.
	devLineEvery = 2 * time.Second
)

const devHelp = `Run Kafka, MySQL and Redis embedded in this process, and on them a small shop: a producer that changes users, products and
orders all the time, a worker, and nodes with local caches that read all the time and check each value they serve against the
truth. Nothing else needs to be installed.

On a terminal it draws a live view; keys pause a node, drop its messages, kill the worker or empty Redis: watch it heal.
Without a terminal it prints lines and ends with a table after 30 s (or --duration), or with one JSON object (--json).
The exit code is 1 unless every node's every entry equals the replica, or is absent, after the writes stopped, and no read
was staler than the bound.

The embedded servers are for trying things and prove nothing about the real ones.`

// devFlags are the flags of the dev command.
type devFlags struct {
	duration time.Duration
	rate     int
	nodes    int
	records  int
	chaos    bool
	seed     uint64
	dir      string
	logLevel string
}

func (p *program) addDev(root *cobra.Command) {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Try everything in one process: embedded servers, a shop with traffic, and nodes that check every read",
		Long:  devHelp,
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.nodes < 1 || f.rate < 1 || f.records < 1 || f.duration < 0 {
				return usageError{errors.New("--nodes, --rate and --records must be at least 1 and --duration not negative")}
			}
			return p.dev(cmd.Context(), f)
		},
	}
	cmd.Flags().DurationVar(&f.duration, "duration", 0, "end after this time; 0: on a terminal never, else after 30s")
	cmd.Flags().IntVar(&f.rate, "rate", demo.DefaultRate, "changes per second")
	cmd.Flags().IntVar(&f.nodes, "nodes", demo.DefaultNodes, "caching nodes")
	cmd.Flags().IntVar(&f.records, "records", demo.DefaultRecords, "records of each dataset")
	cmd.Flags().BoolVar(&f.chaos, "chaos", false, "do the key presses by itself")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "seed of traffic, readers and chaos")
	cmd.Flags().StringVar(&f.dir, "dir", "", "folder in which Kafka keeps its data; default: a temporary one")
	cmd.Flags().StringVar(&f.logLevel, "log-level", "error", "debug, info, warn or error; not shown in the live view")
	root.AddCommand(cmd)
}

func (p *program) dev(ctx context.Context, f devFlags) error {
	live := !p.json && isTerminal(p.out) && isTerminal(p.in)
	log := telemetry.NewLogger(p.err, f.logLevel, "text")
	if live {
		log = slog.New(slog.DiscardHandler)
	} else if f.duration == 0 {
		f.duration = devPlainFor
	}
	redis.SetLogger(quietRedis{}) // what is cut off on purpose is no news
	set, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		return err
	}
	stack, err := devstack.Start(ctx, devstack.Config{Dir: f.dir, Logger: log})
	if err != nil {
		return fmt.Errorf("start embedded servers: %w", err)
	}
	rig, err := demo.Open(ctx, stack, demo.Config{
		Datasets: set, Nodes: f.nodes, Rate: f.rate, Records: f.records, Seed: f.seed, Chaos: f.chaos, Logger: log,
	})
	if err != nil {
		return errors.Join(err, stack.Close())
	}
	err = p.runShop(ctx, stack, rig.Shop, f, live)
	return errors.Join(err, rig.Close(), stack.Close())
}

// quietRedis drops what the Redis client would print by itself.
type quietRedis struct{}

// Printf implements go-redis's logger.
func (quietRedis) Printf(context.Context, string, ...any) {}

// runShop runs the shop for its time, stops the writes, compares every copy and prints the figures.
func (p *program) runShop(ctx context.Context, stack *devstack.Stack, s *demo.Shop, f devFlags, live bool) error {
	// An interrupt ends the traffic; the shop lives on until its copies were compared.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(run) }()
	stop := func() error {
		cancel()
		return <-ended
	}
	var until <-chan time.Time
	if f.duration > 0 {
		t := time.NewTimer(f.duration)
		defer t.Stop()
		until = t.C
	}
	var err error
	switch {
	case live:
		err = p.devView(ctx, stack, s, until, ended)
	case p.json:
		err = wait(ctx, until, ended, nil, nil)
	default:
		tick := time.NewTicker(devLineEvery)
		defer tick.Stop()
		fmt.Fprintf(p.out, "freshet dev: %d nodes, %d changes/s, Kafka %s, Redis %s; ends in %v\n", f.nodes, f.rate, stack.Kafka, stack.Redis, f.duration)
		err = wait(ctx, until, ended, tick.C, func() { p.devLine(s.Snapshot()) })
	}
	if err != nil {
		return errors.Join(err, stop())
	}
	if !live {
		fmt.Fprintln(p.err, "writes stop; comparing every copy")
	}
	s.SetChaos(false)
	s.StopWrites()
	settle, done := context.WithTimeout(context.WithoutCancel(ctx), devSettle)
	defer done()
	c, cerr := s.Converged(settle)
	report := newDevReport(s.Snapshot(), c, cerr)
	if err := stop(); err != nil {
		return err
	}
	return p.printDev(report)
}

// wait ends when the time is over or somebody interrupts; both are orderly. It gives the shop's error if that ends first.
func wait(ctx context.Context, until <-chan time.Time, ended chan error, tick <-chan time.Time, each func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-until:
			return nil
		case err := <-ended:
			ended <- err
			return errors.Join(errors.New("the shop ended early"), err)
		case <-tick:
			each()
		}
	}
}

func (p *program) devLine(s demo.Snapshot) {
	fmt.Fprintf(p.out, "%5.0fs  published %d  applied %d  reads %d  hits %.1f%%  visible p50 %v p99 %v  stale %d\n",
		s.Elapsed.Seconds(), s.Published, s.Applied, s.Reads, percent(s.Hits, s.Reads), s.PublishToVisibleP50.Round(100*time.Microsecond),
		s.PublishToVisibleP99.Round(100*time.Microsecond), s.StaleBeyondBound+s.Wrong)
}

func percent(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

// devReport is the JSON object at the end of dev.
type devReport struct {
	Published        int64    `json:"published"`
	Applied          int64    `json:"applied"`
	DeadLettered     int64    `json:"dead_lettered"`
	Nodes            int      `json:"nodes"`
	Reads            int64    `json:"reads"`
	Hits             int64    `json:"hits"`
	StaleBeyondBound int64    `json:"stale_beyond_bound"`
	Converged        bool     `json:"converged"`
	PublishToVisible devTimes `json:"publish_to_visible_ms"`
	EventsPerSecond  float64  `json:"events_per_second"`
	Compared         int      `json:"compared"`
	Problems         []string `json:"problems,omitempty"`
}

// devTimes are percentiles of measured times. Without a sample there are none.
type devTimes struct {
	P50     *float64 `json:"p50"`
	P99     *float64 `json:"p99"`
	Samples int      `json:"samples"`
}

func newDevTimes(s demo.Snapshot) devTimes {
	out := devTimes{Samples: s.Samples}
	if s.Samples > 0 {
		p50, p99 := milliseconds(s.PublishToVisibleP50), milliseconds(s.PublishToVisibleP99)
		out.P50, out.P99 = &p50, &p99
	}
	return out
}

func (d devTimes) String() string {
	if d.Samples == 0 {
		return "nothing was measured"
	}
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, of %d", *d.P50, *d.P99, d.Samples)
}

func newDevReport(s demo.Snapshot, c demo.Convergence, err error) devReport {
	r := devReport{
		Published: s.Published, Applied: s.Applied, DeadLettered: max(0, s.DeadLettered), Nodes: len(s.Nodes), Reads: s.Reads, Hits: s.Hits,
		StaleBeyondBound: s.StaleBeyondBound + s.Wrong, Converged: err == nil && c.OK() && c.Checked > 0, Compared: c.Checked,
		PublishToVisible: newDevTimes(s),
		EventsPerSecond:  s.EventsPerSecond,
	}
	if err != nil {
		r.Problems = append(r.Problems, "the copies could not be compared: "+err.Error())
	}
	if c.Missing+c.Different > 0 {
		r.Problems = append(r.Problems, fmt.Sprintf("%d rows miss their newest version, %d entries differ from the replica", c.Missing, c.Different))
	}
	for _, v := range s.Violations {
		r.Problems = append(r.Problems, fmt.Sprintf("node %d served version %d of a record of %s where %d was due", v.Node, v.Got, v.Dataset, v.Want))
	}
	return r
}

func (p *program) printDev(r devReport) error {
	if p.json {
		if err := p.printJSON(r); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
		for _, row := range [][2]any{
			{"published", r.Published},
			{"applied", r.Applied},
			{"dead letters", r.DeadLettered},
			{"nodes", r.Nodes},
			{"reads", r.Reads},
			{"hits", r.Hits},
			{"stale reads past the bound", r.StaleBeyondBound},
			{"entries compared", r.Compared},
			{"converged", r.Converged},
			{"publish → visible on all nodes", r.PublishToVisible},
			{"events per second", fmt.Sprintf("%.0f", r.EventsPerSecond)},
		} {
			fmt.Fprintf(w, "%v\t%v\n", row[0], row[1])
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if r.Converged && r.StaleBeyondBound == 0 {
		return nil
	}
	for _, problem := range r.Problems {
		fmt.Fprintln(p.err, "freshet dev:", problem)
	}
	return errReported
}
