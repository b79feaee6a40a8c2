package gate

import (
	"fmt"
	"net/http"
	"sync"
)

// Bounds of what is under way at once, for the server and for one token. The sums are below the number of connections, so that one is
// always left for a probe.
const (
	maxStreams       = 256
	maxTokenStreams  = 64
	maxRequests      = 512
	maxTokenRequests = 256
)

// slots bounds what is under way at once, in all and for each token.
type slots struct {
	what          string
	all, perToken int

	mu   sync.Mutex
	open map[string]int // by the token's name; guarded by mu
}

// enter takes a slot, or returns the status of the refusal and why.
func (s *slots) enter(token string) (status int, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sum() >= s.all:
		return http.StatusServiceUnavailable, fmt.Sprintf("%d %s are open here, which is the most; try again", s.all, s.what)
	case s.open[token] >= s.perToken:
		return http.StatusTooManyRequests, fmt.Sprintf("this token has %d %s open, which is the most; end one, or use a token for each client", s.perToken, s.what)
	}
	if s.open == nil {
		s.open = map[string]int{}
	}
	s.open[token]++
	return 0, ""
}

func (s *slots) leave(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[token]--; s.open[token] == 0 {
		delete(s.open, token)
	}
}

// count is how many are open.
func (s *slots) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum()
}

func (s *slots) sum() (n int) {
	for _, open := range s.open {
		n += open
	}
	return n
}
