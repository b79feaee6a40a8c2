package consumer

import (
	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// prepared is a batch after decoding: what goes to MySQL, and what goes to the lanes.
type prepared struct {
	changes []*replica.Change
	letters []*replica.Letter
	items   items
	// newest is the broker's time of the newest record, Unix ms.
	newest  int64
	events  int
	unknown int
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

// split gives each lane its share.
func (it items) split(lanes int) [][]lane.Item {
	out := make([][]lane.Item, lanes)
	for k, v := range it {
		n := lane.Of(k, lanes)
		out[n] = append(out[n], lane.Item{Key: k, Version: v})
	}
	return out
}

// prepare decodes and checks a batch and keeps the newest change of each record, with the older ones behind it. Of equal
// versions the earlier offset wins: the later one is a repetition. What prepare gives aliases the batch's buffers.
func prepare(d *schemas.Dataset, b *kafkalog.Batch) (*prepared, error) {
	p := &prepared{changes: make([]*replica.Change, 0, len(b.Records)), items: make(items, len(b.Records))}
	byKey := make(map[string]int, len(b.Records)) // key → place in changes
	for i := range b.Records {
		rec := &b.Records[i]
		p.newest = max(p.newest, rec.Time)
		events, err := d.Decode(*rec)
		if err != nil {
			p.refuse(d, rec, 0, nil, err)
			continue
		}
		for n := range events {
			ev := &events[n]
			p.events++
			row, err := d.Check(ev)
			if err != nil {
				p.refuse(d, rec, n, ev, err)
				continue
			}
			p.unknown += row.UnknownProperties
			c, err := replica.NewChange(d, rec, n, ev, row)
			if err != nil {
				return nil, err // Check passed, so the key is canonical: cannot happen
			}
			if c.CacheKey != "" {
				p.items.add(c.CacheKey, c.Version)
			}
			p.keep(byKey, ev.Key, c)
		}
	}
	return p, nil
}

// keep puts c into its record's chain: newest version first.
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
		return // a repetition
	}
	c.Older, head.Older = head.Older, c
}

// refuse makes a dead letter of an event that is no good as it is. Its record's cache entry is invalidated without a
// version: no load could ever reach the version of an event that is not applied.
func (p *prepared) refuse(d *schemas.Dataset, rec *schemas.Record, index int, ev *schemas.Event, err error) {
	l := &replica.Letter{
		Offset: rec.Offset, Index: index, Dataset: d.Name, Reason: schemas.ReasonOf(err), Detail: replica.Detail(err), Record: rec,
	}
	if ev != nil {
		l.Key, l.Version, l.Op, l.EventID = ev.Key, ev.Version, ev.Op, ev.ID
	} else {
		p.events++
		l.Key = string(rec.Key)
	}
	if d.Cache != nil {
		if key, err := d.CacheKey(l.Key); err == nil {
			l.CacheKey = key
		}
	}
	p.letters = append(p.letters, l)
}
