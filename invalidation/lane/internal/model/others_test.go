package model_test

// Other writers of replica rows: here those who redrive letters. They run the same guarded statements, note what they made
// stale in an outbox in the same transaction, and publish it to a topic of its own, whose worker emits it like any other.

// unpublished is the offset of an invalidation that is not in the topic yet.
const unpublished = 1 << 29

type others struct {
	letters []event
	outbox  []*note
	late    *note // outboxAfter mutation: noted in the next step
}

// note is an outbox row.
type note struct {
	names, tags []int
	idx         []int // of the changes that it reports; for the checker only
	orphan      bool  // its writer died
	sent        bool  // it was published, and is still to be deleted
}

// step is one atomic step of some writer.
func (o *others) step(s *sim) {
	if o.late != nil {
		if s.r2.Intn(3) > 0 || !s.faults { // else the writer dies, and takes what it knew with it
			o.outbox = append(o.outbox, o.late)
		}
		o.late = nil
		return
	}
	if len(o.outbox) > 0 && s.r2.Intn(2) == 0 {
		o.publish(s, s.r2.Intn(len(o.outbox)))
		return
	}
	if len(o.letters) > 0 {
		o.redrive(s, s.r2.Intn(len(o.letters)))
	}
}

// redrive is one transaction: the stored event under its stored version, and the outbox row.
func (o *others) redrive(s *sim, i int) {
	e := o.letters[i]
	o.letters = append(o.letters[:i:i], o.letters[i+1:]...)
	old := s.db[e.key]
	if e.ver <= old.ver { // superseded
		return
	}
	now := row{e.ver, e.mail}
	s.db[e.key] = now
	s.tr("redrive k%d %+v -> %+v", e.key, old, now)
	s.changes = append(s.changes, change{e.key, now, s.now, invPart, unpublished})
	s.chk.changed(s, e.key, old, now, invPart, unpublished, len(s.changes))
	n := &note{names: append([]int{e.key}, derived(0, e.key, old)...), tags: eventTags(0, e.key), idx: []int{len(s.changes)}}
	n.names = append(n.names, derived(0, e.key, now)...)
	n.orphan = s.faults && s.r2.Intn(3) == 0
	switch {
	case s.has(otherEmits):
		o.emit(s, n)
	case s.has(outboxAfter):
		o.late = n
	default:
		o.outbox = append(o.outbox, n)
	}
}

// emit is what the otherEmits mutation does instead: no one repeats it when Redis loses it.
func (o *others) emit(s *sim, n *note) {
	for l, a := range s.lanes {
		var items []item
		for _, c := range n.names {
			if laneOf[c] == l {
				items = append(items, item{c, 0})
			}
		}
		next := s.next(l, invPart)
		s.emit(l, invPart, a.root, next, next-1, items, n.tags)
	}
}

// publish appends a row to the topic, or deletes it once that was acknowledged; who dies in between has it published twice.
func (o *others) publish(s *sim, i int) {
	n := o.outbox[i]
	if n.sent && s.r2.Intn(3) > 0 {
		o.outbox = append(o.outbox[:i:i], o.outbox[i+1:]...)
		return
	}
	if n.orphan && s.has(outboxNoSweep) {
		return
	}
	n.sent = true
	s.chk.published(n.idx, len(s.log[invPart]))
	s.log[invPart] = append(s.log[invPart], event{key: -1, names: n.names, tags: n.tags})
	s.tr("published %v %v", n.names, n.tags)
}

// finish is a part of the drain: every letter is redriven, and what the outbox has is published.
func (o *others) finish(s *sim) {
	for len(o.letters) > 0 {
		o.redrive(s, 0)
		if o.late != nil {
			o.outbox, o.late = append(o.outbox, o.late), nil
		}
	}
	for _, n := range o.outbox {
		if !n.sent && (!n.orphan || !s.has(outboxNoSweep)) {
			s.chk.published(n.idx, len(s.log[invPart]))
			s.log[invPart] = append(s.log[invPart], event{key: -1, names: n.names, tags: n.tags})
		}
	}
	o.outbox = nil
}
