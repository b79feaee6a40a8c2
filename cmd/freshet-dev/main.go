// Command freshet-dev runs Kafka, MySQL and Redis embedded in one process, and a shop on them whose every read is checked.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/term"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/demo"
	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/schemas"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const (
	// plainFor is how long the demo runs without a terminal when no duration is given.
	plainFor = 30 * time.Second
	// settleFor bounds how long every copy may take to agree once the writes have stopped.
	settleFor = 60 * time.Second
	// lineEvery is the time between two plain lines.
	lineEvery = 2 * time.Second
)

const help = `usage: freshet-dev [flags]

Run Kafka, MySQL and Redis embedded in this process, and on them a small shop: a producer that changes users, products and
orders all the time, a worker, and nodes with local caches that read all the time and check each value they serve against the
truth. Nothing else needs to be installed.

On a terminal it draws a live view; keys pause a node, drop its messages, kill the worker or empty Redis: watch it heal.
Without a terminal it prints lines and ends with a table after 30 s (or --duration), or with one JSON object (--json).
The exit code is 1 unless every node's every entry equals the replica, or is absent, after the writes stopped, and no read
was staler than the bound.

The embedded servers are for trying things and prove nothing about the real ones.`

// errReported is returned after a failure that was already printed.
var errReported = errors.New("failed")

// program is one run of the demo with its streams and flags, so that tests can run it in process.
type program struct {
	in       io.Reader
	out, err io.Writer

	json     bool
	duration time.Duration
	rate     int
	nodes    int
	records  int
	chaos    bool
	stale    bool
	seed     uint64
	dir      string
	listen   string
	console  string // where the page is
	logLevel slog.Level
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], &program{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// run returns the exit code: 0 if every copy agreed at the end, 1 if not, 2 for wrong usage.
func run(ctx context.Context, args []string, p *program) int {
	err := p.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err != nil {
		fmt.Fprintf(p.err, "freshet-dev: %v; see freshet-dev --help\n", err)
		return exitUsage
	}
	if err := p.run(ctx); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintf(p.err, "freshet-dev: %v\n", err)
		}
		return exitFailed
	}
	return exitDone
}

// parse reads the flags.
func (p *program) parse(args []string) error {
	fs := flag.NewFlagSet("freshet-dev", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.BoolVar(&p.json, "json", false, "print the result as one JSON object")
	fs.DurationVar(&p.duration, "duration", 0, "end after this time; 0: on a terminal never, else after 30s")
	fs.IntVar(&p.rate, "rate", demo.DefaultRate, "changes per second")
	fs.IntVar(&p.nodes, "nodes", demo.DefaultNodes, "caching nodes")
	fs.IntVar(&p.records, "records", demo.DefaultRecords, "records of each dataset")
	fs.BoolVar(&p.chaos, "chaos", false, "inject the faults of the keys at random times")
	fs.BoolVar(&p.stale, "stale", false, "put an old copy of one record into Redis, as a program that bypasses Freshet would, to be found with the console")
	fs.Uint64Var(&p.seed, "seed", 1, "seed of traffic, readers and chaos")
	fs.StringVar(&p.dir, "dir", "", "folder in which Kafka keeps its data; default: a temporary one")
	fs.StringVar(&p.listen, "listen", admin.DefaultListen, "loopback address of the console; another port if it is taken")
	fs.TextVar(&p.logLevel, "log-level", slog.LevelError, "debug, info, warn or error; not shown in the live view")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(p.out, help)
			fs.SetOutput(p.out)
			fs.PrintDefaults()
		}
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is not a flag", fs.Arg(0))
	}
	if p.nodes < 1 || p.rate < 1 || p.records < 1 || p.duration < 0 {
		return errors.New("--nodes, --rate and --records must be at least 1 and --duration not negative")
	}
	return nil
}

// run starts the servers and the shop, and stops them in the opposite order.
func (p *program) run(ctx context.Context) error {
	live := !p.json && isTerminal(p.out) && isTerminal(p.in)
	log := slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: p.logLevel}))
	if live {
		log = slog.New(slog.DiscardHandler)
	} else if p.duration == 0 {
		p.duration = plainFor
	}
	redis.SetLogger(quietRedis{}) // connections are cut on purpose here
	set, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		return err
	}
	stack, err := devstack.Start(ctx, devstack.Config{Dir: p.dir, Logger: log})
	if err != nil {
		return fmt.Errorf("start embedded servers: %w", err)
	}
	rig, err := demo.Open(ctx, stack, demo.Config{
		Datasets: set, Nodes: p.nodes, Rate: p.rate, Records: p.records, Seed: p.seed, Chaos: p.chaos, Stale: p.stale, Logger: log,
	})
	if err != nil {
		return errors.Join(err, stack.Close())
	}
	page, err := p.openConsole(ctx, stack, rig, set, log)
	if err == nil {
		err = errors.Join(p.runShop(ctx, stack, rig.Shop, live), page.Close())
	}
	return errors.Join(err, rig.Close(), stack.Close())
}

// openConsole serves the page and prints its address, which is the first thing that people want to know.
func (p *program) openConsole(ctx context.Context, stack *devstack.Stack, rig *demo.Rig, set *schemas.Datasets, log *slog.Logger) (*demo.Console, error) {
	page, err := demo.OpenConsole(ctx, stack, rig, demo.Config{Datasets: set, Folder: shop.Datasets(), Logger: log}, p.listen)
	if err != nil {
		return nil, err
	}
	p.console = page.URL()
	if !p.json {
		fmt.Fprintf(p.out, "console: %s\n", p.console)
	}
	return page, nil
}

// quietRedis drops what the Redis client would print by itself.
type quietRedis struct{}

// Printf implements go-redis's logger.
func (quietRedis) Printf(context.Context, string, ...any) {}

// runShop runs the shop for its time, stops the writes, compares every copy and prints the figures.
func (p *program) runShop(ctx context.Context, stack *devstack.Stack, s *demo.Shop, live bool) error {
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
	if p.duration > 0 {
		t := time.NewTimer(p.duration)
		defer t.Stop()
		until = t.C
	}
	var err error
	switch {
	case live:
		err = p.view(ctx, stack, s, until, ended)
	case p.json:
		err = wait(ctx, until, ended, nil, nil)
	default:
		tick := time.NewTicker(lineEvery)
		defer tick.Stop()
		fmt.Fprintf(p.out, "freshet-dev: %d nodes, %d changes/s, Kafka %s, Redis %s; ends in %v\n", p.nodes, p.rate, stack.Kafka, stack.Redis, p.duration)
		err = wait(ctx, until, ended, tick.C, func() { p.line(s.Snapshot()) })
	}
	if err != nil {
		return errors.Join(err, stop())
	}
	if !live {
		fmt.Fprintln(p.err, "writes stop; comparing every copy")
	}
	s.SetChaos(false)
	s.StopWrites()
	settle, done := context.WithTimeout(context.WithoutCancel(ctx), settleFor)
	defer done()
	c, cerr := s.Converged(settle)
	result := newReport(s.Snapshot(), c, cerr)
	if err := stop(); err != nil {
		return err
	}
	return p.print(result)
}

// wait returns nil when the time is over or the user interrupts, and the shop's error if the shop ends first.
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

func (p *program) line(s demo.Snapshot) {
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

// report is what the demo prints at the end.
type report struct {
	Published        int64    `json:"published"`
	Applied          int64    `json:"applied"`
	DeadLettered     int64    `json:"dead_lettered"`
	Nodes            int      `json:"nodes"`
	Reads            int64    `json:"reads"`
	Hits             int64    `json:"hits"`
	StaleBeyondBound int64    `json:"stale_beyond_bound"`
	Converged        bool     `json:"converged"`
	PublishToVisible times    `json:"publish_to_visible_ms"`
	EventsPerSecond  float64  `json:"events_per_second"`
	Compared         int      `json:"compared"`
	Problems         []string `json:"problems,omitempty"`
}

// times are percentiles of measured times. Without a sample there are none.
type times struct {
	P50     *float64 `json:"p50"`
	P99     *float64 `json:"p99"`
	Samples int      `json:"samples"`
}

func newTimes(s demo.Snapshot) times {
	out := times{Samples: s.Samples}
	if s.Samples > 0 {
		p50, p99 := inMilliseconds(s.PublishToVisibleP50), inMilliseconds(s.PublishToVisibleP99)
		out.P50, out.P99 = &p50, &p99
	}
	return out
}

func (d times) String() string {
	if d.Samples == 0 {
		return "nothing was measured"
	}
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, of %d", *d.P50, *d.P99, d.Samples)
}

func newReport(s demo.Snapshot, c demo.Convergence, err error) report {
	r := report{
		Published: s.Published, Applied: s.Applied, DeadLettered: max(0, s.DeadLettered), Nodes: len(s.Nodes), Reads: s.Reads, Hits: s.Hits,
		StaleBeyondBound: s.StaleBeyondBound + s.Wrong, Converged: err == nil && c.OK() && c.Checked > 0, Compared: c.Checked,
		PublishToVisible: newTimes(s),
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

func (p *program) print(r report) error {
	if p.json {
		if err := json.NewEncoder(p.out).Encode(r); err != nil {
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
		fmt.Fprintln(p.err, "freshet-dev:", problem)
	}
	return errReported
}

func inMilliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// isTerminal reports whether a stream is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
