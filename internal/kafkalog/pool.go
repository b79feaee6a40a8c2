package kafkalog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// connsPerBroker bounds the requests that are under way at one broker.
	connsPerBroker = 8
	// connIdle is how long an unused connection is kept; brokers close theirs after 10 minutes.
	connIdle = time.Minute
)

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

// get returns a connection to addr, an idle one first. An error means that nothing was sent.
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

// keep makes the connection idle for the next caller.
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

// drop closes the connection: after an error it is not known what would come next on it.
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

// close closes idle connections now and others when they are returned.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.prune(time.Now().Add(time.Hour))
}
