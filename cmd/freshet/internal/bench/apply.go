package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/worker"
)

// Consumers are what Apply can measure, in the order of their turns.
const (
	ConsumerWorker = "worker"
	ConsumerHand   = "hand"
	ConsumerBare   = "bare"
)

// ApplyConfig is the size of the benchmark Apply. Workload, Events, Records, Partitions, Turns, Consumers and Spawn are required.
type ApplyConfig struct {
	Workload   string
	Events     int      // events to publish
	Records    int      // distinct records, of workloads that draw them
	Partitions int      // partitions of the topic
	Size       int      // approximate bytes of an event's data
	Turns      int      // turns of each consumer
	Consumers  []string // which ones
	NoCache    bool     // the dataset has no cache section, so nothing is invalidated
	Profiles   string   // folder for a CPU and an allocation profile of each consumer's last turn; "" for none

	// Spawn runs a turn in a process of its own, which calls Turn with what it is given, and returns what that prints.
	Spawn func(ctx context.Context, t TurnConfig) ([]byte, error)
}

// TurnConfig identifies one turn of one consumer on a rig that another process has opened.
type TurnConfig struct {
	Rig      string
	Consumer string
	Turn     int
	Profiles string // "" unless this turn is to be profiled
}

// ApplyResult is the result of Apply.
type ApplyResult struct {
	Workload    string  `json:"workload"`
	Events      int     `json:"events"`
	Rows        int64   `json:"rows"`
	Size        int     `json:"bytes_of_data"`
	Turns       int     `json:"turns"`
	Database    string  `json:"database"`
	PublishRate float64 `json:"publish_events_per_second"`
	// Consumers are in the order of their turns.
	Consumers []ConsumerResult `json:"consumers"`
	// Ratios are rates divided by those of the same turn, such as "worker/hand".
	Ratios map[string]spread `json:"ratios"`
}

// ConsumerResult sums up the turns of one consumer.
type ConsumerResult struct {
	Name           string            `json:"name"`
	Rate           spread            `json:"events_per_second"`
	CPU            map[string]spread `json:"cpu_us_per_event"`
	Allocs         spread            `json:"allocations_per_event"`
	AllocBytes     spread            `json:"allocated_bytes_per_event"`
	PeakRSS        spread            `json:"peak_rss_bytes"`
	EventsPerBatch spread            `json:"events_per_transaction"`

	rates []float64
}

// Apply measures how fast a worker carries events into the database, beside a consumer written by hand and the bare guarded
// upsert. They take turns on the same events, each turn in a process of its own and on a table in the same state.
func Apply(ctx context.Context, c config.Config, f ApplyConfig, log *slog.Logger) (*ApplyResult, error) {
	b, err := openRig(ctx, c, f, log)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	w := newWorkload(f.Workload, b.ds.Name, f.Events, f.Records, f.Size)
	res := &ApplyResult{Workload: f.Workload, Events: f.Events, Turns: f.Turns, Ratios: map[string]spread{}}
	if err := b.db.SQL().QueryRowContext(ctx, "SELECT VERSION()").Scan(&res.Database); err != nil {
		return nil, fmt.Errorf("ask for the server's version: %w", err)
	}
	if err := b.fill(ctx, w); err != nil {
		return nil, err
	}
	if res.PublishRate, res.Size, err = b.publish(ctx, w.events, w.next); err != nil {
		return nil, err
	}
	if err := b.applyBefore(ctx, w, f); err != nil {
		return nil, err
	}
	all := map[string][]*Measure{}
	for turn := range f.Turns {
		for _, consumer := range f.Consumers {
			t := TurnConfig{Rig: b.ds.Name, Consumer: consumer, Turn: turn}
			if turn == f.Turns-1 {
				t.Profiles = f.Profiles
			}
			m, err := b.turn(ctx, f, t)
			if err != nil {
				return nil, fmt.Errorf("turn %d of %s: %w", turn+1, consumer, err)
			}
			all[consumer] = append(all[consumer], m)
			log.InfoContext(ctx, "turn ended", "consumer", consumer, "turn", turn+1, "turns", f.Turns, "events_per_second", int(m.Rate))
		}
	}
	res.Rows = all[f.Consumers[0]][0].Rows
	res.sumUp(f.Consumers, all)
	return res, nil
}

// turn prepares the tables for one turn and lets another process run it.
func (b *rig) turn(ctx context.Context, f ApplyConfig, t TurnConfig) (*Measure, error) {
	if err := b.reset(ctx); err != nil {
		return nil, err
	}
	out, err := f.Spawn(ctx, t)
	if err != nil {
		return nil, err
	}
	m := &Measure{}
	if err := json.Unmarshal(out, m); err != nil {
		return nil, fmt.Errorf("read the measures of the process: %w", err)
	}
	return m, nil
}

// Turn runs one turn on a rig that another process has opened.
func Turn(ctx context.Context, c config.Config, f ApplyConfig, t TurnConfig, log *slog.Logger) (*Measure, error) {
	set, err := declare(t.Rig, !f.NoCache)
	if err != nil {
		return nil, err
	}
	b := newRig(c, set, t.Rig, log)
	b.consumer, b.profiles = t.Consumer, t.Profiles
	// A group and a namespace have a history, which the next turn would continue.
	suffix := "_" + strconv.Itoa(t.Turn+1)
	b.cfg.Kafka.Group += suffix
	b.cfg.Namespace += suffix
	defer func() { _ = b.disconnect() }() // the turn is done or has its own error
	if err := b.connect(ctx, f); err != nil {
		return nil, err
	}
	var m *Measure
	table := b.plainTable()
	switch t.Consumer {
	case ConsumerWorker:
		table = mysql.Quote(b.ds.Replica.Table)
		m, err = b.measureWorker(ctx, f.Events)
	case ConsumerHand:
		m, err = b.measureHand(ctx, f)
	case ConsumerBare:
		m, err = b.measureBare(ctx, f)
	default:
		err = fmt.Errorf("consumer %q is unknown; use worker, hand or bare", t.Consumer)
	}
	if err != nil {
		return nil, err
	}
	if err := b.db.SQL().QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table).Scan(&m.Rows); err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	return m, nil
}

// measureWorker lets a worker carry the whole topic and measures from the assignment to the last emission.
func (b *rig) measureWorker(ctx context.Context, events int) (*Measure, error) {
	if broken, err := b.db.Prepare(ctx, b.set.All()); err != nil || len(broken) > 0 {
		return nil, errors.Join(append(asErrors(broken), err)...)
	}
	w, err := b.worker(nil)
	if err != nil {
		return nil, err
	}
	meter, err := b.newMeter(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.Run(gctx) })
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	started := false
	for {
		select {
		case <-gctx.Done():
			return nil, errors.Join(g.Wait(), context.Cause(gctx))
		case <-tick.C:
		}
		st := w.Stats()
		if !started && st.Consumer.Assigned {
			started = true // joining the group is not what is measured
			meter.start()
		}
		if emittedAll(st, events) {
			m := meter.stop(events)
			m.EventsPerBatch = float64(st.Events) / float64(max(1, st.Batches))
			cancel()
			return m, g.Wait()
		}
	}
}

func emittedAll(st worker.Stats, events int) bool {
	if st.Events < uint64(events) {
		return false
	}
	for _, p := range st.Consumer.Partitions {
		if p.Emitted < p.LastStable {
			return false
		}
	}
	return true
}

func (r *ApplyResult) sumUp(consumers []string, all map[string][]*Measure) {
	for _, name := range consumers {
		c := ConsumerResult{Name: name, CPU: map[string]spread{}}
		of := func(get func(*Measure) float64) []float64 {
			values := make([]float64, 0, len(all[name]))
			for _, m := range all[name] {
				values = append(values, get(m))
			}
			return values
		}
		c.rates = of(func(m *Measure) float64 { return m.Rate })
		c.Rate = spreadOf(c.rates)
		c.Allocs = spreadOf(of(func(m *Measure) float64 { return m.Allocs }))
		c.AllocBytes = spreadOf(of(func(m *Measure) float64 { return m.AllocBytes }))
		c.PeakRSS = spreadOf(of(func(m *Measure) float64 { return m.PeakRSS }))
		c.EventsPerBatch = spreadOf(of(func(m *Measure) float64 { return m.EventsPerBatch }))
		for process := range all[name][0].CPU {
			c.CPU[process] = spreadOf(of(func(m *Measure) float64 { return m.CPU[process] }))
		}
		r.Consumers = append(r.Consumers, c)
	}
	for i, c := range r.Consumers {
		for _, other := range r.Consumers[i+1:] {
			ratios := make([]float64, len(c.rates))
			for turn := range c.rates {
				ratios[turn] = c.rates[turn] / other.rates[turn]
			}
			r.Ratios[c.Name+"/"+other.Name] = spreadOf(ratios)
		}
	}
}

// Print writes the result as text.
func (r *ApplyResult) Print(w io.Writer) {
	fmt.Fprintf(w, "%s: %d events with %d bytes of data, %d rows in the table, %d turns, %s\n", r.Workload, r.Events, r.Size, r.Rows, r.Turns, r.Database)
	fmt.Fprintf(w, "published at %.0f events/s\n\n", r.PublishRate)
	fmt.Fprintf(w, "%-8s %26s %20s %20s %18s %10s\n", "", "events/s", "own CPU, µs/event", "database, µs/event", "allocations/event", "peak, MiB")
	for _, c := range r.Consumers {
		fmt.Fprintf(w, "%-8s %26s %20s %20s %18s %10.0f\n", c.Name, c.Rate.text("%.0f"), c.CPU["worker"].text("%.1f"), c.CPU["mysql"].text("%.1f"),
			c.Allocs.text("%.1f"), c.PeakRSS.Max/(1<<20))
	}
	fmt.Fprintln(w)
	for _, c := range r.Consumers {
		if len(c.CPU) > 2 {
			fmt.Fprintf(w, "with %s: Kafka %.1f µs/event, Redis %.1f µs/event\n", c.Name, c.CPU["kafka"].Median, c.CPU["redis"].Median)
		}
	}
	for _, pair := range [][2]string{{ConsumerWorker, ConsumerHand}, {ConsumerWorker, ConsumerBare}, {ConsumerHand, ConsumerBare}} {
		if s, ok := r.Ratios[pair[0]+"/"+pair[1]]; ok {
			fmt.Fprintf(w, "rate %s/%s = %s\n", pair[0], pair[1], s.text("%.2f"))
		}
	}
}

// text is "median (least–greatest)".
func (s spread) text(format string) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Min, s.Max)
}
