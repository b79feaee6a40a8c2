package worker

import (
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
func (c *core) prepare(p *partition, b *kafkalog.Batch) (*prepared, error) {
	if p.dataset == nil {
		return c.prepareInvalidations(p, b), nil
	}
	return prepare(p.dataset, p.decoder, b)
}

// prepare decodes and checks a batch and keeps the newest change of each record, with the older ones behind it. Of equal
// versions the earlier offset wins: the later one is a repetition. What prepare gives aliases the batch's buffers.
func prepare(d *schemas.Dataset, dec *cdc.Decoder, b *kafkalog.Batch) (*prepared, error) {
	p := &prepared{changes: make([]*replica.Change, 0, len(b.Records)), items: items{}, tags: items{}, foreign: items{}}
	p.displaced = len(d.NameColumns()) > 0
	byKey := make(map[string]int, len(b.Records)) // key → place in changes
	for i := range b.Records {
		rec := &b.Records[i]
		p.newest = max(p.newest, rec.Time)
		res, err := dec.Decode(*rec)
		if err != nil {
			p.stop, p.stopAt = err, i
			break
		}
		p.ignored[res.Ignored]++
		p.other = cmp.Or(res.Other, p.other)
		p.damaged += res.Damaged
		for i := range res.Rows {
			ev, n, err := &res.Rows[i].Event, res.Rows[i].Index, res.Rows[i].Err
			p.events++
			var row schemas.Row
			if err == nil {
				row, err = d.Check(ev)
			}
			if err != nil {
				p.refuse(d, rec, n, ev, err)
				continue
			}
			p.unknown += row.UnknownProperties
			c, err := replica.NewChange(d, rec, n, ev, row)
			if err != nil {
				return nil, err // Check passed, so the key is canonical: cannot happen
			}
			p.name(&c.Names)
			p.keep(byKey, ev.Key, c)
		}
	}
	if d.Cache != nil {
		p.own = make([]lane.Item, len(p.changes))
		for i, c := range p.changes {
			p.own[i] = lane.Item{Key: c.CacheKey, Version: c.Version}
		}
	}
	return p, nil
}

// keep puts c into its record's chain: newest version first. What comes late is counted.
func (p *prepared) keep(byKey map[string]int, key string, c *replica.Change) {
	at, ok := byKey[key]
	if !ok {
		byKey[key] = len(p.changes)
		p.changes = append(p.changes, c)
		return
	}
	head := p.changes[at]
	if c.Version > head.Version {
		c.Older = head
		p.changes[at] = c
		return
	}
	for head.Older != nil && head.Older.Version >= c.Version {
		head = head.Older
	}
	if head.Version == c.Version {
		if !replica.SameState(head, c) {
			p.lost.Add(replica.Lost{Conflicts: 1, At: c.Offset})
		}
		return // a repetition
	}
	p.lost.Add(replica.Lost{Superseded: 1})
	p.behind = append(p.behind, key)
	c.Older, head.Older = head.Older, c
}

// refuse makes a dead letter of an event that cannot be applied. The replica invalidates its record's cache entry without a
// version: no load could ever reach the version of an event that is not applied.
func (p *prepared) refuse(d *schemas.Dataset, rec *schemas.Record, index int, ev *schemas.Event, err error) {
	p.letters = append(p.letters, replica.RefusedEvent(d, rec, index, ev, err))
}
