package cdc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

func decode(t *testing.T, rules, key, value string) cdc.Result {
	t.Helper()
	res, err := cdc.New(cdc.Config{Dataset: item(t, rules)}).Decode(record(key, value))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A letter finds its row again by its place, whatever else of the record is left out.
func TestPlacesStay(t *testing.T) {
	res := decode(t, "format: canal\ncdc: {table: shop.items}\n", "",
		`{"type":"INSERT","database":"shop","table":"items","data":[{"id":"1"},{"id":"1"},{"id":"2"}],"old":null}`)
	if len(res.Rows) != 2 || res.Rows[0].Index != 1 || res.Rows[1].Index != 2 {
		t.Errorf("got %+v", res.Rows)
	}
}

// One strange record in a topic of rows is a letter, not the end of the dataset.
func TestFlatStranger(t *testing.T) {
	res := decode(t, "format: debezium-flat\ncdc: {deletes: rewrite}\n", `{"x":1}`, `{"x":1}`)
	if len(res.Rows) != 1 || schemas.ReasonOf(res.Rows[0].Err) != schemas.ReasonKey {
		t.Errorf("got %v", lines(res))
	}
}

// What the record's own schema names must be in its row, and a schema that changes in the middle of a topic counts at once.
func TestSchemaPart(t *testing.T) {
	envelope := `{"schema":{"type":"struct","name":"a.b.c.Envelope","fields":[{"type":"struct","field":"after","fields":[` +
		`{"type":"int64","field":"id"},{"type":"int64","field":"at","name":"%s"}]}]},"payload":{"op":"c","before":null,"after":%s,"source":{}}}`
	dec := cdc.New(cdc.Config{Dataset: item(t, "format: debezium\n")})
	for _, tc := range []struct{ name, after, want string }{
		{"io.debezium.time.Timestamp", `{"id":1,"at":1000}`, `{"id":1,"at":"1970-01-01T00:00:01Z"}`},
		{"io.debezium.time.MicroTimestamp", `{"id":1,"at":1000}`, `{"id":1,"at":"1970-01-01T00:00:00.001Z"}`},
		{"io.debezium.time.NanoTimestamp", `{"id":1,"at":1000}`, `{"id":1,"at":"1970-01-01T00:00:00.000001Z"}`},
		{"io.debezium.time.Timestamp", `{"id":1}`, ""},
	} {
		res, err := dec.Decode(record(`{"id":1}`, fmt.Sprintf(envelope, tc.name, tc.after)))
		if err != nil || len(res.Rows) != 1 {
			t.Fatalf("got %v, %v", res, err)
		}
		row := res.Rows[0]
		if string(row.Event.Data) != tc.want || (tc.want == "") != (row.Err != nil) {
			t.Errorf("%s %s: got %s, %v", tc.name, tc.after, row.Event.Data, row.Err)
		}
		if tc.want == "" && schemas.ReasonOf(row.Err) != schemas.ReasonPartial {
			t.Errorf("got %v", row.Err)
		}
	}
}

func TestDamagedIsCounted(t *testing.T) {
	res := decode(t, "format: canal\ncdc: {table: shop.items}\n", "",
		`{"type":"INSERT","database":"shop","table":"items","data":[{"id":"1","name":"Gr\ufffde"},{"id":"2","name":"fine"}],"old":null}`)
	if res.Damaged != 1 || len(res.Rows) != 2 || res.Rows[0].Err != nil {
		t.Errorf("%d damaged, %v", res.Damaged, lines(res))
	}
}

// Tools write seconds or milliseconds.
func TestEventTime(t *testing.T) {
	for value, want := range map[string]int64{
		`{"type":"INSERT","database":"shop","table":"items","data":[{"id":"1"}],"es":1795460040000,"ts":5}`: 1795460040000,
		`{"type":"INSERT","database":"shop","table":"items","data":[{"id":"1"}],"es":1795460040,"ts":5}`:    1795460040000,
		`{"type":"INSERT","database":"shop","table":"items","data":[{"id":"1"}]}`:                           0,
	} {
		at := decode(t, "format: canal\ncdc: {table: shop.items}\n", "", value).Rows[0].Event.Time
		if want == 0 && !at.IsZero() || want != 0 && !at.Equal(time.UnixMilli(want)) {
			t.Errorf("%s: got %v", value, at)
		}
	}
}

// A row whose previous key cannot be read may have left one behind: it is refused.
func TestFormerKeyUnreadable(t *testing.T) {
	res := decode(t, "format: canal\ncdc: {table: shop.items}\n", "",
		`{"type":"UPDATE","database":"shop","table":"items","data":[{"id":"1"}],"old":[{"id":"x"}]}`)
	if len(res.Rows) != 1 || res.Rows[0].Err == nil {
		t.Errorf("got %v", lines(res))
	}
}

// Digits may be bytes where decimals are: 1234 in base64 is another number.
func TestDigitsAreNoIntegerWherePrecise(t *testing.T) {
	value := `{"op":"c","before":null,"after":{"id":1,"rev":"1234"},"source":{}}`
	if res := decode(t, "format: debezium\n", `{"id":1}`, value); res.Rows[0].Err != nil {
		t.Errorf("as text: %v", res.Rows[0].Err)
	}
	if res := decode(t, "format: debezium\ncdc: {decimals: precise}\n", `{"id":1}`, value); res.Rows[0].Err == nil {
		t.Errorf("as bytes: %v", lines(res))
	}
}

// TestIsoStrings: time.precision.mode=isostring writes dates and times as texts that end with their offset.
func TestIsoStrings(t *testing.T) {
	const value = `{"schema":{"type":"struct","name":"srv.shop.t.Envelope","fields":[{"type":"struct","field":"after","fields":[
		{"type":"int32","field":"id"},{"type":"string","name":"io.debezium.time.IsoDate","field":"day"},
		{"type":"string","name":"io.debezium.time.IsoTimestamp","field":"at"},{"type":"string","name":"io.debezium.time.IsoTime","field":"name"}]}]},
		"payload":{"op":"c","after":{"id":1,"day":"2024-02-29Z","at":"2024-02-29T10:11:12.123456Z","name":"10:11:12.123456Z"}}}`
	got := lines(decode(t, "format: debezium\n", `{"id":1}`, value))
	want := `upsert 1 @10 {"id":1,"day":"2024-02-29","at":"2024-02-29T10:11:12.123456Z","name":"10:11:12.123456"}`
	if len(got) != 1 || got[0] != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

// TestRegistryFrame: the bytes that serializers of a schema registry write before the JSON are named.
func TestRegistryFrame(t *testing.T) {
	got := lines(decode(t, "format: debezium\n", `{"id":1}`, "\x00\x00\x00\x00\x07"+`{"op":"c","after":{"id":1}}`))
	if len(got) != 1 || !strings.Contains(got[0], "schema registry") || !strings.Contains(got[0], "JsonConverter") {
		t.Errorf("got %v", got)
	}
	ds := item(t, "")
	evs, err := ds.Decode(schemas.Record{Key: []byte("1"), Value: []byte("\x00\x00\x00\x00\x07{}"), Headers: []schemas.Header{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte("1")},
		{Key: "ce_source", Value: []byte("//x")},
		{Key: "ce_type", Value: []byte("row")},
		{Key: "ce_sequence", Value: []byte("1")},
	}})
	for i := range evs {
		_, err = ds.Check(&evs[i])
	}
	if err == nil || !strings.Contains(err.Error(), "schema registry") {
		t.Errorf("a CloudEvent: %v", err)
	}
}
