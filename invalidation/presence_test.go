package invalidation_test

import (
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
)

func TestNodesTellOfThemselvesAndAnswer(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	a := r.join(invalidation.Config{ID: "a", Address: "10.0.0.1:9100"})
	r.join(invalidation.Config{ID: "b"})
	cache := r.cache(a)
	r.current(a)
	wantGet(t, cache, "1", "1@1")
	nodes := func() map[string]invalidation.NodeState {
		t.Helper()
		all, err := invalidation.Nodes(t.Context(), r.rdb, r.ns)
		check(t, err)
		out := map[string]invalidation.NodeState{}
		for _, n := range all {
			out[n.ID] = n
		}
		return out
	}
	eventually(t, "both nodes are there, and a's cache", func() bool { n := nodes(); return len(n) == 2 && len(n["a"].Caches) == 1 })
	if n := nodes()["a"]; n.Address != "10.0.0.1:9100" || n.Namespace != r.ns || len(n.Lanes) != 1 || n.PID == 0 {
		t.Errorf("a says %+v", n)
	}
	ask := func(q invalidation.Question) map[string]invalidation.Answer {
		t.Helper()
		got, err := invalidation.Ask(t.Context(), r.rdb, r.ns, q, 1, 5*time.Second)
		check(t, err)
		out := map[string]invalidation.Answer{}
		for _, x := range got {
			out[x.Node] = x
		}
		return out
	}
	peek := invalidation.Question{Names: []string{"user:1", "user:2"}}
	got := ask(peek)
	if len(got) != 2 || len(got["b"].Held) != 0 || len(got["a"].Held) != 1 || got["a"].Held[0] != (invalidation.Held{Name: "user:1", Version: 1, Found: true, Served: true}) {
		t.Fatalf("asked for two names: %+v", got)
	}
	if got := ask(invalidation.Question{Node: "a", Flush: true}); len(got) != 1 || !got["a"].Flushed {
		t.Fatalf("asked a to forget: %+v", got)
	}
	if got := ask(peek); len(got["a"].Held) == 1 && got["a"].Held[0].Served {
		t.Errorf("a serves what it forgot: %+v", got["a"])
	}
	if f := a.Stats().Lanes[0].Flushes["asked"]; f != 1 {
		t.Errorf("a counted %d flushes that were asked for", f)
	}
	wantGet(t, cache, "1", "1@1")
	check(t, a.Close())
	if n := nodes(); len(n) != 1 || n["b"].ID != "b" {
		t.Errorf("after a is closed: %+v", n)
	}
}
