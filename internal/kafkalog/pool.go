package kafkalog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// connsPerBroker bounds the requests that are under way at one broker.
const connsPerBroker = 8

// Pool keeps connections for a producer (package delivery), so that batches of several partitions are under way at the same broker at once and
// none waits behind another's slow followers, or for questions (Config.KeepIdle).
type Pool struct {
	client *Client

	mu      sync.Mutex // guards all below
	brokers map[string]*brokerPool
	closed  bool
}

// NewPool returns an empty pool of connections of client.
func NewPool(client *Client) *Pool { return &Pool{client: client} }

// brokerPool is what a pool keeps of one broker.
type brokerPool struct {
	room *semaphore.Weighted
	idle []idleConn // newest last; guarded by pool.mu
}

type idleConn struct {
	k     *Conn
	since time.Time
}

// Lease is a connection that is in use; exactly one of Keep and Drop ends it.
type Lease struct {
	// Conn is the holder's alone until the lease ends.
	Conn   *Conn
	reused bool // it was used before
	pool   *Pool
	bp     *brokerPool
}

// Get returns a connection to addr, an idle one first. An error means that nothing was sent.
func (p *Pool) Get(ctx context.Context, addr string) (*Lease, error) {
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
	l := &Lease{pool: p, bp: bp}
	p.mu.Lock()
	if n := len(bp.idle); n > 0 {
		l.Conn, l.reused = bp.idle[n-1].k, true
		bp.idle = bp.idle[:n-1]
	}
	p.mu.Unlock()
	if l.Conn == nil {
		k, err := p.client.Dial(ctx, addr)
		if err != nil {
			bp.room.Release(1)
			return nil, err
		}
		l.Conn = k
	}
	return l, nil
}

// Keep makes the connection idle for the next caller.
func (l *Lease) Keep() {
	l.pool.mu.Lock()
	closed := l.pool.closed
	if !closed {
		l.bp.idle = append(l.bp.idle, idleConn{l.Conn, time.Now()})
	}
	l.pool.mu.Unlock()
	if closed {
		_ = l.Conn.Close()
	}
	l.bp.room.Release(1)
}

// Drop closes the connection: after an error it is not known what would come next on it.
func (l *Lease) Drop() {
	_ = l.Conn.Close()
	l.bp.room.Release(1)
}

// Prune closes what was idle since before t.
func (p *Pool) Prune(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, bp := range p.brokers {
		n := 0
		for n < len(bp.idle) && bp.idle[n].since.Before(t) {
			_ = bp.idle[n].k.Close()
			n++
		}
		bp.idle = append(bp.idle[:0], bp.idle[n:]...)
	}
}

// Close closes idle connections now and the others when they are returned.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Prune(time.Now().Add(time.Hour))
}
