// Package listener serves HTTP to clients that may misbehave: it bounds connections, and the time that each may take to ask and to
// take its answer.
package listener

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Defaults of a Config.
const (
	DefaultMaxConns     = 1024
	DefaultReadTimeout  = 30 * time.Second
	DefaultWriteTimeout = 35 * time.Second
)

const (
	headTimeout = 5 * time.Second
	idleTimeout = time.Minute
	maxHeader   = 16 << 10
)

// Config of a Server. Handler is required; the zero value of every other field works.
type Config struct {
	// Handler answers the requests.
	Handler http.Handler
	// MaxConns bounds the connections that are open; 0 means DefaultMaxConns. Beyond it, a new connection takes the place of the one
	// that has waited longest without a request. If each has a request under way, the new one is closed.
	MaxConns int
	// ReadTimeout bounds the reading of a request with its body, 0 means DefaultReadTimeout.
	ReadTimeout time.Duration
	// WriteTimeout bounds a request from its head on until its answer is taken; 0 means DefaultWriteTimeout. A handler whose answer has
	// no end sets its own deadline for each write (http.ResponseController).
	WriteTimeout time.Duration
	// Logger receives what net/http has to say, at debug; nil discards.
	Logger *slog.Logger
}

// Stats counts connections.
type Stats struct {
	// Open is how many there are now.
	Open int
	// Displaced were closed to make room for a new one, Refused are new ones that found none.
	Displaced, Refused uint64
}

// Server is an HTTP server with bounds. It is made by New.
type Server struct {
	http *http.Server
	max  int

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]*state
	stats Stats
}

// state is what a connection does.
type state struct {
	since  time.Time
	active bool // a request is under way
	gone   bool // it was closed here
}

// New makes a server.
func New(cfg Config) *Server {
	s := &Server{max: cmp.Or(cfg.MaxConns, DefaultMaxConns), conns: map[net.Conn]*state{}}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s.http = &http.Server{
		Handler: cfg.Handler, ConnState: s.track, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headTimeout, ReadTimeout: cmp.Or(cfg.ReadTimeout, DefaultReadTimeout),
		WriteTimeout: cmp.Or(cfg.WriteTimeout, DefaultWriteTimeout), IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve serves the connections of l until Shutdown or Close, and then returns http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Shutdown lets requests that are under way end, until ctx does.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close ends all connections at once.
func (s *Server) Close() error { return s.http.Close() }

// Stats returns the counts since New.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	for _, st := range s.conns {
		if !st.gone {
			out.Open++
		}
	}
	return out
}

// track receives each connection's state from net/http.
func (s *Server) track(c net.Conn, to http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch to {
	case http.StateNew:
		s.conns[c] = &state{since: time.Now()}
		if len(s.conns) > s.max {
			s.makeRoom(c)
		}
	case http.StateActive, http.StateIdle:
		if st := s.conns[c]; st != nil {
			st.active, st.since = to == http.StateActive, time.Now()
		}
	default:
		delete(s.conns, c)
	}
}

// makeRoom closes the connection that has waited longest without a request, or newest if there is none.
func (s *Server) makeRoom(newest net.Conn) {
	oldest, open := newest, 0
	for c, st := range s.conns {
		if st.gone {
			continue
		}
		if open++; !st.active && st.since.Before(s.conns[oldest].since) {
			oldest = c
		}
	}
	if open <= s.max {
		return
	}
	if oldest == newest {
		s.stats.Refused++
	} else {
		s.stats.Displaced++
	}
	s.conns[oldest].gone = true
	go func() { _ = oldest.Close() }() // one of TLS writes a farewell, which may take its time
}
