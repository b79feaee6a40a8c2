package demo

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// link is a node's way to Redis. It can stop, as the network of a stopped machine does, and it can lose messages
// of the node's subscription silently, which no real connection does but everything between two machines may.
type link struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu       sync.Mutex
	open     chan struct{} // closed while bytes flow; guarded by mu
	dropping bool          // guarded by mu
	dropped  int64         // guarded by mu
}

func newLink() *link {
	l := &link{open: make(chan struct{}), dial: (&net.Dialer{Timeout: 2 * time.Second}).DialContext}
	close(l.open)
	return l
}

// Dial is for redis.Options.
func (l *link) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	select {
	case <-l.gate():
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c, err := l.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &linkConn{Conn: c, link: l, closed: make(chan struct{})}, nil
}

// stop delays every byte until start.
func (l *link) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
		l.open = make(chan struct{})
	default: // is stopped already
	}
}

func (l *link) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}

// drop begins or ends the loss of messages.
func (l *link) drop(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropping = on
}

func (l *link) gate() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

func (l *link) flowing() bool {
	select {
	case <-l.gate():
		return true
	default:
		return false
	}
}

// lose reports whether a message is to be lost, and counts it.
func (l *link) lose() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropping {
		l.dropped++
	}
	return l.dropping
}

func (l *link) lost() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// linkConn is one connection of a link. One goroutine reads and one writes, as go-redis does.
type linkConn struct {
	net.Conn

	link   *link
	once   sync.Once
	closed chan struct{}

	mu              sync.Mutex
	readBy, writeBy time.Time // deadlines; guarded by mu
	subscribed      bool      // a subscription was asked for; guarded by mu
	held            []byte    // read from the network and ready for the reader; the reader's
	raw             []byte    // read from the network, not yet a whole reply; the reader's
	buf             [16 << 10]byte
	pending         error // ends the stream after held; the reader's
}

// Write is net.Conn's.
func (c *linkConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	by := c.writeBy
	if !c.subscribed && bytes.Contains(bytes.ToLower(b[:min(len(b), 64)]), []byte("subscribe")) {
		c.subscribed = true
	}
	c.mu.Unlock()
	if err := c.wait(by); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Read is net.Conn's. What arrives while the link is stopped is kept for later.
func (c *linkConn) Read(b []byte) (int, error) {
	for {
		c.mu.Lock()
		by, subscribed := c.readBy, c.subscribed
		c.mu.Unlock()
		if err := c.wait(by); err != nil {
			return 0, err
		}
		if len(c.held) > 0 {
			n := copy(b, c.held)
			c.held = c.held[n:]
			return n, nil
		}
		if c.pending != nil {
			return 0, c.pending
		}
		n, err := c.Conn.Read(c.buf[:])
		if n > 0 {
			c.take(c.buf[:n], subscribed)
		}
		if err != nil {
			if len(c.held) == 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				return 0, err
			}
			c.pending = err
		}
	}
}

// take moves what was read to held; of a subscription only whole replies, without the messages that are to be lost.
func (c *linkConn) take(b []byte, subscribed bool) {
	if !subscribed {
		c.held = append(c.held, b...)
		return
	}
	c.raw = append(c.raw, b...)
	for len(c.raw) > 0 {
		n, kind := reply(c.raw)
		if n == 0 {
			return
		}
		if kind != pushedMessage || !c.link.lose() {
			c.held = append(c.held, c.raw[:n]...)
		}
		c.raw = c.raw[n:]
	}
	c.raw = nil
}

// wait returns once bytes flow, at the deadline, or when the connection is closed.
func (c *linkConn) wait(by time.Time) error {
	if c.link.flowing() {
		return nil
	}
	var late <-chan time.Time
	if !by.IsZero() {
		t := time.NewTimer(time.Until(by))
		defer t.Stop()
		late = t.C
	}
	select {
	case <-c.link.gate():
		return nil
	case <-late:
		return os.ErrDeadlineExceeded
	case <-c.closed:
		return net.ErrClosed
	}
}

// Close is net.Conn's.
func (c *linkConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// SetDeadline is net.Conn's.
func (c *linkConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.readBy, c.writeBy = t, t
	c.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline is net.Conn's.
func (c *linkConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.readBy = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline is net.Conn's.
func (c *linkConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.writeBy = t
	c.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}
