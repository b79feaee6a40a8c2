package producer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/durations"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/tracecontext"
	"github.com/freshet/freshet/schemas"
)

// Producer publishes events. It is safe for concurrent use.
type Producer struct {
	cfg    Config
	check  *Checker
	client *kafkalog.Client
	log    *delivery.Producer
	tracer trace.Tracer // nil: none
}

// New checks the configuration and the datasets. It opens no connection: the first event does.
func New(cfg Config) (*Producer, error) {
	cfg, codec, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("make producer: %w", err)
	}
	check, err := NewChecker(cfg.Datasets, cfg.Source)
	if err != nil {
		return nil, fmt.Errorf("make producer: %w", err)
	}
	client, err := kafkalog.New(kafkalog.Config{
		Brokers: cfg.Brokers, ClientID: cfg.ClientID, TLS: cfg.TLS, GetTLS: cfg.GetTLS, SASL: cfg.SASL, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("make producer: %w", err)
	}
	log, err := delivery.New(client, delivery.Config{
		Linger: cfg.Linger, DeliveryTimeout: cfg.DeliveryTimeout, MaxBufferedBytes: cfg.MaxBufferedBytes, Compression: codec,
		Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("make producer: %w", err)
	}
	return &Producer{cfg: cfg, check: check, client: client, log: log, tracer: tracecontext.Tracer(cfg.TracerProvider)}, nil
}

// Check returns the events as Publish would send them, with id and source, or the *PublishError that it would refuse them
// with. It asks no broker.
func (p *Producer) Check(events ...schemas.Event) ([]schemas.Event, error) {
	return p.check.Check(events...)
}

// Publish checks all events, appends them, and returns when every replica in sync has them or ctx ends. The token covers
// the events that were appended. Errors are *PublishError.
//
// When ctx ends first, events that were already handed over may still arrive: their error wraps ErrOutcomeUnknown and
// ctx's.
func (p *Producer) Publish(ctx context.Context, events ...schemas.Event) (schemas.Token, error) {
	events, end := p.tracedAll(ctx, events)
	tok, err := p.publish(ctx, events)
	if end != nil {
		end(err)
	}
	return tok, err
}

func (p *Producer) publish(ctx context.Context, events []schemas.Event) (schemas.Token, error) {
	recs := make([]checked, len(events))
	if err := p.check.all(events, recs); err != nil {
		return schemas.Token{}, err
	}
	g := p.send(ctx, recs)
	return g.result(func(i int, err error) *EventError {
		return &EventError{Index: i, Dataset: events[i].Dataset, Err: p.unanswered(ctx, recs[i].topic, err)}
	})
}

// send hands records over and waits until each has its outcome or ctx ends.
func (p *Producer) send(ctx context.Context, recs []checked) *gathering {
	g := newGathering(len(recs))
	for i := range recs {
		err := p.log.Produce(ctx, recs[i].topic, recs[i].rec, func(a delivery.Acked, err error) { g.outcome(i, a, err) })
		if err != nil {
			g.outcome(i, delivery.Acked{}, err)
		}
	}
	select {
	case <-g.done:
	case <-ctx.Done():
		g.abandon(fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx)))
	}
	return g
}

// PublishAsync checks an event and queues it, and calls done, if that is not nil, with the outcome. It blocks while the
// topic is not known yet or the buffer is full, until ctx ends. An error means that the event was not queued; done is not
// called then. ctx has no meaning for an event that was queued: DeliveryTimeout bounds it.
//
// done is called in the order of the calls for events of one record. It must return soon and must not publish.
func (p *Producer) PublishAsync(ctx context.Context, event schemas.Event, done func(schemas.Token, error)) error {
	end := p.traced(ctx, &event)
	if end == nil {
		return p.publishAsync(ctx, event, done)
	}
	err := p.publishAsync(ctx, event, func(tok schemas.Token, err error) {
		end(err)
		if done != nil {
			done(tok, err)
		}
	})
	if err != nil {
		end(err)
	}
	return err
}

func (p *Producer) publishAsync(ctx context.Context, event schemas.Event, done func(schemas.Token, error)) error {
	c, err := p.check.one(event)
	if err != nil {
		return fmt.Errorf("publish event of dataset %s: %w", event.Dataset, err)
	}
	err = p.log.Produce(ctx, c.topic, c.rec, func(a delivery.Acked, err error) {
		if done == nil {
			return
		}
		if err != nil {
			done(schemas.Token{}, explain(err))
			return
		}
		done(schemas.NewToken(a.Source, a.Offset), nil)
	})
	if err != nil {
		return fmt.Errorf("publish event of dataset %s: %w", event.Dataset, p.unanswered(ctx, c.topic, err))
	}
	return nil
}

// explain adds what the caller can do about err.
func explain(err error) error {
	if errors.Is(err, ErrNoTopic) {
		return fmt.Errorf("%w; create it, for example with: freshet migrate datasets", err)
	}
	return err
}

// unanswered is explain for a call that has a ctx: when that ended, it names the brokers and their trouble.
func (p *Producer) unanswered(ctx context.Context, topic string, err error) error {
	if ctx.Err() == nil || !errors.Is(err, context.Cause(ctx)) {
		return explain(err)
	}
	brokers := strings.Join(p.cfg.Brokers, ",")
	for _, t := range p.log.Stats().Troubled {
		if t.Topic == topic {
			return fmt.Errorf("no answer in time from Kafka at %s: %w (partition %d: %w)", brokers, err, t.Partition, t.Err)
		}
	}
	return fmt.Errorf("no answer in time from Kafka at %s: %w", brokers, err)
}

// Flush sends at once what was queued before the call and waits for its outcomes, until ctx ends.
func (p *Producer) Flush(ctx context.Context) error { return p.log.Flush(ctx) }

// Close waits, up to CloseTimeout, for the events under way, gives up on the others, and closes all connections. Its
// error reports how many were not acknowledged. It may be called again.
func (p *Producer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.CloseTimeout)
	defer cancel()
	return errors.Join(p.log.Close(ctx), p.client.Close())
}

// Stats is a snapshot of a Producer.
type Stats struct {
	// Buffered events wait for their outcome; BufferedBytes is their size.
	Buffered, BufferedBytes int
	// Published counts events that Kafka acknowledged, Failed those that it did not.
	Published, Failed uint64
	// Batches and Bytes count what was sent and acknowledged.
	Batches, Bytes uint64
	// Retries counts tries that did not settle their batch, UnknownOutcomes those of them without an answer.
	Retries, UnknownOutcomes uint64
	// FailedKinds counts the failed events by what went wrong: unknown_outcome, timeout, too_large, refused, no_topic, closed or other. Every
	// kind is in it.
	FailedKinds map[string]uint64
	// Durations counts how long acknowledged events took since they were handed over.
	Durations Durations
	// Blocked counts events that had to wait for room in the buffer.
	Blocked uint64
	// Troubled are the partitions whose newest try failed.
	Troubled []Trouble
}

// Durations counts durations in buckets.
type Durations = durations.Snapshot

// Trouble describes a partition whose newest batch could not be delivered.
type Trouble struct {
	// Topic and Partition say which.
	Topic     string
	Partition int32
	// Since is when it began.
	Since time.Time
	// Err is the newest failure.
	Err error
}

// Stats returns the counters since the start and the state as of now.
func (p *Producer) Stats() Stats {
	s := p.log.Stats()
	out := Stats{
		Buffered: s.Buffered, BufferedBytes: s.BufferedBytes, Published: s.Acked, Failed: s.Failed, Batches: s.Batches,
		Bytes: s.Bytes, Retries: s.Retries, UnknownOutcomes: s.UnknownOutcomes, Blocked: s.Blocked,
		FailedKinds: s.FailedKinds, Durations: s.Durations,
	}
	for _, t := range s.Troubled {
		out.Troubled = append(out.Troubled, Trouble{Topic: t.Topic, Partition: t.Partition, Since: t.Since, Err: t.Err})
	}
	return out
}

// gathering collects the outcomes of the events of one Publish.
type gathering struct {
	done chan struct{} // closed when all are there

	mu      sync.Mutex // guards all below
	missing int
	settled []bool
	errs    []error
	offsets map[string]int64 // the greatest of each source
}

func newGathering(n int) *gathering {
	g := &gathering{done: make(chan struct{}), missing: n, settled: make([]bool, n), errs: make([]error, n), offsets: map[string]int64{}}
	if n == 0 {
		close(g.done)
	}
	return g
}

// outcome takes one event's; what comes after abandon is ignored.
func (g *gathering) outcome(i int, a delivery.Acked, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settled[i] {
		return
	}
	g.settled[i], g.errs[i] = true, err
	if err == nil {
		g.offsets[a.Source] = max(g.offsets[a.Source], a.Offset)
	}
	if g.missing--; g.missing == 0 {
		close(g.done)
	}
}

// abandon returns err to the events that have no outcome yet.
func (g *gathering) abandon(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.settled {
		if !g.settled[i] {
			g.settled[i], g.errs[i] = true, err
		}
	}
}

// result returns the token of what was appended, and the rest as an error.
func (g *gathering) result(explain func(int, error) *EventError) (schemas.Token, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var failed []*EventError
	for i, err := range g.errs {
		if err != nil {
			failed = append(failed, explain(i, err))
		}
	}
	var token schemas.Token
	for source, offset := range g.offsets {
		token = token.Merge(schemas.NewToken(source, offset))
	}
	if len(failed) > 0 {
		return token, &PublishError{Sent: true, Events: failed}
	}
	return token, nil
}
