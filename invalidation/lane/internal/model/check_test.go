package model_test

import (
	"fmt"
	"slices"
)

// checker knows the truth and is never consulted by the protocol.
type checker struct {
	touches [2][nKeys][]touch     // by section: every change that altered a cache key's true value
	emitAt  [nLanes][nParts][]int // per offset: time at which the lane's watermark first covered it, 0 = not yet
	losses  int                   // Redis failovers and flushes
	stale   int                   // bounded-staleness violations
	ryw     int                   // read-your-writes violations
	foreign int                   // hits on what a node of another section stored

	serves, hits, syncs, flushes, laneFlushes, reemits, rejGuard, rejFloor, rejLease int
}

// changed records which cache keys a row change alters, from the row before and after, independent of what the worker emits.
func (k *checker) changed(s *sim, key int, before, after row, p, off, idx int) {
	t := touch{p, off, idx}
	for sec := range k.touches {
		touches := &k.touches[sec]
		touches[key] = append(touches[key], t)
		ds := derived(sec, key, before)
		for _, d := range derived(sec, key, after) {
			if len(ds) == 0 || ds[0] != d {
				ds = append(ds, d)
			}
		}
		for _, d := range ds {
			touches[d] = append(touches[d], t)
		}
		for c := firstPage; c < nKeys; c++ {
			for _, a := range tagsOf(sec, c) {
				for _, b := range eventTags(sec, key) {
					if a == b {
						touches[c] = append(touches[c], t)
					}
				}
			}
		}
	}
}

// published sets where the invalidation of these changes lies; before, no one can wait for it.
func (k *checker) published(idx []int, off int) {
	for sec := range k.touches {
		for _, touches := range k.touches[sec] {
			for i := range touches {
				if t := &touches[i]; t.off == unpublished && slices.Contains(idx, t.idx) {
					t.off = off
				}
			}
		}
	}
}

// emitted notes that lane l now covers partition p up to offset to.
func (k *checker) emitted(s *sim, l, p, to int) {
	for off := len(k.emitAt[l][p]); off <= to; off++ {
		k.emitAt[l][p] = append(k.emitAt[l][p], s.now)
	}
}

// served checks an L1 read: everything emitted before the node's confirmation is visible, and everything up to the
// node's read-your-writes position. Both bounds are promised only while no Redis state was lost.
func (k *checker) served(s *sim, n *node, c int, e local) {
	asOf := e.asOf
	k.serves++
	k.bounded(s, n, c, e)
	if k.mixed(s, n, c, e.sec) || k.losses > 0 {
		return
	}
	l := laneOf[c]
	v := &n.lane[l]
	for _, t := range k.touches[n.sec][c] {
		if t.idx <= asOf {
			continue
		}
		if e := k.emitAt[l][t.p]; t.off < len(e) && e[t.off] < v.confirm {
			k.stale++
		}
		if t.off <= v.pos[t.p] {
			k.ryw++
			s.tr("RYW violation L1 n%d k%d asOf %d missing %+v pos %v", n.n, c, asOf, t, v.pos)
		}
	}
}

// bounded checks a read of an entry that its load alone bounds: it shows everything emitted more than bound ago, whatever Redis lost.
func (k *checker) bounded(s *sim, n *node, c int, e local) {
	if !e.bounded {
		return
	}
	for _, t := range k.touches[n.sec][c] {
		if at := k.emitAt[laneOf[c]][t.p]; t.idx > e.asOf && t.off < len(at) && at[t.off] < s.now-bound {
			k.stale++
			s.tr("bounded entry too old: n%d k%d asOf %d missing %+v", n.n, c, e.asOf, t)
		}
	}
}

// hit checks a shared-tier read against the node's read-your-writes position.
func (k *checker) hit(s *sim, n *node, c int, v kv) {
	asOf := v.asOf
	k.hits++
	if v.sec != n.sec { // perhaps another record's
		k.foreign++
		s.tr("foreign hit n%d k%d", n.n, c)
	}
	if k.mixed(s, n, c, v.sec) || k.losses > 0 {
		return
	}
	for _, t := range k.touches[n.sec][c] {
		if t.idx > asOf && t.off <= n.lane[laneOf[c]].pos[t.p] {
			k.ryw++
			s.tr("RYW violation shared n%d k%d asOf %d missing %+v", n.n, c, asOf, t)
		}
	}
}

// verdict is the convergence check after the drain: everything that a read could return equals the replica.
func (s *sim) verdict() (bad []string) {
	add := func(f string, a ...any) { bad = append(bad, fmt.Sprintf(f, a...)) }
	for p := range s.log {
		if s.committed[p] != len(s.log[p]) {
			add("stuck p%d committed %d of %d", p, s.committed[p], len(s.log[p]))
		}
		for l, a := range s.lanes {
			if w := a.wm[p]; w < len(s.log[p])-1 && s.next(l, p) < len(s.log[p]) && len(s.log[p]) > 0 && !s.has(noWm) {
				add("watermark lane %d p%d %d want %d", l, p, w, len(s.log[p])-1)
			}
		}
	}
	for k := range s.db {
		if s.db[k] != s.srcRow[k] {
			add("replica k%d %v want %v", k, s.db[k], s.srcRow[k])
		}
	}
	for c := range nKeys {
		if a := s.lanes[laneOf[c]]; !s.l1only && a.sec != unknown {
			v, want := s.key(a, c), eval(a.sec, c, &s.db)
			if v.kind == value && v.root == a.root && s.tagsValid(a, v.sec, c, v.g) && v.val != want {
				add("shared k%d %d want %d", c, v.val, want)
			}
		}
		for i, n := range s.nodes {
			if want := eval(n.sec, c, &s.db); n.usable(c) && n.inBound(s, c) && n.cache[c].val != want {
				add("local n%d k%d %d want %d", i, c, n.cache[c].val, want)
			}
		}
	}
	if s.chk.stale > 0 {
		add("staleness x%d", s.chk.stale)
	}
	if s.chk.ryw > 0 {
		add("ryw x%d", s.chk.ryw)
	}
	if s.chk.foreign > 0 {
		add("foreign hits x%d", s.chk.foreign)
	}
	return bad
}
