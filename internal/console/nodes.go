package console

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

func nodesScreen() *screen {
	return &screen{path: "/nodes", name: "nodes", title: "Nodes and workers", nav: true, least: access.Viewer, every: 2 * time.Second, load: loadNodes, act: actNodes}
}

// nodesPage shows the processes that cache, and the workers.
type nodesPage struct {
	Nodes   []node
	Strays  []api.Node
	Workers []api.WorkerState
	Total   int
	Next    int
	// One is the node, OneWorker the worker, that the address asks for.
	One       *node
	OneWorker *api.WorkerState
}

// node is a node with its lanes and caches summed up.
type node struct {
	api.Node

	// State is ready, silent, suspect or unready.
	State   string
	Proof   float64 // the oldest of its lanes; -1: never
	Delay   float64
	Entries int
	Hits    float64
	Flushes int64
}

// silentAfter is how old a node's last word may be, in seconds: it speaks every 3 s.
const silentAfter = 7

func nodeOf(n api.Node) node {
	out := node{Node: n, State: "ready"}
	for _, l := range n.Lanes {
		switch {
		case l.ProofAge < 0:
			out.Proof = -1
		case out.Proof >= 0:
			out.Proof = max(out.Proof, l.ProofAge+n.SecondsAgo)
		}
		out.Delay = max(out.Delay, l.Delay)
		for _, count := range l.Flushes {
			out.Flushes += count
		}
	}
	var hits, all int64
	for _, c := range n.Caches {
		out.Entries += c.Entries
		hits += c.LocalHits + c.SharedHits
		all += c.LocalHits + c.SharedHits + c.Loads
	}
	out.Hits = math.NaN()
	if all > 0 {
		out.Hits = float64(hits) / float64(all)
	}
	switch {
	case n.Silence >= silentAfter:
		out.State = "silent"
	case len(n.NotReady) > 0:
		out.State = "unready"
	case n.Suspect:
		out.State = "suspect"
	}
	return out
}

func loadNodes(v *visit) (any, error) {
	var found struct {
		Nodes, Strays []api.Node
		Workers       []api.WorkerState
	}
	if err := v.get("/v1/nodes", &found); err != nil {
		return nil, err
	}
	p := nodesPage{Strays: found.Strays, Workers: found.Workers, Total: len(found.Nodes)}
	for _, n := range found.Nodes {
		p.Nodes = append(p.Nodes, nodeOf(n))
	}
	order := map[string]int{"silent": 0, "unready": 1, "suspect": 2, "ready": 3}
	slices.SortStableFunc(p.Nodes, func(a, b node) int { return cmp.Or(order[a.State]-order[b.State], cmp.Compare(a.ID, b.ID)) })
	if id := v.param("id"); id != "" { // after the sorting, which moves the nodes
		for i := range p.Nodes {
			if p.Nodes[i].ID == id {
				p.One = &p.Nodes[i]
			}
		}
		for i := range p.Workers {
			if p.Workers[i].Owner == id {
				p.OneWorker = &p.Workers[i]
			}
		}
	}
	from := min(max(v.number("from", 0), 0), p.Total)
	if v.param("format") == "" {
		if from+pageRows < p.Total {
			p.Next = from + pageRows
		}
		p.Nodes = p.Nodes[from:min(from+pageRows, p.Total)]
	}
	return p, nil
}

// Export lists the nodes.
func (p nodesPage) Export() (items any, header []string, rows [][]string) {
	all := make([]api.Node, 0, len(p.Nodes))
	for _, n := range p.Nodes {
		all = append(all, n.Node)
		rows = append(rows, []string{
			n.ID, n.Host, strconv.Itoa(n.PID), n.State, n.Began.UTC().Format(time.RFC3339), strconv.Itoa(n.Entries), strconv.FormatFloat(n.Hits, 'f', 4, 64),
			strconv.FormatFloat(n.Proof, 'f', 3, 64), strconv.FormatFloat(n.Delay, 'f', 3, 64), strconv.FormatInt(n.Flushes, 10),
		})
	}
	return all, []string{"id", "host", "pid", "state", "began", "entries", "hit_ratio", "proof_age_seconds", "delay_seconds", "flushes"}, rows
}

// actNodes makes a node forget its local entries.
func actNodes(v *visit) (*outcome, error) {
	if v.field("do") != "flush" {
		return nil, v.unknown()
	}
	id := v.field("id")
	sure := v.sure(id)
	if sure {
		return &outcome{to: link("/nodes", "id", id, "done", "flushed")}, v.post("/v1/nodes/"+seg(id)+"/flush", map[string]string{"reason": v.field("reason")}, nil)
	}
	var found struct{ Nodes []api.Node }
	if err := v.get("/v1/nodes", &found); err != nil {
		return nil, err
	}
	entries := 0
	for _, n := range found.Nodes {
		if n.ID == id {
			entries = nodeOf(n).Entries
		}
	}
	return v.ask(confirmation{
		Path: "/nodes", Question: v.text("Make %s forget its local entries?", id), Button: v.text("Flush"), Danger: true, Typed: id,
		Facts:   []fact{{v.text("Local entries"), grouped(int64(entries))}},
		Warning: v.text("Its next reads go to Redis and the database until it holds what is read again."),
	}, "do", "id"), nil
}
