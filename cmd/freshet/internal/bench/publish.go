package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// The clients that Publish measures, in the order of their turns.
const (
	clientFreshet = "freshet"
	clientEncoded = "encoded" // Freshet's without check and encoding
	clientFranz   = "franz-go"
	clientWriter  = "kafka-go"
)

// preparedEvents is how many events are made before the turns; each client sends them over and over.
const preparedEvents = 10_000

// turnTimeout bounds a turn.
const turnTimeout = 2 * time.Minute

var errTurn = errors.New("the client left events without an answer")

// PublishConfig is the size of the benchmark Publish. All fields but Profiles are required.
type PublishConfig struct {
	Events     int    // events of a turn
	Partitions int    // partitions of the topic
	Size       int    // approximate bytes of an event's data
	Turns      int    // turns of each client
	Profiles   string // folder for a CPU and an allocation profile of each client's last turn; "" for none
}

// PublishResult is the result of Publish. Clients are in the order of their turns.
type PublishResult struct {
	Events      int               `json:"events"`
	Size        int               `json:"bytes_of_data"`
	Turns       int               `json:"turns"`
	Linger      float64           `json:"linger_ms"`
	Compression string            `json:"compression"`
	Clients     []ConsumerResult  `json:"clients"`
	CPURatios   map[string]spread `json:"cpu_ratios"`
	measures    map[string][]*Measure
}

// outlet is a client that sends the i-th prepared event; wait returns once Kafka has acknowledged everything.
type outlet struct {
	send func(ctx context.Context, i int) error
	wait func(ctx context.Context) error
}

// publishing is what the clients send, and where to.
type publishing struct {
	cfg    config.Config
	log    *slog.Logger
	set    *schemas.Datasets
	ds     *schemas.Dataset
	linger time.Duration
	events []schemas.Event
	// records are the events as Freshet encodes them, for clients that do not.
	records []schemas.Record
	failed  atomic.Pointer[error]
}

// Publish measures what an event costs the service that publishes it: Freshet's producer, which checks and encodes it, beside what is
// below that and two other clients, which send records that are encoded already, with the same bytes, batches and linger. They take
// turns on one topic.
func Publish(ctx context.Context, c config.Config, f PublishConfig, log *slog.Logger) (*PublishResult, error) {
	if c.Kafka.TLS.Enabled || c.Kafka.SASL.Mechanism != "" {
		return nil, errors.New("the clients beside Freshet's connect without TLS and SASL; use brokers that allow it")
	}
	p, err := preparePublishing(c, f, log)
	if err != nil {
		return nil, err
	}
	client, err := connect.Kafka(c, log)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := client.CreateTopics(ctx, []kafkalog.TopicSpec{{Name: p.ds.Topic, Partitions: f.Partitions}}); err != nil {
		return nil, err
	}
	defer func() {
		_ = client.DeleteTopics(context.WithoutCancel(ctx), []string{p.ds.Topic}) // a topic of a name that nothing else uses
	}()
	res := &PublishResult{
		Events: f.Events, Size: len(p.events[0].Data), Turns: f.Turns, Linger: milliseconds(p.linger), Compression: compressionOf(c),
		CPURatios: map[string]spread{}, measures: map[string][]*Measure{},
	}
	makers := []struct {
		name string
		open func() (*outlet, func(), error)
	}{{clientFreshet, p.freshet}, {clientEncoded, p.encoded}, {clientFranz, p.franz}, {clientWriter, p.writer}}
	for turn := range f.Turns {
		for _, m := range makers {
			profile := ""
			if turn == f.Turns-1 && f.Profiles != "" {
				profile = filepath.Join(f.Profiles, m.name+".cpu")
			}
			one, err := p.turn(ctx, f, m.open, profile)
			if err != nil {
				return nil, fmt.Errorf("turn %d of %s: %w", turn+1, m.name, err)
			}
			res.measures[m.name] = append(res.measures[m.name], one)
			log.InfoContext(ctx, "turn ended", "client", m.name, "turn", turn+1, "turns", f.Turns, "events_per_second", int(one.Rate))
		}
	}
	res.sumUp()
	return res, nil
}

func preparePublishing(c config.Config, f PublishConfig, log *slog.Logger) (*publishing, error) {
	var id [4]byte
	_, _ = rand.Read(id[:])
	name := "bench_" + hex.EncodeToString(id[:])
	set, err := declare(name, false)
	if err != nil {
		return nil, err
	}
	p := &publishing{cfg: c, log: log, set: set, linger: c.Producer.Linger}
	p.ds, _ = set.Get(name)
	if p.linger == 0 {
		p.linger = producer.DefaultLinger
	}
	check, err := producer.NewChecker(set, "//freshet/bench")
	if err != nil {
		return nil, err
	}
	w := newWorkload("insert", name, preparedEvents, 0, f.Size)
	for i := range preparedEvents {
		ev := w.next(i)
		whole, err := check.Check(ev)
		if err != nil {
			return nil, err
		}
		rec, err := p.ds.Encode(&whole[0])
		if err != nil {
			return nil, fmt.Errorf("encode event: %w", err)
		}
		p.events, p.records = append(p.events, ev), append(p.records, rec)
	}
	return p, nil
}

// turn sends all events by one client. What comes before the first event's acknowledgement (connections, metadata) is not measured.
func (p *publishing) turn(ctx context.Context, f PublishConfig, open func() (*outlet, func(), error), profile string) (*Measure, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, turnTimeout, errTurn)
	defer cancel()
	o, closeClient, err := open()
	if err != nil {
		return nil, err
	}
	defer closeClient()
	if err := errors.Join(o.send(ctx, 0), o.wait(ctx)); err != nil {
		return nil, err
	}
	m, err := newMeter(newCPUWatch(ctx, p.cfg, nil), profile)
	if err != nil {
		return nil, err
	}
	m.start()
	for i := range f.Events {
		if err := o.send(ctx, i%preparedEvents); err != nil {
			return nil, err
		}
	}
	err = o.wait(ctx)
	out := m.stop(f.Events)
	if failed := p.failed.Load(); failed != nil {
		err = errors.Join(err, *failed)
	}
	return out, err
}

// note keeps the first failure of an event.
func (p *publishing) note(err error) {
	if err != nil {
		p.failed.CompareAndSwap(nil, &err)
	}
}

func (p *publishing) freshet() (*outlet, func(), error) {
	out, err := connect.Producer(p.cfg, p.set, p.log)
	if err != nil {
		return nil, nil, err
	}
	done := func(_ schemas.Token, err error) { p.note(err) }
	version := int64(0)
	return &outlet{
		send: func(ctx context.Context, i int) error {
			ev := p.events[i]
			version++
			ev.Version = version
			return out.PublishAsync(ctx, ev, done)
		},
		wait: out.Flush,
	}, func() { _ = out.Close() }, nil // everything was acknowledged
}

func compressionOf(c config.Config) string {
	if c.Producer.Compression == "" {
		return "none"
	}
	return c.Producer.Compression
}

func (r *PublishResult) sumUp() {
	sums := &ApplyResult{Ratios: map[string]spread{}}
	names := []string{clientFreshet, clientEncoded, clientFranz, clientWriter}
	sums.sumUp(names, r.measures)
	r.Clients = sums.Consumers
	for _, own := range names[:2] {
		for _, other := range names[2:] {
			var ratios []float64
			for turn, m := range r.measures[own] {
				ratios = append(ratios, m.CPU["worker"]/r.measures[other][turn].CPU["worker"])
			}
			r.CPURatios[own+"/"+other] = spreadOf(ratios)
		}
	}
}

// Print writes the result as text.
func (r *PublishResult) Print(w io.Writer) {
	fmt.Fprintf(w, "%d events with %d bytes of data, linger %.1f ms, compression %s, %d turns\n\n", r.Events, r.Size, r.Linger, r.Compression, r.Turns)
	fmt.Fprintf(w, "%-9s %26s %20s %20s %20s %10s\n", "", "events/s", "own CPU, µs/event", "Kafka, µs/event", "allocations/event", "peak, MiB")
	for _, c := range r.Clients {
		fmt.Fprintf(w, "%-9s %26s %20s %20s %20s %10.0f\n", c.Name, c.Rate.text("%.0f"), c.CPU["worker"].text("%.2f"), c.CPU["kafka"].text("%.2f"),
			c.Allocs.text("%.2f"), c.PeakRSS.Max/(1<<20))
	}
	fmt.Fprintln(w)
	for _, pair := range slices.Sorted(maps.Keys(r.CPURatios)) {
		fmt.Fprintf(w, "own CPU %s = %s\n", strings.Replace(pair, "/", " / ", 1), r.CPURatios[pair].text("%.2f"))
	}
}
