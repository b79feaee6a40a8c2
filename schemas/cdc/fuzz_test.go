package cdc_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/cdctest"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// FuzzDecode: nothing panics, the same record always says the same, a refused row has a reason, and every event that
// Check takes has a version and the key of its data.
func FuzzDecode(f *testing.F) {
	formats := []string{
		"format: debezium\n", "format: debezium\ncdc: {decimals: precise, binary: hex, times: connect}\n",
		"format: debezium-flat\ncdc: {deletes: rewrite}\n", "format: debezium-flat\ncdc: {deletes: tombstone}\n",
		"format: canal\ncdc: {table: shop.customers}\n", "format: maxwell\ncdc: {table: shop.customers}\n",
		"format: maxwell\nversion: {column: rev}\ncdc: {table: shop.customers}\n",
	}
	datasets := make([]*schemas.Dataset, len(formats))
	for i, rules := range formats {
		datasets[i] = item(f, rules)
	}
	for i, file := range []string{
		"debezium/schema.customers", "debezium/converters.customers", "debezium/unwrap.customers", "debezium/unwrap-default.demo",
		"canal/flat", "maxwell/default", "maxwell/bootstrap",
	} {
		records, err := cdctest.Read("testdata", file)
		if err != nil {
			f.Fatal(err)
		}
		for n, r := range records {
			if n%4 == 0 {
				f.Add(uint8(i), r.Record.Key, r.Record.Value)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, key, value []byte) {
		d := datasets[int(which)%len(datasets)]
		rec := schemas.Record{Key: key, Value: value, Offset: 5}
		if len(value) == 0 {
			rec.Value = nil
		}
		dec := cdc.New(cdc.Config{Dataset: d, Partitions: int32(which) / 128})
		res, err := dec.Decode(rec)
		again, errAgain := dec.Decode(rec)
		if diff := cmp.Diff(lines(res), lines(again)); diff != "" || (err == nil) != (errAgain == nil) {
			t.Fatalf("twice: %s %v %v", diff, err, errAgain)
		}
		if err == nil && len(res.Rows) == 0 && res.Ignored == cdc.NotIgnored && d.Format != schemas.FormatCanal {
			t.Fatal("a record without rows and without a reason")
		}
		for i := range res.Rows {
			ev := &res.Rows[i].Event
			if err := res.Rows[i].Err; err != nil {
				if schemas.ReasonOf(err) == "" {
					t.Fatalf("no reason: %v", err)
				}
				continue
			}
			row, err := d.Check(ev)
			if err != nil {
				continue
			}
			if k, err := d.FormatKey(row.Values[0]); err != nil || k != ev.Key {
				t.Fatalf("key %q of the row, %q of the event: %v", k, ev.Key, err)
			}
		}
	})
}
