package model_test

// One lane = one hash slot on one Redis master: value keys, tag hash, meta hash, stream, channel.
// Each method below is one Lua script and therefore atomic. A failover replaces the whole struct by an older copy.

type kind uint8

const (
	none kind = iota
	value
	leased
)

// primaryOnly is the floor that no version reaches: only a load from the primary may fill (2^53-1 in Lua).
const primaryOnly = 1 << 30

type kv struct {
	kind        kind
	ver         int // of a value
	floor       int // of a lease
	exp         int // key expiry
	tok         int
	root, g, at int // lane root, lane seq and time at lease time
	val, asOf   int // asOf is for the checker only
	sec         int // section of who filled it: of its tags, which are stored, and else for the checker
}

type item struct{ key, ver int } // ver 0: always delete

type entry struct {
	seq, id, prev int
	p, from, to   int
	items         []item
	tags          []int
	flush         bool
}

type lane struct {
	n      int
	kv     [nKeys]kv
	fl     [2][nKeys]int // the two floor hashes P:f0 and P:f1; 0 = no floor
	until  [2]int        // meta f0, f1: each is needed until then
	hold   int           // meta fa: until then every lease may be filled from the primary only
	sec    int           // meta d:<dataset>
	exists bool
	root   int
	seq    int
	last   int
	wm     [nParts]int // -1: none
	tagSeq [nTags]int
	tagAt  [nTags]int
	stream []entry
}

func (a *lane) clone() *lane {
	c := *a
	c.stream = append([]entry(nil), a.stream...)
	return &c
}

func (s *sim) key(a *lane, c int) *kv {
	v := &a.kv[c]
	if v.kind != none && v.exp <= s.now {
		*v = kv{}
	}
	return v
}

// invalidate is the per-key part of emit.lua outside a script of its own (splitEmit, appendFirst).
func (s *sim) invalidate(a *lane, it item) { s.invalidateIn(a, s.rotate(a), it) }

// rotate picks the floor hash in use: the one that is needed longer, or the other one, emptied, if nothing in it is
// needed any more.
func (s *sim) rotate(a *lane) int {
	h := 0
	if a.until[1] > a.until[0] {
		h = 1
	}
	if a.until[1-h] <= s.now || s.has(rotateEarly) && s.r.Intn(4) == 0 {
		h = 1 - h
		a.fl[h], a.until[h] = [nKeys]int{}, 0
	}
	return h
}

// floorOf is the highest floor of c in the hashes that are still needed.
func (s *sim) floorOf(a *lane, c int) (f int) {
	for h, u := range a.until {
		if u > s.now && (!s.has(oneFloorHash) || u >= a.until[1-h]) {
			f = max(f, a.fl[h][c])
		}
	}
	return
}

// invalidateIn is the per-key part of emit.lua; h is the floor hash in use.
func (s *sim) invalidateIn(a *lane, h int, it item) {
	if s.l1only {
		return
	}
	v := s.key(a, it.key)
	if s.hold0 { // UNLINK, no floor
		if !s.has(hold0LeaseStays) || v.kind != leased {
			*v = kv{}
		}
		return
	}
	if s.has(plainDel) {
		*v = kv{}
		return
	}
	floor := it.ver
	if it.ver == 0 {
		floor = primaryOnly
		if s.has(noHold) {
			floor = 0
		}
	}
	keep := !s.noKeep && v.kind == value && v.root == a.root && v.ver >= it.ver && (it.ver > 0 || s.has(derivedKeep))
	if !keep || !s.has(ttlDropsFloor) {
		if f := &a.fl[h][it.key]; *f < floor || s.has(floorLowered) {
			*f = floor
		}
		a.until[h] = max(a.until[h], s.now+s.tombTTL)
	}
	if !keep {
		*v = kv{}
	}
}

func (s *sim) append(a *lane, e entry) {
	a.seq++
	e.seq, e.id, e.prev = a.seq, s.id(), a.last
	a.last = e.id
	a.stream = append(a.stream, e)
	if len(a.stream) > streamLen {
		a.stream = a.stream[len(a.stream)-streamLen:]
	}
	for _, n := range s.nodes {
		if n != nil && n.lane[a.n].connected {
			n.lane[a.n].inbox = append(n.lane[a.n].inbox, e)
		}
	}
}

// next is the offset that lane l expects from partition p; -1 if this root is not known to p.
func (s *sim) next(l, p int) int {
	a := s.lanes[l]
	if !a.exists {
		return -1
	}
	if a.wm[p] >= 0 {
		return a.wm[p] + 1
	}
	if st, ok := s.start[p][l][a.root]; ok {
		return st
	}
	return -1
}

type emitReply int

const (
	emitOK   emitReply = iota
	emitLost           // ROOT, REGRESSED or no lane
)

// emit is emit.lua: contiguity check, tombstones, tag stamps, append, watermark. With nothing to tell the nodes it
// only moves the watermark (no entry). to < from carries a part of a batch without moving the watermark.
func (s *sim) emit(l, p, root, from, to int, items []item, tags []int) emitReply {
	a := s.lanes[l]
	if s.has(noWm) || s.has(lane0Only) {
		if !a.exists {
			s.newRoot(l, false, p, 0)
		}
	} else if !a.exists || a.root != root || from > s.next(l, p) {
		return emitLost
	}
	if len(items)+len(tags) > 0 {
		s.noKeep = s.r.Intn(2) == 0 // the caller's choice, always safe
		if !s.splits() && !s.appendsFirst() && len(items) > 0 && !s.l1only {
			h := 0
			if !s.hold0 {
				h = s.rotate(a)
			}
			for _, it := range items {
				s.invalidateIn(a, h, it)
			}
		}
		for _, t := range tags {
			a.tagSeq[t], a.tagAt[t] = a.seq+1, s.now
		}
		s.append(a, entry{p: p, from: from, to: to, items: items, tags: tags})
	}
	if to > a.wm[p] {
		a.wm[p] = to
	}
	s.tr("emit lane %d p%d [%d,%d] %v tags %v", l, p, from, to, items, tags)
	s.chk.emitted(s, l, p, to)
	return emitOK
}

// newRoot is root.lua: creates a missing lane, or (flush) replaces the root so that every value and lease of the lane
// becomes invalid at once, and moves the watermark of p to startAt-1.
func (s *sim) newRoot(l int, flush bool, p, startAt int) {
	a := s.lanes[l]
	if !a.exists {
		a.exists = true
		for i := range a.wm {
			a.wm[i] = -1
		}
	}
	s.append(a, entry{p: -1, flush: flush})
	a.root = a.last
	s.tr("new root lane %d flush %v", l, flush)
	if flush && startAt-1 > a.wm[p] {
		a.wm[p] = startAt - 1
	}
}

func (s *sim) tagsValid(a *lane, sec, c, g int) bool {
	for _, t := range tagsOf(sec, c) {
		if a.tagSeq[t] > g && !s.has(noTagCheck) {
			return false
		}
	}
	return true
}

type getReply int

const (
	gotHit getReply = iota
	gotLease
	gotBusy
	gotNoLane
	gotRefused // by a server that takes no writes
)

// get is get.lua: HIT, or LEASE (token, floor carried), or BUSY, or NOLANE.
func (s *sim) get(l, c int) (kv, getReply) {
	a := s.lanes[l]
	if !a.exists {
		return kv{}, gotNoLane
	}
	v := s.key(a, c)
	sameRoot := v.root == a.root || s.has(noRootCheck)
	if v.kind == value && sameRoot && s.tagsValid(a, v.sec, c, v.g) {
		return *v, gotHit
	}
	if v.kind == leased && sameRoot {
		return *v, gotBusy
	}
	n := kv{kind: leased, tok: s.id(), root: a.root, g: a.seq, at: s.now, exp: s.now + s.leaseTTL}
	n.floor = s.floorOf(a, c)
	if a.hold > s.now {
		n.floor = primaryOnly
	}
	*v = n
	s.tr("lease k%d tok %d floor %d", c, n.tok, n.floor)
	return n, gotLease
}

type fillReply int

const (
	fillOK fillReply = iota
	fillLost
	fillPrimary // STALE or PRIMARY: load again from the primary, token still good
)

// fill is fill.lua.
func (s *sim) fill(f *fillJob) fillReply {
	l, c, ver, primary := laneOf[f.key], f.key, f.ver, f.primary
	a := s.lanes[l]
	if !a.exists {
		return fillLost
	}
	v := s.key(a, c)
	if s.has(noLease) {
		if v.kind == value && v.ver >= ver && ver > 0 {
			return fillLost
		}
	} else if v.kind != leased || v.tok != f.tok || (v.root != a.root && !s.has(noRootCheck)) {
		s.chk.rejLease++
		return fillLost
	}
	// The lease's floor counts for the whole life of the lease, even when the hold has passed meanwhile: the load may
	// have been made before. For the same reason the tag hold below is measured at lease time, not at fill time.
	at := v.at
	if s.has(holdAtFill) {
		at = s.now
	}
	if !s.has(noFloor) && (!s.has(holdAtFill) || s.floorOf(a, c) > 0) {
		if v.floor == primaryOnly && !primary || v.floor != primaryOnly && v.floor > ver {
			s.chk.rejFloor++
			return fillPrimary
		}
	}
	g := v.g
	if s.has(tagStampFill) || s.has(noLease) {
		g = a.seq
	}
	if !s.tagsValid(a, f.sec, c, g) {
		return fillLost
	}
	for _, t := range tagsOf(f.sec, c) {
		if !primary && a.tagSeq[t] > 0 && at-a.tagAt[t] < s.tombTTL && !s.has(noTagHold) {
			s.chk.rejFloor++
			return fillPrimary
		}
	}
	*v = kv{kind: value, ver: ver, val: f.val, asOf: f.asOf, sec: f.sec, root: a.root, g: g, exp: s.now + s.valTTL}
	if s.has(ttlDropsFloor) {
		a.fl[0][c], a.fl[1][c] = 0, 0
	}
	s.tr("fill k%d ver %d val %d asOf %d primary %v g %d", c, ver, f.val, f.asOf, primary, g)
	return fillOK
}
