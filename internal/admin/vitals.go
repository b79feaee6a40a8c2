package admin

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/pulse"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/invalidation/lane"
)

const (
	// vitalsWait bounds a look at everything: what does not answer by then is not known.
	vitalsWait = 3 * time.Second
	// censusEvery is how often MySQL counts dead letters and jobs.
	censusEvery = 5 * time.Second
	// lostFor is how long a node that stopped reporting is remembered.
	lostFor = 5 * time.Minute
)

// vitals shows how everything is at a glance.
type vitals struct {
	overview *overview
	checks   *checks
	health   *health
	outbox   func(context.Context) (api.Outbox, error) // nil: it is not known
	lanes    *lane.Scripts                             // nil: no Redis is used
	looks    shared[*pulse.Look]
	sampler  *pulse.Sampler

	mu      sync.Mutex
	counted time.Time    // guarded by mu: when census was counted
	census  pulse.Census // guarded by mu

	nodesMu sync.Mutex
	seen    map[string]time.Time // guarded by nodesMu: when each node last reported
}

func (v *vitals) routes(on huma.API) {
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/overview", OperationID: "show-overview", Summary: "Is it fresh, and if not, why: health, rates and the last 15 minutes",
		Description: "It is answered while servers are away, too: what they would have said is absent then.",
	}, v.show)
}

type overviewInput struct {
	Since time.Time `query:"since" doc:"only samples after this time, RFC 3339; absent: all"`
}

type overviewOutput struct{ Body api.Overview }

func (v *vitals) show(ctx context.Context, in *overviewInput) (*overviewOutput, error) {
	return &overviewOutput{v.sampler.Overview(ctx, in.Since)}, nil
}

// look asks all servers once for all who want to know.
func (v *vitals) look(ctx context.Context) (*pulse.Look, error) {
	return v.looks.get(ctx, "", v.lookAll)
}

// forget makes the next request look again: something was changed.
func (v *vitals) forget() {
	v.looks.forget()
	v.sampler.Forget()
}

// lookAll asks the servers at the same time. An answer that does not come is not known, and is no error.
func (v *vitals) lookAll(ctx context.Context) (*pulse.Look, error) {
	ctx, cancel := context.WithTimeout(ctx, vitalsWait)
	defer cancel()
	l := &pulse.Look{Cached: map[string]bool{}}
	for _, d := range v.overview.datasets.All() {
		l.Datasets++
		l.Cached[d.Name] = d.Cache != nil
	}
	asks := []func(){func() { v.lookNodes(ctx, l) }, func() { v.lookLanes(ctx, l) }}
	if v.outbox != nil {
		asks = append(asks, func() {
			if o, err := v.outbox(ctx); !v.missing("outbox", err) {
				l.Outbox = &o
			}
		})
	}
	if v.health.attached.Load() {
		asks = append(asks, func() { v.lookSick(ctx, l) }, func() { v.lookLag(ctx, l) }, func() { v.lookWorkers(ctx, l) }, func() { v.lookCensus(ctx, l) })
	} else if l.Starting = true; v.health.waiting != nil {
		l.Waiting = v.health.waiting()
	}
	var wg sync.WaitGroup
	for _, ask := range asks { // each sets fields of its own
		wg.Go(ask)
	}
	wg.Wait()
	l.At = time.Now()
	v.sampler.Seen(l)
	return l, nil
}

// missing logs why a part of a look is not known.
func (v *vitals) missing(what string, err error) bool {
	if err != nil {
		v.overview.answers.log.Debug("part of the overview is not known", "step", what, "error", err)
	}
	return err != nil
}

func (v *vitals) lookSick(ctx context.Context, l *pulse.Look) {
	for _, why := range v.health.sickServers(ctx) {
		if server, ok := strings.CutSuffix(why, sickSuffix); ok {
			l.Sick = append(l.Sick, server)
		}
	}
}

func (v *vitals) lookLag(ctx context.Context, l *pulse.Look) {
	parts, err := v.overview.lags.get(ctx, "", v.overview.lag.read)
	if !v.missing("lag", err) {
		l.Lag, l.Known.Lag = parts, true
	}
}

func (v *vitals) lookWorkers(ctx context.Context, l *pulse.Look) {
	workers, err := roster.Workers(ctx, v.overview.sql)
	if v.missing("workers", err) {
		return
	}
	pauses, err := v.overview.db.Pauses.All(ctx)
	if v.missing("pauses", err) {
		return
	}
	v.checks.note(workers, time.Now())
	l.Workers, l.Known.Workers, l.Pauses = workers, true, map[string]api.Pause{}
	for d, p := range pauses {
		if _, declared := v.overview.datasets.Get(d); declared {
			l.Pauses[d] = api.Pause(p)
		}
	}
}

// lookCensus counts seldom, since the others of this look cost less.
func (v *vitals) lookCensus(ctx context.Context, l *pulse.Look) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.counted) >= censusEvery {
		c, err := v.overview.db.Census(ctx, v.overview.datasets.All())
		if v.missing("dead letters and jobs", err) {
			return
		}
		v.census = pulse.Census{RunningJobs: c.Jobs[jobstore.Running], PausedJobs: c.Jobs[jobstore.Paused]}
		for _, reasons := range c.OpenLetters {
			for _, n := range reasons {
				v.census.Letters += n
			}
		}
		v.counted = time.Now()
	}
	l.Census, l.Known.Census = v.census, true
}

func (v *vitals) lookNodes(ctx context.Context, l *pulse.Look) {
	ns := v.overview.nodes
	r, err := ns.roll.get(ctx, "", ns.callRoll)
	if v.missing("nodes", err) {
		return
	}
	l.Nodes, l.Known.Nodes, l.Lost = r.nodes, true, v.lost(r)
}

// lost remembers who is alive, and returns the nodes that were lately and have not said that they end.
func (v *vitals) lost(r *roll) (out []pulse.Lost) {
	v.nodesMu.Lock()
	defer v.nodesMu.Unlock()
	now := time.Now()
	for i := range r.nodes {
		v.seen[r.nodes[i].ID] = now.Add(-time.Duration(r.nodes[i].Silence * float64(time.Second)))
	}
	for _, id := range r.silent {
		if at, known := v.seen[id]; known && now.Sub(at) < lostFor {
			out = append(out, pulse.Lost{ID: id, Seen: at})
		}
	}
	for id, at := range v.seen {
		if now.Sub(at) >= lostFor {
			delete(v.seen, id)
		}
	}
	return out
}

func (v *vitals) lookLanes(ctx context.Context, l *pulse.Look) {
	if v.lanes == nil {
		return
	}
	l.Lanes = make([]uint64, v.lanes.Lanes())
	for n := range l.Lanes {
		st, err := v.lanes.State(ctx, n, nil, nil)
		if v.missing("lane", err) {
			return
		}
		if st.Exists && st.Last != "" {
			l.Lanes[n], _, _ = lane.SplitID(st.Last)
		}
	}
	l.Known.Lanes = true
}
