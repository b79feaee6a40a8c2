package kafkalog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/schemas"
)

// pending is a record that waits for its outcome.
type pending struct {
	rec   schemas.Record
	time  int64 // the broker-side time, Unix ms
	size  int   // in a batch without compression
	taken time.Time
	done  func(Acked, error)
}

// partition is one partition's queue and the goroutine that empties it.
type partition struct {
	p     *Producer
	topic *topic
	id    int32
	wake  chan struct{} // one slot: look at the queue
	renew atomic.Bool   // the topic was recreated: take another producer id before the next batch

	mu            sync.Mutex // guards all up to the next blank line
	queue         []pending
	head          int // first of queue that is still in it
	queuedBytes   int
	buffered      int // queued and under way
	bufferedBytes int
	taken         uint64 // records ever taken
	settled       uint64 // records whose batch and all before it are over
	hurry         uint64 // do not linger while settled is below
	owed          uint64 // failed records of the batch under way, not yet in settled
	waiters       []waiter
	stopped       bool
	failing       error // of the newest try, nil when it went well
	failingSince  time.Time
	limitRecords  int
	limitBytes    int

	// The goroutine's own.
	enc         recordbatch.Encoder
	state       recordbatch.Producer
	hasID       bool
	lastUsed    time.Time // of the producer id
	lastOffset  int64     // newest acknowledged, -1 for none
	streaming   bool      // the batch before had more than one record, so waiting for more pays
	notBefore   time.Time // the broker asked for patience until then
	narrowUntil time.Time // until then the topic's size limit that was found out is kept
	items       []pending // the batch under way
}

// waiter is a Flush that waits until settled reaches upto.
type waiter struct {
	upto uint64
	done chan struct{}
}

func newPartition(p *Producer, t *topic, id int32) *partition {
	return &partition{
		p: p, topic: t, id: id, wake: make(chan struct{}, 1), lastOffset: -1, enc: recordbatch.Encoder{Codec: p.cfg.Compression},
		limitRecords: p.cfg.MaxBatchRecords, limitBytes: p.cfg.MaxBatchBytes,
	}
}

// enqueue takes an item, unless the partition has stopped.
func (q *partition) enqueue(it pending) bool {
	q.mu.Lock()
	if q.stopped {
		q.mu.Unlock()
		return false
	}
	q.queue = append(q.queue, it)
	q.queuedBytes += it.size
	q.buffered++
	q.bufferedBytes += it.size
	q.taken++
	n := len(q.queue) - q.head
	look := n == 1 || n >= q.limitRecords || q.queuedBytes >= q.limitBytes
	q.mu.Unlock()
	if look {
		q.nudge()
	}
	return true
}

func (q *partition) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// flush hurries what was taken so far and gives a channel that closes when all of it is settled.
func (q *partition) flush() <-chan struct{} {
	done := make(chan struct{})
	q.mu.Lock()
	if q.settled >= q.taken {
		close(done)
	} else {
		q.hurry = q.taken
		q.waiters = append(q.waiters, waiter{q.taken, done})
	}
	q.mu.Unlock()
	q.nudge()
	return done
}

// stop takes no more items and hurries those that are there.
func (q *partition) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.nudge()
}

// trouble returns the newest failure, or nil.
func (q *partition) trouble() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failing
}

// run sends batch after batch until the producer ends.
func (q *partition) run() {
	for q.await() {
		if q.take(time.Now()) {
			q.deliver()
		}
	}
	for q.take(time.Now()) {
		q.failAll(ErrClosed)
	}
}

// await waits until a batch is due. false: the producer ends.
func (q *partition) await() bool {
	for {
		if q.p.ctx.Err() != nil {
			return false
		}
		due, wait := q.due(time.Now())
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
	case <-q.wake:
	case <-ring:
	case <-q.p.ctx.Done():
	}
}

// due reports whether to send now, or in how long; 0 means when woken.
func (q *partition) due(now time.Time) (bool, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.queue) - q.head
	switch {
	case n == 0:
		return false, 0
	case n >= q.limitRecords, q.queuedBytes >= q.limitBytes, q.hurry > q.settled, q.stopped, !q.streaming:
		return true, 0
	}
	wait := q.queue[q.head].taken.Add(q.p.cfg.Linger).Sub(now)
	return wait <= 0, wait
}

// take moves the next batch's records from the queue to items; false when there are none. Those whose deadline passed
// while they waited fail here: they were never sent.
func (q *partition) take(now time.Time) bool {
	expired := q.takeExpired(now)
	q.mu.Lock()
	if now.After(q.narrowUntil) {
		q.limitBytes = q.p.cfg.MaxBatchBytes
	}
	q.items = q.items[:0]
	size := 0
	for q.head < len(q.queue) && len(q.items) < q.limitRecords {
		it := &q.queue[q.head]
		if len(q.items) > 0 && size+it.size > q.limitBytes {
			break
		}
		size += it.size
		q.items = append(q.items, *it)
		*it = pending{}
		q.head++
	}
	q.queuedBytes -= size
	q.compact()
	last := q.failing
	q.mu.Unlock()
	q.streaming = len(q.items) > 1
	if len(expired) > 0 {
		q.outcome(expired, func(int) (Acked, error) { return Acked{}, q.wrap(reason(ErrDeliveryTimeout, last)) })
		q.settle(len(expired))
	}
	return len(q.items) > 0
}

// takeExpired removes the items at the front of the queue whose deadline has passed. Nothing of it is under way.
func (q *partition) takeExpired(now time.Time) []pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []pending
	for q.head < len(q.queue) && now.Sub(q.queue[q.head].taken) >= q.p.cfg.DeliveryTimeout {
		out = append(out, q.queue[q.head])
		q.queuedBytes -= q.queue[q.head].size
		q.queue[q.head] = pending{}
		q.head++
	}
	return out
}

// compact frees the front of the queue's array once half of it is unused. q.mu is held.
func (q *partition) compact() {
	if q.head == len(q.queue) {
		q.queue, q.head = q.queue[:0], 0
	} else if q.head > len(q.queue)/2 {
		n := copy(q.queue, q.queue[q.head:])
		clear(q.queue[n:])
		q.queue, q.head = q.queue[:n], 0
	}
}

// requeue puts items back to the front of the queue: nothing of them is in the log.
func (q *partition) requeue() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.items {
		q.queuedBytes += q.items[i].size
	}
	rest := q.queue[q.head:]
	queue := make([]pending, 0, len(q.items)+len(rest))
	queue = append(append(queue, q.items...), rest...)
	q.queue, q.head = queue, 0
	q.items = q.items[:0]
	q.hurry = max(q.hurry, q.settled+1)
}

// outcome tells items their outcome, after giving their room back.
func (q *partition) outcome(items []pending, of func(i int) (Acked, error)) {
	size, cost := 0, 0
	for i := range items {
		size += items[i].size
		cost += items[i].size + pendingCost
	}
	q.mu.Lock()
	q.buffered -= len(items)
	q.bufferedBytes -= size
	q.mu.Unlock()
	q.p.room.Release(int64(cost))
	for i := range items {
		a, err := of(i)
		if err == nil {
			q.p.counts.acked.Add(1)
		} else {
			q.p.counts.failed.Add(1)
		}
		if items[i].done != nil {
			items[i].done(a, err)
		}
	}
}

// settle counts n records, and those owed, as over and wakes the flushes that waited for them.
func (q *partition) settle(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settled += uint64(n) + q.owed
	q.owed = 0
	rest := q.waiters[:0]
	for _, w := range q.waiters {
		if w.upto <= q.settled {
			close(w.done)
		} else {
			rest = append(rest, w)
		}
	}
	q.waiters = rest
}

// failAll ends the batch under way with err.
func (q *partition) failAll(err error) {
	err = q.wrap(err)
	q.outcome(q.items, func(int) (Acked, error) { return Acked{}, err })
	q.settle(len(q.items))
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
	q.mu.Lock()
	q.owed += uint64(len(bad))
	q.mu.Unlock()
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
