package admin

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/schemas"
)

const (
	// probeEvery is how long an answer about the servers behind is good, so that probes cost nothing.
	probeEvery = time.Second
	probeWait  = 2 * time.Second
	redisName  = "Redis"
	// sickSuffix follows the name of a server in a reason.
	sickSuffix = " does not answer"
)

// prober asks the servers behind the API for a sign of life.
type prober struct {
	mu   sync.Mutex // held while asking, so that one asks for all
	at   time.Time
	sick []string
}

// health knows whether this process and the servers behind it are ready.
type health struct {
	datasets *schemas.Datasets
	kafka    *kafkalog.Client
	redis    redis.UniversalClient // nil: none is used
	log      *slog.Logger
	// beside, warnings and waiting are those of Config.
	beside            func() listener.Readiness
	warnings, waiting func() []string

	draining context.Context //nolint:containedctx // the server's
	attached *atomic.Bool
	db       pinger // set by Server.bind
	probe    prober
}

// pinger is a server that can be asked for a sign of life.
type pinger interface {
	Ping(ctx context.Context) error
}

// The roles of a process that can be asked for in /readyz.
const (
	roleAdmin  = "admin"
	roleWorker = "worker"
)

// readiness is how ready this process is in a role; "" means in any.
func (he *health) readiness(ctx context.Context, role string) listener.Readiness {
	r := listener.Readiness{Draining: he.draining.Err() != nil}
	if r.Draining {
		return r
	}
	if role != roleWorker {
		r.NotReady, r.Degraded = he.servers(ctx)
	}
	if role != roleAdmin && he.beside != nil {
		b := he.beside()
		r.NotReady, r.Degraded = append(r.NotReady, b.NotReady...), append(r.Degraded, b.Degraded...)
	}
	if he.warnings != nil {
		r.Warnings = he.warnings()
	}
	return r
}

// servers returns what the API cannot work without, and what only part of its routes needs: Redis has the nodes and the shared
// entries, while every change needs the audit log in MySQL.
func (he *health) servers(ctx context.Context) (notReady, degraded []string) {
	for _, why := range he.sickServers(ctx) {
		if he.attached.Load() && strings.HasPrefix(why, redisName+" ") {
			degraded = append(degraded, why)
		} else {
			notReady = append(notReady, why)
		}
	}
	return notReady, degraded
}

func (he *health) sickServers(ctx context.Context) []string {
	if !he.attached.Load() {
		if he.waiting != nil {
			return append([]string{"the API is starting"}, he.waiting()...)
		}
		return []string{"the API is starting"}
	}
	p := &he.probe
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) < probeEvery {
		return p.sick
	}
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	p.sick = he.askServers(ctx)
	p.at = time.Now()
	return p.sick
}

// askServers asks all servers at the same time: one that does not answer must not use up the time of the others.
func (he *health) askServers(ctx context.Context) []string {
	asks := []struct {
		server string
		ask    func() error
	}{
		{"MySQL", func() error { return he.db.Ping(ctx) }},
		{"Kafka", func() error {
			list := he.datasets.All()
			if len(list) == 0 {
				return nil
			}
			if _, err := he.kafka.Topic(ctx, list[0].Topic); !noTopic(err) {
				return err
			}
			return nil
		}},
		{redisName, func() error {
			if he.redis == nil {
				return nil
			}
			return he.redis.Ping(ctx).Err()
		}},
	}
	answers := make([]chan error, len(asks))
	for i, a := range asks {
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- a.ask() }()
	}
	var sick []string
	for i, a := range asks {
		var err error
		select {
		case err = <-answers[i]:
		case <-ctx.Done(): // not every client ends with its context
			select {
			case err = <-answers[i]:
			default:
				err = context.Cause(ctx)
			}
		}
		if err != nil {
			he.log.Debug("server does not answer", "server", a.server, "error", err)
			sick = append(sick, a.server+sickSuffix)
		}
	}
	return sick
}

// serveReady reports whether the process is ready. The reasons are shown only to those who may look: they identify what is behind.
func (he *health) serveReady(w http.ResponseWriter, r *http.Request) {
	role := r.URL.Query().Get("role")
	switch {
	case role == roleWorker && he.beside == nil: // nothing is known of one
		gate.Problem(w, http.StatusNotFound, "this process has no worker; ask the worker's own /readyz")
		return
	case role != "" && role != roleAdmin && role != roleWorker:
		gate.Problem(w, http.StatusUnprocessableEntity, "role is admin or worker; leave it out for both")
		return
	}
	he.readiness(r.Context(), role).Answer(w, access.PrincipalOf(r.Context()).Role.May(access.Viewer))
}
