// Package stale streams what becomes stale to caches that do not reach Redis.
package stale

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/sse"
	"github.com/freshet/freshet/invalidation/lane"
)

const (
	// poll is how often a stream looks at each lane, and so the most that it adds to an invalidation's way.
	poll = 200 * time.Millisecond
	// lookWait bounds one look.
	lookWait = 5 * time.Second
	// proofEvery is how often a stream reports how complete it is.
	proofEvery = time.Second
	// maxStaleCatchUp is how many entries of a lane are sent one by one before a flush is cheaper for both sides.
	maxStaleCatchUp = 10_000
	// noPosition stands for a lane in an event's id that is not known.
	noPosition = "-"
)

// Streams streams what becomes stale.
type Streams struct {
	hub hub
	log *slog.Logger
}

// New returns the streams of lanes; nil lanes mean that nothing is cached.
func New(lanes *lane.Scripts, log *slog.Logger) *Streams {
	return &Streams{hub: hub{lanes: lanes}, log: log}
}

// Routes registers the route.
func (ss *Streams) Routes(on huma.API) {
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/invalidations", OperationID: "follow-invalidations", Summary: "Follow what becomes stale (server-sent events), for caches that do not reach Redis",
		Description: "Events: stale names keys and tags; flush reports that everything of a lane became stale, or that its history is not known; proof says every second up to when the stream is complete, " +
			"and is absent or old while a lane cannot be read. Serve local entries only while the last proof is younger than the staleness that you accept. An event's id has each lane's position: " +
			"a request with Last-Event-ID continues after it without a gap, or with a flush; one without it begins with a flush of every lane.",
		Responses: map[string]*huma.Response{"200": {Description: "A stream of stale, flush and proof", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}},
	}, ss.follow)
}

type staleInput struct {
	LastEventID string `header:"Last-Event-ID" maxLength:"16000"`
}

func (ss *Streams) follow(ctx context.Context, in *staleInput) (*huma.StreamResponse, error) {
	if ss.hub.lanes == nil {
		return nil, huma.Error409Conflict("no dataset has a cache section, so nothing becomes stale")
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) { //nolint:contextcheck // the stream's context is its request's
		r, w := humago.Unwrap(hc)
		run, leave := ss.hub.join()
		defer leave()
		lanes := run.lanes.Lanes()
		f := &client{run: run, out: sse.New(w), at: positions(in.LastEventID, lanes), confirmed: make([]time.Time, lanes)}
		g, gctx := errgroup.WithContext(r.Context())
		g.Go(func() error { return f.prove(gctx) })
		for n := range lanes {
			g.Go(func() error { return f.follow(gctx, n) })
		}
		if err := g.Wait(); err != nil && r.Context().Err() == nil {
			ss.log.Debug("stream of invalidations ended", "error", err)
		}
	}}, nil
}

// positions reads an event's id. Of what cannot be read no lane is known, which begins with flushes.
func positions(id string, lanes int) []string {
	at := strings.Split(id, ",")
	for _, p := range at {
		if _, _, ok := lane.SplitID(p); !ok && p != noPosition {
			at = nil
			break
		}
	}
	if len(at) == lanes {
		return at
	}
	return strings.Split(strings.Repeat(noPosition+",", lanes-1)+noPosition, ",")
}

// client tells one client what is new in the lanes, as a node follows them for its caches.
type client struct {
	run *watch
	out *sse.Stream

	mu        sync.Mutex // guards what follows, and that ids are written in the order of what they say
	at        []string   // per lane, the newest entry that was sent
	confirmed []time.Time
}

// follow tells what is new in lane n until ctx ends or the client is gone.
func (f *client) follow(ctx context.Context, n int) error {
	var seen *round
	for {
		if seen = f.run.after(ctx, n, seen); seen == nil {
			return nil
		}
		if err := f.look(ctx, n, seen); err != nil {
			return err
		}
	}
}

// look tells what a look at lane n brought. Its error is the client's; a lane that cannot be read is not confirmed, which
// the proofs tell.
func (f *client) look(ctx context.Context, n int, x *round) error {
	at := f.position(n)
	switch {
	case x.err != nil:
		return nil //nolint:nilerr // it is the look's, and the proofs tell it
	case !x.exists(f.run.lanes):
		if at == noPosition {
			return nil
		}
		return f.flush(n, noPosition)
	case at == noPosition:
		if err := f.flush(n, x.end); err != nil {
			return err
		}
	case at == x.end:
	case at == x.from:
		for i := range x.entries {
			if err := f.tell(n, &x.entries[i]); err != nil {
				return err
			}
		}
	default:
		known, err := f.catchUp(ctx, n, at, x)
		if err != nil || !known {
			return err
		}
	}
	f.mu.Lock()
	f.confirmed[n] = x.asked
	f.mu.Unlock()
	return nil
}

// catchUp tells what follows a position that is another one than the look began with; known is false if the lane could not
// be read.
func (f *client) catchUp(ctx context.Context, n int, at string, x *round) (known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	var sent error
	err = f.run.lanes.Range(ctx, n, at, maxStaleCatchUp, func(e lane.Entry) {
		if sent == nil {
			sent = f.tell(n, &e)
		}
	})
	switch {
	case sent != nil:
		return false, sent
	case errors.Is(err, lane.ErrGap) || errors.Is(err, lane.ErrBehind):
		return true, f.flush(n, x.end)
	}
	return err == nil, nil
}

func (f *client) position(n int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at[n]
}

// tell sends an entry of lane n.
func (f *client) tell(n int, e *lane.Entry) error {
	p := &e.Payload
	if e.Err != nil || p.Flush {
		return f.flush(n, e.ID)
	}
	s := api.Stale{Lane: n, Tags: p.Tags}
	for _, it := range p.Items {
		s.Names = append(s.Names, api.StaleName{Name: it.Key, Version: it.Version})
	}
	if p.Time > 0 {
		at := api.Instant(p.Time)
		s.At = &at
	}
	return f.send(n, e.ID, "stale", s)
}

func (f *client) flush(n int, at string) error {
	return f.send(n, at, "flush", api.Stale{Lane: n})
}

// send tells something of lane n that takes it to a position.
func (f *client) send(n int, at, event string, data any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at[n] = at
	return f.out.Send(event, strings.Join(f.at, ","), data)
}

// prove says regularly how complete the stream is, once every lane was read.
func (f *client) prove(ctx context.Context) error {
	t := time.NewTicker(proofEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := f.proof(); err != nil {
			return err
		}
	}
}

func (f *client) proof() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest := time.Now()
	for _, c := range f.confirmed {
		if c.IsZero() {
			return f.out.Write(": a lane was not read yet\n\n")
		}
		if c.Before(oldest) {
			oldest = c
		}
	}
	return f.out.Send("proof", strings.Join(f.at, ","), api.StaleProof{Age: time.Since(oldest).Seconds()})
}
