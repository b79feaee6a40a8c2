package schemas_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/schemas"
)

func FuzzLoadDatasets(f *testing.F) {
	for _, s := range []string{
		minimalYAML, "", "a: &a [*a]", "? {a: b}\n: c\n", minimalYAML + "cache: {key: \"u:{id}\", derived: [\"e:{email}\"]}\n",
		minimalYAML + "version: {column: org_id}\nreplica: {table: t, columns: {a: name}}\n", "dataset: u\n<<: {key: [id]}\n", "!!binary aa",
	} {
		f.Add(s, wideSchema)
	}
	f.Add(minimalYAML, `{"type":"object","properties":{"id":{"type":"integer","$ref":"#/$defs/a"}},"$defs":{"a":{"minimum":1}}}`)
	f.Add(minimalYAML, `{"type":"object","properties":{"id":{"$ref":"#"}}}`)
	f.Fuzz(func(t *testing.T, declaration, schema string) {
		set, err := schemas.LoadDatasets(folder(map[string]string{"d.yaml": declaration, "s.json": schema}))
		if (set == nil) == (err == nil) {
			t.Fatalf("got %v and %v", set, err)
		}
		if err != nil {
			return
		}
		d := set.All()[0]
		for i, c := range d.Replica.Columns {
			if c.Name == "" || c.Property.Kind == 0 || c.Key != (i < d.Replica.KeyColumns) {
				t.Fatalf("column %+v", c)
			}
		}
		_, _ = d.Check(&schemas.Event{Dataset: d.Name, Key: "1", Op: schemas.Upsert, Version: 1, Data: []byte(`{"id":1}`)})
	})
}

// FuzzDecode: whatever decodes and passes the check encodes and decodes to the same event.
func FuzzDecode(f *testing.F) {
	d := load(f, minimalYAML, wideSchema)
	structured := `{"specversion":"1.0","id":"1","source":"s","type":"t","sequence":"5","partitionkey":"42","data":{"id":42}}`
	f.Add([]byte("42"), []byte(structured), "application/cloudevents+json", "", "", "", "")
	f.Add([]byte("42"), []byte(structured), "application/cloudevents; a", "", "", "", "")
	f.Add([]byte("42"), []byte(`{"id":42}`), "application/json", schemas.TypeUpsert, "0000000000000005", "users/42", "2026-01-02T03:04:05Z")
	f.Add([]byte("42"), []byte(nil), "", schemas.TypeDelete, "5", "", "")
	f.Add([]byte("42"), []byte(`{"id":42}`), "", "own", "9007199254740990", "x", "x")
	f.Fuzz(func(t *testing.T, key, value []byte, contentType, typ, sequence, subject, time string) {
		rec := schemas.Record{Key: key, Value: value, Headers: []schemas.Header{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte("1")},
			{Key: "ce_source", Value: []byte("s")},
			{Key: "content-type", Value: []byte(contentType)},
			{Key: "ce_type", Value: []byte(typ)},
			{Key: "ce_sequence", Value: []byte(sequence)},
			{Key: "ce_subject", Value: []byte(subject)},
			{Key: "ce_time", Value: []byte(time)},
		}}
		evs, err := d.Decode(rec)
		if err != nil {
			return
		}
		if len(evs) != 1 || evs[0].Dataset != "users" || evs[0].Key != string(key) {
			t.Fatalf("got %+v", evs)
		}
		ev := evs[0]
		if _, err := d.Check(&ev); err != nil {
			return
		}
		again, err := d.Encode(&ev)
		if err != nil {
			t.Fatalf("what passed the check does not encode: %v", err)
		}
		back, err := d.Decode(again)
		if err != nil || len(back) != 1 {
			t.Fatalf("what was encoded does not decode: %v", err)
		}
		if _, err := d.Check(&back[0]); err != nil {
			t.Fatalf("the check refuses the round trip: %v", err)
		}
		if ev.Op == schemas.Delete {
			back[0].Data = ev.Data // a delete gains its key as data, or loses its data under a type of its own
		}
		ev.Time = ev.Time.UTC()
		if diff := cmp.Diff(ev, back[0]); diff != "" && !bytes.Equal(ev.Data, nil) {
			t.Fatal(diff)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	sets := []*schemas.Dataset{
		keyed(f, "s", "x:{s}"), keyed(f, "n", "x:{n}"), keyed(f, "u", "x:{u}"), keyed(f, "b", "x:{b}"), keyed(f, "s, n, b", "x:{s}:{n}:{b}"),
	}
	for _, s := range []string{"", "a", "42", "-1", "true", "a%2C,1,false", "a,1,0", "%,1,true", "18446744073709551615", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		for _, d := range sets {
			values, err := d.ParseKey(key)
			name, cacheErr := d.CacheKey(key)
			if (err == nil) != (cacheErr == nil) {
				t.Fatalf("ParseKey: %v, CacheKey: %v", err, cacheErr)
			}
			if err != nil {
				continue
			}
			if back, err := d.FormatKey(values...); err != nil || back != key {
				t.Fatalf("%q: values format to %q, %v", key, back, err)
			}
			if len(name) > 512 {
				t.Fatalf("%q: cache key of %d bytes", key, len(name))
			}
		}
	})
}

func FuzzParseToken(f *testing.F) {
	f.Add(schemas.NewToken("a/b/0", 5).String())
	f.Add("")
	f.Add("eyJ2IjoxLCJzIjp7fX0")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := schemas.ParseToken(s)
		if err != nil {
			return
		}
		back, err := schemas.ParseToken(tok.String())
		if err != nil || !cmp.Equal(tok.Offsets(), back.Offsets()) {
			t.Fatalf("%v comes back as %v, %v", tok.Offsets(), back.Offsets(), err)
		}
	})
}

func FuzzParseSource(f *testing.F) {
	f.Add("a/b/0")
	f.Add("a/b/01")
	f.Add("//")
	f.Fuzz(func(t *testing.T, s string) {
		topic, id, partition, err := schemas.ParseSource(s)
		if err == nil && schemas.SourceName(topic, id, partition) != s {
			t.Fatalf("%q splits into %q %q %d", s, topic, id, partition)
		}
	})
}
