package schemas_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/schemas"
)

// fullEvent has every attribute.
func fullEvent() schemas.Event {
	return schemas.Event{
		ID: "0197b5f0-0000-7000-8000-000000000001", Source: "//shop/db", Type: schemas.TypeUpsert, Dataset: "users", Key: "42",
		Op: schemas.Upsert, Version: 17, Time: time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC), DataSchema: "https://example.org/users/3",
		Data:        []byte(`{"id":42,"name":"Zoë"}`),
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TraceState: "a=b",
		Replaces: "an-event-that-failed",
	}
}

func headers(rec schemas.Record) map[string]string {
	m := map[string]string{}
	for _, h := range rec.Headers {
		m[h.Key] = string(h.Value)
	}
	return m
}

func TestEncode(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	ev := fullEvent()
	rec, err := d.Encode(&ev)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"ce_specversion": "1.0", "ce_id": ev.ID, "ce_source": "//shop/db", "ce_type": "io.freshet.row.upsert.v1",
		"ce_subject": "users/42", "ce_time": "2026-01-02T03:04:05.678Z", "ce_dataschema": ev.DataSchema, "ce_partitionkey": "42",
		"ce_sequence": "0000000000000017", "ce_replaces": ev.Replaces, "content-type": "application/json", "ce_traceparent": ev.TraceParent,
		"ce_tracestate": "a=b", "traceparent": ev.TraceParent, "tracestate": "a=b",
	}
	if diff := cmp.Diff(want, headers(rec)); diff != "" {
		t.Error(diff)
	}
	if string(rec.Key) != "42" || string(rec.Value) != string(ev.Data) {
		t.Errorf("got key %q value %q", rec.Key, rec.Value)
	}
	size := len(rec.Key) + len(rec.Value)
	for k, v := range want {
		size += len(k) + len(v)
	}
	if rec.Size() != size {
		t.Errorf("size %d, want %d", rec.Size(), size)
	}
	got, err := d.Decode(rec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]schemas.Event{ev}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEncodeDefaultsAndDeletes(t *testing.T) {
	d := load(t, "dataset: users\nschema: s.json\nkey: [email, id, active]\n", wideSchema)
	base := schemas.Event{ID: "1", Source: "s", Dataset: "users", Key: `a"%2C,7,true`, Op: schemas.Delete, Version: schemas.MaxVersion}
	for name, tc := range map[string]struct {
		change func(*schemas.Event)
		typ    string
		value  string // "-" is a tombstone
	}{
		"delete":        {func(*schemas.Event) {}, schemas.TypeDelete, `{"email":"a\",","id":7,"active":true}`},
		"own data":      {func(e *schemas.Event) { e.Data = []byte(`{"email":"a\",","id":7,"active":true,"x":1}`) }, schemas.TypeDelete, `{"email":"a\",","id":7,"active":true,"x":1}`},
		"other type":    {func(e *schemas.Event) { e.Type = "org.example.gone" }, "org.example.gone", "-"},
		"upsert":        {func(e *schemas.Event) { e.Op, e.Data = schemas.Upsert, []byte(`{}`) }, schemas.TypeUpsert, `{}`},
		"upsert, typed": {func(e *schemas.Event) { e.Op, e.Data, e.Type = schemas.Upsert, []byte(`{}`), "t" }, "t", `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			ev := base
			tc.change(&ev)
			rec, err := d.Encode(&ev)
			if err != nil {
				t.Fatal(err)
			}
			h := headers(rec)
			if h["ce_type"] != tc.typ || h["ce_sequence"] != "9007199254740990" {
				t.Errorf("headers %v", h)
			}
			if got := string(rec.Value); (tc.value == "-") != (rec.Value == nil) || (rec.Value != nil && got != tc.value) {
				t.Errorf("value %q, want %q", got, tc.value)
			}
			back, err := d.Decode(rec)
			if err != nil || len(back) != 1 || back[0].Op != ev.Op || back[0].Key != ev.Key || back[0].Version != ev.Version {
				t.Fatalf("decoded %+v, %v", back, err)
			}
			if ev.Op == schemas.Delete {
				if _, err := d.Check(&back[0]); err != nil {
					t.Errorf("check of what was decoded: %v", err)
				}
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	for name, change := range map[string]func(*schemas.Event){
		"id": func(e *schemas.Event) { e.ID = "" }, "source": func(e *schemas.Event) { e.Source = "" },
		"data": func(e *schemas.Event) { e.Data = nil }, "version": func(e *schemas.Event) { e.Version = -1 },
		"key": func(e *schemas.Event) { e.Type, e.Op, e.Data, e.Key = "", schemas.Delete, nil, "x" },
	} {
		ev := fullEvent()
		change(&ev)
		if _, err := d.Encode(&ev); err == nil || !strings.HasPrefix(err.Error(), name+":") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// record builds a binary record; "-" as a header's value removes the header.
func record(key, value []byte, changes map[string]string) schemas.Record {
	all := map[string]string{
		"ce_specversion": "1.0", "ce_id": "1", "ce_source": "s", "ce_type": schemas.TypeUpsert, "ce_sequence": "5",
	}
	for k, v := range changes {
		all[k] = v
	}
	rec := schemas.Record{Key: key, Value: value}
	for k, v := range all {
		if v != "-" {
			rec.Headers = append(rec.Headers, schemas.Header{Key: k, Value: []byte(v)})
		}
	}
	return rec
}

func TestDecodeBinaryRules(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	key, value := []byte("42"), []byte(`{"id":42}`)
	dup := record(key, value, nil)
	dup.Headers = append(dup.Headers, schemas.Header{Key: "ce_sequence", Value: []byte("6")})
	bare := schemas.Record{Key: key}
	oversize := schemas.Record{Oversize: 1_000_001}
	badUTF8 := record(key, value, map[string]string{"ce_source": "\xff"})
	for name, tc := range map[string]struct {
		rec     schemas.Record
		op      schemas.Op
		version int64
		reason  schemas.Reason
		field   string
	}{
		"plain":             {record(key, value, nil), schemas.Upsert, 5, "", ""},
		"padded":            {record(key, value, map[string]string{"ce_sequence": "00000000000000000000000000000005"}), schemas.Upsert, 5, "", ""},
		"case":              {record(key, value, map[string]string{"ce_sequence": "-", "CE_Sequence": "9", "Content-Type": "Application/JSON; charset=utf-8"}), schemas.Upsert, 9, "", ""},
		"other type":        {record(key, value, map[string]string{"ce_type": "x", "ce_subject": "whatever"}), schemas.Upsert, 5, "", ""},
		"vendor json":       {record(key, value, map[string]string{"content-type": "application/vnd.shop+json"}), schemas.Upsert, 5, "", ""},
		"last wins":         {dup, schemas.Upsert, 6, "", ""},
		"delete":            {record(key, value, map[string]string{"ce_type": schemas.TypeDelete}), schemas.Delete, 5, "", ""},
		"tombstone":         {record(key, nil, map[string]string{"ce_type": schemas.TypeDelete}), schemas.Delete, 5, "", ""},
		"own tombstone":     {record(key, nil, map[string]string{"ce_type": "x"}), schemas.Delete, 5, "", ""},
		"subject":           {record(key, value, map[string]string{"ce_subject": "users/42"}), schemas.Upsert, 5, "", ""},
		"bare tombstone":    {bare, schemas.Delete, 0, schemas.ReasonVersion, "ce_sequence"},
		"oversize":          {oversize, 0, 0, schemas.ReasonTooLarge, "record"},
		"no sequence":       {record(key, value, map[string]string{"ce_sequence": "-"}), schemas.Upsert, 0, schemas.ReasonVersion, "ce_sequence"},
		"signed sequence":   {record(key, value, map[string]string{"ce_sequence": "+5"}), schemas.Upsert, 0, schemas.ReasonVersion, "ce_sequence"},
		"long sequence":     {record(key, value, map[string]string{"ce_sequence": strings.Repeat("0", 33)}), schemas.Upsert, 0, schemas.ReasonVersion, "ce_sequence"},
		"huge sequence":     {record(key, value, map[string]string{"ce_sequence": strings.Repeat("9", 20)}), schemas.Upsert, 0, schemas.ReasonVersion, "ce_sequence"},
		"specversion":       {record(key, value, map[string]string{"ce_specversion": "0.3"}), schemas.Upsert, 5, schemas.ReasonMalformed, "ce_specversion"},
		"no id":             {record(key, value, map[string]string{"ce_id": "-"}), schemas.Upsert, 5, schemas.ReasonMalformed, "ce_id"},
		"no source":         {record(key, value, map[string]string{"ce_source": "-"}), schemas.Upsert, 5, schemas.ReasonMalformed, "ce_source"},
		"no type":           {record(key, value, map[string]string{"ce_type": "-"}), schemas.Upsert, 5, schemas.ReasonMalformed, "ce_type"},
		"bad time":          {record(key, value, map[string]string{"ce_time": "yesterday"}), schemas.Upsert, 5, schemas.ReasonMalformed, "ce_time"},
		"no key":            {record(nil, value, nil), schemas.Upsert, 5, schemas.ReasonKey, "key"},
		"bad key":           {record([]byte("\xff"), value, nil), schemas.Upsert, 5, schemas.ReasonKey, "key"},
		"other key":         {record(key, value, map[string]string{"ce_partitionkey": "43"}), schemas.Upsert, 5, schemas.ReasonKey, "ce_partitionkey"},
		"other dataset":     {record(key, value, map[string]string{"ce_subject": "orders/42"}), schemas.Upsert, 5, schemas.ReasonDataset, "ce_subject"},
		"other subject key": {record(key, value, map[string]string{"ce_subject": "users/43"}), schemas.Upsert, 5, schemas.ReasonKey, "ce_subject"},
		"bad text":          {badUTF8, 0, 0, schemas.ReasonMalformed, "ce_source"},
		"xml":               {record(key, value, map[string]string{"content-type": "text/xml"}), 0, 0, schemas.ReasonMalformed, "content-type"},
		"batch":             {record(key, []byte(`[]`), map[string]string{"content-type": "application/cloudevents-batch+json"}), 0, 0, schemas.ReasonMalformed, "content-type"},
	} {
		t.Run(name, func(t *testing.T) {
			evs, err := d.Decode(tc.rec)
			if (err == nil) != (tc.reason == "") {
				t.Fatalf("got %v, want reason %q", err, tc.reason)
			}
			if err != nil {
				if schemas.ReasonOf(err) != tc.reason || !strings.HasPrefix(err.Error(), tc.field+":") {
					t.Errorf("got %s (%v), want %s at %s", schemas.ReasonOf(err), err, tc.reason, tc.field)
				}
			}
			if tc.op == 0 {
				return
			}
			if len(evs) != 1 || evs[0].Op != tc.op || evs[0].Version != tc.version || evs[0].Dataset != "users" || evs[0].Key != string(tc.rec.Key) {
				t.Errorf("got %+v", evs)
			}
		})
	}
}

func TestDecodeOtherFormats(t *testing.T) {
	d := load(t, minimalYAML+"format: canal\ncdc: {table: shop.users}\n", wideSchema)
	if _, err := d.Decode(schemas.Record{Value: []byte(`{}`)}); err == nil || !strings.Contains(err.Error(), "canal") {
		t.Errorf("got %v", err)
	}
}

func TestDecodeStructuredRules(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	const head = `{"specversion":"1.0","id":"1","source":"s","type":"io.freshet.row.upsert.v1","partitionkey":"42"`
	for name, tc := range map[string]struct {
		contentType, value string
		data               string // of an accepted one
		reason             schemas.Reason
	}{
		"data":          {"application/cloudevents+json; charset=UTF-8", head + `,"sequence":"5","data": {"id": 42} }`, `{"id": 42}`, ""},
		"case":          {"Application/CloudEvents+JSON", head + `,"sequence":"5","data":{}}`, `{}`, ""},
		"base64":        {"application/cloudevents", head + `,"sequence":"5","data_base64":"eyJpZCI6NDJ9"}`, `{"id":42}`, ""},
		"number":        {"application/cloudevents+json", head + `,"sequence":5,"data":{}}`, `{}`, ""},
		"extension":     {"application/cloudevents+json", head + `,"sequence":"5","data":{},"other":{"a":1},"time":null}`, `{}`, ""},
		"avro":          {"application/cloudevents+avro", head + `,"sequence":"5","data":{}}`, "", schemas.ReasonMalformed},
		"both":          {"application/cloudevents+json", head + `,"sequence":"5","data":{},"data_base64":"e30="}`, "", schemas.ReasonMalformed},
		"twice":         {"application/cloudevents+json", head + `,"sequence":"5","sequence":"6","data":{}}`, "", schemas.ReasonMalformed},
		"bad base64":    {"application/cloudevents+json", head + `,"sequence":"5","data_base64":"?"}`, "", schemas.ReasonMalformed},
		"bad attribute": {"application/cloudevents+json", head + `,"sequence":"5","time":5,"data":{}}`, "", schemas.ReasonMalformed},
		"fraction":      {"application/cloudevents+json", head + `,"sequence":5.0,"data":{}}`, "", schemas.ReasonMalformed},
		"no json data":  {"application/cloudevents+json", head + `,"sequence":"5","datacontenttype":"text/plain","data":"x"}`, "", schemas.ReasonMalformed},
		"no sequence":   {"application/cloudevents+json", head + `,"data":{}}`, "", schemas.ReasonVersion},
		"no json":       {"application/cloudevents+json", `nope`, "", schemas.ReasonMalformed},
		"cut":           {"application/cloudevents+json", head, "", schemas.ReasonMalformed},
		"no value":      {"application/cloudevents+json", "", "", schemas.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			rec := schemas.Record{Key: []byte("42"), Headers: []schemas.Header{{Key: "Content-Type", Value: []byte(tc.contentType)}}}
			if tc.value != "" {
				rec.Value = []byte(tc.value)
			}
			evs, err := d.Decode(rec)
			if (err == nil) != (tc.reason == "") || (err != nil && schemas.ReasonOf(err) != tc.reason) {
				t.Fatalf("got %v, want reason %q", err, tc.reason)
			}
			if len(evs) != 1 || evs[0].Key != "42" {
				t.Fatalf("got %+v", evs)
			}
			if err == nil && (string(evs[0].Data) != tc.data || evs[0].Version != 5 || evs[0].Op != schemas.Upsert) {
				t.Errorf("got %+v", evs[0])
			}
		})
	}
}

func TestDecodedTextsOutliveTheBuffer(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	ev := fullEvent()
	rec, err := d.Encode(&ev)
	if err != nil {
		t.Fatal(err)
	}
	evs, err := d.Decode(rec)
	if err != nil {
		t.Fatal(err)
	}
	row, err := d.Check(&evs[0])
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Clone(rec.Value)
	ev.Data = data
	for _, h := range rec.Headers {
		clear(h.Value)
	}
	clear(rec.Key)
	clear(rec.Value)
	got := evs[0] // its Data may alias the buffer
	got.Data = data
	if diff := cmp.Diff(ev, got); diff != "" {
		t.Error(diff)
	}
	if want := []any{int64(42)}; row.Values[0] != want[0] || !json.Valid(data) {
		t.Errorf("row %v", row.Values)
	}
}

// A record that is not a CloudEvent at all is recognized by its form: its dead letter then states what to declare or to write.
func TestRecordsThatAreNoCloudEvents(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	for name, tc := range map[string]struct{ value, want string }{
		"structured":    {`{"specversion":"1.0","id":"a"}`, "content-type: application/cloudevents+json"},
		"debezium":      {`{"before":null,"after":{"id":42},"source":{},"op":"c"}`, "format: debezium in"},
		"with schema":   {`{"schema":{},"payload":{}}`, "format: debezium in"},
		"debezium flat": {`{"id":42,"__op":"c"}`, "format: debezium-flat in"},
		"canal":         {`{"data":[],"database":"shop","isDdl":false,"table":"users","type":"INSERT"}`, "format: canal in"},
		"maxwell":       {`{"database":"shop","table":"users","type":"insert","data":{"id":42}}`, "format: maxwell in"},
		"registry":      {"\x00\x00\x00\x00\x01{}", "registry"},
		"plain row":     {`{"id":42}`, "all CloudEvents headers"},
		"text":          {"hello", "all CloudEvents headers"},
	} {
		evs, err := d.Decode(schemas.Record{Key: []byte("42"), Value: []byte(tc.value)})
		if schemas.ReasonOf(err) != schemas.ReasonMalformed || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want something with %q", name, err, tc.want)
		}
		if len(evs) != 1 || evs[0].Key != "42" {
			t.Errorf("%s: events %+v", name, evs)
		}
	}
}
