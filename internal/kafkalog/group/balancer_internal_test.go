package group

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"pgregory.net/rapid"
)

// groupState is a group as the balancer sees it, for as many rebalances as a test likes.
type groupState struct {
	generation int32
	parts      []kafka.Partition
	claims     map[string]claim
}

func (g *groupState) members() []kafka.GroupMember {
	topics := map[string]bool{}
	for _, p := range g.parts {
		topics[p.Topic] = true
	}
	var out []kafka.GroupMember
	for id, c := range g.claims {
		out = append(out, kafka.GroupMember{ID: id, Topics: slices.Sorted(maps.Keys(topics)), UserData: encodeClaim(c)})
	}
	return out
}

// rebalance assigns and lets everybody claim what it got; it reports how many partitions changed hands although their owner
// is still there.
func (g *groupState) rebalance(t interface{ Fatalf(string, ...any) }) (moved int) {
	g.generation++
	ms := g.members()
	got := (&sticky{}).AssignGroups(ms, g.parts)
	slices.Reverse(ms)
	if diff := cmp.Diff(got, (&sticky{}).AssignGroups(ms, g.parts)); diff != "" {
		t.Fatalf("assignment depends on the order of members: %s", diff)
	}
	seen, least, most := map[string]bool{}, 1<<30, 0
	for id, topics := range got {
		n := 0
		for topic, ids := range topics {
			n += len(ids)
			for _, p := range ids {
				name := fmt.Sprint(topic, "/", p)
				if seen[name] {
					t.Fatalf("%s is assigned twice", name)
				}
				seen[name] = true
				for other, c := range g.claims {
					if other != id && slices.Contains(c.parts[topic], p) {
						moved++
					}
				}
			}
		}
		least, most = min(least, n), max(most, n)
	}
	if len(seen) != len(g.parts) {
		t.Fatalf("%d of %d partitions are assigned", len(seen), len(g.parts))
	}
	if most-least > 1 {
		t.Fatalf("shares from %d to %d", least, most)
	}
	for id := range g.claims {
		g.claims[id] = claim{generation: g.generation, parts: got[id]}
	}
	return moved
}

func TestStickyBalancer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &groupState{claims: map[string]claim{}}
		for topic := range rapid.IntRange(1, 3).Draw(t, "topics") {
			for p := range rapid.IntRange(0, 12).Draw(t, "partitions") {
				g.parts = append(g.parts, kafka.Partition{Topic: fmt.Sprint("t", topic), ID: p})
			}
		}
		n := rapid.IntRange(1, 6).Draw(t, "members")
		for i := range n {
			g.claims[fmt.Sprint("m", i)] = claim{}
		}
		g.rebalance(t)
		if moved := g.rebalance(t); moved != 0 {
			t.Fatalf("%d partitions moved although nothing changed", moved)
		}
		if n > 1 && rapid.Bool().Draw(t, "leave") {
			delete(g.claims, fmt.Sprint("m", rapid.IntRange(0, n-1).Draw(t, "who")))
			if moved := g.rebalance(t); moved != 0 {
				t.Fatalf("%d partitions of members that stayed moved when one left", moved)
			}
			return
		}
		g.claims["n"] = claim{}
		if moved, want := g.rebalance(t), len(g.parts)/(n+1); moved > want {
			t.Fatalf("%d partitions moved when one joined, want %d at most", moved, want)
		}
	})
}

func TestStickyBalancerBelievesTheNewestClaim(t *testing.T) {
	parts := []kafka.Partition{{Topic: "t", ID: 0}, {Topic: "t", ID: 1}}
	member := func(id string, c claim) kafka.GroupMember {
		return kafka.GroupMember{ID: id, Topics: []string{"t"}, UserData: encodeClaim(c)}
	}
	got := (&sticky{}).AssignGroups([]kafka.GroupMember{
		member("a", claim{generation: 3, parts: map[string][]int{"t": {0, 1}}}),
		member("b", claim{generation: 4, parts: map[string][]int{"t": {0}}}),
	}, parts)
	want := kafka.GroupMemberAssignments{"a": {"t": {1}}, "b": {"t": {0}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A claim of a release without identities is believed, and its member gets a share; one of another database gets nothing.
func TestStickyBalancerLeavesOutOtherDatabases(t *testing.T) {
	parts := []kafka.Partition{{Topic: "t", ID: 0}, {Topic: "t", ID: 1}, {Topic: "t", ID: 2}, {Topic: "t", ID: 3}}
	old := []byte{1, 0, 0, 0, 7, 1, 1, 't', 1, 3} // version 1, generation 7, partition 3 of t
	member := func(id string, identity Identity) kafka.GroupMember {
		return kafka.GroupMember{ID: id, Topics: []string{"t"}, UserData: encodeClaim(claim{identity: identity})}
	}
	s := &sticky{identity: Identity{Database: "d1", Namespace: "n1", Label: "here"}}
	got := s.AssignGroups([]kafka.GroupMember{
		{ID: "old", Topics: []string{"t"}, UserData: old},
		member("database", Identity{Database: "d2", Namespace: "n1"}),
		member("namespace", Identity{Database: "d1", Namespace: "n2"}),
		member("ours", Identity{Database: "d1", Namespace: "n1", Label: "after a failover"}),
	}, parts)
	want := kafka.GroupMemberAssignments{"old": {"t": {1, 3}}, "ours": {"t": {0, 2}}, "database": {}, "namespace": {}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStickyBalancerKeepsToSubscriptions(t *testing.T) {
	got := (&sticky{}).AssignGroups([]kafka.GroupMember{
		{ID: "a", Topics: []string{"t"}, UserData: []byte("of another release")},
		{ID: "b", Topics: []string{"t", "u"}},
	}, []kafka.Partition{{Topic: "t", ID: 0}, {Topic: "u", ID: 0}, {Topic: "u", ID: 1}, {Topic: "v", ID: 0}})
	want := kafka.GroupMemberAssignments{"a": {"t": {0}}, "b": {"u": {0, 1}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzClaim(f *testing.F) {
	f.Add(encodeClaim(claim{generation: 7, parts: map[string][]int{"topic": {0, 3, 300}, "u": nil}}))
	f.Add([]byte{2, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := decodeClaim(b)
		again := decodeClaim(encodeClaim(c))
		if c.generation != again.generation || !cmp.Equal(encodeClaim(c), encodeClaim(again)) {
			t.Fatalf("got %v, want %v", again, c)
		}
	})
}
