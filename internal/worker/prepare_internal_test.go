package worker

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

func preparedDataset(t testing.TB) *schemas.Dataset {
	t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: []byte("dataset: items\ntopic: items\nschema: s.json\nkey: [id]\nreplica: {table: items}\ncache: {key: \"item:{id}\"}\n")},
		"s.json":     {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"string","minLength":1,"maxLength":8},"n":{"type":"integer"}}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := set.Get("items")
	return d
}

// given is one record of a batch as the test made it.
type given struct {
	key     string
	version int64
	deleted bool
	poison  bool
}

func (g given) record(d *schemas.Dataset, offset int64) (schemas.Record, error) {
	if g.poison {
		return schemas.Record{Key: []byte(g.key), Value: []byte("{"), Offset: offset, Time: offset}, nil
	}
	ev := schemas.Event{ID: fmt.Sprint("e", offset), Source: "//t", Dataset: "items", Key: g.key, Version: g.version, Op: schemas.Upsert}
	if g.deleted {
		ev.Op = schemas.Delete
	} else {
		data, err := json.Marshal(map[string]any{"id": g.key, "n": offset})
		if err != nil {
			return schemas.Record{}, err
		}
		ev.Data = data
	}
	rec, err := d.Encode(&ev)
	rec.Offset, rec.Time = offset, offset
	return rec, err
}

// chain returns the offsets of a change and of the older ones behind it.
func chain(c *replica.Change) (offsets []int64) {
	for ; c != nil; c = c.Older {
		offsets = append(offsets, c.Offset)
	}
	return offsets
}

// TestPrepareIsAFold: whatever a batch holds, the head of each record's chain is what applying the events one by one, the
// greater version winning and an equal one changing nothing, would leave; behind it are all that were older, newest first,
// each version once at its earliest offset. Every record of the batch is invalidated, and poison becomes letters.
func TestPrepareIsAFold(t *testing.T) {
	d := preparedDataset(t)
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) given {
			return given{
				key: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key"), version: rapid.Int64Range(1, 5).Draw(t, "version"),
				deleted: rapid.Bool().Draw(t, "deleted"), poison: rapid.IntRange(0, 4).Draw(t, "poison") == 0,
			}
		}), 0, 20).Draw(t, "records")
		first := rapid.Int64Range(0, 1<<40).Draw(t, "first")
		b := &kafkalog.Batch{From: first, Next: first + int64(len(all))}
		earliest := map[string]map[int64]int64{} // key → version → offset
		items, letters := map[string]int64{}, 0
		for i, g := range all {
			offset := first + int64(i)
			rec, err := g.record(d, offset)
			if err != nil {
				t.Fatal(err)
			}
			b.Records = append(b.Records, rec)
			if g.poison {
				letters++
				continue
			}
			if earliest[g.key] == nil {
				earliest[g.key] = map[int64]int64{}
			}
			if _, ok := earliest[g.key][g.version]; !ok {
				earliest[g.key][g.version] = offset
			}
			items["item:"+g.key] = max(items["item:"+g.key], g.version)
		}
		p, err := prepare(d, cdc.New(cdc.Config{Dataset: d}), b)
		if err != nil {
			t.Fatal(err)
		}
		its := p.split(1)[0]
		if len(p.letters) != letters || len(p.changes) != len(earliest) || len(its) != len(items) || p.events != len(all) {
			t.Fatalf("%d letters, %d changes, %d items, %d events; want %d, %d, %d, %d",
				len(p.letters), len(p.changes), len(its), p.events, letters, len(earliest), len(items), len(all))
		}
		for _, it := range its {
			if items[it.Key] != it.Version {
				t.Fatalf("item %s has version %d, want %d", it.Key, it.Version, items[it.Key])
			}
		}
		for _, c := range p.changes {
			want := earliest[c.Event.Key]
			versions, at := int64(1<<62), 0
			for x := c; x != nil; x = x.Older {
				if x.Event.Key != c.Event.Key || x.Version >= versions || x.Offset != want[x.Version] {
					t.Fatalf("chain of %s has version %d at offset %d behind version %d; offsets %v, want %v", c.Event.Key, x.Version, x.Offset, versions, chain(c), want)
				}
				versions = x.Version
				at++
			}
			if at != len(want) {
				t.Fatalf("chain of %s has %d changes, want %d", c.Event.Key, at, len(want))
			}
		}
		for _, l := range p.letters {
			g := all[l.Offset-first]
			if !g.poison || l.Key != g.key || l.CacheKey != "item:"+g.key || l.Reason != schemas.ReasonMalformed {
				t.Fatalf("letter %+v of %+v", l, g)
			}
		}
	})
}

// TestItemsMerge: an item without a version wins over any other, merging does not depend on order, and a name goes to one
// lane, once.
func TestItemsMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		versions := rapid.SliceOfN(rapid.Int64Range(0, 5), 1, 6).Draw(t, "versions")
		want := int64(0)
		for _, v := range versions {
			want = max(want, v)
		}
		own := rapid.IntRange(0, 1).Draw(t, "own") // the first is the record's own key
		p := &prepared{items: items{}}
		for i, v := range versions {
			if i < own {
				p.own = append(p.own, lane.Item{Key: "k", Version: v})
			} else {
				p.items.add("k", v)
			}
			if v == 0 {
				want = 0
			}
		}
		for _, n := range []int{1, 3} {
			var all []lane.Item
			for _, part := range p.split(n) {
				all = append(all, part...)
			}
			if len(p.own)+len(p.items) != 1 {
				t.Fatalf("%d own keys and %d others are counted, want 1 in all", len(p.own), len(p.items))
			}
			if len(all) != 1 || all[0] != (lane.Item{Key: "k", Version: want}) {
				t.Fatalf("%v give %v in %d lanes, want version %d", versions, all, n, want)
			}
		}
	})
}
