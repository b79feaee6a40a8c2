package worker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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
	bad     bool // the data breaks the schema, unless it is a deletion
	poison  bool // no event at all
}

func (g given) record(d *schemas.Dataset, offset int64) (schemas.Record, error) {
	if g.poison {
		return schemas.Record{Key: []byte(g.key), Value: []byte("{"), Offset: offset, Time: offset}, nil
	}
	ev := schemas.Event{ID: fmt.Sprint("e", offset), Source: "//t", Dataset: "items", Key: g.key, Version: g.version, Op: schemas.Upsert}
	if g.deleted {
		ev.Op = schemas.Delete
	} else {
		n := any(offset)
		if g.bad {
			n = fmt.Sprint(offset)
		}
		data, err := json.Marshal(map[string]any{"id": g.key, "n": n})
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

// TestPrepareIsAFold: whatever a batch holds, the head of each record's chain is what applying the valid events one by one, the
// greater version winning and an equal one changing nothing, would leave; behind it are all that were older, newest first,
// each version once. Every record of the batch is invalidated. Poison becomes letters, and so do invalid events that are not
// behind a newer valid one.
func TestPrepareIsAFold(t *testing.T) {
	d := preparedDataset(t)
	var known slabs // as a worker, which has a clean one for each batch
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) given {
			return given{
				key: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key"), version: rapid.Int64Range(1, 5).Draw(t, "version"),
				deleted: rapid.Bool().Draw(t, "deleted"), bad: rapid.Bool().Draw(t, "bad"), poison: rapid.IntRange(0, 4).Draw(t, "poison") == 0,
			}
		}), 0, 20).Draw(t, "records")
		first := rapid.Int64Range(0, 1<<40).Draw(t, "first")
		b := &kafkalog.Batch{From: first, Next: first + int64(len(all))}
		for i, g := range all {
			rec, err := g.record(d, first+int64(i))
			if err != nil {
				t.Fatal(err)
			}
			b.Records = append(b.Records, rec)
		}
		want := fold(all, first)
		s := known.get(d, len(b.Records))
		defer known.put(s)
		p := prepare(d, cdc.New(cdc.Config{Dataset: d}), b, s)
		items := map[string]int64{}
		for _, it := range p.split(1)[0] {
			items[it.Key] = it.Version
		}
		chains := map[string][]int64{}
		for _, c := range p.changes {
			chains[c.Event.Key] = chain(c)
			if c.Values == nil {
				t.Fatalf("offset %d is to be written and was not checked", c.Offset)
			}
			if _, ok := c.Values[1].(int64); ok == c.Deleted {
				t.Fatalf("offset %d has values %v", c.Offset, c.Values)
			}
		}
		var letters []int64
		for _, l := range p.letters {
			letters = append(letters, l.Offset)
			if g := all[l.Offset-first]; l.Key != g.key || l.CacheKey != "item:"+g.key {
				t.Fatalf("letter %+v of %+v", l, g)
			}
		}
		if fmt.Sprint(items) != fmt.Sprint(want.items) || fmt.Sprint(chains) != fmt.Sprint(want.chains) || fmt.Sprint(letters) != fmt.Sprint(want.letters) {
			t.Fatalf("items %v, chains %v, letters %v; want %v, %v, %v", items, chains, letters, want.items, want.chains, want.letters)
		}
		if p.events != len(all) || p.lost.Superseded != want.superseded {
			t.Fatalf("%d events, %d superseded; want %d, %d", p.events, p.lost.Superseded, len(all), want.superseded)
		}
	})
}

// folded is what a batch must become, by its definition and not by its order.
type folded struct {
	items      map[string]int64
	chains     map[string][]int64 // offsets, newest version first
	letters    []int64
	superseded int
}

func fold(all []given, first int64) folded {
	want := folded{items: map[string]int64{}, chains: map[string][]int64{}}
	valid := func(g given) bool { return g.deleted || !g.bad }
	head := map[string]int64{}
	for _, g := range all {
		if !g.poison && valid(g) {
			head[g.key] = max(head[g.key], g.version)
		}
	}
	for key, version := range head {
		want.items["item:"+key] = version
		newer := first + int64(len(all))
		for ; version > 0; version-- {
			at := int64(-1) // the first valid one; of invalid ones the first
			for i, g := range all {
				if g.key == key && g.version == version && !g.poison && (at < 0 || valid(g) && !valid(all[at])) {
					at = int64(i)
				}
			}
			if at < 0 {
				continue
			}
			want.chains[key] = append(want.chains[key], first+at)
			if first+at > newer {
				want.superseded++
			}
			newer = min(newer, first+at)
		}
	}
	for i, g := range all {
		offset := first + int64(i)
		if g.poison || !valid(g) && !slices.Contains(want.chains[g.key], offset) {
			want.letters = append(want.letters, offset)
		}
	}
	return want
}

// What is emitted, and what is notified of, outlives the batch's buffers: they are filled with other bytes here.
func TestEmissionsOutliveTheBuffers(t *testing.T) {
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: []byte("dataset: items\ntopic: items\nschema: s.json\nkey: [id]\nreplica: {table: items}\n" +
			"cache: {key: \"item:{id}\", derived: [\"item:name:{name}\"], tags: [\"name:{name}\"], external: [\"x:{name}\"]}\n")},
		"s.json": {Data: []byte(`{"type":"object","required":["id","name"],"properties":{"id":{"type":"string","maxLength":8},"name":{"type":"string","maxLength":20}}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := set.Get("items")
	var buffer []byte
	keep := func(b []byte) []byte { // in the one buffer, as fetched records are
		if b == nil {
			return nil
		}
		n := len(buffer)
		buffer = append(buffer, b...)
		return buffer[n:len(buffer):len(buffer)]
	}
	buffer = make([]byte, 0, 1<<16)
	b := &kafkalog.Batch{}
	for i, version := range []int64{2, 3, 1} {
		ev := schemas.Event{ID: "e", Source: "//t", Dataset: "items", Key: "k1", Version: version, Op: schemas.Upsert, Data: fmt.Appendf(nil, `{"id":"k1","name":"n%d"}`, version)}
		rec, err := d.Encode(&ev)
		if err != nil {
			t.Fatal(err)
		}
		rec.Key, rec.Value, rec.Offset = keep(rec.Key), keep(rec.Value), int64(i)
		for h := range rec.Headers {
			rec.Headers[h].Value = keep(rec.Headers[h].Value)
		}
		b.Records = append(b.Records, rec)
	}
	var known slabs
	s := known.get(d, len(b.Records))
	p := prepare(d, cdc.New(cdc.Config{Dataset: d}), b, s)
	describe := func() string { return fmt.Sprint(p.own, p.items, p.tags, p.foreign, p.behind) }
	if got, want := fmt.Sprint(p.changes[0].Values...), "k1n3"; got != want {
		t.Errorf("values %s, want %s", got, want)
	}
	before := describe()
	known.put(s)
	for i := range buffer {
		buffer[i] = 0xEE
	}
	if after := describe(); after != before || !strings.Contains(before, "n1") || !strings.Contains(before, "k1") {
		t.Errorf("it was %q and is %q", before, after)
	}
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
