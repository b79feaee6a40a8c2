package admin

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/admin/gate"
)

const (
	// sharedFor is how old an answer may be that is given to another request.
	sharedFor = time.Second
	// maxShared bounds the answers that are kept.
	maxShared = 256
)

// shared answers equal questions that come at once, or shortly after one another, by asking the servers behind once.
// What it returns is read by several requests and never changed.
type shared[T any] struct {
	looks *atomic.Uint64

	mu    sync.Mutex // guards known
	known map[string]*sharedLook[T]
}

// sharedLook is one time that the servers behind were asked.
type sharedLook[T any] struct {
	began time.Time
	done  chan struct{} // closed when the rest is set
	value T
	err   error
}

// get returns the answer to the question that key identifies. ask does not end with the request that caused it, since others may wait
// for it too.
func (s *shared[T]) get(ctx context.Context, key string, ask func(context.Context) (T, error)) (T, error) {
	l := s.look(ctx, key, ask)
	select {
	case <-l.done:
		return l.value, l.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func (s *shared[T]) look(ctx context.Context, key string, ask func(context.Context) (T, error)) *sharedLook[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.known[key]; l != nil && l.good() {
		return l
	}
	if s.known == nil {
		s.known = map[string]*sharedLook[T]{}
	}
	for k, l := range s.known {
		if !l.good() || len(s.known) >= maxShared {
			delete(s.known, k)
		}
	}
	l := &sharedLook[T]{began: time.Now(), done: make(chan struct{})}
	s.known[key] = l
	s.looks.Add(1)
	go func() {
		defer close(l.done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gate.RequestTimeout)
		defer cancel()
		l.value, l.err = ask(ctx)
	}()
	return l
}

// good reports whether a request may have the answer: while it is waited for, and for a while since it was asked for.
func (l *sharedLook[T]) good() bool {
	select {
	case <-l.done:
		return l.err == nil && time.Since(l.began) < sharedFor
	default:
		return time.Since(l.began) < gate.RequestTimeout
	}
}

// forget makes the next request ask again: something was changed.
func (s *shared[T]) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = nil
}
