package schemas_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/schemas"
)

func TestInvalidationComesBack(t *testing.T) {
	want := schemas.Invalidation{Names: []string{"user:1", "user:é\"\\"}, Tags: []string{"org:1"}, Foreign: []string{"legacy user {1}"}}
	rec, err := want.Encode("id-1", "//shop/db")
	if err != nil {
		t.Fatal(err)
	}
	if string(rec.Key) != "user:1" {
		t.Errorf("key %q, want the first name", rec.Key)
	}
	got, err := schemas.DecodeInvalidation(rec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("invalidation differs (-want +got):\n%s", diff)
	}
	structured := schemas.Record{
		Headers: []schemas.Header{{Key: "content-type", Value: []byte("application/cloudevents+json")}},
		Value:   []byte(`{"specversion":"1.0","id":"1","source":"//x","type":"io.freshet.invalidate.v1","data":{"tags":["a:1"],"more":[1]}}`),
	}
	got, err = schemas.DecodeInvalidation(structured)
	if diff := cmp.Diff(schemas.Invalidation{Tags: []string{"a:1"}}, got); err != nil || diff != "" {
		t.Errorf("structured: %v\n%s", err, diff)
	}
}

func TestInvalidationRefused(t *testing.T) {
	record := func(value string, edit ...schemas.Header) schemas.Record {
		return schemas.Record{Key: []byte("k"), Value: []byte(value), Headers: append([]schemas.Header{
			{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_type", Value: []byte(schemas.TypeInvalidate)},
		}, edit...)}
	}
	many := `{"names":[` + strings.Repeat(`"a",`, schemas.MaxInvalidationNames) + `"a"]}`
	for name, tc := range map[string]struct {
		rec  schemas.Record
		want string
	}{
		"no type":       {record(`{"names":["a"]}`, schemas.Header{Key: "ce_type"}), "ce_type"},
		"other version": {record(`{"names":["a"]}`, schemas.Header{Key: "ce_specversion", Value: []byte("2.0")}), "ce_specversion"},
		"no JSON":       {record(`{"names":`), "data"},
		"tombstone":     {schemas.Record{Headers: record("").Headers}, "data"},
		"list":          {record(`["a"]`), "data"},
		"no list":       {record(`{"tags":"a"}`), "data/tags"},
		"number":        {record(`{"foreign":[1]}`), "data/foreign"},
		"nothing":       {record(`{"names":[]}`), "data"},
		"empty name":    {record(`{"names":[""]}`), "data/names"},
		"long name":     {record(`{"names":["` + strings.Repeat("x", 513) + `"]}`), "data/names"},
		"control":       {record(`{"tags":["a\nb"]}`), "data/tags"},
		"too many":      {record(many), "data"},
		"too large":     {record(`{"more":"` + strings.Repeat("x", schemas.MaxInvalidationBytes) + `","names":["a"]}`), "data"},
		"oversize":      {schemas.Record{Oversize: 5_000_000}, "record"},
	} {
		_, err := schemas.DecodeInvalidation(tc.rec)
		var fe *schemas.FieldError
		if !errors.As(err, &fe) || fe.Field != tc.want {
			t.Errorf("%s: got %v, want a refusal of %s", name, err, tc.want)
		}
	}
}

func TestInvalidationSplits(t *testing.T) {
	var v schemas.Invalidation
	for i := range 2500 {
		v.Names = append(v.Names, fmt.Sprint("n", i))
		v.Tags = append(v.Tags, strings.Repeat("\"", 500)+fmt.Sprint(i)) // doubles in JSON
	}
	var got schemas.Invalidation
	for _, part := range v.Split() {
		if _, err := part.Encode("1", "//x"); err != nil {
			t.Fatal(err)
		}
		got.Names, got.Tags = append(got.Names, part.Names...), append(got.Tags, part.Tags...)
	}
	if diff := cmp.Diff(v, got); diff != "" {
		t.Errorf("parts lack something (-want +got):\n%s", diff)
	}
	if parts := (schemas.Invalidation{}).Split(); len(parts) != 0 {
		t.Errorf("nothing has %d parts", len(parts))
	}
}

// FuzzDecodeInvalidation: whatever is accepted passes the check and comes back the same.
func FuzzDecodeInvalidation(f *testing.F) {
	f.Add([]byte(`{"names":["a"],"tags":["b"],"foreign":["c"]}`), "")
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"io.freshet.invalidate.v1","data":{"names":["a"]}}`), "application/cloudevents+json")
	f.Add([]byte(`{"names":["\u0000"]}`), "application/json")
	f.Fuzz(func(t *testing.T, value []byte, contentType string) {
		v, err := schemas.DecodeInvalidation(schemas.Record{Value: value, Headers: []schemas.Header{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_type", Value: []byte(schemas.TypeInvalidate)},
			{Key: "content-type", Value: []byte(contentType)},
		}})
		if err != nil {
			if !errors.Is(err, schemas.ErrInvalid) {
				t.Fatalf("refused without ErrInvalid: %v", err)
			}
			return
		}
		parts := v.Split()
		var names int
		for _, p := range parts {
			rec, err := p.Encode("1", "//x")
			if err != nil {
				t.Fatal(err)
			}
			again, err := schemas.DecodeInvalidation(rec)
			if diff := cmp.Diff(p, again); err != nil || diff != "" {
				t.Fatal(err, diff)
			}
			names += p.Len()
		}
		if names != v.Len() {
			t.Fatalf("%d names of %d left", names, v.Len())
		}
	})
}
