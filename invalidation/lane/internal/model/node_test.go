package model_test

// A node keeps a local cache (L1) and follows every lane separately.

type local struct {
	ok       bool
	ver, val int
	asOf     int // checker only
	stamp    int // logical clock when the fill began
	sec      int // section of its tags

	bounded  bool // the shared tier did not take it: it is served until bound after loadedAt, whatever is known of the lane
	loadedAt int
	early    *fillJob // the fill that has yet to hear from the shared tier whether this may stay
}

// bound is how long an entry that only its load from the primary bounds is served.
const bound = 40

type laneView struct {
	last, seq int
	flushedAt int // logical clock of the last flush
	flushedT  int // local time of the last flush
	tagAt     [nTags]int
	tagT      [nTags]int
	confirm   int
	pos       [nParts]int // read-your-writes position
	inbox     []entry
	connected bool
	previous  bool // connections for reads lead to the lane's previous master
	want      int  // simple follower: head seen by the last poll and not yet received
	wantT     int  // when that poll was sent
	root      int  // as of the last look at the lane
	agreed    bool // the lane had the node's section then
	since     int  // logical clock of when that began
}

type fillJob struct {
	key, t0, step, tok int
	ver, val, asOf     int
	floor              int // of its lease
	primary, shared    bool
	early              bool // it is in L1 already
	gen, sec           int
	loaded             bool // there is something to serve
	bounded            bool // the shared tier does not take it
	loadedAt           int
	waiters            []waiter
}

type node struct {
	n      int
	simple bool // simple follower: flush on any mismatch
	rolls  bool // the section may change in this run
	sec    int  // section of its declarations
	lc     int
	slot   [nKeys]int // logical clock of the last invalidation per key stripe
	slotT  [nKeys]int // local time of it (L1-only mode)
	cache  [nKeys]local
	lane   [nLanes]laneView
	fills  []*fillJob
	gen    int
}

const never = -1 << 20

// nowhere is the position of a node that knows nothing.
func nowhere() (pos [nParts]int) {
	for p := range pos {
		pos[p] = -1
	}
	return pos
}

func newNode(s *sim, i int) *node {
	n := &node{n: i, simple: s.follower && i == nNodes-1, rolls: s.roll != nil}
	for c := range n.slotT {
		n.slotT[c] = never
	}
	for l := range n.lane {
		n.lane[l].connected = true
	}
	n.restart(s)
	n.gen = 0
	return n
}

// restart: subscribe, adopt the lane heads, then allow fills.
func (n *node) restart(s *sim) {
	n.gen++
	n.sec = s.roll.section()
	n.cache = [nKeys]local{}
	for l := range n.lane {
		v := &n.lane[l]
		v.inbox, v.connected, v.confirm, v.want, v.agreed = nil, true, s.now, 0, false
		n.adopt(s, l)
	}
}

// adopt flushes this lane's part of L1 and takes the lane's head as the new position.
func (n *node) adopt(s *sim, l int) {
	v, a := &n.lane[l], s.lanes[l]
	n.flush(s, l)
	n.look(s, l)
	if !a.exists {
		v.last, v.seq, v.pos = -1, 0, nowhere()
		return
	}
	v.last, v.seq, v.pos = a.last, a.seq, a.wm
}

func (n *node) flush(s *sim, l int) {
	n.lc++
	n.lane[l].flushedAt, n.lane[l].flushedT = n.lc, s.now
	s.chk.flushes++
}

// apply executes an entry; always, also if old, repeated or out of order.
func (n *node) apply(s *sim, l int, e entry) {
	if e.flush {
		n.flush(s, l)
		if !s.has(flushUnlooked) {
			n.lane[l].agreed = false // until the next look: perhaps it is a flush for another section
		}
	}
	for _, it := range e.items {
		n.lc++
		n.slot[it.key], n.slotT[it.key] = n.lc, s.now
		if c := &n.cache[it.key]; c.ok && (c.ver < it.ver || it.ver == 0 && !s.has(derivedKeep)) {
			c.ok = false
		}
	}
	for _, t := range e.tags {
		n.lc++
		n.lane[l].tagAt[t], n.lane[l].tagT[t] = n.lc, s.now
	}
}

func (n *node) receive(s *sim, l int) {
	v := &n.lane[l]
	if len(v.inbox) == 0 {
		return
	}
	e := v.inbox[0]
	v.inbox = v.inbox[1:]
	n.apply(s, l, e)
	switch {
	case s.has(pubsubOnly):
	case e.prev == v.last, s.has(seqOnly) && e.seq == v.seq+1:
		n.advance(v, e)
	case s.has(seqOnly) && e.seq <= v.seq:
	case n.simple:
		n.flush(s, l)
		v.pos = nowhere()
		n.advance(v, e)
	default:
		n.sync(s, l)
	}
	if v.want != 0 && e.id == v.want {
		v.confirm, v.want = max(v.confirm, v.wantT), 0
	}
}

func (n *node) advance(v *laneView, e entry) {
	v.last, v.seq = e.id, e.seq
	if e.p >= 0 {
		v.pos[e.p] = max(v.pos[e.p], e.to)
	}
}

// poll is the periodic sync; confirm takes the time before the request was sent.
func (n *node) poll(s *sim, l int) {
	if s.has(pubsubOnly) {
		return
	}
	if n.simple {
		n.pollSimple(s, l)
		return
	}
	t0 := s.now
	if s.has(seqOnly) && s.lanes[l].seq == n.lane[l].seq {
		return
	}
	n.sync(s, l)
	n.lane[l].confirm = t0
}

// pollSimple: equal heads confirm, and so does a head that is received later, as of the poll that saw it. One that was not
// received by the next poll means a lost message.
func (n *node) pollSimple(s *sim, l int) {
	v, a := &n.lane[l], s.lanes[l]
	n.look(s, l)
	switch {
	case s.has(followerNoPoll):
	case !a.exists:
		n.adopt(s, l)
	case v.last == a.last:
		v.confirm, v.want = s.now, 0
	case v.want != 0:
		n.adopt(s, l)
		v.confirm, v.want = s.now, 0
	default:
		v.want, v.wantT = a.last, s.now
	}
}

// sync: same head, or log matching (my last entry is still in the stream), or flush.
func (n *node) sync(s *sim, l int) {
	s.chk.syncs++
	v, a := &n.lane[l], s.lanes[l]
	defer n.look(s, l) // once what it missed is applied
	if !a.exists {
		if v.last != -1 || !s.bounded { // known to be missing: what is kept meanwhile, its load bounds
			n.adopt(s, l)
		}
		return
	}
	if v.last == a.last {
		v.pos = a.wm
		return
	}
	at := -1
	for i, e := range a.stream {
		if e.id == v.last || s.has(seqOnly) && e.seq == v.seq {
			at = i
		}
	}
	seqRun := s.has(seqOnly) && at < 0 && len(a.stream) > 0 && a.stream[0].seq == v.seq+1
	if at < 0 && !seqRun && !s.has(noGapFlush) {
		n.adopt(s, l)
		return
	}
	for _, e := range a.stream[at+1:] {
		n.apply(s, l, e)
		n.advance(v, e)
	}
	v.last, v.seq, v.pos = a.last, a.seq, a.wm
}

// usable: no flush of the lane and no invalidation of a tag since the fill began.
func (n *node) usable(c int) bool {
	e, v := n.cache[c], &n.lane[laneOf[c]]
	if !e.ok || e.stamp < v.flushedAt || n.bypasses(laneOf[c]) || e.stamp < v.since {
		return false
	}
	for _, t := range tagsOf(e.sec, c) {
		if v.tagAt[t] > e.stamp {
			return false
		}
	}
	return true
}

// read serves from L1 or starts a fill.
func (n *node) read(s *sim, c int) {
	if n.usable(c) && n.inBound(s, c) {
		s.chk.served(s, n, c, n.cache[c])
		return
	}
	if n.bypasses(laneOf[c]) {
		return
	}
	if n.join(s, c) {
		return
	}
	f := &fillJob{key: c, t0: n.lc, gen: n.gen, sec: n.sec}
	if s.l1only {
		f.step, f.primary = 1, n.mustReadPrimary(s, c)
	}
	n.fills = append(n.fills, f)
}

// inBound reports whether an entry that the shared tier did not take may be served still.
func (n *node) inBound(s *sim, c int) bool {
	e := n.cache[c]
	return !e.bounded || s.now-e.loadedAt <= bound || s.has(boundedLong)
}

// alone lets a fill that the shared tier does not take read the primary, and keeps what that returns.
func (n *node) alone(s *sim, f *fillJob) {
	f.bounded, f.primary, f.step = true, !s.has(boundedAny), 1
}

// mustReadPrimary is the L1-only rule: for lag after an invalidation, tag invalidation or flush that concerns the key,
// loads go to the primary.
func (n *node) mustReadPrimary(s *sim, c int) bool {
	if s.has(l1NoHold) {
		return false
	}
	v := &n.lane[laneOf[c]]
	recent := func(t int) bool { return s.now-t < s.lag }
	if n.simple || recent(n.slotT[c]) || recent(v.flushedT) {
		return true
	}
	for _, t := range tagsOf(n.sec, c) {
		if v.tagAt[t] > 0 && recent(v.tagT[t]) {
			return true
		}
	}
	return false
}

func (n *node) stepFill(s *sim, i int) {
	f, l := n.fills[i], laneOf[n.fills[i].key]
	done := func() {
		s.chk.shared(s, n, f)
		n.fills = append(n.fills[:i:i], n.fills[i+1:]...)
	}
	switch f.step {
	case 0:
		if n.rolls && (f.gen != n.gen || n.bypasses(l)) {
			done()
			return
		}
		v, st := n.ask(s, l, f.key)
		if n.strange(s, l, v, st) {
			done()
			return
		}
		switch st {
		case gotHit:
			f.ver, f.val, f.asOf, f.step, f.shared, f.loaded = v.ver, v.val, v.asOf, 3, true, true
			f.sec = v.sec // tags come with the value
			if f.gen == n.gen {
				s.chk.hit(s, n, f.key, v)
			}
		case gotLease:
			f.tok, f.floor, f.step = v.tok, v.floor, 1
			f.primary = v.floor == primaryOnly
		default: // BUSY, NOLANE or refused
			if s.bounded && !n.simple {
				n.alone(s, f)
				return
			}
			done()
		}
	case 1:
		db := &s.sec
		f.asOf = s.secPos
		if f.primary || s.hold0 && !s.has(hold0Lagging) || s.r.Intn(s.prim) == 0 {
			db, f.asOf, f.primary = &s.db, len(s.changes), true
		}
		f.val = eval(f.sec, f.key, db)
		if f.key < firstDer {
			f.ver = db[f.key].ver
		}
		f.step, f.loaded, f.loadedAt = 2, true, s.now
		if s.early && !n.simple && !s.l1only && !f.bounded && (f.passes() || s.has(earlyUnchecked)) {
			f.early = true
			n.insert(s, f)
		}
	case 2:
		if !s.l1only && !f.bounded {
			st := s.fill(f)
			if f.early && n.settle(s, f, st) {
				done()
				return
			}
			switch st {
			case fillOK:
			case fillLost:
				switch {
				case s.bounded && !n.simple && f.primary && !s.has(localAnyway):
					f.bounded = true
				case !s.has(localAnyway):
					done()
					return
				}
			case fillPrimary:
				if !s.has(localAnyway) {
					if f.primary { // cannot happen unless an assumption is broken; give up
						done()
						return
					}
					f.primary, f.step = true, 1
					return
				}
			}
		}
		f.step = 3
	case 3:
		n.insert(s, f)
		done()
	}
}

// passes reports whether the shared tier can refuse what f loaded for no other reason than that something was invalidated, or
// the lease ended, since the lease was given.
func (f *fillJob) passes() bool {
	if !f.primary && len(tagsOf(f.sec, f.key)) > 0 {
		return false
	}
	return f.floor == primaryOnly && f.primary || f.floor != primaryOnly && f.ver >= f.floor
}

// settle lets the entry that f left in L1 before its fill stay or removes it, and reports whether f is done.
func (n *node) settle(s *sim, f *fillJob, st fillReply) bool {
	c := &n.cache[f.key]
	f.early = false
	if st == fillOK {
		if c.early == f {
			c.early = nil
		}
		return true
	}
	if c.early == f {
		c.ok = false
		s.tr("node %d removes k%d ver %d: fill refused", n.n, f.key, f.ver)
	}
	return false
}

// insert puts a filled value into L1 unless its key was invalidated since the fill began. Flushes and tags are covered
// by the stamp, which is the logical clock at the beginning of the fill.
func (n *node) insert(s *sim, f *fillJob) {
	if f.gen != n.gen {
		return
	}
	guard := n.slot[f.key] > f.t0
	if guard && !s.has(noGuard) && (!f.bounded || !s.has(boundedStays)) && (!n.simple || !s.has(followerNoGuard)) {
		s.chk.rejGuard++
		return
	}
	stamp := f.t0
	if s.has(noGuard) || s.has(tagStampLate) || n.simple && s.has(followerNoGuard) {
		stamp = n.lc
	}
	if c := &n.cache[f.key]; !n.usable(f.key) || c.ver <= f.ver {
		*c = local{true, f.ver, f.val, f.asOf, stamp, f.sec, f.bounded, f.loadedAt, nil}
		if f.early {
			c.early = f
		}
		s.tr("node %d insert k%d ver %d val %d asOf %d stamp %d", n.n, f.key, f.ver, f.val, f.asOf, stamp)
	}
}
