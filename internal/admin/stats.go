package admin

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/listener"
)

// Stats counts what a Server served and refused, and what it holds for requests that are being served.
type Stats struct {
	// Routes counts the requests of each route.
	Routes []RouteStats
	// RefusedLogins counts requests that were not let in, by reason: missing, unknown, forbidden or throttled.
	RefusedLogins map[string]uint64
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
	out.Routes, out.RefusedLogins = s.meter.stats()
	out.RefusedLogins["throttled"] = g.Refused["wrong_token"]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		out.Connections = s.listener.Stats()
	}
	return out
}

// Readiness is how ready the API is, without what runs beside it.
func (s *Server) Readiness() listener.Readiness {
	ctx, cancel := context.WithTimeout(context.Background(), memberLimit)
	defer cancel()
	return s.health.readiness(ctx, roleAdmin)
}

// Members counts the nodes and workers of the namespace, as they describe themselves.
type Members struct {
	// Counted: the servers have answered at least once. Before, the counts mean nothing.
	Counted bool
	// ReadyNodes and UnreadyNodes are alive, SuspectNodes of them have a lane that they serve nothing of; StrayNodes are in another namespace
	// and miss a lane there.
	ReadyNodes, UnreadyNodes, SuspectNodes, StrayNodes int
	// ReadyWorkers and UnreadyWorkers are alive.
	ReadyWorkers, UnreadyWorkers int
	// OldestProof is how long ago the node that knows least recently knew to have everything, +Inf if one never did.
	OldestProof float64
	// Slowest is how many seconds after its publication the newest change was applied on the slowest node.
	Slowest float64
	// Failures counts the times that the servers did not answer. The other fields keep their values then.
	Failures uint64
}

// memberLimit bounds a look at the members.
const memberLimit = 3 * time.Second

// membership is the last look at the members.
type membership struct {
	mu   sync.Mutex
	last Members // guarded by mu
}

// Members asks Redis and MySQL who is alive, or returns what was found a moment ago.
func (s *Server) Members(ctx context.Context) Members {
	ctx, cancel := context.WithTimeout(ctx, memberLimit)
	defer cancel()
	m := &s.members
	if !s.attached.Load() {
		return Members{}
	}
	found, err := s.overview.nodes.members.get(ctx, "", s.overview.nodes.look)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.last.Failures++
		return m.last
	}
	now := countMembers(found.Body.Nodes, found.Body.Workers)
	now.Counted, now.StrayNodes, now.Failures = true, len(found.Body.Strays), m.last.Failures
	m.last = now
	return now
}

func countMembers(nodes []api.Node, workers []api.WorkerState) (m Members) {
	for _, n := range nodes {
		if len(n.NotReady) == 0 {
			m.ReadyNodes++
		} else {
			m.UnreadyNodes++
		}
		if n.Suspect {
			m.SuspectNodes++
		}
		for _, l := range n.Lanes {
			age := l.ProofAge + n.SecondsAgo
			if l.ProofAge < 0 {
				age = math.Inf(1)
			}
			m.OldestProof, m.Slowest = max(m.OldestProof, age), max(m.Slowest, l.Delay)
		}
	}
	for _, w := range workers {
		switch {
		case !w.Alive:
		case len(w.NotReady) == 0:
			m.ReadyWorkers++
		default:
			m.UnreadyWorkers++
		}
	}
	return m
}
