package model_test

import "math/rand"

// A master that was replaced lives on as a replica and answers reads for a while, with what it held then. A node's connections for reads may
// still lead there when those by which it follows the lane lead to the new master already: behind one address, each is recreated in its own time.

type previous struct {
	r     *rand.Rand // of its own, so that the seeds without such masters play as if there were none
	none  bool       // no replaced master answers in this run
	lanes [nLanes]*lane
}

func newPrevious(seed int64, m mut) previous {
	f := previous{r: rand.New(rand.NewSource(seed ^ 0x1f83d9ab))}
	f.none = f.r.Intn(3) > 0 && m&hitUnproved == 0
	return f
}

// step replaces the master of a lane by a replica that has everything: nothing is lost, so every bound must hold.
func (f *previous) step(s *sim) {
	if f.none || f.r.Intn(60) > 0 {
		return
	}
	l := f.r.Intn(nLanes)
	next := s.lanes[l].clone()
	f.replaced(s, l)
	s.lanes[l] = next
	s.tr("HANDOVER lane %d", l)
}

// replaced keeps the present master of lane l as the previous one.
func (f *previous) replaced(s *sim, l int) {
	if f.none {
		return
	}
	f.lanes[l] = s.lanes[l]
	for _, n := range s.nodes {
		n.lane[l].previous = f.r.Intn(2) == 0
	}
}

// ask is a node's call of the get script over its connections for reads. The script writes, to no effect, before it reads: an earlier master
// refuses that, and the refusal ends the connection.
func (n *node) ask(s *sim, l, c int) (kv, getReply) {
	v := &n.lane[l]
	if !v.previous {
		return s.get(l, c)
	}
	a := s.previous.lanes[l]
	if e := s.key(a, c); s.has(hitUnproved) && e.kind == value && e.root == a.root && s.tagsValid(a, e.sec, c, e.g) {
		return *e, gotHit
	}
	v.previous = s.previous.r.Intn(2) == 0
	return kv{}, gotRefused
}

// strange reports whether a reply belongs to a root that the node has not looked at: the lane was flushed since, perhaps for another section.
func (n *node) strange(s *sim, l int, v kv, st getReply) bool {
	switch {
	case !n.rolls || v.root == n.lane[l].root:
		return false
	case st == gotHit:
		return !s.has(hitUnlooked)
	}
	return st == gotLease && !s.has(fillUnlooked)
}
