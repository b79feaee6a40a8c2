package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	subscribed = "*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n"
	message    = "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$7\r\npayload\r\n"
	pong       = "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
)

// pair returns a connection over a link and its far end.
func pair(t *testing.T, l *link) (near, far net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	l.dial = func(context.Context, string, string) (net.Conn, error) { return a, nil }
	near, err := l.Dial(t.Context(), "tcp", "here")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), b.Close() })
	return near, b
}

// subscribe makes the connection that of a subscription.
func subscribe(t *testing.T, near, far net.Conn) {
	t.Helper()
	go func() { _, _ = near.Write([]byte("*2\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n")) }()
	if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, far) }()
}

func read(t *testing.T, c net.Conn, n int) string {
	t.Helper()
	b := make([]byte, n)
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Only messages are lost, however the bytes are cut into reads, and nothing once dropping is over.
func TestLinkDropsMessagesOnly(t *testing.T) {
	for _, size := range []int{1, 3, 7, 1000} {
		l := newLink()
		near, far := pair(t, l)
		subscribe(t, near, far)
		send := func(text string) {
			for b := []byte(text); len(b) > 0; {
				n, err := far.Write(b[:min(size, len(b))])
				if err != nil {
					return
				}
				b = b[n:]
			}
		}
		go func() { send(subscribed + message) }()
		if got := read(t, near, len(subscribed+message)); got != subscribed+message {
			t.Fatalf("size %d, not dropping: got %q", size, got)
		}
		l.drop(true)
		go func() { send(message + pong + message + message + pong) }()
		if got := read(t, near, 2*len(pong)); got != pong+pong {
			t.Fatalf("size %d, dropping: got %q", size, got)
		}
		if got := l.lost(); got != 3 {
			t.Errorf("size %d: lost %d messages, want 3", size, got)
		}
		l.drop(false)
		go func() { send(message) }()
		if got := read(t, near, len(message)); got != message {
			t.Fatalf("size %d, afterwards: got %q", size, got)
		}
	}
}

// A command connection is never filtered, whatever its bytes look like.
func TestLinkLeavesCommandsAlone(t *testing.T) {
	l := newLink()
	near, far := pair(t, l)
	l.drop(true)
	go func() { _, _ = far.Write([]byte(message)) }()
	if got := read(t, near, len(message)); got != message {
		t.Errorf("got %q", got)
	}
}

// While a link is stopped, deadlines pass as on a silent network, nothing is lost, and closing ends a wait.
func TestLinkStandsStill(t *testing.T) {
	l := newLink()
	near, far := pair(t, l)
	l.stop()
	l.stop() // again
	wrote := make(chan struct{})
	go func() { defer close(wrote); _, _ = far.Write([]byte("hello")) }()
	if err := near.SetReadDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 5)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read: got %v, want a deadline", err)
	}
	if err := near.SetWriteDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("write: got %v, want a deadline", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := l.Dial(ctx, "tcp", "here"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("dial: got %v, want a deadline", err)
	}
	l.start()
	if got := read(t, near, 5); got != "hello" {
		t.Errorf("got %q", got)
	}
	<-wrote
	l.stop()
	if err := near.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := near.Read(make([]byte, 1)); ended <- err }()
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a read survived its connection")
	}
	l.start()
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{subscribed, message, pong, "+OK\r\n", "*-1\r\n", "$-1\r\n", "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n", "%1\r\n"} {
		f.Add([]byte(s))
		f.Add([]byte(s + s)[:len(s)+1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, kind := reply(b)
		if n < 0 || n > len(b) || kind == pushedMessage && !bytes.Contains(b[:n], []byte("message")) {
			t.Fatalf("length %d, kind %d", n, kind)
		}
		if n == 0 {
			return
		}
		// A reply is measured alike when it stands alone.
		if m, k := reply(b[:n]); m != n || k != kind {
			t.Fatalf("alone: length %d, kind %d; before %d, %d", m, k, n, kind)
		}
	})
}

func TestReplyIsWholeOrNothing(t *testing.T) {
	all := strings.Repeat(message+pong, 2)
	for i := range len(message) {
		if n, _ := reply([]byte(all[:i])); n != 0 {
			t.Fatalf("%d bytes of %d: measured %d", i, len(message), n)
		}
	}
	if n, kind := reply([]byte(all)); n != len(message) || kind != pushedMessage {
		t.Errorf("got %d, %d", n, kind)
	}
}
