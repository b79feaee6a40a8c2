package admin

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/admin/pulse"
	"github.com/freshet/freshet/internal/admin/stale"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/tracecontext"
	"github.com/freshet/freshet/invalidation/lane"
)

// Server is the admin API. It is made by New and serves while Run does.
type Server struct {
	cfg     Config
	log     *slog.Logger
	api     huma.API
	mux     *http.ServeMux
	gate    *gate.Gate
	handler http.Handler
	ops     map[string]string // pattern → operation id
	// document writes the OpenAPI document, once.
	document func() ([]byte, error)
	// attached: cfg.Replica is there. Until then only the bare routes are served.
	attached atomic.Bool

	draining context.Context //nolint:containedctx // ends when Run does, and with it the streams
	drain    context.CancelFunc

	// The parts of the API, each with its routes.
	health    *health
	overview  *overview
	vitals    *vitals
	about     *about
	declared  *datasets
	checks    *checks
	messages  *messages
	records   *records
	letters   *letters
	replays   *replays
	publisher *publisher
	stale     *stale.Streams

	looked  atomic.Uint64
	meter   *meter
	members membership

	mu   sync.Mutex
	addr string // guarded by mu
	// listener is that of Run; nil before. Guarded by mu.
	listener *listener.Server
}

// New checks the configuration and lays out the routes. It does not touch the network. Errors wrap ErrConfig.
func New(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s, err := layOut(cfg)
	if err != nil {
		return nil, err
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.health.draining = s.draining
	s.gate = gate.New(gate.Config{
		Mux: s.mux, Rules: rules(), Tokens: cfg.Tokens, Rate: cfg.Rate, PublishRate: cfg.PublishRate,
		DB: func() *sql.DB { return s.cfg.Replica.SQL() }, Attached: s.attached.Load, Operation: s.operationID, Changed: s.forget,
		Draining: s.draining, Logger: s.log,
	})
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		gate.Problem(w, http.StatusForbidden, "a page of another origin may not change anything here")
	}))
	s.meter = newMeter(s.mux)
	var front http.Handler = s.gate
	if cfg.Front != nil {
		if front, err = cfg.Front(s.gate, s.draining); err != nil {
			return nil, err
		}
	}
	s.handler = s.meter.wrap(s.gate.Logged(guard.Handler(front)))
	if cfg.Replica != nil {
		s.bind(cfg.Replica)
	}
	return s, nil
}

// Attach returns the server its Config.Replica when that was not there yet. Until then what needs it is answered with 503.
func (s *Server) Attach(db *replica.DB) error {
	if db == nil || s.attached.Load() {
		return fmt.Errorf("%w: a Replica is attached once, and it is not nil", ErrConfig)
	}
	s.cfg.Replica = db
	s.bind(db)
	return nil
}

// bind gives every part its stores. No request reads them before the last line.
func (s *Server) bind(db *replica.DB) {
	s.health.db = db
	s.overview.db, s.overview.sql, s.overview.nodes.sql = db, db.SQL(), db.SQL()
	s.overview.lag.db, s.overview.lag.sql = db, db.SQL()
	s.messages.topics.db = db // which records and replays share
	s.records.db = db
	s.letters.db, s.letters.sql = db, db.SQL()
	s.replays.db = db
	s.attached.Store(true)
}

// parts makes the parts of the API without what bind and New add.
func (s *Server) parts() error {
	c := &s.cfg
	s.health = &health{
		datasets: c.Datasets, kafka: c.Kafka, redis: c.Redis, log: s.log, attached: &s.attached,
		beside: c.Beside, warnings: c.Warnings, waiting: c.Waiting,
	}
	answers, looks, topics := &answers{datasets: c.Datasets, health: s.health, log: s.log}, &looks{}, &topicReader{kafka: c.Kafka}
	s.overview = &overview{
		datasets: c.Datasets, answers: answers,
		lag:   &lagReader{datasets: c.Datasets, group: c.Group, kafka: c.Kafka, looks: looks, log: s.log},
		nodes: &nodes{redis: c.Redis, namespace: c.Namespace, answers: answers},
	}
	s.about = &about{version: c.Version, namespace: c.Namespace, group: c.Group, began: time.Now().UTC(), settings: c.Settings, doctor: c.Doctor, answers: answers}
	s.declared = &datasets{overview: s.overview, topics: topics, folder: c.Folder, outbox: c.Outbox, answers: answers}
	s.messages = &messages{topics: topics, kafka: c.Kafka, answers: answers, log: s.log}
	s.publisher = &publisher{datasets: c.Datasets, producer: c.Producer, namespace: c.Namespace, answers: answers}
	s.records = &records{
		topics: topics, publisher: s.publisher, kafka: c.Kafka, group: c.Group, redis: c.Redis, namespace: c.Namespace, lanes: c.Lanes, answers: answers,
	}
	s.letters = &letters{
		datasets: c.Datasets, producer: c.Producer, kafka: c.Kafka, namespace: c.Namespace, records: s.records, answers: answers, log: s.log,
	}
	s.replays = &replays{topics: topics, kafka: c.Kafka, answers: answers, looks: looks, log: s.log}
	var lanes *lane.Scripts
	if c.Redis != nil {
		var err error
		if lanes, err = lane.New(c.Redis, lane.Config{Namespace: c.Namespace, Lanes: c.Lanes}); err != nil {
			return fmt.Errorf("%w: Namespace, Lanes: %w", ErrConfig, err)
		}
	}
	s.stale = stale.New(lanes, s.log)
	s.checks = &checks{overview: s.overview, namespace: c.Namespace, lanes: c.Lanes}
	s.vitals = &vitals{overview: s.overview, checks: s.checks, health: s.health, outbox: c.Outbox, lanes: lanes, seen: map[string]time.Time{}}
	s.vitals.sampler = pulse.New(s.vitals.look)
	s.vitals.looks.looks, s.overview.nodes.roll.looks = &s.looked, &s.looked
	s.overview.lags.looks, s.overview.nodes.members.looks, s.records.shared.looks = &s.looked, &s.looked, &s.looked
	return nil
}

// OpenAPI is the OpenAPI 3.1 document as JSON, for those who want it without a server.
func OpenAPI(version string) ([]byte, error) {
	s, err := layOut(Config{Version: version})
	if err != nil {
		return nil, err
	}
	return s.OpenAPI()
}

// layOut makes the routes; what they need to answer comes later.
func layOut(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Logger.With("component", "admin", "namespace", cfg.Namespace), mux: http.NewServeMux(), ops: map[string]string{}}
	hc := huma.DefaultConfig("Freshet", cfg.Version)
	hc.CreateHooks, hc.OpenAPIPath, hc.DocsPath, hc.SchemasPath = nil, "", "", ""
	hc.RejectUnknownQueryParameters = true
	hc.Formats = strictJSON()
	hc.Transformers = append(hc.Transformers, finishProblem)
	hc.Info.Description = "Positions, nodes, records, dead letters and replays of one Freshet. Errors are RFC 9457 problems."
	hc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	if err := s.parts(); err != nil {
		return nil, err
	}
	s.api = humago.New(s.mux, hc)
	s.api.UseMiddleware(traced(tracecontext.Tracer(s.cfg.TracerProvider)), refuseEmpty(s.api))
	s.document = sync.OnceValues(func() ([]byte, error) {
		b, err := s.api.OpenAPI().MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("write OpenAPI document: %w", err)
		}
		return b, nil
	})
	s.routes()
	describe(s.api.OpenAPI())
	return s, s.finishRoutes()
}

// finishRoutes names each operation's rule in the OpenAPI document, and refuses a document and a table that differ.
func (s *Server) finishRoutes() error {
	table := rules()
	seen := map[string]bool{}
	for path, item := range s.api.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
		} {
			if op == nil {
				continue
			}
			pattern := method + " " + path
			ru, ok := table[pattern]
			if !ok {
				return fmt.Errorf("%w: route %s has no rule", ErrConfig, pattern)
			}
			seen[pattern] = true
			s.ops[pattern] = op.OperationID
			op.BodyReadTimeout = -1 // the gate has read the body; the framework's deadline of 5 s would end requests that work for longer
			op.Security = []map[string][]string{{"token": {}}}
			op.Description = strings.TrimSpace(op.Description + " Needs the role " + ru.Least.String() + ".")
		}
	}
	for pattern := range table {
		if !seen[pattern] && !table[pattern].Early {
			return fmt.Errorf("%w: rule %s belongs to no route", ErrConfig, pattern)
		}
	}
	return nil
}

func (s *Server) operationID(pattern string) string {
	if id, ok := s.ops[pattern]; ok {
		return id
	}
	return pattern
}

// forget makes answers that are shared between requests be asked for again: something was changed.
func (s *Server) forget() {
	s.overview.lags.forget()
	s.overview.nodes.members.forget()
	s.overview.nodes.roll.forget()
	s.vitals.forget()
	s.records.shared.forget()
}

// Handler is the whole API behind its gate.
func (s *Server) Handler() http.Handler { return s.handler }

// OpenAPI is the OpenAPI 3.1 document as JSON.
func (s *Server) OpenAPI() ([]byte, error) { return s.document() }

// Addr is the address that Run listens on; "" before.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Run serves until ctx ends, then says "draining" for a while and closes.
func (s *Server) Run(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another address or port", s.cfg.Listen, err)
	}
	s.mu.Lock()
	s.addr = l.Addr().String()
	s.mu.Unlock()
	if s.cfg.TLS != nil {
		l = tls.NewListener(l, s.cfg.TLS)
	}
	srv := listener.New(listener.Config{Handler: s.handler, ReadTimeout: gate.RequestTimeout, Logger: s.log})
	s.mu.Lock()
	s.listener = srv
	s.mu.Unlock()
	s.log.Info("listening", "address", s.Addr(), "tls", s.cfg.TLS != nil, "tokens", s.cfg.Tokens != nil)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		s.vitals.sampler.Run(s.draining)
	}()
	defer func() { <-sampled }() // s.drain was called
	select {
	case err := <-done:
		s.drain()
		return fmt.Errorf("serve the admin API: %w", err)
	case <-ctx.Done():
	}
	s.drain()
	t := time.NewTimer(max(s.cfg.Drain, 0))
	defer t.Stop()
	<-t.C
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = srv.Shutdown(end)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	if serr := <-done; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
