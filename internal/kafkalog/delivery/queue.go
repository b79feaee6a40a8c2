package delivery

import (
	"sync"
	"time"

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

// queue has the records of one partition that wait for their outcome, and counts those whose outcome is known.
type queue struct {
	wake                   chan struct{} // one slot: look at the queue
	linger, timeout        time.Duration
	mostRecords, mostBytes int // of a batch

	mu            sync.Mutex // guards all below
	items         []pending
	head          int // first of items that is still in the queue
	bytes         int // of those
	buffered      int // queued and under way
	bufferedBytes int
	taken         uint64 // records ever taken
	settled       uint64 // records whose batch and all before it are over
	hurry         uint64 // do not linger while settled is below
	owed          uint64 // failed records of the batch under way, not yet in settled
	waiters       []waiter
	stopped       bool

	// Of the next batch: less than the most after a batch was refused.
	limitRecords, limitBytes int
	narrowUntil              time.Time // until then limitBytes is kept
}

// waiter is a Flush that waits until settled reaches upto.
type waiter struct {
	upto uint64
	done chan struct{}
}

func newQueue(cfg Config) *queue {
	return &queue{
		wake: make(chan struct{}, 1), linger: cfg.Linger, timeout: cfg.DeliveryTimeout,
		mostRecords: cfg.MaxBatchRecords, mostBytes: cfg.MaxBatchBytes,
		limitRecords: cfg.MaxBatchRecords, limitBytes: cfg.MaxBatchBytes,
	}
}

// enqueue takes an item, unless the queue has stopped.
func (q *queue) enqueue(it pending) bool {
	q.mu.Lock()
	if q.stopped {
		q.mu.Unlock()
		return false
	}
	q.items = append(q.items, it)
	q.bytes += it.size
	q.buffered++
	q.bufferedBytes += it.size
	q.taken++
	n := len(q.items) - q.head
	look := n == 1 || n >= q.limitRecords || q.bytes >= q.limitBytes
	q.mu.Unlock()
	if look {
		q.nudge()
	}
	return true
}

func (q *queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// flush hurries what was taken so far and returns a channel that closes when all of it is settled.
func (q *queue) flush() <-chan struct{} {
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
func (q *queue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.nudge()
}

// due reports whether to send now, or in how long; 0 means when woken. streaming: waiting for
// more records pays.
func (q *queue) due(now time.Time, streaming bool) (bool, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.items) - q.head
	switch {
	case n == 0:
		return false, 0
	case n >= q.limitRecords, q.bytes >= q.limitBytes, q.hurry > q.settled, q.stopped, !streaming:
		return true, 0
	}
	wait := q.items[q.head].taken.Add(q.linger).Sub(now)
	return wait <= 0, wait
}

// take moves the next batch's records from the queue to batch.
func (q *queue) take(now time.Time, batch []pending) []pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.After(q.narrowUntil) {
		q.limitBytes = q.mostBytes
	}
	size := 0
	for q.head < len(q.items) && len(batch) < q.limitRecords {
		it := &q.items[q.head]
		if len(batch) > 0 && size+it.size > q.limitBytes {
			break
		}
		size += it.size
		batch = append(batch, *it)
		*it = pending{}
		q.head++
	}
	q.bytes -= size
	q.compact()
	return batch
}

// takeExpired removes the items at the front of the queue whose deadline has passed. Nothing of it is under way.
func (q *queue) takeExpired(now time.Time) []pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []pending
	for q.head < len(q.items) && now.Sub(q.items[q.head].taken) >= q.timeout {
		out = append(out, q.items[q.head])
		q.bytes -= q.items[q.head].size
		q.items[q.head] = pending{}
		q.head++
	}
	return out
}

// compact frees the front of the queue's array once half of it is unused. q.mu is held.
func (q *queue) compact() {
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	} else if q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
}

// putBack puts a batch back to the front of the queue: nothing of it is in the log.
func (q *queue) putBack(batch []pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range batch {
		q.bytes += batch[i].size
	}
	rest := q.items[q.head:]
	items := make([]pending, 0, len(batch)+len(rest))
	q.items, q.head = append(append(items, batch...), rest...), 0
	q.hurry = max(q.hurry, q.settled+1)
}

// leave counts n records of that size as no longer buffered.
func (q *queue) leave(n, size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.buffered -= n
	q.bufferedBytes -= size
}

// owe counts n records as over once the batch that they were in is.
func (q *queue) owe(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.owed += uint64(n)
}

// settle counts n records, and those owed, as over and wakes the flushes that waited for them.
func (q *queue) settle(n int) {
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

// narrowRecords bounds the next batches.
func (q *queue) narrowRecords(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limitRecords = n
}

// narrowBytes bounds the batches of the next narrowFor: the broker refused one for its size.
func (q *queue) narrowBytes(size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limitBytes, q.narrowUntil = size, time.Now().Add(narrowFor)
}

// widen lets the next batches have more records again.
func (q *queue) widen() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limitRecords = min(q.limitRecords*2, q.mostRecords)
}

// count returns how much is buffered.
func (q *queue) count() (records, size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.buffered, q.bufferedBytes
}
