package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/consistency"
	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/invalidation"
)

// DatasetState is a dataset as it is declared, and what became of its letters.
type DatasetState struct {
	Name    string         `json:"name"`
	Topic   string         `json:"topic"`
	Table   string         `json:"table"`
	Format  string         `json:"format"`
	Key     []string       `json:"key"`
	Columns []string       `json:"columns"`
	Cached  bool           `json:"cached"`
	Pause   *replica.Pause `json:"pause,omitempty"`
	// Letters counts dead letters by state.
	Letters map[string]int64 `json:"letters"`
}

// Node is a caching process as it says of itself.
type Node struct {
	ID         string    `json:"id"`
	Host       string    `json:"host"`
	PID        int       `json:"pid"`
	Address    string    `json:"address,omitempty"`
	Began      time.Time `json:"began"`
	SecondsAgo float64   `json:"seconds_ago" doc:"age of what it says, by the two clocks"`
	// Suspect: it cannot show that it saw everything, so it bypasses its local tier.
	Suspect     bool        `json:"suspect"`
	Disagreeing []string    `json:"disagreeing,omitempty" doc:"datasets that it does not cache because the cache section differs"`
	NotReady    []string    `json:"not_ready,omitempty" doc:"why it does not cache, and what to do about it"`
	Namespace   string      `json:"namespace,omitempty" doc:"of a stray"`
	Lanes       []NodeLane  `json:"lanes"`
	Caches      []NodeCache `json:"caches"`
}

// NodeLane is a node's place in a lane.
type NodeLane struct {
	Lane     int    `json:"lane"`
	Position string `json:"position" doc:"the newest entry that it knows"`
	// ProofAge is how long ago it last knew to have everything; -1 for never.
	ProofAge float64          `json:"proof_age_seconds"`
	Live     bool             `json:"live"`
	Fresh    bool             `json:"fresh"`
	Gaps     int64            `json:"gaps"`
	Flushes  map[string]int64 `json:"flushes"`
}

// NodeCache is one of a node's caches.
type NodeCache struct {
	Dataset    string  `json:"dataset"`
	Entries    int     `json:"entries"`
	LocalHits  int64   `json:"local_hits"`
	SharedHits int64   `json:"shared_hits"`
	Loads      int64   `json:"loads"`
	HitRatio   float64 `json:"hit_ratio" doc:"reads that no loader was asked for"`
}

type empty struct{}

// listed is an answer with a list.
type listed[T any] struct {
	Body struct {
		Items []T `json:"items"`
	}
}

func listOf[T any](items []T) *listed[T] {
	out := &listed[T]{}
	out.Body.Items = items
	if items == nil {
		out.Body.Items = []T{}
	}
	return out
}

// reason is the body of what needs one.
type reason struct {
	Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it is kept in the audit log"`
}

func (s *Server) stateRoutes() {
	huma.Register(s.api, huma.Operation{Method: http.MethodGet, Path: "/v1/datasets", OperationID: "list-datasets", Summary: "Datasets, their pauses and letters"}, s.listDatasets)
	huma.Register(s.api, huma.Operation{Method: http.MethodPost, Path: "/v1/datasets/{dataset}/pause", OperationID: "pause-dataset", Summary: "Set a dataset aside on every worker"}, s.pauseDataset)
	huma.Register(s.api, huma.Operation{Method: http.MethodPost, Path: "/v1/datasets/{dataset}/resume", OperationID: "resume-dataset", Summary: "Let a dataset go on"}, s.resumeDataset)
	huma.Register(s.api, huma.Operation{Method: http.MethodGet, Path: "/v1/lag", OperationID: "list-lag", Summary: "How far each partition is"}, s.listLag)
	huma.Register(s.api, huma.Operation{
		Method: http.MethodGet, Path: "/v1/consistency", OperationID: "show-consistency", Summary: "What the workers' samplers found: cached copies compared with the replica",
		Description: "The counts are those of the workers that are alive, since each was started.",
	}, s.showConsistency)
	huma.Register(s.api, huma.Operation{Method: http.MethodGet, Path: "/v1/nodes", OperationID: "list-nodes", Summary: "Nodes and workers that are alive"}, s.listNodes)
	huma.Register(s.api, huma.Operation{Method: http.MethodPost, Path: "/v1/nodes/{node}/flush", OperationID: "flush-node", Summary: "Make one node forget its local entries"}, s.flushNode)
	huma.Register(s.api, huma.Operation{Method: http.MethodGet, Path: "/v1/audit", OperationID: "list-audit", Summary: "What was changed, newest first"}, s.listAudit)
	huma.Register(s.api, huma.Operation{Method: http.MethodGet, Path: "/v1/sd/prometheus", OperationID: "discover", Summary: "Live workers and nodes for Prometheus' HTTP service discovery"}, s.discover)
}

func (s *Server) listDatasets(ctx context.Context, _ *empty) (*listed[DatasetState], error) {
	pauses, err := s.cfg.Replica.Pauses(ctx)
	if err != nil {
		return nil, s.answerError(ctx, "read pauses", err)
	}
	var out []DatasetState
	for _, d := range s.cfg.Datasets.All() {
		st := DatasetState{Name: d.Name, Topic: d.Topic, Table: d.Replica.Table, Format: string(d.Format), Key: d.Key, Cached: d.Cache != nil, Letters: map[string]int64{}}
		for _, c := range d.Replica.Columns {
			st.Columns = append(st.Columns, c.Name)
		}
		if p, ok := pauses[d.Name]; ok {
			st.Pause = &p
		}
		counts, err := s.cfg.Replica.CountLetters(ctx, d.Name)
		if err != nil {
			return nil, s.answerError(ctx, "count dead letters", err)
		}
		for state, n := range counts {
			st.Letters[string(state)] = n
		}
		out = append(out, st)
	}
	return listOf(out), nil
}

type consistencyOutput struct{ Body consistency.Stats }

func (s *Server) showConsistency(ctx context.Context, _ *empty) (*consistencyOutput, error) {
	workers, err := Workers(ctx, s.cfg.Replica.DB())
	if err != nil {
		return nil, s.answerError(ctx, "read workers", err)
	}
	var all []consistency.Stats
	for _, w := range workers {
		if w.Alive && w.Consistency != nil {
			all = append(all, *w.Consistency)
		}
	}
	return &consistencyOutput{consistency.Sum(all...)}, nil
}

type datasetInput struct {
	Dataset string `path:"dataset" maxLength:"64"`
	Body    reason
}

type pauseOutput struct {
	Body replica.Pause
}

func (s *Server) pauseDataset(ctx context.Context, in *datasetInput) (*pauseOutput, error) {
	d, err := s.dataset(in.Dataset)
	if err != nil {
		return nil, err
	}
	note(ctx, "reason", in.Body.Reason)
	p, err := s.cfg.Replica.Pause(ctx, d.Name, principalOf(ctx).Name, in.Body.Reason)
	if err != nil {
		return nil, s.answerError(ctx, "pause dataset", err)
	}
	return &pauseOutput{p}, nil
}

type resumeOutput struct {
	Body struct {
		Resumed bool `json:"resumed" doc:"false: it was not paused"`
	}
}

type resumeInput struct {
	Dataset string `path:"dataset" maxLength:"64"`
	Body    struct {
		Reason       string `json:"reason" minLength:"3" maxLength:"500" doc:"why; it is kept in the audit log"`
		IgnoreStorms int64  `json:"ignore_storms_seconds,omitempty" minimum:"0" maximum:"2592000" doc:"for how long storms of dead letters do not pause the dataset again; 0: not at all"`
	}
}

func (s *Server) resumeDataset(ctx context.Context, in *resumeInput) (*resumeOutput, error) {
	note(ctx, "reason", in.Body.Reason)
	out := &resumeOutput{}
	var err error
	if out.Body.Resumed, err = s.cfg.Replica.Resume(ctx, in.Dataset, time.Duration(in.Body.IgnoreStorms)*time.Second); err != nil {
		return nil, s.answerError(ctx, "resume dataset", err)
	}
	if !out.Body.Resumed { // one that is not declared any more may still have a pause to remove
		_, err = s.dataset(in.Dataset)
	}
	return out, err
}

func (s *Server) listLag(ctx context.Context, _ *empty) (*listed[Partition], error) {
	parts, err := s.lags.get(ctx, "", s.lag)
	if err != nil {
		return nil, s.answerError(ctx, "read positions", err)
	}
	return listOf(parts), nil
}

type nodesOutput struct {
	Body struct {
		Nodes   []Node        `json:"nodes"`
		Strays  []Node        `json:"strays,omitempty" doc:"nodes of other namespaces that miss a lane there: perhaps they were meant to be in this one"`
		Workers []WorkerState `json:"workers"`
	}
}

func (s *Server) listNodes(ctx context.Context, _ *empty) (*nodesOutput, error) {
	out, err := s.members.get(ctx, "", s.lookNodes)
	return out, s.answerError(ctx, "read nodes", err)
}

func (s *Server) lookNodes(ctx context.Context) (*nodesOutput, error) {
	out := &nodesOutput{}
	var err error
	if out.Body.Nodes, err = s.nodes(ctx); err != nil {
		return nil, s.answerError(ctx, "read nodes", err)
	}
	if out.Body.Strays, err = s.strays(ctx); err != nil {
		return nil, s.answerError(ctx, "read nodes of other namespaces", err)
	}
	if out.Body.Workers, err = Workers(ctx, s.cfg.Replica.DB()); err != nil {
		return nil, s.answerError(ctx, "read workers", err)
	}
	return out, nil
}

func (s *Server) nodes(ctx context.Context) ([]Node, error) {
	out := []Node{}
	if s.cfg.Redis == nil {
		return out, nil
	}
	states, err := invalidation.Nodes(ctx, s.cfg.Redis, s.cfg.Namespace)
	if err != nil {
		return nil, err
	}
	for _, st := range states {
		out = append(out, nodeOf(st))
	}
	return out, nil
}

// strays are nodes that may have been meant to be in this namespace.
func (s *Server) strays(ctx context.Context) ([]Node, error) {
	if s.cfg.Redis == nil {
		return nil, nil
	}
	states, err := invalidation.Strays(ctx, s.cfg.Redis, s.cfg.Namespace)
	if redis.IsPermissionError(err) {
		return nil, nil // its user may read this namespace alone; doctor says so
	}
	if err != nil {
		return nil, err
	}
	var out []Node
	for _, st := range states {
		n := nodeOf(st)
		n.Namespace = st.Namespace
		out = append(out, n)
	}
	return out, nil
}

func nodeOf(st invalidation.NodeState) Node {
	n := Node{
		ID: st.ID, Host: st.Host, PID: st.PID, Address: st.Address, Began: st.Began, SecondsAgo: time.Since(st.Written).Seconds(),
		Disagreeing: st.Disagreeing, NotReady: st.NotReady, Lanes: []NodeLane{}, Caches: []NodeCache{},
	}
	for _, l := range st.Lanes {
		nl := NodeLane{Lane: l.Lane, Position: l.Last, ProofAge: l.ConfirmAge.Seconds(), Live: l.Live, Fresh: l.Fresh, Gaps: l.Gaps, Flushes: l.Flushes}
		if l.ConfirmAge < 0 {
			nl.ProofAge = -1
		}
		n.Suspect = n.Suspect || !l.Fresh
		n.Lanes = append(n.Lanes, nl)
	}
	for _, c := range st.Caches {
		nc := NodeCache{Dataset: c.Dataset, Entries: c.Entries, LocalHits: c.LocalHits, SharedHits: c.SharedHits, Loads: c.Loads}
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

func (s *Server) flushNode(ctx context.Context, in *flushInput) (*flushOutput, error) {
	note(ctx, "reason", in.Body.Reason)
	nodes, err := s.nodes(ctx)
	if err != nil {
		return nil, s.answerError(ctx, "read nodes", err)
	}
	known := false
	for _, n := range nodes {
		known = known || n.ID == in.Node
	}
	if !known {
		return nil, huma.Error404NotFound("no node of that id is alive")
	}
	answers, err := invalidation.Ask(ctx, s.cfg.Redis, s.cfg.Namespace, invalidation.Question{Node: in.Node, Flush: true}, 1, answerWait)
	if err != nil {
		return nil, s.answerError(ctx, "flush node", err)
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

type auditInput struct {
	Before int64 `query:"before" minimum:"0" doc:"only lines with a smaller number: the last of the page before"`
	Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (s *Server) listAudit(ctx context.Context, in *auditInput) (*listed[Entry], error) {
	entries, err := auditLog{s.cfg.Replica.DB()}.read(ctx, in.Before, in.Limit)
	if err != nil {
		return nil, s.answerError(ctx, "read audit log", err)
	}
	return listOf(entries), nil
}

// Target is one group of Prometheus' HTTP service discovery.
type Target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

type discoverOutput struct{ Body []Target }

func (s *Server) discover(ctx context.Context, _ *empty) (*discoverOutput, error) {
	nodes, err := s.nodes(ctx)
	if err != nil {
		return nil, s.answerError(ctx, "read nodes", err)
	}
	workers, err := Workers(ctx, s.cfg.Replica.DB())
	if err != nil {
		return nil, s.answerError(ctx, "read workers", err)
	}
	out := &discoverOutput{Body: []Target{}}
	add := func(kind, id, address string) {
		if address != "" {
			out.Body = append(out.Body, Target{Targets: []string{address}, Labels: map[string]string{
				"__meta_freshet_kind": kind, "__meta_freshet_id": id, "__meta_freshet_namespace": s.cfg.Namespace,
			}})
		}
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
