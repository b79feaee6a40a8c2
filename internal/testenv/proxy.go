package testenv

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is an address on loopback that leads to a server, and a link that a test can disturb. What it never does is lose
// or reorder a part of a connection's bytes: TCP does not either.
type Proxy struct {
	// Addr is host:port.
	Addr string

	wg       sync.WaitGroup
	mu       sync.Mutex // guards what follows
	target   string
	conns    map[net.Conn]bool
	delay    time.Duration
	released chan struct{} // closed when bytes may pass
	end      chan struct{} // closed when the test ends
}

// NewProxy makes one that leads to target and ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("testenv: listen for a proxy: %v", err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, conns: map[net.Conn]bool{}, released: make(chan struct{}), end: make(chan struct{})}
	close(p.released)
	p.wg.Go(func() { p.accept(l) })
	t.Cleanup(func() {
		close(p.end)
		_ = l.Close()
		p.Lead("")
		p.wg.Wait()
	})
	return p
}

// Cut closes every connection; new ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// Lead makes the proxy lead elsewhere; what was connected is cut. A target that does not answer refuses.
func (p *Proxy) Lead(target string) {
	p.LeadNew(target)
	p.Cut()
}

// LeadNew makes new connections lead elsewhere; what is connected stays, as with an address that moves.
func (p *Proxy) LeadNew(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Hold lets nothing pass in either direction, and closes nothing: a black hole. Connections are accepted all the same.
// Release lets pass what was delayed, as a network does that comes back.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.released:
		p.released = make(chan struct{})
	default: // held already
	}
}

// Release ends Hold.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.released:
	default:
		close(p.released)
	}
}

// Delay makes what arrives wait for d in each direction; 0 ends that.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

func (p *Proxy) accept(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.connect(in) })
	}
}

func (p *Proxy) connect(in net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		_ = in.Close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.target != target { // led elsewhere meanwhile
		_, _ = in.Close(), out.Close()
		return
	}
	p.conns[in], p.conns[out] = true, true
	p.wg.Go(func() { p.copy(out, in) })
	p.wg.Go(func() { p.copy(in, out) })
}

// copy passes bytes on until one side ends; then both do.
func (p *Proxy) copy(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.wait() {
			return
		}
		if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// wait returns when what has arrived may continue; false at the end of the test.
func (p *Proxy) wait() bool {
	p.mu.Lock()
	delay, released := p.delay, p.released
	p.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.end:
			return false
		}
	}
	select {
	case <-released:
		return true
	case <-p.end:
		return false
	}
}
