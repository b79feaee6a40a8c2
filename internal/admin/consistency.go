package admin

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/internal/roster"
)

const (
	// historyEvery and historyKept bound the points that are kept: 360.
	historyEvery = time.Minute
	historyKept  = 6 * time.Hour
	// verifyWait bounds a verification: the request is answered before it is cut off.
	verifyWait = 27 * time.Second
	// verifyConfirm is above the staleness that nodes promise by default.
	verifyConfirm = 11 * time.Second
)

// checks shows what the consistency checks found, over time too, and runs one.
type checks struct {
	overview  *overview
	namespace string
	lanes     int
	verifying sync.Mutex // held by the one verification

	mu     sync.Mutex
	points []api.ConsistencyPoint   // guarded by mu
	before map[string]samplerCounts // guarded by mu: by owner, at the newest point
	at     time.Time                // guarded by mu: when it was set
}

// samplerCounts is what one worker's sampler had counted.
type samplerCounts struct {
	began   time.Time
	windows []report.Window
}

func (cs *checks) routes(on huma.API) {
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/consistency", OperationID: "show-consistency", Summary: "What the workers' samplers found: cached copies compared with the replica",
		Description: "The counts are those of the workers that are alive, since each was started.",
	}, cs.show)
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/consistency/history", OperationID: "list-consistency-history", Summary: "The samplers' looks by the minute, of the last 6 hours",
		Description: "It is kept in memory while the process runs. A minute in which the workers could not be asked has no point.",
	}, cs.history)
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/consistency/verify", OperationID: "verify-dataset", Summary: "Compare the cached copies of a dataset's records with the replica now",
		Description: "A copy that seems stale is looked at again after 11 s. One verification at a time: another one is refused with 409.",
	}, cs.verify)
}

type consistencyOutput struct{ Body report.Stats }

func (cs *checks) show(ctx context.Context, _ *empty) (*consistencyOutput, error) {
	workers, err := roster.Workers(ctx, cs.overview.sql)
	if err != nil {
		return nil, cs.overview.answers.fail(ctx, "read workers", err)
	}
	var all []report.Stats
	for _, w := range workers {
		if w.Alive && w.Consistency != nil {
			all = append(all, *w.Consistency)
		}
	}
	return &consistencyOutput{report.Sum(all...)}, nil
}

func (cs *checks) history(context.Context, *empty) (*listed[api.ConsistencyPoint], error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return listOf(slices.Clone(cs.points)), nil
}

// note keeps a point if the last one is old enough.
func (cs *checks) note(workers []api.WorkerState, now time.Time) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if now.Sub(cs.at) < historyEvery {
		return
	}
	counts := maps.Clone(cs.before) // of one that does not report for a while, too
	if counts == nil {
		counts = map[string]samplerCounts{}
	}
	var all []report.Stats
	for _, w := range workers {
		if w.Consistency == nil {
			continue
		}
		c := samplerCounts{w.Began, w.Consistency.Windows}
		if old, known := cs.before[w.Owner]; known && old.began.Equal(c.began) {
			all = append(all, report.Stats{Windows: since(old.windows, c.windows)})
		}
		counts[w.Owner] = c
	}
	maps.DeleteFunc(counts, func(owner string, _ samplerCounts) bool {
		return !slices.ContainsFunc(workers, func(w api.WorkerState) bool { return w.Owner == owner })
	})
	if len(all) > 0 {
		if n := len(cs.points) + 1 - int(historyKept/historyEvery); n > 0 {
			cs.points = slices.Delete(cs.points, 0, n)
		}
		cs.points = append(cs.points, api.ConsistencyPoint{At: now.UTC(), Windows: report.Sum(all...).Windows})
	}
	cs.before, cs.at = counts, now
}

// since returns what was counted after old.
func since(old, now []report.Window) []report.Window {
	out := slices.Clone(now)
	for i := range out {
		at := slices.IndexFunc(old, func(w report.Window) bool { return w.Tier == out[i].Tier && w.Seconds == out[i].Seconds })
		if at < 0 {
			continue
		}
		out[i].Checks -= min(out[i].Checks, old[at].Checks)
		out[i].Violations -= min(out[i].Violations, old[at].Violations)
		out[i].Waiting -= min(out[i].Waiting, old[at].Waiting)
	}
	return out
}

type verifyInput struct {
	Body struct {
		Dataset string `json:"dataset" maxLength:"64"`
		After   string `json:"after,omitempty" maxLength:"1536" doc:"begin behind this key"`
		Records int    `json:"records,omitempty" minimum:"1" maximum:"2000" default:"500"`
	}
}

type verifyOutput struct{ Body api.Verification }

func (cs *checks) verify(ctx context.Context, in *verifyInput) (*verifyOutput, error) {
	answers := cs.overview.answers
	d, err := answers.dataset(in.Body.Dataset)
	if err != nil {
		return nil, err
	}
	if d.Cache == nil || cs.overview.nodes.redis == nil {
		return nil, huma.Error409Conflict("the dataset has no cache section, so nothing of it is cached")
	}
	if !cs.verifying.TryLock() {
		return nil, huma.Error409Conflict("a verification is running already; wait until it is done")
	}
	defer cs.verifying.Unlock()
	ctx, cancel := context.WithTimeout(ctx, verifyWait)
	defer cancel()
	tiers, err := consistency.NewReader(cs.overview.nodes.redis, cs.namespace, cs.lanes)
	if err != nil {
		return nil, answers.fail(ctx, "verify", err)
	}
	r, err := consistency.Verify(ctx, consistency.Config{
		Datasets: cs.overview.datasets, Replica: cs.overview.db.Rows, Tiers: tiers, Confirm: verifyConfirm, Logger: answers.log,
	}, in.Body.After, in.Body.Records, d)
	if err != nil {
		return nil, answers.fail(ctx, "verify", err)
	}
	return &verifyOutput{api.Verification(r)}, nil
}
