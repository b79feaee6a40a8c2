package model_test

// A worker owns one partition. One call of step is one atomic action on one system.

type phase int

const (
	idle phase = iota
	applying
	emitting
	emittingTombs // splitEmit / appendFirst / hold0Split / hold0AppendFirst mutations only
	committing
	repairing
	died
)

type worker struct {
	p, from, to int
	phase       phase
	zombie      bool
	read        int         // next offset to process
	acked       [nLanes]int // highest offset each lane acknowledged to me
	root        [nLanes]int // root I know for each lane
	sec         int         // section of its declarations
	met         [nLanes]int // that of each lane as of the last look
	todo        [nLanes]bool
	half        bool // first half of a split batch was emitted
	tombLane    int
	changed     map[int]bool
	memory      map[int][]int // noPending mutation: displaced keys in memory only
	ready       int           // when a transaction that waits for locks gets them
	absent      [nRec]bool    // noPlaceholder mutation: the old row was looked for, not found, and so not locked
	lane        int           // lane under repair
	resume      phase
	reCursor    int // next offset to emit again, -1 before the lane was looked at
}

// newWorker is an assignment: nothing is known but the committed offset.
func newWorker(s *sim, p int) *worker {
	w := &worker{p: p, read: s.committed[p], sec: s.roll.section(), changed: map[int]bool{}, memory: map[int][]int{}}
	for l := range w.acked {
		w.acked[l], w.met[l] = w.read-1, unknown
	}
	return w
}

func (w *worker) dead() bool { return w.phase == died }

// emission is the deterministic content of offsets [from,to] for lane l: from Kafka and freshet_displaced alone.
func (w *worker) emission(s *sim, l, from, to int) (items []item, tags []int) {
	for off := from; off <= to; off++ {
		e := s.log[w.p][off]
		if !s.has(tagOneLane) || l == 0 {
			tags = append(tags, e.tags...)
		}
		for _, c := range e.names {
			if laneOf[c] == l {
				items = append(items, item{c, 0})
			}
		}
		if w.p == invPart {
			continue
		}
		if s.has(skipUnchanged) && !w.changed[off] {
			continue
		}
		var ds []int
		if !e.bad { // of a letter, what is displaced at its offset is all
			if laneOf[e.key] == l {
				items = append(items, item{e.key, e.ver})
			}
			ds = derived(w.sec, e.key, row{e.ver, e.mail})
		}
		if s.has(noPending) {
			ds = append(ds, w.memory[off]...)
		} else {
			ds = append(ds, s.displaced[w.p][off]...)
		}
		for _, d := range ds {
			if laneOf[d] == l {
				items = append(items, item{d, 0})
			}
		}
		if !e.bad && (!s.has(tagOneLane) || l == 0) {
			tags = append(tags, eventTags(w.sec, e.key)...)
		}
	}
	return
}

func (w *worker) step(s *sim) {
	switch w.phase {
	case idle:
		w.stepIdle(s)
	case applying:
		w.stepApply(s)
	case emitting:
		w.stepEmit(s)
	case emittingTombs:
		items, _ := w.emission(s, w.tombLane, w.from, w.to)
		for _, it := range items {
			s.invalidate(s.lanes[w.tombLane], it)
		}
		w.half = true
		w.phase = emitting
		if s.appendsFirst() {
			w.half = false
			w.todo[w.tombLane] = false
		}
	case committing:
		w.stepCommit(s)
	case repairing:
		w.stepRepair(s)
	case died:
	}
}

func (w *worker) stepIdle(s *sim) {
	if w.zombie {
		w.phase = died
		return
	}
	// watermark check (every T_wm)
	l := s.r.Intn(nLanes)
	if s.has(lane0Only) {
		l = 0
	}
	if !s.has(noWm) && w.laneBehind(s, l) {
		w.repair(l, idle)
		return
	}
	w.purge(s)
	more := w.read < len(s.log[w.p])
	if w.read > s.committed[w.p] && (!more || s.r.Intn(2) == 0) {
		w.phase = committing
		return
	}
	if !more {
		return
	}
	w.from = w.read
	w.to = w.from + s.r.Intn(min(3, len(s.log[w.p])-w.from))
	w.phase = applying
	for off := w.from; off <= w.to && w.p != invPart; off++ {
		k := s.log[w.p][off].key
		w.absent[k] = s.db[k].ver == 0
	}
	if s.others != nil {
		w.ready = s.now + []int{0, 0, 0, 100}[s.r2.Intn(4)]
	}
	if s.has(commitFirst) {
		s.committed[w.p] = max(s.committed[w.p], w.to+1)
	}
	if s.has(bcastFirst) {
		w.startEmit(s)
	}
}

func (w *worker) laneBehind(s *sim, l int) bool {
	a := s.lanes[l]
	return !a.exists || s.next(l, w.p) <= w.acked[l] || s.roll != nil && a.sec != w.sec && s.roll.set == w.sec
}

// purge drops displaced rows that are committed and older than the retention.
func (w *worker) purge(s *sim) {
	for off := s.purged[w.p] + 1; off < s.committed[w.p] && s.dbTime[w.p][off] < s.now-s.keep; off++ {
		delete(s.displaced[w.p], off)
		s.purged[w.p] = off
	}
}

// stepApply is the MySQL transaction: guarded upserts, displaced derived keys, position row.
func (w *worker) stepApply(s *sim) {
	if s.now < w.ready && s.faults || !w.mayApply(s) {
		return
	}
	for off := w.from; off <= w.to; off++ {
		e := s.log[w.p][off]
		if _, ok := s.dbTime[w.p][off]; !ok {
			s.dbTime[w.p][off] = s.now
		}
		if w.p == invPart {
			continue
		}
		if e.bad {
			w.refuse(s, off, e)
			continue
		}
		old := s.db[e.key]
		if e.ver <= old.ver {
			continue
		}
		w.changed[off] = true
		row := row{e.ver, e.mail}
		for _, d := range derived(w.sec, e.key, old) {
			if s.has(oldKeyMissed) || s.has(noPlaceholder) && w.absent[e.key] {
				break
			}
			w.memory[off] = append(w.memory[off], d)
			s.displaced[w.p][off] = append(s.displaced[w.p][off], d)
		}
		s.db[e.key] = row
		s.tr("row k%d %+v -> %+v (p%d off %d)", e.key, old, row, w.p, off)
		s.changes = append(s.changes, change{e.key, row, s.now, w.p, off})
		s.chk.changed(s, e.key, old, row, w.p, off, len(s.changes))
	}
	if s.has(bcastFirst) {
		w.finishBatch(s)
		return
	}
	w.startEmit(s)
}

// refuse makes a letter of an event, once, and displaces its record's key: the letter's version is one that no load returns.
func (w *worker) refuse(s *sim, off int, e event) {
	if len(s.displaced[w.p][off]) > 0 || off <= s.purged[w.p] {
		return
	}
	w.memory[off] = append(w.memory[off], e.key)
	s.displaced[w.p][off] = append(s.displaced[w.p][off], e.key)
	s.others.letters = append(s.others.letters, e)
}

func (w *worker) startEmit(s *sim) {
	for l := range w.todo {
		items, tags := w.emission(s, l, w.from, w.to)
		w.todo[l] = len(items)+len(tags) > 0
	}
	w.half = false
	w.phase = emitting
	if s.has(wmAhead) {
		for l := range w.todo {
			if s.emit(l, w.p, w.root[l], w.acked[l]+1, w.to, nil, nil) == emitOK {
				w.acked[l] = w.to
			}
		}
	}
}

func (w *worker) finishBatch(s *sim) {
	w.read = w.to + 1
	if s.has(purgeOnEmit) {
		for off := w.from; off <= w.to; off++ {
			delete(s.displaced[w.p], off)
		}
	}
	w.phase = idle
}

// stepEmit emits the batch to one more lane that has something in it. Any lane order is allowed.
func (w *worker) stepEmit(s *sim) {
	l := s.r.Intn(nLanes)
	if !w.todo[l] {
		l = (l + 1) % nLanes
	}
	if !w.todo[l] {
		if s.has(bcastFirst) {
			w.phase = applying
		} else {
			w.finishBatch(s)
		}
		return
	}
	items, tags := w.emission(s, l, w.from, w.to)
	if s.splits() && !w.half {
		w.tombLane, w.phase = l, emittingTombs
		return
	}
	if s.splits() {
		l = w.tombLane
		items, tags = w.emission(s, l, w.from, w.to)
	}
	from, to := w.acked[l]+1, w.to
	if s.has(wmAhead) {
		from = min(from, w.from)
	}
	if len(items) > 1 && s.r.Intn(3) == 0 { // batch larger than one script: first part leaves the watermark alone
		if s.emit(l, w.p, w.root[l], from, from-1, items[:1], nil) != emitOK {
			w.repair(l, emitting)
			return
		}
		items = items[1:]
		if s.r.Intn(2) == 0 { // crash, failover or another actor in between: come back and send all of it
			return
		}
	}
	if s.emit(l, w.p, w.root[l], from, to, items, tags) != emitOK {
		w.repair(l, emitting)
		return
	}
	w.acked[l] = max(w.acked[l], to)
	w.todo[l], w.half = false, false
	if s.appendsFirst() {
		w.todo[l] = true
		w.tombLane, w.phase = l, emittingTombs
	}
}

// stepCommit brings every lane's watermark to read-1 (append-free), then commits the offset.
func (w *worker) stepCommit(s *sim) {
	for l := range w.acked {
		if w.acked[l] >= w.read-1 {
			continue
		}
		if s.emit(l, w.p, w.root[l], w.acked[l]+1, w.read-1, nil, nil) != emitOK {
			w.repair(l, committing)
			return
		}
		w.acked[l] = w.read - 1
		return
	}
	if !w.zombie && w.read > s.committed[w.p] { // fenced by the group generation
		s.committed[w.p] = w.read
	}
	w.phase = idle
}

func (w *worker) repair(l int, resume phase) {
	if w.zombie { // a zombie may emit but never repairs; the owner will
		w.phase = died
		return
	}
	w.lane, w.resume, w.reCursor, w.half, w.phase = l, resume, -1, false, repairing
}

// windowStart is the offset at now-window, never after the committed offset.
func (w *worker) windowStart(s *sim, window int) int {
	st := s.committed[w.p]
	for st > 0 && s.dbTime[w.p][st-1] >= s.now-window {
		st--
	}
	return st
}

// stepRepair restores one lane: adopt or create the root, then emit again from the lane's own next offset.
func (w *worker) stepRepair(s *sim) {
	l := w.lane
	if w.reCursor < 0 {
		if !s.lanes[l].exists {
			w.create(s, l)
			return
		}
		if w.adopt(s, l) {
			return
		}
		w.met[l] = s.lanes[l].sec
		root := s.lanes[l].root
		if _, ok := s.start[w.p][l][root]; !ok { // first contact with this root: durable note before the first emit
			st := w.windowStart(s, s.lag+400)
			if s.has(noWindow) {
				st = s.committed[w.p]
			}
			s.start[w.p][l][root] = st
		}
		w.root[l] = root
		next := s.next(l, w.p)
		if w.mustLeave(s, l, next) {
			w.phase = w.resume
			return
		}
		if next <= s.purged[w.p] && next < w.read && !s.has(purgeNoFlush) {
			// displaced keys of that range are gone: invalidate the whole lane instead
			st := w.windowStart(s, s.lag+20)
			s.newRoot(l, true, w.p, st)
			if s.roll != nil {
				s.lanes[l].hold = s.now + s.tombTTL
			}
			s.start[w.p][l][s.lanes[l].root] = st
			s.chk.laneFlushes++
			return
		}
		w.reCursor = min(next, w.read)
		w.acked[l] = w.reCursor - 1
		return
	}
	if w.reCursor < w.read {
		items, tags := w.emission(s, l, w.reCursor, w.reCursor)
		if s.emit(l, w.p, w.root[l], w.reCursor, w.reCursor, items, tags) != emitOK {
			w.reCursor = -1
			return
		}
		w.acked[l] = w.reCursor
		w.reCursor++
		s.chk.reemits++
		return
	}
	w.phase = w.resume
}
