package kafkalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
	"golang.org/x/sync/semaphore"

	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/internal/kafkalog/wire"
)

const (
	// produceVersion is the newest that the protocol library writes; brokers have it since 2.4.
	produceVersion = 8
	// initProducerIDVersion likewise; since 2.7.
	initProducerIDVersion = 4
	// ackTimeout is how long a broker waits for its followers before it answers 7; well below requestTimeout.
	ackTimeout = 5 * time.Second
	// connsPerBroker bounds the produce requests that are under way at one broker.
	connsPerBroker = 8
	// connIdle is how long an unused connection is kept; brokers close theirs after 10 minutes.
	connIdle = time.Minute
	// acksAll: every replica in sync has the batch before the answer.
	acksAll = -1
)

// initProducerID asks for a producer id on a connection of its own. (The library's call looks for a transaction
// coordinator first, and that makes the broker create the transaction topic.)
func (c *Client) initProducerID(ctx context.Context, topic string) (recordbatch.Producer, error) {
	k, err := c.bootstrap(ctx)
	if err != nil {
		return recordbatch.Producer{}, err
	}
	defer func() { _ = k.close() }()
	res, err := k.roundTrip(ctx, initProducerIDVersion, &initproducerid.Request{ProducerID: -1, ProducerEpoch: -1})
	if err != nil {
		return recordbatch.Producer{}, fmt.Errorf("ask for a producer id: %w", err)
	}
	r := res.(*initproducerid.Response)
	if r.ErrorCode == 0 {
		return recordbatch.Producer{ID: r.ProducerID, Epoch: r.ProducerEpoch}, nil
	}
	code := kafka.Error(r.ErrorCode)
	if judge(r.ErrorCode) == misconfigured {
		return recordbatch.Producer{}, fmt.Errorf("ask for a producer id: %w", refusal(code, topic))
	}
	return recordbatch.Producer{}, fmt.Errorf("ask for a producer id: %w", code)
}

// produceReply is a broker's answer about one batch.
type produceReply struct {
	code     int16
	base     int64
	refused  []int // indices of refused records
	throttle time.Duration
}

// produce sends one record set on this connection. An error means that the outcome is unknown.
func (k *conn) produce(ctx context.Context, topic string, partition int32, set []byte) (produceReply, error) {
	res, err := k.roundTrip(ctx, produceVersion, &rawproduce.Request{
		Acks:    acksAll,
		Timeout: int32(ackTimeout / time.Millisecond),
		Topics: []rawproduce.RequestTopic{{Topic: topic, Partitions: []rawproduce.RequestPartition{{
			Partition: partition,
			RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(set)},
		}}}},
	})
	if err != nil {
		return produceReply{}, err
	}
	r := res.(*produce.Response)
	if len(r.Topics) != 1 || r.Topics[0].Topic != topic || len(r.Topics[0].Partitions) != 1 ||
		r.Topics[0].Partitions[0].Partition != partition {
		return produceReply{}, fmt.Errorf("read produce reply of broker %s: %w: not about the partition asked for", k.addr, wire.ErrMalformed)
	}
	p := &r.Topics[0].Partitions[0]
	out := produceReply{code: p.ErrorCode, base: p.BaseOffset, throttle: time.Duration(r.ThrottleTimeMs) * time.Millisecond}
	for _, e := range p.RecordErrors {
		out.refused = append(out.refused, int(e.BatchIndex))
	}
	return out, nil
}

// pool keeps connections for a producer, so that batches of several partitions are under way at the same broker at once and
// none waits behind another's slow followers, or for questions (Config.KeepIdle).
type pool struct {
	client *Client

	mu      sync.Mutex // guards all below
	brokers map[string]*brokerPool
	closed  bool
}

// brokerPool is what a pool keeps of one broker.
type brokerPool struct {
	room *semaphore.Weighted
	idle []idleConn // newest last; guarded by pool.mu
}

type idleConn struct {
	k     *conn
	since time.Time
}

// lease is a connection that is in use; exactly one of keep and drop ends it.
type lease struct {
	k      *conn
	reused bool // it was used before
	pool   *pool
	bp     *brokerPool
}

// get gives a connection to addr, an idle one first. An error means that nothing was sent.
func (p *pool) get(ctx context.Context, addr string) (*lease, error) {
	p.mu.Lock()
	if p.brokers == nil {
		p.brokers = map[string]*brokerPool{}
	}
	bp := p.brokers[addr]
	if bp == nil {
		bp = &brokerPool{room: semaphore.NewWeighted(connsPerBroker)}
		p.brokers[addr] = bp
	}
	p.mu.Unlock()
	if err := bp.room.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for a connection to broker %s: %w", addr, context.Cause(ctx))
	}
	l := &lease{pool: p, bp: bp}
	p.mu.Lock()
	if n := len(bp.idle); n > 0 {
		l.k, l.reused = bp.idle[n-1].k, true
		bp.idle = bp.idle[:n-1]
	}
	p.mu.Unlock()
	if l.k == nil {
		k, err := p.client.dial(ctx, addr)
		if err != nil {
			bp.room.Release(1)
			return nil, err
		}
		l.k = k
	}
	return l, nil
}

// keep gives the connection back for the next.
func (l *lease) keep() {
	l.pool.mu.Lock()
	closed := l.pool.closed
	if !closed {
		l.bp.idle = append(l.bp.idle, idleConn{l.k, time.Now()})
	}
	l.pool.mu.Unlock()
	if closed {
		_ = l.k.close()
	}
	l.bp.room.Release(1)
}

// drop closes the connection: after an error nobody knows what would come next on it.
func (l *lease) drop() {
	_ = l.k.close()
	l.bp.room.Release(1)
}

// prune closes what was idle since before t.
func (p *pool) prune(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, bp := range p.brokers {
		n := 0
		for n < len(bp.idle) && bp.idle[n].since.Before(t) {
			_ = bp.idle[n].k.close()
			n++
		}
		bp.idle = append(bp.idle[:0], bp.idle[n:]...)
	}
}

// close closes idle connections now and others when they are given back.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.prune(time.Now().Add(time.Hour))
}

// asCode gives the Kafka code in err's chain, or 0.
func asCode(err error) kafka.Error {
	var code kafka.Error
	errors.As(err, &code)
	return code
}
