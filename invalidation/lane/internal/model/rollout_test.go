package model_test

import "math/rand"

// A change of a dataset's cache section: the operator registers the new one in MySQL once, at any time, while workers and
// nodes of both sections run side by side. The two name the same entries for other records, and tag them otherwise, so
// whatever one of them leaves to the other is wrong.

// unknown is the section of a lane that does not say which one its dataset has.
const unknown = -1

type rollout struct {
	r     *rand.Rand  // of its own, so that the seeds without a change play as if there were none
	set   int         // what MySQL knows
	since int         // when that was changed
	once  bool        // all programs are of that section since then, else ever more
	flip  [nLanes]int // when a lane was last flushed for it; checker only
}

// step is one step of the operator.
func (o *rollout) step(s *sim) {
	switch x := o.r.Intn(4); {
	case x == 0 && o.set == 0 && o.r.Intn(3) == 0:
		o.set, o.since = 1, s.now
		s.tr("the database knows the new section")
		if l := o.r.Intn(3 * nLanes); l < nLanes { // Redis is restarted along with it, empty
			s.wipe(l)
		}
		if o.once = o.r.Intn(2) == 0; o.once { // and so are all programs
			for p := range s.workers[:s.parts] {
				s.workers[p] = newWorker(s, p)
			}
			for _, n := range s.nodes {
				n.restart(s)
			}
		}
	case x == 1:
		p := o.r.Intn(s.parts)
		s.workers[p] = newWorker(s, p)
	case x == 2:
		s.nodes[o.r.Intn(nNodes)].restart(s)
	}
}

// section is that of a program that starts now: mostly the one that MySQL knows.
func (o *rollout) section() int {
	if o == nil {
		return 0
	}
	if !o.once && o.r.Intn(3) == 0 {
		return 1 - o.set
	}
	return o.set
}

// finish is a part of the drain: only workers that may write make progress.
func (o *rollout) finish(s *sim) {
	for p, w := range s.workers[:s.parts] {
		for w.sec != o.set {
			w = newWorker(s, p)
			s.workers[p] = w
		}
	}
}

// create makes a missing lane. Its hold lasts as long as loads may still miss what a worker of the previous section wrote:
// the names of the old rows are then those of that section, so that emitting again does not cover the new ones.
func (w *worker) create(s *sim, l int) {
	s.newRoot(l, false, w.p, 0)
	if s.roll == nil {
		return
	}
	a := s.lanes[l]
	a.sec = unknown
	if s.roll.set == w.sec {
		a.sec = w.sec
	}
	if until := s.roll.since + s.tombTTL; s.roll.set > 0 && !s.has(createNoHold) {
		a.hold = until
	}
}

// adopt gives the lane the worker's section, if that is the one that MySQL knows: a new root with hold.
func (w *worker) adopt(s *sim, l int) bool {
	a := s.lanes[l]
	if s.roll == nil || !a.exists || a.sec == w.sec || s.roll.set != w.sec {
		return false
	}
	if !s.has(adoptNoFlush) {
		s.newRoot(l, true, w.p, 0)
		if !s.has(adoptNoHold) {
			a.hold = s.now + s.tombTTL
		}
	}
	a.sec = w.sec
	s.roll.flip[l] = s.now
	s.tr("lane %d has section %d", l, w.sec)
	return true
}

// mayApply reports whether the worker may write: MySQL knows its section, and so does every lane as far as it looked. Nothing
// may be written under a section which a lane does not have: the nodes of the previous one would not learn of it.
func (w *worker) mayApply(s *sim) bool {
	if s.roll == nil {
		return true
	}
	if s.roll.set != w.sec && !s.has(workerNoHash) {
		w.phase = idle
		return false
	}
	for l, met := range w.met {
		if met != w.sec && !s.has(adoptLate) && !s.has(workerNoHash) {
			w.repair(l, idle)
			return false
		}
	}
	return true
}

// mustLeave reports whether what lane l lost is not this worker's to emit again: it may have been applied under another section,
// whose names this worker does not know.
func (w *worker) mustLeave(s *sim, l, next int) bool {
	return s.roll != nil && next < w.read && next <= w.acked[l] && w.sec != s.lanes[l].sec && !s.has(repairOther)
}

// look is what a node learns of a lane's root and section each time that it reads the lane's meta hash.
func (n *node) look(s *sim, l int) {
	if s.roll == nil {
		return
	}
	v, a := &n.lane[l], s.lanes[l]
	agreed := a.exists && a.sec == n.sec || s.has(nodeNoHash)
	if agreed && !v.agreed {
		n.lc++
		v.since = n.lc
	}
	v.agreed, v.root = agreed, a.root
}

// bypasses reports whether the node leaves both tiers alone for the keys of lane l.
func (n *node) bypasses(l int) bool { return n.rolls && !n.lane[l].agreed }

// mixed checks what a node serves that was made under another section: only one that cannot have looked yet may.
func (k *checker) mixed(s *sim, n *node, c, sec int) bool {
	if sec == n.sec {
		return false
	}
	if l := laneOf[c]; k.losses == 0 && s.roll.flip[l] < n.lane[l].confirm {
		k.stale++
		s.tr("section violation n%d k%d", n.n, c)
	}
	return true
}
