package worker

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// prepared is a batch after decoding: what goes to MySQL, and what goes to the lanes.
type prepared struct {
	changes []*replica.Change
	letters []*replica.Letter
	// own are the cache keys of the changed records, each once; items are all other names, which may repeat one of own.
	own   []lane.Item
	items items
	// tags are emitted to all lanes, foreign are keys of other applications.
	tags, foreign items
	// bad counts the records of other writers that cannot be read, oversize the foreign keys that are too long.
	bad, oversize int
	// applied is when the batch was known to be in MySQL, on the worker's clock.
	applied time.Duration
	// born is when the events of changes came into being; nil before they are applied and once they are emitted.
	born *[]born
	// tracing has the events whose traces are recorded; nil: none.
	tracing *tracing
	// newest is the broker's time of the newest record, Unix ms.
	newest  int64
	events  int
	unknown int
	// ignored counts the records without a row, by cause; damaged the texts that were lost before Kafka.
	ignored [cdc.Causes]int
	damaged int
	// stop is set when the record at stopAt cannot be told by events. What comes before it is prepared, and nothing behind.
	stop   error
	stopAt int
	// other is the table of the last record that was of another one.
	other string
	// misplaced counts the records that the producer would have put into another partition; the first is at misplacedAt.
	misplaced   int
	misplacedAt int64
	// lost are the events that lost against another one of the batch.
	lost replica.Lost
	// behind are the keys of records whose last event is not their newest one; they may repeat.
	behind []string
	// done gives back the memory of changes.
	done func()
	// displaced: names at this batch's offsets may exist in MySQL and must be emitted with it.
	displaced bool
}

// items are the cache keys of a range, each once. Version 0 wins over any other, else the greater.
type items map[string]int64

func (it items) add(key string, version int64) {
	old, ok := it[key]
	switch {
	case !ok:
		it[key] = version
	case old == 0 || version == 0:
		it[key] = 0
	case version > old:
		it[key] = version
	}
}

// split gives each lane its share of the names, each name once.
func (p *prepared) split(lanes int) [][]lane.Item {
	out := make([][]lane.Item, lanes)
	if lanes == 1 && len(p.items) == 0 {
		out[0] = p.own
		return out
	}
	give := func(it lane.Item) {
		n := lane.Of(it.Key, lanes)
		out[n] = append(out[n], it)
	}
	if len(p.items) == 0 {
		for _, it := range p.own {
			give(it)
		}
		return out
	}
	for _, it := range p.own {
		p.items.add(it.Key, it.Version)
	}
	p.own = nil // they are among items now, and must not be counted twice
	for k, v := range p.items {
		give(lane.Item{Key: k, Version: v})
	}
	return out
}

// tagNames returns the tags in a fixed order.
func (p *prepared) tagNames() []string { return slices.Sorted(maps.Keys(p.tags)) }

// name adds the names that an event's state has beside its key. None of them has a version.
func (p *prepared) name(n *schemas.Names) {
	for _, k := range n.Derived {
		p.items.add(k, 0)
	}
	for _, t := range n.Tags {
		p.tags.add(t, 0)
	}
	for _, f := range n.Foreign {
		p.foreign.add(f, 0)
	}
	p.oversize += n.Oversize
}

// addName adds a displaced name.
func (p *prepared) addName(n replica.Name) {
	switch n.Kind {
	case 'k':
		p.items.add(n.Name, 0)
	case 't':
		p.tags.add(n.Name, 0)
	case 'f':
		p.foreign.add(n.Name, 0)
	}
}

// prepare reads a batch of p.
func (c *core) prepare(p *partition, b *kafkalog.Batch) *prepared {
	if p.dataset == nil {
		return c.prepareInvalidations(p, b)
	}
	s := c.slabs.get(p.dataset, len(b.Records))
	pr := prepare(p.dataset, p.decoder, b, s)
	pr.done = func() { c.slabs.put(s) }
	return pr
}

// prepare decodes a batch and keeps the newest change of each record, with the older ones behind it. Of equal versions the
// earlier offset wins: the later one is a repetition. What is written is checked in full. Of a record whose newest event is valid,
// the older ones are read for their key alone, and held against the schema only if the table refuses the newest. What prepare
// returns aliases the batch's buffers and s.
func prepare(d *schemas.Dataset, dec *cdc.Decoder, b *kafkalog.Batch, s *slab) *prepared {
	p := &prepared{changes: make([]*replica.Change, 0, len(b.Records)), items: items{}, tags: items{}, foreign: items{}}
	p.displaced = len(d.NameColumns()) > 0
	byKey := make(map[string]int, len(b.Records)) // key → place in changes
	for i := range b.Records {
		rec := &b.Records[i]
		p.newest = max(p.newest, rec.Time)
		res, err := dec.DecodeTo(rec, s.row())
		if err != nil {
			p.stop, p.stopAt = err, i
			break
		}
		p.ignored[res.Ignored]++
		p.other = cmp.Or(res.Other, p.other)
		p.damaged += res.Damaged
		for i := range res.Rows {
			row := &res.Rows[i]
			p.events++
			if row.Err != nil {
				p.letters = append(p.letters, replica.RefusedEvent(d, rec, row.Index, &row.Event, row.Err))
				continue
			}
			if err := d.CheckHead(&row.Event); err != nil {
				p.letters = append(p.letters, replica.RefusedEvent(d, rec, row.Index, &row.Event, err))
				continue
			}
			c := s.change()
			c.Decoded(d, rec, row.Index, &row.Event)
			// The names of a state are emitted also when a newer one of the batch follows: nodes may have loaded it from its source.
			if d.HasNames() {
				if !p.check(c, s) {
					continue
				}
				p.name(&c.Names)
			}
			p.keep(byKey, c, s)
		}
	}
	p.settle(s)
	slices.SortFunc(p.letters, func(a, b *replica.Letter) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Index, b.Index))
	})
	if d.Cache != nil {
		p.own = make([]lane.Item, len(p.changes))
		for i, c := range p.changes {
			p.own[i] = lane.Item{Key: c.CacheKey, Version: c.Version}
		}
	}
	return p
}

// release gives back the memory of the changes; the names for the lanes are kept.
func (p *prepared) release() {
	p.changes, p.letters = nil, nil
	if p.done != nil {
		p.done()
		p.done = nil
	}
}

// check checks a change, and makes a dead letter of an event that cannot be applied. The replica invalidates its record's cache
// entry without a version: no load could ever reach the version of an event that is not applied.
func (p *prepared) check(c *replica.Change, s *slab) bool {
	if c.Values != nil {
		return true
	}
	if err := c.Check(s.values()); err != nil {
		p.letters = append(p.letters, replica.RefusedEvent(c.Dataset, c.Record, c.Index, c.Event, err))
		return false
	}
	p.unknown += c.Unknown
	return true
}

// keep puts c into its record's chain: newest version first.
func (p *prepared) keep(byKey map[string]int, c *replica.Change, s *slab) {
	at, ok := byKey[c.Event.Key]
	if !ok {
		byKey[c.Event.Key] = len(p.changes)
		p.changes = append(p.changes, c)
		return
	}
	link := &p.changes[at]
	for *link != nil && (*link).Version > c.Version {
		link = &(*link).Older
	}
	old := *link
	if old == nil || old.Version < c.Version {
		c.Older, *link = old, c
		return
	}
	switch {
	case c.Deleted == old.Deleted && bytes.Equal(c.Event.Data, old.Event.Data): // a repetition
	case !p.check(c, s):
	case !p.check(old, s):
		c.Older, *link = old.Older, c
	case !replica.SameState(old, c):
		p.lost.Add(replica.Lost{Conflicts: 1, At: c.Offset})
	}
}

// settle checks the newest change of each record, or an older one if that is invalid, and counts what lost against it.
func (p *prepared) settle(s *slab) {
	kept := p.changes[:0]
	for _, c := range p.changes {
		for c != nil && !p.check(c, s) {
			c = c.Older
		}
		if c == nil {
			continue
		}
		kept = append(kept, c)
		p.unlinkStrangers(c)
		first := c // of those that are newer than the one looked at
		for o := c.Older; o != nil; o = o.Older {
			if cmp.Or(cmp.Compare(o.Offset, first.Offset), cmp.Compare(o.Index, first.Index)) < 0 {
				first = o
				continue
			}
			p.lost.Add(replica.Lost{Superseded: 1})
			p.behind = append(p.behind, o.Event.Key)
		}
	}
	clear(p.changes[len(kept):])
	p.changes = kept
}

// unchecked counts the events that were not held against the schema, since a newer one of their record is written.
func (p *prepared) unchecked() (n int) {
	for _, c := range p.changes {
		for o := c.Older; o != nil; o = o.Older {
			if o.Values == nil {
				n++
			}
		}
	}
	return n
}

// unlinkStrangers makes letters of the older events behind c that say nothing of c's record: their data is not an object, or has
// another key.
func (p *prepared) unlinkStrangers(c *replica.Change) {
	for link := &c.Older; *link != nil; {
		o := *link
		if o.Values == nil {
			if err := o.Dataset.CheckKey(o.Event); err != nil {
				p.letters = append(p.letters, replica.RefusedEvent(o.Dataset, o.Record, o.Index, o.Event, err))
				*link = o.Older
				continue
			}
		}
		link = &o.Older
	}
}
