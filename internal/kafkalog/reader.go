package kafkalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/internal/kafkalog/wire"
	"github.com/freshet/freshet/internal/retry"
)

// CorruptTries is how often the same bad batch is fetched again before a partition stops at it.
const CorruptTries = 3

// fetchPolicy is how fetching, and questions, wait for brokers and leadership.
func fetchPolicy() retry.Policy {
	return retry.Policy{First: 100 * time.Millisecond, Max: 2 * time.Second}
}

// ReaderConfig bounds a Reader. The zero value works.
type ReaderConfig struct {
	// Until is the first offset that is not wanted; 0 means no end.
	Until int64
	// FetchWait is how long a broker may wait for new records; 0 means DefaultFetchWait.
	FetchWait time.Duration
	// MaxRecords and MaxBatchBytes bound a batch; 0 means DefaultMaxRecords and DefaultMaxBatchBytes.
	MaxRecords, MaxBatchBytes int
	// MaxFetchBytes bounds what one request asks for, and with it the reader's memory; 0 means 1 MiB.
	MaxFetchBytes int
}

// Reader reads a range of one partition outside any group and commits nothing. One goroutine uses it.
type Reader struct {
	client *Client
	part   Partition
	cfg    ReaderConfig

	conn                 *Conn
	lease                *Lease // of conn, where the client keeps connections
	epoch                int32
	dec                  *recordbatch.Decoder
	next                 int64
	lastStable, logStart int64
	corrupt              int // times that the batch at next was bad
}

// NewReader makes a reader that begins at from. It opens no connection.
func NewReader(c *Client, p Partition, from int64, cfg ReaderConfig) *Reader {
	cfg.FetchWait = cmp.Or(cfg.FetchWait, DefaultFetchWait)
	cfg.MaxRecords = cmp.Or(cfg.MaxRecords, DefaultMaxRecords)
	cfg.MaxBatchBytes = cmp.Or(cfg.MaxBatchBytes, DefaultMaxBatchBytes)
	cfg.MaxFetchBytes = cmp.Or(cfg.MaxFetchBytes, MaxPart)
	return &Reader{client: c, part: p, cfg: cfg, next: from}
}

// Next is the offset where the next batch begins.
func (r *Reader) Next() int64 { return r.next }

// Read returns the next batch, which may have no records, and io.EOF once Until is reached. It waits for records and for
// brokers until ctx ends. Errors that waiting does not fix: *LossError, ErrTopicChanged, ErrNoTopic, ErrCorrupt, and
// missing rights.
func (r *Reader) Read(ctx context.Context) (*Batch, error) {
	for {
		if r.cfg.Until > 0 && r.next >= r.cfg.Until {
			return nil, io.EOF
		}
		if r.dec == nil {
			if err := retry.Do(ctx, fetchPolicy(), r.fetch); err != nil {
				return nil, fmt.Errorf("read %s/%d at offset %d: %w", r.part.Topic, r.part.ID, r.next, err)
			}
			continue
		}
		from := r.next
		s := new(recordbatch.Slab)
		done, err := r.dec.Fill(s, r.cfg.MaxRecords, r.cfg.MaxBatchBytes)
		r.next = r.dec.Next
		if done || err != nil {
			r.dec.Close()
			r.dec = nil
		}
		if err != nil {
			// What came before the bad record is good, and the bad one is looked at once more.
			if r.corrupt++; r.corrupt >= CorruptTries && r.next == from {
				return nil, fmt.Errorf("read %s/%d: %w", r.part.Topic, r.part.ID, err)
			}
			r.hangUp()
		}
		if r.next > from {
			if err == nil {
				r.corrupt = 0
			}
			return r.batch(s, from), nil
		}
	}
}

// batch makes a batch of s, cut at Until.
func (r *Reader) batch(s *recordbatch.Slab, from int64) *Batch {
	if u := r.cfg.Until; u > 0 && r.next > u {
		for n := len(s.Records); n > 0 && s.Records[n-1].Offset >= u; n-- {
			s.Records = s.Records[:n-1]
		}
		r.next = u
	}
	return &Batch{
		Partition: r.part, From: from, Next: r.next, Records: s.Records, LastStable: r.lastStable, LogStart: r.logStart,
	}
}

// Close closes the reader's connection. It may be called twice.
func (r *Reader) Close() error {
	if r.dec != nil {
		r.dec.Close()
		r.dec = nil
	}
	if r.lease != nil { // its last request was answered
		r.lease.Keep()
		r.lease, r.conn = nil, nil
	}
	r.hangUp()
	return nil
}

func (r *Reader) hangUp() {
	switch {
	case r.lease != nil:
		r.lease.Drop()
		r.client.ranges.Prune(time.Now()) // the others may have ended with it
	case r.conn != nil:
		_ = r.conn.Close()
	}
	r.lease, r.conn = nil, nil
}

// connect dials the leader, and proves that the topic is still the one that was opened.
func (r *Reader) connect(ctx context.Context) error {
	cl, err := r.client.Metadata(ctx, r.part.Topic)
	if err != nil {
		return err
	}
	t := cl.Topics[r.part.Topic]
	if errors.Is(t.Err, ErrNoTopic) || IsAuthorization(t.Err) {
		return retry.Permanent(t.Err)
	}
	_, addr, epoch, err := cl.Leader(r.part.Topic, r.part.ID)
	if err != nil {
		return err
	}
	if t.Info.ID != r.part.TopicID {
		return retry.Permanent(ErrTopicChanged)
	}
	r.epoch = epoch
	if p := r.client.ranges; p != nil && r.cfg.Until > 0 {
		p.Prune(time.Now().Add(-r.client.cfg.KeepIdle))
		if r.lease, err = p.Get(ctx, addr); err == nil {
			r.conn = r.lease.Conn
		}
		return lasting(err)
	}
	r.conn, err = r.client.Dial(ctx, addr)
	return lasting(err)
}

// fetch gets one run from the leader. A nil error may have brought nothing.
func (r *Reader) fetch(ctx context.Context) error {
	if r.conn == nil {
		if err := r.connect(ctx); err != nil {
			return err
		}
	}
	want := FetchWant{Topic: r.part.Topic, Partition: r.part.ID, Offset: r.next, Epoch: r.epoch}
	parts, err := r.conn.Fetch(ctx, []FetchWant{want}, r.cfg.FetchWait, r.cfg.MaxFetchBytes)
	if err == nil && len(parts) != 1 {
		err = fmt.Errorf("%w: %d partitions, want 1", wire.ErrMalformed, len(parts))
	}
	if err != nil {
		r.hangUp()
		return err
	}
	p := &parts[0]
	run, next, err := p.Prove(r.next)
	switch {
	case errors.Is(err, ErrOvertaken):
		return r.overtaken(ctx)
	case err != nil && next == r.next:
		r.hangUp()
		if IsAuthorization(err) {
			return retry.Permanent(err)
		}
		if errors.Is(err, ErrCorrupt) {
			if r.corrupt++; r.corrupt >= CorruptTries {
				return retry.Permanent(err)
			}
		}
		return err
	}
	r.lastStable, r.logStart = p.LastStable, p.LogStart
	if len(run) > 0 {
		r.dec = recordbatch.NewDecoder(run, r.next, p.Aborted)
	}
	return nil
}

// overtaken finds out whether records are lost or the topic was recreated; else the fetch is worth another try.
func (r *Reader) overtaken(ctx context.Context) error {
	loss, err := r.client.Explain(ctx, r.conn, r.part, r.next)
	r.hangUp()
	switch {
	case errors.Is(err, ErrTopicChanged):
		return retry.Permanent(err)
	case err != nil:
		return err
	case loss != nil:
		return retry.Permanent(&LossError{*loss})
	}
	return kafka.OffsetOutOfRange
}
