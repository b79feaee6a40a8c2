package admin

import "github.com/freshet/freshet/internal/listener"

// Stats counts what a Server refused, and what it holds for requests that are being served.
type Stats struct {
	// Refused counts requests that were refused because of a limit, by reason.
	Refused map[string]uint64
	// Streams is how many streams are open, BodyBytes how many bytes of bodies may be held for requests at this moment.
	Streams   int
	BodyBytes int64
	// Connections counts those of Run's listener.
	Connections listener.Stats
	// Looks counts how often the servers behind were asked for an answer that requests share: lag, nodes, records.
	Looks uint64
}

// Stats returns the counts since New.
func (s *Server) Stats() Stats {
	g := s.gate.Stats()
	out := Stats{Refused: g.Refused, Streams: g.Streams, BodyBytes: g.BodyBytes, Looks: s.looked.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		out.Connections = s.listener.Stats()
	}
	return out
}
