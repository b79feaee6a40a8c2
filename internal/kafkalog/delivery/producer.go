package delivery

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/freshet/freshet/internal/durations"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/schemas"
)

// Defaults of a Producer.
const (
	DefaultLinger          = 2 * time.Millisecond
	DefaultDeliveryTimeout = 2 * time.Minute
	DefaultMaxBuffered     = 32 << 20
	DefaultMaxBatchRecords = 1000
	DefaultMaxBatchSize    = 900_000
	DefaultMaxIDIdle       = 12 * time.Hour
	DefaultRefresh         = 30 * time.Second
	// MaxTimeSkew is how far the time that the broker keeps of a record may lie from now. Brokers refuse what is more
	// than an hour ahead, and retention would delete what is too old; the rest of the hour is for clocks that differ.
	MaxTimeSkew = 30 * time.Minute
)

const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 2 * time.Second
	// idleAfter is how long an unused connection is kept; brokers close theirs after 10 minutes.
	idleAfter = time.Minute
	// pendingCost is what a buffered record costs beside its bytes.
	pendingCost = 256
)

// Config tunes a Producer. The zero value works.
type Config struct {
	// Linger is how long a batch waits for more records while records come in streams; a lone record never waits. 0 means
	// DefaultLinger, negative none.
	Linger time.Duration
	// DeliveryTimeout bounds the time from Produce to the answer; 0 means DefaultDeliveryTimeout.
	DeliveryTimeout time.Duration
	// MaxBufferedBytes bounds the records that wait for an answer, over all partitions; when it is reached, Produce
	// blocks. 0 means DefaultMaxBuffered.
	MaxBufferedBytes int
	// MaxBatchRecords and MaxBatchBytes bound a batch, before compression; 0 means DefaultMaxBatchRecords and
	// DefaultMaxBatchSize. A record that is larger than MaxBatchBytes goes alone.
	MaxBatchRecords, MaxBatchBytes int
	// Compression of the batches.
	Compression recordbatch.Compression
	// MaxIDIdle is how long an unused producer id is trusted: brokers forget it after producer.id.expiration.ms, in
	// silence. 0 means DefaultMaxIDIdle.
	MaxIDIdle time.Duration
	// Refresh is how often topic ids and partition counts are asked for again; 0 means DefaultRefresh.
	Refresh time.Duration
	// Logger learns of what recovered; nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Compression < recordbatch.CompressionNone || c.Compression > recordbatch.CompressionZstd {
		return c, fmt.Errorf("check Compression %d: want %d to %d", c.Compression, recordbatch.CompressionNone, recordbatch.CompressionZstd)
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"DeliveryTimeout", int64(c.DeliveryTimeout)},
		{"MaxBufferedBytes", int64(c.MaxBufferedBytes)},
		{"MaxBatchRecords", int64(c.MaxBatchRecords)},
		{"MaxBatchBytes", int64(c.MaxBatchBytes)},
		{"MaxIDIdle", int64(c.MaxIDIdle)},
		{"Refresh", int64(c.Refresh)},
	} {
		if f.value < 0 {
			return c, fmt.Errorf("check %s %d: must not be negative; 0 gives the default", f.name, f.value)
		}
	}
	c.Linger = cmp.Or(c.Linger, DefaultLinger)
	c.DeliveryTimeout = cmp.Or(c.DeliveryTimeout, DefaultDeliveryTimeout)
	c.MaxBufferedBytes = cmp.Or(c.MaxBufferedBytes, DefaultMaxBuffered)
	c.MaxBatchRecords = cmp.Or(c.MaxBatchRecords, DefaultMaxBatchRecords)
	c.MaxBatchBytes = cmp.Or(c.MaxBatchBytes, DefaultMaxBatchSize)
	c.MaxIDIdle = cmp.Or(c.MaxIDIdle, DefaultMaxIDIdle)
	c.Refresh = cmp.Or(c.Refresh, DefaultRefresh)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Producer appends records to topics: each once, and in the order of the calls per partition, also when brokers die,
// answers are lost and leaders move. Per partition one batch is under way at a time and the same bytes go out until the
// broker has answered, so the broker can tell a repeat by its sequence. It is safe for concurrent use.
type Producer struct {
	client *kafkalog.Client
	cfg    Config
	log    *slog.Logger
	room   *semaphore.Weighted
	pool   *kafkalog.Pool
	ctx    context.Context //nolint:containedctx // the life of the partitions' goroutines, ended by Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	counts counts

	mu      sync.Mutex // guards topics and closing
	topics  map[string]*topic
	closing bool
	done    chan struct{} // closed when Close is over
}

// New checks the configuration. It opens no connection; the first record of a topic does.
func New(client *kafkalog.Client, cfg Config) (*Producer, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Producer{
		client: client, cfg: cfg, log: cfg.Logger.With("component", "producer"),
		room: semaphore.NewWeighted(int64(cfg.MaxBufferedBytes)),
		pool: kafkalog.NewPool(client), topics: map[string]*topic{}, done: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p, nil
}

// Produce takes a record to be appended to a topic, in the partition that its key chooses, and calls done with the
// outcome. It blocks, until ctx ends, while the topic is not known or the buffer is full; an error means that the record
// was not taken, and done is not called. ctx has no meaning for a record that was taken.
//
// done is called from the partition's own goroutine, in order: it must return soon and must not call Produce. The
// record's slices must not change until then.
//
// Errors, here or in done: ErrNoTopic, ErrTooLarge, ErrRefused, ErrDeliveryTimeout, ErrOutcomeUnknown, ErrClosed.
func (p *Producer) Produce(ctx context.Context, topicName string, rec schemas.Record, done func(Acked, error)) error {
	if len(rec.Key) == 0 {
		return fmt.Errorf("produce to topic %s: %w: record without a key", topicName, ErrRefused)
	}
	size := recordbatch.Size(&rec)
	cost := int64(size + pendingCost)
	if cost > int64(p.cfg.MaxBufferedBytes) {
		return fmt.Errorf("produce to topic %s: %w: %d bytes do not fit into a buffer of %d", topicName, ErrTooLarge, size, p.cfg.MaxBufferedBytes)
	}
	t, err := p.topic(topicName)
	if err != nil {
		return fmt.Errorf("produce to topic %s: %w", topicName, err)
	}
	q, err := t.ready(ctx, rec.Key)
	if err != nil {
		return fmt.Errorf("produce to topic %s: %w", topicName, err)
	}
	if !p.room.TryAcquire(cost) {
		p.counts.blocked.Add(1)
		if err := p.room.Acquire(ctx, cost); err != nil {
			_, last := q.trouble.newest()
			return fmt.Errorf("produce to topic %s: wait for room in the buffer: %w", topicName, reason(context.Cause(ctx), last))
		}
	}
	now := time.Now()
	item := pending{rec: rec, time: clampTime(rec.Time, now), size: size, taken: now, done: done}
	if !q.queue.enqueue(item) {
		p.room.Release(cost)
		return fmt.Errorf("produce to topic %s: %w", topicName, kafkalog.ErrClosed)
	}
	return nil
}

// clampTime keeps a record's time (Unix ms) within MaxTimeSkew of now; 0 means now.
func clampTime(t int64, now time.Time) int64 {
	n, skew := now.UnixMilli(), MaxTimeSkew.Milliseconds()
	if t == 0 {
		return n
	}
	return min(max(t, n-skew), n+skew)
}

// topic returns the topic of that name, known or not.
func (p *Producer) topic(name string) (*topic, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return nil, kafkalog.ErrClosed
	}
	t := p.topics[name]
	if t == nil {
		if len(p.topics) == 0 {
			p.wg.Go(p.upkeep)
		}
		t = &topic{p: p, name: name, refreshing: make(chan struct{}, 1)}
		p.topics[name] = t
	}
	return t, nil
}

// startPartition makes a partition and its goroutine.
func (p *Producer) startPartition(t *topic, id int32) (*partition, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return nil, kafkalog.ErrClosed
	}
	q := newPartition(p, t, id)
	p.wg.Go(q.run)
	return q, nil
}

// upkeep asks for topic ids again and closes idle connections, until the end.
func (p *Producer) upkeep() {
	tick := time.NewTicker(p.cfg.Refresh)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-tick.C:
			p.pool.Prune(now.Add(-idleAfter))
			for _, t := range p.allTopics() {
				if err := t.refresh(p.ctx, now); err != nil && p.ctx.Err() == nil {
					p.log.Debug("topic not refreshed", "topic", t.name, "error", err)
				}
			}
		}
	}
}

func (p *Producer) allTopics() []*topic {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*topic, 0, len(p.topics))
	for _, t := range p.topics {
		out = append(out, t)
	}
	return out
}

func (p *Producer) allPartitions() []*partition {
	var out []*partition
	for _, t := range p.allTopics() {
		t.mu.RLock()
		for _, q := range t.partitions {
			if q != nil {
				out = append(out, q)
			}
		}
		t.mu.RUnlock()
	}
	return out
}

// Flush sends at once what was taken before the call, and waits until each record of it has its outcome, good or bad.
func (p *Producer) Flush(ctx context.Context) error {
	var waits []<-chan struct{}
	for _, q := range p.allPartitions() {
		waits = append(waits, q.queue.flush())
	}
	for _, w := range waits {
		select {
		case <-w:
		case <-ctx.Done():
			return fmt.Errorf("flush producer: %w", context.Cause(ctx))
		}
	}
	return nil
}

// UnackedError is what Close returns when records were left without an acknowledgement.
type UnackedError struct {
	// Records is their number. Each had its done called with an error.
	Records int
}

// Error reports how many.
func (e *UnackedError) Error() string {
	return fmt.Sprintf("close producer: %d records were not acknowledged", e.Records)
}

// Close takes no more records, flushes until ctx ends, and gives up on the rest with ErrClosed (and ErrOutcomeUnknown,
// where a request was under way). It returns an UnackedError when there was a rest. The client stays open. A second
// call waits for the first and returns nil.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("close producer: %w", context.Cause(ctx))
		}
	}
	p.closing = true
	p.mu.Unlock()
	defer close(p.done)
	for _, q := range p.allPartitions() {
		q.queue.stop()
	}
	flushErr := p.Flush(ctx)
	before := p.counts.failed.Load()
	p.cancel(kafkalog.ErrClosed)
	p.wg.Wait()
	p.pool.Close()
	if n := p.counts.failed.Load() - before; flushErr != nil && n > 0 {
		return &UnackedError{Records: int(n)}
	}
	return nil
}

// counts are a producer's counters.
type counts struct {
	acked, failed, batches, bytes, retries, unknown, ids, splits, blocked atomic.Uint64

	kinds [numKinds]atomic.Uint64
	took  durations.Histogram
}

// Stats is a snapshot of a Producer.
type Stats struct {
	// Buffered records wait for their outcome; BufferedBytes is their size.
	Buffered, BufferedBytes int
	// Acked and Failed count records, Batches and Bytes what was sent and acknowledged.
	Acked, Failed, Batches, Bytes uint64
	// Retries counts tries that did not settle their batch, UnknownOutcomes those of them without an answer.
	Retries, UnknownOutcomes uint64
	// ProducerIDs counts producer ids taken, Splits batches that were cut for their size.
	ProducerIDs, Splits uint64
	// FailedKinds counts the failed records by what went wrong: timeout, unknown_outcome, too_large, refused, no_topic, closed or other.
	FailedKinds map[string]uint64
	// Durations counts how long acknowledged records took since they were handed over.
	Durations durations.Snapshot
	// Blocked counts calls of Produce that had to wait for room.
	Blocked uint64
	// Troubled are the partitions whose newest try failed.
	Troubled []TroubledPartition
}

// TroubledPartition is a partition that does not get its batch through.
type TroubledPartition struct {
	Topic     string
	Partition int32
	// Since is when the first of the failing tries ended.
	Since time.Time
	// Err is the newest failure.
	Err error
}

// Stats returns the counters since the start and the state as of now.
func (p *Producer) Stats() Stats {
	c := &p.counts
	s := Stats{
		Acked: c.acked.Load(), Failed: c.failed.Load(), Batches: c.batches.Load(), Bytes: c.bytes.Load(),
		Retries: c.retries.Load(), UnknownOutcomes: c.unknown.Load(), ProducerIDs: c.ids.Load(), Splits: c.splits.Load(),
		Blocked: c.blocked.Load(), Durations: c.took.Snapshot(), FailedKinds: map[string]uint64{},
	}
	for k := range c.kinds {
		s.FailedKinds[failureKind(k).String()] = c.kinds[k].Load()
	}
	for _, q := range p.allPartitions() {
		records, size := q.queue.count()
		s.Buffered += records
		s.BufferedBytes += size
		if since, err := q.trouble.newest(); err != nil {
			s.Troubled = append(s.Troubled, TroubledPartition{q.topic.name, q.id, since, err})
		}
	}
	return s
}

// Acked is where a record was appended.
type Acked struct {
	Partition kafkalog.Partition
	// Source is the partition's, made once for each batch.
	Source string
	// Offset is the record's offset; when the broker only said "already there", an upper bound of it.
	Offset int64
}
