package model_test

// The readers of a simple follower share one load per key: one that finds a load running takes its result, if nothing made the key stale since
// that load began. The load's mark is the promise of its result, and an invalidation removes it.

// waiter is a reader that took another reader's load: what it must see was emitted before that time.
type waiter struct{ confirm int }

// join reports whether a load of c runs that a new reader may take.
func (n *node) join(s *sim, c int) bool {
	if !n.simple {
		return false
	}
	for _, f := range n.fills {
		if f.key == c && f.gen == n.gen && (n.marked(f) || s.has(followerJoinsAny)) {
			f.waiters = append(f.waiters, waiter{n.lane[laneOf[c]].confirm})
			return true
		}
	}
	return false
}

// marked reports whether the mark of a load still stands.
func (n *node) marked(f *fillJob) bool {
	v := &n.lane[laneOf[f.key]]
	if n.slot[f.key] > f.t0 || v.flushedAt > f.t0 || v.since > f.t0 {
		return false
	}
	for _, t := range tagsOf(f.sec, f.key) {
		if v.tagAt[t] > f.t0 {
			return false
		}
	}
	return true
}

// shared checks what the waiters of a load get: everything that was emitted before the follower's confirmation when they began. What a lagging
// source gave and the shared tier refused is as old as a load of their own may be.
func (k *checker) shared(s *sim, n *node, f *fillJob) {
	if k.losses > 0 || s.roll != nil || !f.loaded || !f.primary && f.step < 3 {
		return
	}
	for _, w := range f.waiters {
		for _, t := range k.touches[n.sec][f.key] {
			if e := k.emitAt[laneOf[f.key]][t.p]; t.idx > f.asOf && t.off < len(e) && e[t.off] < w.confirm {
				k.stale++
				s.tr("shared load too old: n%d k%d asOf %d missing %+v", n.n, f.key, f.asOf, t)
			}
		}
	}
}
