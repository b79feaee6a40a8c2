// Package sse writes streams of server-sent events.
package sse

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// beatEvery is how often a silent stream reports that it lives.
	beatEvery = 15 * time.Second
	// sendWait bounds one write, so that a reader who does not read holds nothing up.
	sendWait = 5 * time.Second
)

// Stream writes server-sent events. Several goroutines may send.
type Stream struct {
	mu   sync.Mutex // guards w
	w    http.ResponseWriter
	ctl  *http.ResponseController
	wait time.Duration // of one write
}

// New begins the answer.
func New(w http.ResponseWriter) *Stream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s := &Stream{w: w, ctl: http.NewResponseController(w), wait: sendWait}
	_ = s.Write(": here\n\n") // the next write tells
	return s
}

// Write writes text unchanged, within a deadline.
func (s *Stream) Write(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ctl.SetWriteDeadline(time.Now().Add(s.wait))         // a writer without deadlines has none
	defer func() { _ = s.ctl.SetWriteDeadline(time.Time{}) }() // one that passes silently ends a stream of HTTP/2
	if _, err := s.w.Write([]byte(text)); err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	if err := s.ctl.Flush(); err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	return nil
}

// Send writes one event.
func (s *Stream) Send(event, id string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	var t strings.Builder
	fmt.Fprintf(&t, "id: %s\nevent: %s\ndata: %s\n\n", id, event, b)
	return s.Write(t.String())
}

// Beat writes comments until ctx ends, so that neither proxies nor the reader take silence for a broken link.
func (s *Stream) Beat(ctx context.Context) error {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := s.Write(": still here\n\n"); err != nil {
				return err
			}
		}
	}
}
