package group

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"

	"github.com/freshet/freshet/internal/kafkalog/wire"
)

// stickyName is the protocol's name in the group; every member of a group must share one.
const stickyName = "freshet-sticky"

// sticky is a group balancer that moves as few partitions as it can: a partition that stays spares a fence, a repair
// check and a pause.
type sticky struct {
	mu       sync.Mutex // guards the following
	claim    claim
	identity Identity
}

// claim is what a member says it owned, and in which generation, and what it writes.
type claim struct {
	generation int32
	parts      map[string][]int
	identity   Identity
}

// note remembers what the group assigned to this member.
func (s *sticky) note(generation int32, assigned map[string][]int32) {
	parts := map[string][]int{}
	for topic, ids := range assigned {
		for _, id := range ids {
			parts[topic] = append(parts[topic], int(id))
		}
		slices.Sort(parts[topic])
	}
	s.mu.Lock()
	s.claim = claim{generation: generation, parts: parts}
	s.mu.Unlock()
}

// ProtocolName is part of kafka.GroupBalancer.
func (s *sticky) ProtocolName() string { return stickyName }

// UserData is part of kafka.GroupBalancer: the claim, as
//
//	version u8 = 2 | generation i32 | topics uvarint × { length uvarint, name | partitions uvarint × { id uvarint } } |
//	database, namespace, label: each length uvarint, text
//
// Version 1 ends before the database.
func (s *sticky) UserData() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.claim
	c.identity = s.identity
	return encodeClaim(c), nil
}

func encodeClaim(c claim) []byte {
	b := binary.BigEndian.AppendUint32([]byte{2}, uint32(c.generation))
	b = binary.AppendUvarint(b, uint64(len(c.parts)))
	for _, topic := range slices.Sorted(maps.Keys(c.parts)) {
		b = binary.AppendUvarint(b, uint64(len(topic)))
		b = append(b, topic...)
		b = binary.AppendUvarint(b, uint64(len(c.parts[topic])))
		for _, p := range c.parts[topic] {
			b = binary.AppendUvarint(b, uint64(p))
		}
	}
	return c.identity.append(b)
}

// decodeClaim reads a claim. What cannot be read claims nothing: a member of another release still gets its share.
func decodeClaim(b []byte) claim {
	w := &wire.Reader{Rest: b}
	version := w.I8()
	if version != 1 && version != 2 {
		return claim{}
	}
	c := claim{generation: w.I32(), parts: map[string][]int{}}
	for n := w.Count(int32(w.Uvarint())); n > 0 && w.Err == nil; n-- {
		topic := string(w.Take(w.Uvarint()))
		for m := w.Count(int32(w.Uvarint())); m > 0 && w.Err == nil; m-- {
			c.parts[topic] = append(c.parts[topic], w.Uvarint())
		}
	}
	if version == 2 {
		c.identity = readIdentity(w)
	}
	if w.Err != nil || len(w.Rest) > 0 {
		return claim{}
	}
	return c
}

type topicPartition struct {
	topic string
	id    int
}

func comparePartitions(a, b topicPartition) int {
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.id, b.id))
}

// AssignGroups is part of kafka.GroupBalancer. It returns the same answer for the same members, however they are ordered:
// everybody keeps what it owned as far as its share goes, the newest claim first, and the rest fills the smallest. Members
// that write another database or namespace get nothing.
func (s *sticky) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	out := kafka.GroupMemberAssignments{}
	for _, m := range members {
		out[m.ID] = map[string][]int{}
	}
	members = slices.SortedFunc(slices.Values(s.ours(members)), func(a, b kafka.GroupMember) int { return cmp.Compare(a.ID, b.ID) })
	parts := make([]topicPartition, 0, len(partitions))
	for _, p := range partitions {
		parts = append(parts, topicPartition{p.Topic, p.ID})
	}
	slices.SortFunc(parts, comparePartitions)
	parts = slices.Compact(parts)

	owner := keepOwners(members, parts)
	counts := map[string]int{}
	for _, id := range owner {
		counts[id]++
	}
	for _, p := range parts {
		if _, kept := owner[p]; kept {
			continue
		}
		best := ""
		for _, m := range members {
			if slices.Contains(m.Topics, p.topic) && (best == "" || counts[m.ID] < counts[best]) {
				best = m.ID
			}
		}
		if best != "" {
			owner[p] = best
			counts[best]++
		}
	}

	for _, p := range parts {
		if id, ok := owner[p]; ok {
			out[id][p.topic] = append(out[id][p.topic], p.id)
		}
	}
	return out
}

// keepOwners returns the partitions that stay where they are.
func keepOwners(members []kafka.GroupMember, parts []topicPartition) map[topicPartition]string {
	exists := map[topicPartition]bool{}
	for _, p := range parts {
		exists[p] = true
	}
	type held struct {
		member     string
		generation int32
	}
	newest := map[topicPartition]held{}
	for _, m := range members {
		c := decodeClaim(m.UserData)
		for topic, ids := range c.parts {
			for _, id := range ids {
				p := topicPartition{topic, id}
				if !exists[p] || !slices.Contains(m.Topics, topic) {
					continue
				}
				// Members are sorted, so of two equal claims the first one counts.
				if h, ok := newest[p]; !ok || c.generation > h.generation {
					newest[p] = held{m.ID, c.generation}
				}
			}
		}
	}
	claimed := map[string][]topicPartition{}
	for _, p := range parts {
		if h, ok := newest[p]; ok {
			claimed[h.member] = append(claimed[h.member], p)
		}
	}
	return cutToShares(members, claimed, len(parts))
}

// cutToShares lets everybody keep its share: total/members, and one more for as many as the remainder, those first that
// claim most.
func cutToShares(members []kafka.GroupMember, claimed map[string][]topicPartition, total int) map[topicPartition]string {
	owner := map[topicPartition]string{}
	if len(members) == 0 {
		return owner
	}
	share, extra := total/len(members), total%len(members)
	order := slices.Clone(members)
	slices.SortStableFunc(order, func(a, b kafka.GroupMember) int {
		return cmp.Compare(len(claimed[b.ID]), len(claimed[a.ID]))
	})
	for _, m := range order {
		keep := claimed[m.ID]
		if limit := share + min(extra, 1); len(keep) >= limit {
			keep = keep[:limit]
			extra = max(extra-1, 0)
		}
		for _, p := range keep {
			owner[p] = m.ID
		}
	}
	return owner
}

var _ kafka.GroupBalancer = (*sticky)(nil)
