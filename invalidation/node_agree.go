package invalidation

import "github.com/freshet/freshet/invalidation/lane"

// doubt leaves the lane's keys alone until the next look at it: it was flushed, perhaps for other cache sections, and what is
// loaded by the node's own could miss what follows.
func (f *follower) doubt() {
	f.agreeing.Lock()
	defer f.agreeing.Unlock()
	f.doubts.Add(1)
	for _, d := range f.node.datasets {
		d.lanes[f.n].agreed.Store(false)
	}
	signal(f.now)
}

// agree compares the lane's cache sections with the node's. What was asked for before the last doubt is no answer to it.
func (f *follower) agree(st *lane.State, doubts uint64) {
	f.agreeing.Lock()
	defer f.agreeing.Unlock()
	if f.doubts.Load() != doubts {
		return
	}
	for name, d := range f.node.datasets {
		a := &d.lanes[f.n]
		got, ok := st.Hashes[name]
		agreed := ok && got == d.hash
		a.known.Store(ok)
		a.differs.Store(ok && !agreed)
		if agreed == a.agreed.Load() {
			continue
		}
		if agreed {
			a.since.Store(f.node.clock.now.Add(1)) // keys may have been named otherwise until now
		}
		a.agreed.Store(agreed)
	}
}
