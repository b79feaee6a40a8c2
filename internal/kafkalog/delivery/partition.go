package delivery

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
)

// partition is one partition of a topic, and the goroutine that delivers its queue.
type partition struct {
	p       *Producer
	topic   *topic
	id      int32
	queue   *queue
	trouble trouble
	seq     sequence

	// The goroutine's own.
	enc       recordbatch.Encoder
	streaming bool      // the batch before had more than one record, so waiting for more pays
	notBefore time.Time // the broker asked for patience until then
	items     []pending // the batch under way
}

// sequence is the producer id of a partition's batches with the next number, and the newest offset that it acknowledged.
type sequence struct {
	renew atomic.Bool // the topic was recreated: take another producer id before the next batch

	// The partition's goroutine owns what follows.
	next       recordbatch.Producer
	hasID      bool
	lastUsed   time.Time // of the producer id
	lastOffset int64     // newest acknowledged, -1 for none
}

// expire forgets a producer id that the broker may have forgotten.
func (s *sequence) expire(maxIdle time.Duration) {
	if s.renew.Swap(false) || time.Since(s.lastUsed) > maxIdle {
		s.hasID = false
	}
}

// begin takes a new producer id.
func (s *sequence) begin(id recordbatch.Producer) { s.next, s.hasID, s.lastUsed = id, true, time.Now() }

// advance counts n records as appended, up to offset last.
func (s *sequence) advance(n int, last int64) {
	s.lastOffset, s.lastUsed = last, time.Now()
	s.next.Advance(n)
}

// trouble is the newest failure of a partition, and since when its tries fail.
type trouble struct {
	mu    sync.Mutex // guards what follows
	err   error      // nil: the newest try went well
	since time.Time
}

func (t *trouble) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.since = time.Now()
	}
	t.err = err
}

func (t *trouble) newest() (since time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since, t.err
}

// end forgets the failures, and returns the newest of them.
func (t *trouble) end() (since time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	err, t.err = t.err, nil
	return t.since, err
}

func newPartition(p *Producer, t *topic, id int32) *partition {
	return &partition{
		p: p, topic: t, id: id, queue: newQueue(p.cfg), seq: sequence{lastOffset: -1}, enc: recordbatch.Encoder{Codec: p.cfg.Compression},
	}
}

// run sends batch after batch until the producer ends.
func (q *partition) run() {
	for q.await() {
		if q.take(time.Now()) {
			q.deliver()
		}
	}
	for q.take(time.Now()) {
		q.failAll(kafkalog.ErrClosed)
	}
}

// await waits until a batch is due. false: the producer ends.
func (q *partition) await() bool {
	for {
		if q.p.ctx.Err() != nil {
			return false
		}
		due, wait := q.queue.due(time.Now(), q.streaming)
		if due {
			return true
		}
		q.sleep(wait)
	}
}

// sleep waits to be woken, at most d if that is not 0.
func (q *partition) sleep(d time.Duration) {
	var ring <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		ring = timer.C
	}
	select {
	case <-q.queue.wake:
	case <-ring:
	case <-q.p.ctx.Done():
	}
}

// take moves the next batch's records from the queue to items; false when there are none. Those whose deadline passed
// while they waited fail here: they were never sent.
func (q *partition) take(now time.Time) bool {
	expired := q.queue.takeExpired(now)
	q.items = q.queue.take(now, q.items[:0])
	q.streaming = len(q.items) > 1
	if len(expired) > 0 {
		_, last := q.trouble.newest()
		err := q.wrap(reason(ErrDeliveryTimeout, last))
		q.outcome(expired, func(int) (Acked, error) { return Acked{}, err })
		q.queue.settle(len(expired))
	}
	return len(q.items) > 0
}

// requeue lets the batch under way come again: nothing of it is in the log.
func (q *partition) requeue() {
	q.queue.putBack(q.items)
	q.items = q.items[:0]
}

// outcome tells items their outcome, after giving their room back.
func (q *partition) outcome(items []pending, of func(i int) (Acked, error)) {
	size, cost := 0, 0
	for i := range items {
		size += items[i].size
		cost += items[i].size + pendingCost
	}
	q.queue.leave(len(items), size)
	q.p.room.Release(int64(cost))
	now := time.Now()
	for i := range items {
		a, err := of(i)
		if err == nil {
			q.p.counts.acked.Add(1)
			q.p.counts.took.Observe(now.Sub(items[i].taken))
		} else {
			q.p.counts.failed.Add(1)
			q.p.counts.kinds[kindOf(err)].Add(1)
		}
		if items[i].done != nil {
			items[i].done(a, err)
		}
	}
}

// failAll ends the batch under way with err.
func (q *partition) failAll(err error) {
	err = q.wrap(err)
	q.outcome(q.items, func(int) (Acked, error) { return Acked{}, err })
	q.queue.settle(len(q.items))
	clear(q.items)
	q.items = q.items[:0]
}

// failSome ends the items at the given indices with err and leaves the others in the batch.
func (q *partition) failSome(indices map[int]bool, err error) {
	err = q.wrap(err)
	var bad, good []pending
	for i := range q.items {
		if indices[i] {
			bad = append(bad, q.items[i])
		} else {
			good = append(good, q.items[i])
		}
	}
	q.items = append(q.items[:0], good...)
	q.outcome(bad, func(int) (Acked, error) { return Acked{}, err })
	q.queue.owe(len(bad))
}

func (q *partition) wrap(err error) error {
	return fmt.Errorf("produce to topic %s partition %d: %w", q.topic.name, q.id, err)
}

// reason joins why it was given up with what went wrong last.
func reason(why, last error) error {
	if last == nil {
		return why
	}
	return fmt.Errorf("%w: %w", why, last)
}

// pause waits until t or until ctx ends.
func pause(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
