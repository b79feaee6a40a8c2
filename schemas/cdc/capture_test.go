package cdc_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/internal/cdctest"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// What each tool wrote ends in what the database held, also when everything comes twice and out of turn: versions decide.
func TestCapturesEndEqual(t *testing.T) {
	for _, c := range cdctest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			folder, err := c.Folder("testdata", "captured")
			if err != nil {
				t.Fatal(err)
			}
			d := load(t, folder)
			records, err := cdctest.Read("testdata", c.Files...)
			if err != nil {
				t.Fatal(err)
			}
			want, err := c.Final("testdata")
			if err != nil {
				t.Fatal(err)
			}
			for name, list := range map[string][]cdctest.Captured{"once": records, "twice": cdctest.Twice(records)} {
				f := fold{t: t, d: d, dec: cdc.New(cdc.Config{Dataset: d, Partitions: c.Partitions})}
				for i := range list {
					f.add(list[i].Record)
				}
				moved := 0
				for _, err := range f.refused {
					if c.Partitions > 1 && strings.HasPrefix(err.Error(), "key: was given up") {
						moved++
						continue
					}
					t.Errorf("%s: refused: %v", name, err)
				}
				rows := f.texts()
				if c.Partitions > 1 && c.Table != "outbox" {
					// The deletions of keys that were given up are letters: those rows stay, and nothing else does.
					if moved == 0 {
						t.Errorf("%s: no key change became a letter", name)
					}
					for key := range f.givenUp {
						if _, ok := want.Rows[key]; !ok {
							delete(rows, key)
						}
					}
				}
				for _, line := range want.Compare(rows) {
					t.Errorf("%s: %s", name, line)
				}
			}
		})
	}
}

// fold is a replica in memory.
type fold struct {
	t       *testing.T
	d       *schemas.Dataset
	dec     *cdc.Decoder
	rows    map[string]stored
	refused []error
	givenUp map[string]bool
	ignored map[cdc.Ignored]int
	damaged int
}

type stored struct {
	version int64
	values  []any // nil when deleted
}

func (f *fold) add(rec schemas.Record) {
	f.t.Helper()
	if f.rows == nil {
		f.rows, f.givenUp, f.ignored = map[string]stored{}, map[string]bool{}, map[cdc.Ignored]int{}
	}
	res, err := f.dec.Decode(rec)
	if err != nil {
		f.t.Fatal(err)
	}
	f.damaged += res.Damaged
	f.ignored[res.Ignored]++
	for i := range res.Rows {
		ev := &res.Rows[i].Event
		err := res.Rows[i].Err
		var row schemas.Row
		if err == nil {
			row, err = f.d.Check(ev)
		}
		if err != nil {
			f.refused = append(f.refused, err)
			if ev.Op == schemas.Delete {
				f.givenUp[ev.Key] = true
			}
			continue
		}
		if ev.Version < f.rows[ev.Key].version {
			continue
		}
		s := stored{version: ev.Version}
		if ev.Op == schemas.Upsert {
			s.values = row.Values
		}
		f.rows[ev.Key] = s
	}
}

// texts are the live rows as the database would print them.
func (f *fold) texts() map[string]map[string]*string {
	out := map[string]map[string]*string{}
	for key, s := range f.rows {
		if s.values == nil {
			continue
		}
		row := map[string]*string{}
		for i, c := range f.d.Replica.Columns {
			row[c.Name] = nil
			var text string
			switch v := s.values[i].(type) {
			case nil:
				continue
			case string:
				text = v
			case int64:
				text = strconv.FormatInt(v, 10)
			case uint64:
				text = strconv.FormatUint(v, 10)
			case float64:
				text = strconv.FormatFloat(v, 'g', -1, 64)
			}
			row[c.Name] = &text
		}
		out[key] = row
	}
	return out
}

func load(t testing.TB, folder map[string]string) *schemas.Dataset {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range folder {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := schemas.LoadDatasets(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return set.All()[0]
}
