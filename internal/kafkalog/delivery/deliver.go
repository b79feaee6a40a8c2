package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/retry"
)

// narrowFor is how long a topic's size limit is remembered after the broker refused a batch for its size.
const narrowFor = time.Minute

// errCut ends the delivery of a batch whose records went back to the queue, to come again in smaller batches.
var errCut = errors.New("batch is cut")

// flight is what is known of the batch under way.
type flight struct {
	set      []byte // the encoded record set; nil: encode (again)
	unknown  bool   // a try may have appended it
	appended bool   // it is in the log
	base     int64  // offset of its first record once appended, -1 when the broker did not say
	vague    int    // tries whose answer did not report whether another helps
}

// deliver brings the batch in items to its end: acknowledged, failed, or back to the queue.
func (q *partition) deliver() {
	q.seq.expire(q.p.cfg.MaxIDIdle)
	deadline := q.items[0].taken.Add(q.p.cfg.DeliveryTimeout)
	ctx, cancel := context.WithDeadlineCause(q.p.ctx, deadline, ErrDeliveryTimeout)
	defer cancel()
	f := &flight{}
	policy := retry.Policy{First: firstBackoff, Max: maxBackoff, Notify: func(err error, wait time.Duration) {
		q.p.counts.retries.Add(1)
		q.trouble.note(err)
		q.p.log.Debug("batch not delivered yet", "topic", q.topic.name, "partition", q.id, "wait_seconds", wait, "error", err)
	}}
	err := retry.Do(ctx, policy, func(ctx context.Context) error {
		for {
			again, err := q.try(ctx, f)
			if !again {
				return err
			}
		}
	})
	switch {
	case err == nil:
		q.recovered()
	case errors.Is(err, errCut):
		q.requeue()
	case ctx.Err() != nil:
		_, last := q.trouble.newest()
		q.giveUp(f, context.Cause(ctx), last)
	default:
		q.giveUp(f, err, nil)
	}
}

// recovered forgets the failures; a long row of them is worth a line in the log.
func (q *partition) recovered() {
	since, err := q.trouble.end()
	if after := time.Since(since); err != nil && after > 5*time.Second {
		q.p.log.Warn("partition takes records again", "topic", q.topic.name, "partition", q.id, "duration_seconds", after, "error", err)
	}
}

// try sends the batch once. again: something changed, try at once. nil without again: the batch is over.
func (q *partition) try(ctx context.Context, f *flight) (again bool, err error) {
	if f.appended {
		return false, q.conclude(ctx, f)
	}
	if err := pause(ctx, q.notBefore); err != nil {
		return false, err
	}
	if err := q.prepare(ctx, f); err != nil {
		return false, err
	}
	addr, learned, err := q.topic.leader(q.id)
	if err != nil {
		return false, q.relearn(ctx, learned, err)
	}
	l, err := q.p.pool.Get(ctx, addr)
	if err != nil {
		return false, q.relearn(ctx, learned, err)
	}
	r, err := l.Conn.Produce(ctx, q.topic.name, q.id, f.set)
	if err != nil {
		l.Drop()
		f.unknown = true
		q.p.counts.unknown.Add(1)
		return false, q.relearn(ctx, learned, err)
	}
	if ctx.Err() == nil {
		l.Keep()
	} else {
		l.Drop() // ctx's end may yet spoil the connection's deadline
	}
	if r.Throttle > 0 {
		q.notBefore = time.Now().Add(r.Throttle)
	}
	return q.answer(ctx, f, r, learned)
}

// relearn asks for the topic after err and returns err, or why trying again cannot help.
func (q *partition) relearn(ctx context.Context, learned time.Time, err error) error {
	if hopeless(err) {
		return retry.Permanent(err)
	}
	if rerr := q.topic.refresh(ctx, learned); rerr != nil {
		if hopeless(rerr) {
			return retry.Permanent(rerr)
		}
		if ctx.Err() == nil {
			return fmt.Errorf("%w (and: %w)", err, rerr)
		}
	}
	return err
}

// prepare sees to a producer id and to the encoded batch.
func (q *partition) prepare(ctx context.Context, f *flight) error {
	if !q.seq.hasID {
		s, err := q.p.client.InitProducerID(ctx)
		if err != nil {
			if hopeless(err) {
				return retry.Permanent(explained(err, q.topic.name))
			}
			return err
		}
		q.seq.begin(s)
		q.p.counts.ids.Add(1)
		f.set = nil
	}
	if f.set != nil {
		return nil
	}
	q.enc.Begin()
	for i := range q.items {
		q.enc.Add(&q.items[i].rec, q.items[i].time)
	}
	set, err := q.enc.Finish(q.seq.next)
	if err != nil {
		return retry.Permanent(err)
	}
	f.set = set
	return nil
}

// answer acts on what the broker said.
func (q *partition) answer(ctx context.Context, f *flight, r kafkalog.ProduceReply, learned time.Time) (again bool, err error) {
	code := kafka.Error(r.Code)
	v := judge(r.Code)
	switch v {
	case appended:
		f.appended, f.base = true, r.Base
		if code == kafka.DuplicateSequenceNumber {
			f.base = -1
		}
		return true, nil
	case outcomeUnknown:
		f.unknown = true
		q.p.counts.unknown.Add(1)
		return false, code
	case notLeader:
		return false, q.relearn(ctx, learned, code)
	case throttled:
		return false, code
	case staleID:
		q.p.log.Error("broker does not accept the producer id; taking a new one, records may be appended twice",
			"topic", q.topic.name, "partition", q.id, "error", code)
		q.seq.hasID, f.set = false, nil
		return false, code
	case recordsRefused:
		return q.refuse(f, r.Refused, refusal(code, q.topic.name))
	case tooLarge:
		return false, q.cut(f, code)
	case misconfigured:
		return false, retry.Permanent(refusal(code, q.topic.name))
	case damaged, vague:
	}
	f.unknown = f.unknown || v == vague
	if f.vague++; f.vague < maxVagueTries {
		return false, code
	}
	if v == damaged {
		return q.refuse(f, nil, refusal(code, q.topic.name))
	}
	return false, retry.Permanent(code)
}

// refuse fails the records at the indices and sends the others again from the same sequence. When the broker named
// none, the batch is halved until the record is found.
func (q *partition) refuse(f *flight, indices []int, err error) (again bool, _ error) {
	bad := make(map[int]bool, len(indices))
	for _, i := range indices {
		if i >= 0 && i < len(q.items) {
			bad[i] = true
		}
	}
	n := len(q.items)
	if len(bad) == 0 && n > 1 {
		q.queue.narrowRecords(n / 2)
		return false, q.cutErr(f, err)
	}
	if len(bad) == 0 {
		bad[0] = true
	}
	q.failSome(bad, q.doubt(f, err))
	f.set = nil
	if len(q.items) == 0 {
		q.queue.settle(0)
		q.forgetID(f)
		return false, nil
	}
	return true, nil
}

// cut halves a batch that is too large; a single record fails.
func (q *partition) cut(f *flight, code kafka.Error) error {
	n, size := len(q.items), 0
	for i := range q.items {
		size += q.items[i].size
	}
	if n <= 1 {
		return retry.Permanent(fmt.Errorf("%w: %d bytes: %w; raise the topic's max.message.bytes or write less", ErrTooLarge, size, code))
	}
	q.queue.narrowBytes(size / 2)
	return q.cutErr(f, code)
}

// cutErr ends the delivery so that the records come again in smaller batches. With a try of unknown outcome behind it,
// the sequences are in doubt.
func (q *partition) cutErr(f *flight, err error) error {
	q.p.counts.splits.Add(1)
	q.forgetID(f)
	return retry.Permanent(fmt.Errorf("%w: %w", errCut, err))
}

// forgetID lets the next batch take a new producer id if this one's sequences are in doubt.
func (q *partition) forgetID(f *flight) {
	if f.unknown {
		q.seq.hasID = false
	}
}

// conclude ends a batch that is in the log.
func (q *partition) conclude(ctx context.Context, f *flight) error {
	n := len(q.items)
	first, last := f.base, f.base+int64(n)-1
	switch {
	case f.base < 0:
		end, err := q.logEnd(ctx)
		if err != nil {
			return err
		}
		first, last = end-1, end-1
	case f.base <= q.seq.lastOffset:
		// The log is shorter than it was: a topic recreated, under another id, or an election that cut the log.
		if err := q.topic.refresh(ctx, time.Now()); err != nil {
			return err
		}
	}
	q.acknowledge(f, first, last)
	return nil
}

// acknowledge tells the records of the batch their offsets: first, first+1 … but never past last.
func (q *partition) acknowledge(f *flight, first, last int64) {
	n := len(q.items)
	q.seq.advance(n, last)
	q.p.counts.batches.Add(1)
	q.p.counts.bytes.Add(uint64(len(f.set)))
	q.queue.widen()
	part := q.topic.partition(q.id)
	source := part.Source()
	q.outcome(q.items, func(i int) (Acked, error) {
		return Acked{Partition: part, Source: source, Offset: min(first+int64(i), last)}, nil
	})
	q.queue.settle(n)
	clear(q.items)
	q.items = q.items[:0]
}

// logEnd asks the leader for the end of the log.
func (q *partition) logEnd(ctx context.Context) (int64, error) {
	addr, learned, err := q.topic.leader(q.id)
	if err == nil {
		var end int64
		if end, err = q.p.client.LogEnd(ctx, addr, q.topic.name, q.id); err == nil {
			return end, nil
		}
	}
	return 0, q.relearn(ctx, learned, err)
}

// giveUp ends a batch that did not get through, for why; last is what went wrong last.
func (q *partition) giveUp(f *flight, why, last error) {
	defer q.forgetID(f)
	if f.appended && f.base >= 0 {
		q.acknowledge(f, f.base, f.base+int64(len(q.items))-1)
		return
	}
	f.unknown = f.unknown || f.appended
	if !f.unknown && errors.Is(why, ErrDeliveryTimeout) {
		q.requeue() // the next take fails those that are late, and the others have time left
		return
	}
	q.failAll(q.doubt(f, reason(why, last)))
}

// doubt adds ErrOutcomeUnknown when a try may have appended the batch.
func (q *partition) doubt(f *flight, err error) error {
	if f.unknown {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
}
