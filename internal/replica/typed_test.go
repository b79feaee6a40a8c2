package replica_test

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// cell is a random column: its type as SHOW COLUMNS prints it, the JSON Schema of its property, and a literal of a random value.
type cell struct {
	typ, property string
	literal       func() string
}

// dice make random values.
type dice struct{ *rand.Rand }

func (d dice) pick(list ...string) string { return list[d.IntN(len(list))] }

func (d dice) text(most int) string {
	letters := []rune("aZ '\\\"%,äß€\U0001F600\n\t")
	var b strings.Builder
	for range d.IntN(most + 1) {
		b.WriteRune(letters[d.IntN(len(letters))])
	}
	return b.String()
}

func (d dice) bytes(most int) string {
	b := make([]byte, d.IntN(most+1))
	for i := range b {
		b[i] = byte(d.IntN(256))
	}
	return fmt.Sprintf("x'%x'", b)
}

func (d dice) digits(n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(byte('0' + d.IntN(10)))
	}
	return b.String()
}

func (d dice) day(from, to int) string {
	return fmt.Sprintf("%04d-%02d-%02d", from+d.IntN(to-from), 1+d.IntN(12), 1+d.IntN(28))
}

func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

func (d dice) numbers() (all []cell) {
	for i, base := range []string{"tinyint", "smallint", "mediumint", "int", "bigint"} {
		size := []int{8, 16, 24, 32, 64}[i]
		least, most, top := int64(math.MinInt64)>>(64-size), int64(math.MaxInt64)>>(64-size), uint64(math.MaxUint64)>>(64-size)
		all = append(all, cell{base, fmt.Sprintf(`"type":"integer","minimum":%d,"maximum":%d`, least, most), func() string {
			return d.pick(fmt.Sprint(least), fmt.Sprint(most), fmt.Sprint(int64(d.Uint64())>>(64-size)))
		}}, cell{base + " unsigned", fmt.Sprintf(`"type":"integer","minimum":0,"maximum":%d`, top), func() string {
			return d.pick("0", fmt.Sprint(top), fmt.Sprint(d.Uint64()>>(64-size)))
		}})
	}
	bits := 1 + d.IntN(64)
	flag := func() string { return d.pick("0", "1") }
	precision := 1 + d.IntN(65)
	scale := d.IntN(min(precision, 30) + 1)
	return append(all,
		cell{fmt.Sprintf("bit(%d)", bits), fmt.Sprintf(`"type":"integer","minimum":0,"maximum":%d`, uint64(math.MaxUint64)>>(64-bits)), func() string {
			return fmt.Sprint(d.Uint64() >> (64 - bits))
		}},
		cell{"bit(1)", `"type":"boolean"`, flag},
		cell{"tinyint(1)", `"type":"boolean"`, flag},
		cell{"year", `"type":"integer","minimum":0,"maximum":2155`, func() string { return fmt.Sprint(1901 + d.IntN(255)) }},
		cell{"float", `"type":"number"`, func() string {
			return d.pick("0.1", "-3.4028234e38", fmt.Sprint(d.Float32()), fmt.Sprint(d.NormFloat64()*1e9))
		}},
		cell{"float unsigned", `"type":"number"`, func() string { return fmt.Sprint(d.Float32()) }},
		cell{"double", `"type":"number"`, func() string { return d.pick("0.1", "1e-300", fmt.Sprint(d.NormFloat64())) }},
		cell{fmt.Sprintf("decimal(%d,%d)", precision, scale), fmt.Sprintf(`"type":"string","x-decimal":"%d,%d"`, precision, scale), func() string {
			return d.pick("", "-") + "0" + d.digits(precision-scale) + "." + d.digits(scale) + "0"
		}},
	)
}

func (d dice) times() []cell {
	n := d.IntN(7)
	fraction := ""
	suffix := ""
	if n > 0 {
		suffix = fmt.Sprintf("(%d)", n)
		fraction = "."
	}
	clock := func() string {
		return fmt.Sprintf("%02d:%02d:%02d%s", d.IntN(24), d.IntN(60), d.IntN(60), fraction+d.digits(n))
	}
	const moment = `"type":"string","format":"date-time"`
	return []cell{
		{"date", `"type":"string","format":"date"`, func() string { return quoted(d.day(1000, 9999)) }},
		{"datetime" + suffix, moment, func() string { return quoted(d.day(1000, 9999) + " " + clock()) }},
		{"timestamp" + suffix, moment, func() string { return quoted(d.day(1971, 2037) + " " + clock()) }},
		{"time" + suffix, `"type":"string"`, func() string {
			return quoted(fmt.Sprintf("%s%02d:%02d:%02d%s", d.pick("", "-"), d.IntN(838), d.IntN(60), d.IntN(60), fraction+d.digits(n)))
		}},
	}
}

func (d dice) strings() []cell {
	n := 1 + d.IntN(60)
	chars := func(n int) string { return fmt.Sprintf(`"type":"string","maxLength":%d`, n) }
	bytes := func(n int) string {
		return `"contentEncoding":"base64",` + chars(base64.StdEncoding.EncodedLen(n))
	}
	text := func(most int) func() string { return func() string { return quoted(d.text(most)) } }
	raw := func(most int) func() string { return func() string { return d.bytes(most) } }
	return []cell{
		{fmt.Sprintf("char(%d)", n), chars(n), func() string { return quoted(strings.TrimRight(d.text(n), " ")) }},
		{fmt.Sprintf("varchar(%d)", n), chars(n), text(n)},
		{"tinytext", chars(63), text(63)},
		{"text", chars(16383), text(300)},
		{"mediumtext", `"type":"string"`, text(300)},
		{"longtext", `"type":"string"`, text(300)},
		{fmt.Sprintf("binary(%d)", n), bytes(n), raw(n)},
		{fmt.Sprintf("varbinary(%d)", n), bytes(n), raw(n)},
		{"tinyblob", bytes(255), raw(255)},
		{"blob", bytes(65535), raw(300)},
		{"mediumblob", `"contentEncoding":"base64","type":"string"`, raw(300)},
		{"longblob", `"contentEncoding":"base64","type":"string"`, raw(300)},
	}
}

func (d dice) labels() []cell {
	labels := []string{"a", "B", "it's", "c d", "1", "0", "ö", `x\y`, `\n`, "line\nline"}
	d.Shuffle(len(labels), func(i, j int) { labels[i], labels[j] = labels[j], labels[i] })
	list, names := make([]string, len(labels)), make([]string, len(labels))
	for i, l := range labels {
		list[i], names[i] = quoted(l), strconv.Quote(l)
	}
	return []cell{
		{"enum(" + strings.Join(list, ",") + ")", `"type":"string","enum":[` + strings.Join(names, ",") + `]`, func() string { return d.pick(list...) }},
		{"set(" + strings.Join(list, ",") + ")", `"type":"string"`, func() string {
			some := slices.Clone(labels)
			d.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			return quoted(strings.Join(some[:d.IntN(len(some)+1)], ","))
		}},
		{"json", `"type":["object","array"]`, func() string { return d.pick(`'{"a": [1, {"b": null}], "ä": "x"}'`, `'[]'`, `'{}'`) }},
	}
}

// own are the types that one of the servers has alone; VECTOR is not written.
func (d dice) own(dialect mysql.Dialect) []cell {
	if dialect != mysql.MariaDB {
		return nil
	}
	return []cell{
		{"uuid", `"type":"string"`, func() string {
			return quoted(fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", d.Uint32(), d.IntN(1<<16), d.IntN(1<<12), d.IntN(1<<12), d.Int64N(1<<48)))
		}},
		{"inet4", `"type":"string"`, func() string {
			return quoted(fmt.Sprintf("%d.%d.%d.%d", d.IntN(256), d.IntN(256), d.IntN(256), d.IntN(256)))
		}},
		{"inet6", `"type":"string"`, func() string {
			return quoted(d.pick("::", "::1", "2001:db8::1", "fe80::1:2:3", "::ffff:10.0.0.1", "1:0:0:2::3"))
		}},
	}
}

// randomTable makes a table of random columns, source_NAME, with random rows, and a dataset whose replica has the same types.
func (b *bed) randomTable(t *testing.T, d dice, name string, rows int) (*schemas.Dataset, []cell) {
	t.Helper()
	all := slices.Concat(d.numbers(), d.times(), d.strings(), d.labels(), d.own(b.Dialect()))
	d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:len(all)*2/3]
	defs, props := []string{"id INT UNSIGNED PRIMARY KEY"}, []string{`"id":{"type":"integer","minimum":0,"maximum":4294967295}`}
	types := []string{`id: {type: "int unsigned"}`}
	for i, c := range all {
		defs = append(defs, fmt.Sprintf("c%d %s NULL", i, c.typ))
		props = append(props, fmt.Sprintf(`"c%d":{%s}`, i, c.property))
		types = append(types, fmt.Sprintf("c%d: {type: %q}", i, c.typ))
	}
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"d.yaml": {Data: []byte("dataset: " + name + "\nschema: d.json\nkey: [id]\nreplica:\n  columns:\n    " + strings.Join(types, "\n    ") + "\n")},
		"d.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{` + strings.Join(props, ",\n") + `}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.exec(t, "CREATE TABLE source_"+name+" ("+strings.Join(defs, ", ")+") DEFAULT CHARACTER SET utf8mb4")
	for id := range rows {
		values := []string{strconv.Itoa(id)}
		for _, c := range all {
			value := "NULL"
			if d.IntN(5) > 0 {
				value = c.literal()
			}
			values = append(values, value)
		}
		b.exec(t, "INSERT INTO source_"+name+" VALUES ("+strings.Join(values, ", ")+")")
	}
	return set.All()[0], all
}

// compareCells compares a replica with its source, column by column.
func (b *bed) compareCells(t *testing.T, name string, all []cell) {
	t.Helper()
	for i, c := range all {
		column := fmt.Sprintf("c%d", i)
		same := "CAST(s." + column + " AS BINARY) <=> CAST(r." + column + " AS BINARY)"
		switch {
		case strings.HasPrefix(c.typ, "float"), c.typ == "double":
			same = "s." + column + " <=> r." + column // its text is rounded
		case c.typ == "json" && b.Dialect() == mysql.MariaDB:
			same = "COALESCE(JSON_EQUALS(s." + column + ", r." + column + "), s." + column + " IS NULL AND r." + column + " IS NULL)"
		}
		n := one[int](t, b.db, "SELECT COUNT(*) FROM source_"+name+" s LEFT JOIN "+name+" r USING (id) WHERE r.id IS NULL OR NOT ("+same+")")
		if n > 0 {
			t.Errorf("%d rows differ in %s, of type %s", n, column, c.typ)
		}
	}
}

// TestColumnsOfEveryTypeRoundTrip: rows of random tables become events, which a replica with columns of the same types takes;
// then both tables have the same cells, and what is read from the replica makes the same events.
func TestColumnsOfEveryTypeRoundTrip(t *testing.T) {
	b := newBed(t, replica.Config{})
	for round := range 12 {
		name := fmt.Sprintf("r%d", round)
		t.Run(name, func(t *testing.T) {
			d := dice{rand.New(rand.NewPCG(uint64(round), 7))}
			ds, all := b.randomTable(t, d, name, 20)
			set := []*schemas.Dataset{ds}
			if ddl, err := tables.Migrate(t.Context(), b.db, set, false); err != nil || len(ddl.Problems) > 0 {
				t.Fatalf("migrate: %v, problems %v", err, ddl.Problems)
			}
			if ddl, err := tables.Plan(t.Context(), b.db, set); err != nil || len(ddl.Problems)+len(ddl.Statements) > 0 {
				t.Errorf("the table is not what was declared: %v, %v, problems %v", err, texts(ddl), ddl.Problems)
			}
			if broken, err := b.Prepare(t.Context(), set); err != nil || len(broken) > 0 {
				t.Fatalf("prepare: %v, broken %v", err, broken)
			}
			states := readState(t, b.db, ds, "source_"+name)
			changes := make([]*replica.Change, len(states))
			for i, state := range states {
				changes[i] = b.changeOf(t, ds, strconv.Itoa(i), state)
			}
			if res := b.apply(t, changes...); res.Refused > 0 {
				t.Errorf("%d rows were refused: %s", res.Refused, b.letters(t)[0].Detail)
			}
			b.compareCells(t, name, all)
			for i, state := range readState(t, b.db, ds, name) {
				if state != states[i] {
					t.Errorf("row %d is\n%s in the source, and read from the replica\n%s", i, states[i], state)
				}
			}
			if res := b.apply(t, changes...); res.Lost.Conflicts > 0 {
				t.Errorf("the same events again: %d count as conflicts", res.Lost.Conflicts)
			}
		})
	}
}

// changeOf is the change of an event with that key and state, in version 1.
func (b *bed) changeOf(t *testing.T, ds *schemas.Dataset, key, state string) *replica.Change {
	t.Helper()
	ev := &schemas.Event{ID: key, Dataset: ds.Name, Key: key, Op: schemas.Upsert, Version: 1, Data: []byte(state)}
	row, err := ds.Check(ev)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	off := b.off.Add(1) - 1
	c, err := replica.NewChange(ds, &schemas.Record{Key: []byte(key), Value: ev.Data, Time: 1_000_000, Offset: off}, 0, ev, row)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
