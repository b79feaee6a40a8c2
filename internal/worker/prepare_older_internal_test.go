package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// older is an event of record a of items as Encode writes it, with an attribute of its own.
func older(t *testing.T, d *schemas.Dataset, ev schemas.Event, header, value string) schemas.Record {
	t.Helper()
	ev.Source, ev.Dataset, ev.Key = "//t", "items", "a"
	if ev.ID == "" {
		ev.ID = "e"
	}
	rec, err := d.Encode(&ev)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rec.Headers {
		if rec.Headers[i].Key == header {
			rec.Headers[i].Value = []byte(value)
		}
	}
	return rec
}

// Whatever is in front of an event in its batch, it is applied, behind one that is, or a dead letter.
func TestNoEventOfABatchVanishes(t *testing.T) {
	t.Parallel()
	d := preparedDataset(t)
	good := func(version int64) schemas.Event {
		return schemas.Event{Version: version, Op: schemas.Upsert, Data: []byte(`{"id":"a","n":1}`)}
	}
	gone := schemas.Event{Version: 5, Op: schemas.Delete}
	for name, c := range map[string]struct {
		records []schemas.Record
		written int64  // the offset that is applied
		letters string // offsets
		behind  int    // events that are read for their key alone
	}{
		"repetition of an event with a bad attribute": {
			records: []schemas.Record{older(t, d, good(5), "ce_id", strings.Repeat("x", 1100)), older(t, d, good(5), "", "")}, written: 1, letters: "[0]",
		},
		"tombstone after one of another type": {
			records: []schemas.Record{tombstone(older(t, d, gone, "ce_type", schemas.TypeUpsert)), tombstone(older(t, d, gone, "", ""))}, written: 1, letters: "[0]",
		},
		"older event with another record's data": {
			records: []schemas.Record{older(t, d, schemas.Event{Version: 1, Op: schemas.Upsert, Data: []byte(`{"id":"b","n":1}`)}, "", ""), older(t, d, good(2), "", "")}, written: 1, letters: "[0]",
		},
		"older event without a version": {
			records: []schemas.Record{older(t, d, good(1), "ce_sequence", "0"), older(t, d, good(2), "", "")}, written: 1, letters: "[0]",
		},
		"older event that is not JSON": {
			records: []schemas.Record{older(t, d, schemas.Event{Version: 1, Op: schemas.Upsert, Data: []byte(`{"id":"a"`)}, "", ""), older(t, d, good(2), "", "")}, written: 1, letters: "[0]",
		},
		"older event that breaks the schema": {
			records: []schemas.Record{older(t, d, schemas.Event{Version: 1, Op: schemas.Upsert, Data: []byte(`{"id":"a","n":"x"}`)}, "", ""), older(t, d, good(2), "", "")}, written: 1, letters: "[]", behind: 1,
		},
	} {
		b := &kafkalog.Batch{Records: c.records}
		for i := range b.Records {
			b.Records[i].Offset = int64(i)
		}
		var known slabs
		p := prepare(d, cdc.New(cdc.Config{Dataset: d}), b, known.get(d, len(b.Records)))
		letters := []int64{}
		for _, l := range p.letters {
			letters = append(letters, l.Offset)
		}
		if len(p.changes) != 1 || p.changes[0].Offset != c.written || fmt.Sprint(letters) != c.letters || p.unchecked() != c.behind {
			t.Errorf("%s: %d changes, letters %d, %d unchecked; want offset %d, letters %s, %d unchecked", name, len(p.changes), letters, p.unchecked(), c.written, c.letters, c.behind)
		}
	}
}

func tombstone(rec schemas.Record) schemas.Record {
	rec.Value = nil
	return rec
}
