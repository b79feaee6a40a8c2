package schemas_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/freshet/freshet/schemas"
)

const benchSchema = `{"type":"object","required":["id","email","name","updated_at"],%s"properties":{
  "id": {"type":"integer","minimum":1}, "email": {"type":"string","maxLength":254,"minLength":3},
  "name": {"type":"string","maxLength":200}, "country": {"type":["string","null"],"enum":["CH","DE","FR",null],"maxLength":2},
  "active": {"type":"boolean"}, "balance": {"type":"string","x-decimal":"12,2"}, "logins": {"type":"integer","minimum":0,"maximum":1000000},
  "updated_at": {"type":"string","format":"date-time"}, "born": {"type":"string","format":"date"}, "settings": {"type":"object"}}}`

// benchData has about 300 bytes.
const benchData = `{"id":123456789,"email":"ada.lovelace@example.org","name":"Ada Lovelace","country":"CH","active":true,` +
	`"balance":"1234.50","logins":4711,"updated_at":"2026-01-02T03:04:05.678901Z","born":"1990-12-10",` +
	`"settings":{"theme":"dark","language":"de","flags":["beta","newsletter"],"page_size":50,"density":"compact"}}`

func benchEvent() schemas.Event {
	return schemas.Event{
		ID: "0197b5f0-0000-7000-8000-000000000001", Source: "//shop/db", Dataset: "users", Key: "123456789", Op: schemas.Upsert,
		Version: 17, Data: []byte(benchData),
	}
}

func BenchmarkCheck(b *testing.B) {
	for name, extra := range map[string]string{"one_pass": "", "jsonschema": `"minProperties":0,`} {
		b.Run(name, func(b *testing.B) {
			d := load(b, minimalYAML, fmt.Sprintf(benchSchema, extra))
			ev := benchEvent()
			b.SetBytes(int64(len(ev.Data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Check(&ev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	d := load(b, minimalYAML, fmt.Sprintf(benchSchema, ""))
	ev := benchEvent()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Encode(&ev); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	d := load(b, minimalYAML, fmt.Sprintf(benchSchema, ""))
	ev := benchEvent()
	rec, err := d.Encode(&ev)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Decode(rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCacheKey(b *testing.B) {
	d := load(b, minimalYAML+"cache: {key: \"user:{id}\"}\n", wideSchema)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.CacheKey("123456789"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDecodeIsCheap pins what a worker pays per record: one copy of all texts, one slice of events.
func TestDecodeIsCheap(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	ev := fullEvent()
	ev.Data = []byte(`{"id":42,"name":"` + strings.Repeat("x", 80) + `"}`)
	rec, err := d.Encode(&ev)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := d.Decode(rec); err != nil {
			t.Error(err)
		}
	}); n > 4 {
		t.Errorf("%v allocations per record", n)
	}
}
