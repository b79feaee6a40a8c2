package invalidation

import "github.com/freshet/freshet/invalidation/lane"

// This file is how readers get what was loaded before the shared tier has it.
//
// It is done only where no answer of the fill script changes what the readers get: what the lease and the load tell passes
// the floor and the rules for tags. Such a fill is refused only because the lease is gone, or fails because Redis is. The
// local tier keeps the value meanwhile, under the guards of every local entry, and drops it when the fill is refused. So
// those who read it until then are those who would have joined the flight and got the same value from it.

// passes reports whether the shared tier is going to take l, loaded under a lease of that floor, unless the lease is lost or
// Redis fails, and whether the readers get l then too.
func (fl *filler[V]) passes(f *flight[V], l Loaded[V], floor int64) bool {
	switch {
	case f.lane.full.Load():
		return false // Redis refused the last fill
	case l.From == Primary:
		return floor == lane.PrimaryOnly || l.Version >= floor
	}
	return l.Version >= floor && len(l.Tags) == 0 && !fl.node.waitedLately()
}

// early reports whether the readers of f get l before the fill, which is ready then; the caller calls late after it. Beyond
// what may run at a time they wait, so that a slow Redis slows down its readers instead of piling up goroutines.
func (fl *filler[V]) early(f *flight[V], token string, floor int64, l *Loaded[V]) (early bool) {
	if f.trip.refresh || f.stored != nil || fl.local.overtaken(f) || !fl.passes(f, *l, floor) || !fl.takePlace() {
		return false
	}
	defer func() {
		if !early { // also if the codec or Cost panics
			fl.late()
		}
	}()
	r, err := fl.request(f.name, token, *l)
	if err != nil || r.Check() != nil {
		return false // store reports it
	}
	l.cost = fl.local.costOf(f.key, *l)
	if f.early = fl.local.keep(f, *l); f.early == nil {
		return false
	}
	f.request = &r
	return true
}

// earlyMany answers those of these flights for which early would be true; the caller has a place for them.
func (fl *filler[V]) earlyMany(flights []*flight[V], fillings []lane.Filling) {
	for i, f := range flights {
		l := &f.loaded.loaded
		if !fl.local.overtaken(f) && fl.passes(f, *l, f.asked.reply.Floor) && fillings[i].Check() == nil && fl.costKnown(f.key, l) {
			if f.early = fl.local.keep(f, *l); f.early != nil {
				fl.answer(f, *l)
			}
		}
	}
}

// costKnown asks what l counts for. A panic is left to the fill of this one key, which asks again.
func (fl *filler[V]) costKnown(key string, l *Loaded[V]) (known bool) {
	defer func() {
		if recover() != nil {
			known = false
		}
	}()
	l.cost = fl.local.costOf(key, *l)
	return true
}

// takePlace reports whether one more fill may run behind its answer.
func (fl *filler[V]) takePlace() bool {
	select {
	case fl.node.behind <- struct{}{}:
		fl.stats.behind.Add(1)
		return true
	default:
		return false
	}
}

// late ends a fill that ran behind its answer.
func (fl *filler[V]) late() {
	fl.stats.behind.Add(-1)
	<-fl.node.behind
}

// retract removes from the local tier what was kept there before its fill.
func (f *flight[V]) retract() {
	if f.early != nil {
		f.early.dead.Store(true)
		f.early = nil
	}
}
