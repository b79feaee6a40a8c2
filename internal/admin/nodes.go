package admin

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/invalidation"
)

// nodes shows the processes that cache, and the workers.
type nodes struct {
	redis     redis.UniversalClient // nil: none is used
	namespace string
	members   shared[*nodesOutput]
	roll      shared[*roll]
	answers   *answers
	sql       *sql.DB // set by Server.bind
}

// roll is who is alive, and who stopped reporting; for reading alone.
type roll struct {
	nodes  []api.Node
	silent []string
}

type nodesOutput struct {
	Body struct {
		Nodes   []api.Node        `json:"nodes"`
		Strays  []api.Node        `json:"strays,omitempty" doc:"nodes of other namespaces that miss a lane there: perhaps they were meant to be in this one"`
		Workers []api.WorkerState `json:"workers"`
	}
}

func (ns *nodes) list(ctx context.Context, _ *empty) (*nodesOutput, error) {
	out, err := ns.members.get(ctx, "", ns.look)
	return out, ns.answers.fail(ctx, "read nodes", err)
}

func (ns *nodes) look(ctx context.Context) (*nodesOutput, error) {
	out := &nodesOutput{}
	var err error
	if out.Body.Nodes, err = ns.alive(ctx); err != nil {
		return nil, ns.answers.fail(ctx, "read nodes", err)
	}
	if out.Body.Strays, err = ns.strays(ctx); err != nil {
		return nil, ns.answers.fail(ctx, "read nodes of other namespaces", err)
	}
	if out.Body.Workers, err = roster.Workers(ctx, ns.sql); err != nil {
		return nil, ns.answers.fail(ctx, "read workers", err)
	}
	return out, nil
}

func (ns *nodes) alive(ctx context.Context) ([]api.Node, error) {
	r, err := ns.roll.get(ctx, "", ns.callRoll)
	if err != nil {
		return nil, err
	}
	return r.nodes, nil
}

// callRoll asks Redis for the nodes.
func (ns *nodes) callRoll(ctx context.Context) (*roll, error) {
	r := &roll{nodes: []api.Node{}}
	if ns.redis == nil {
		return r, nil
	}
	states, silent, err := invalidation.Roll(ctx, ns.redis, ns.namespace)
	if err != nil {
		return nil, err
	}
	for i := range states {
		r.nodes = append(r.nodes, nodeOf(&states[i]))
	}
	r.silent = silent
	return r, nil
}

// strays are nodes that may have been meant to be in this namespace.
func (ns *nodes) strays(ctx context.Context) ([]api.Node, error) {
	if ns.redis == nil {
		return nil, nil
	}
	states, err := invalidation.Strays(ctx, ns.redis, ns.namespace)
	if redis.IsPermissionError(err) {
		return nil, nil // its user may read this namespace alone; doctor says so
	}
	if err != nil {
		return nil, err
	}
	var out []api.Node
	for i := range states {
		n := nodeOf(&states[i])
		n.Namespace = states[i].Namespace
		out = append(out, n)
	}
	return out, nil
}

func nodeOf(st *invalidation.NodeState) api.Node {
	n := api.Node{
		ID: st.ID, Host: st.Host, PID: st.PID, Version: st.Version, Address: st.Address, Began: st.Began, SecondsAgo: time.Since(st.Written).Seconds(), Silence: st.Silence.Seconds(),
		Disagreeing: st.Disagreeing, NotReady: st.NotReady, Lanes: []api.NodeLane{}, Caches: []api.NodeCache{},
	}
	for _, l := range st.Lanes {
		nl := api.NodeLane{
			Lane: l.Lane, Position: l.Last, ProofAge: l.ConfirmAge.Seconds(), Delay: l.Delay.Seconds(), Live: l.Live, Fresh: l.Fresh, Gaps: l.Gaps,
			Entries: l.Entries, Items: l.Items, Flushes: l.Flushes,
		}
		if l.ConfirmAge < 0 {
			nl.ProofAge = -1
		}
		n.Suspect = n.Suspect || !l.Fresh
		n.Lanes = append(n.Lanes, nl)
	}
	for _, c := range st.Caches {
		nc := api.NodeCache{
			Dataset: c.Dataset, Derived: c.Derived, Entries: c.Entries, Cost: c.Cost, LocalHits: c.LocalHits, SharedHits: c.SharedHits, Loads: c.Loads,
			Dropped: c.Dropped, Problem: c.Problem,
		}
		if all := c.LocalHits + c.SharedHits + c.Loads; all > 0 {
			nc.HitRatio = float64(c.LocalHits+c.SharedHits) / float64(all)
		}
		n.Caches = append(n.Caches, nc)
	}
	return n
}

type flushInput struct {
	Node string `path:"node" maxLength:"200"`
	Body reason
}

type flushOutput struct {
	Body struct {
		Flushed bool `json:"flushed"`
	}
}

// answerWait is how long nodes have to answer.
const answerWait = 2 * time.Second

func (ns *nodes) flushNode(ctx context.Context, in *flushInput) (*flushOutput, error) {
	gate.Note(ctx, "reason", in.Body.Reason)
	nodes, err := ns.alive(ctx)
	if err != nil {
		return nil, ns.answers.fail(ctx, "read nodes", err)
	}
	known := false
	for _, n := range nodes {
		known = known || n.ID == in.Node
	}
	if !known {
		return nil, huma.Error404NotFound("no node of that id is alive")
	}
	answers, err := invalidation.Ask(ctx, ns.redis, ns.namespace, invalidation.Question{Node: in.Node, Flush: true}, 1, answerWait)
	if err != nil {
		return nil, ns.answers.fail(ctx, "flush node", err)
	}
	out := &flushOutput{}
	for _, a := range answers {
		out.Body.Flushed = out.Body.Flushed || a.Node == in.Node && a.Flushed
	}
	if !out.Body.Flushed {
		return nil, huma.Error504GatewayTimeout("the node did not answer in time")
	}
	return out, nil
}

type discoverOutput struct{ Body []api.Target }

func (ns *nodes) discover(ctx context.Context, _ *empty) (*discoverOutput, error) {
	nodes, err := ns.alive(ctx)
	if err != nil {
		return nil, ns.answers.fail(ctx, "read nodes", err)
	}
	workers, err := roster.Workers(ctx, ns.sql)
	if err != nil {
		return nil, ns.answers.fail(ctx, "read workers", err)
	}
	out := &discoverOutput{Body: []api.Target{}}
	add := func(kind, id, address string) {
		if address == "" {
			return
		}
		labels := map[string]string{"__meta_freshet_kind": kind, "__meta_freshet_id": id, "__meta_freshet_namespace": ns.namespace}
		if scheme, host, isURL := strings.Cut(address, "://"); isURL {
			labels["__scheme__"], address = scheme, strings.TrimRight(host, "/")
		}
		out.Body = append(out.Body, api.Target{Targets: []string{address}, Labels: labels})
	}
	for _, w := range workers {
		if w.Alive {
			add("worker", w.Owner, w.Address)
		}
	}
	for _, n := range nodes {
		add("node", n.ID, n.Address)
	}
	return out, nil
}
