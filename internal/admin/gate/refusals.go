package gate

import (
	"net/http"
	"sync"
)

// Reasons of a refusal in Stats.Refused.
const (
	refusedRate       = "rate"        // more requests a second than a token may make
	refusedWrongToken = "wrong_token" // guesses, beyond those that are answered with 401
	refusedStreams    = "streams"     // more open streams than the server or the token may have
	refusedRequests   = "requests"    // the same of other requests
	refusedBodyTurn   = "body_turn"   // larger bodies were being read all the time
	refusedBodyTime   = "body_time"   // the body came too slowly
	refusedBodySize   = "body_size"
	refusedBodyType   = "body_type"
	refusedStarting   = "starting" // the process does not have MySQL yet
)

// reasons returns every reason of a refusal.
func reasons() []string {
	return []string{
		refusedRate, refusedWrongToken, refusedStreams, refusedRequests, refusedBodyTurn, refusedBodyTime, refusedBodySize, refusedBodyType, refusedStarting,
	}
}

// Stats counts what a Gate refused, and what it holds for requests that are being served.
type Stats struct {
	// Refused counts requests that were refused because of a limit, by reason; every reason is in it.
	Refused map[string]uint64
	// Streams is how many streams are open, BodyBytes how many bytes of bodies may be held for requests at this moment.
	Streams   int
	BodyBytes int64
}

// Stats returns the counts since New.
func (g *Gate) Stats() Stats {
	return Stats{Refused: g.refused.all(), Streams: g.streams.count(), BodyBytes: g.bodies.held.Load()}
}

// refusals counts refused requests by reason.
type refusals struct {
	mu sync.Mutex
	n  map[string]uint64
}

// refuse answers with a problem and counts it. Where it is worth trying again, the answer says when.
func (c *refusals) refuse(w http.ResponseWriter, status int, reason, detail string) {
	c.mu.Lock()
	if c.n == nil {
		c.n = map[string]uint64{}
	}
	c.n[reason]++
	c.mu.Unlock()
	if rec, ok := w.(*recorder); ok {
		rec.limit = reason
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	Problem(w, status, detail)
}

func (c *refusals) all() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]uint64, len(c.n))
	for _, r := range reasons() {
		out[r] = c.n[r]
	}
	return out
}
