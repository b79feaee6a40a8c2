package admin

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
	// beatEvery is how often a silent stream says that it lives.
	beatEvery = 15 * time.Second
	// sendWait bounds one write, so that a reader who does not read holds nothing up.
	sendWait = 5 * time.Second
)

// stream writes server-sent events. Several goroutines may send.
type stream struct {
	mu   sync.Mutex // guards w
	w    http.ResponseWriter
	ctl  *http.ResponseController
	wait time.Duration // of one write
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s := &stream{w: w, ctl: http.NewResponseController(w), wait: sendWait}
	_ = s.write(": here\n\n") // the next write tells
	return s
}

func (s *stream) write(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ctl.SetWriteDeadline(time.Now().Add(s.wait))         // a writer without deadlines has none
	defer func() { _ = s.ctl.SetWriteDeadline(time.Time{}) }() // one that passes in silence ends a stream of HTTP/2
	if _, err := s.w.Write([]byte(text)); err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	if err := s.ctl.Flush(); err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	return nil
}

// send writes one event.
func (s *stream) send(event, id string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	var t strings.Builder
	fmt.Fprintf(&t, "id: %s\nevent: %s\ndata: %s\n\n", id, event, b)
	return s.write(t.String())
}

// beat writes comments until ctx ends, so that neither proxies nor the reader take silence for a broken link.
func (s *stream) beat(ctx context.Context) error {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := s.write(": still here\n\n"); err != nil {
				return err
			}
		}
	}
}
