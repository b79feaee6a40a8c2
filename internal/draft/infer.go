package draft

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// Capture is what the records of a topic say of the tables that they come from.
type Capture struct {
	// From is the tool that wrote them. RewrittenDeletes as in Config.
	From             From
	RewrittenDeletes bool
	// Tables are those whose rows were seen, by name. A table without Database is one that no record identifies.
	Tables []*Table
	// Notes are what the records do not tell, one sentence each.
	Notes []string
}

// Infer recognises which tool wrote the records of a topic, and describes their tables. Types that records do not state are
// inferred from values.
func Infer(topic string, records []schemas.Record) (*Capture, error) {
	in := inference{topic: topic, tables: map[string]*seenTable{}, other: map[From]int{}}
	for i := range records {
		in.add(&records[i])
	}
	switch {
	case len(records) == 0:
		return nil, fmt.Errorf("topic %s has no records yet; draft the datasets from the database: --dsn-file and --tables", topic)
	case in.events > 0 && in.from == "":
		return nil, fmt.Errorf("topic %s has CloudEvents, which Freshet's producers write: their dataset is declared where they are", topic)
	case in.framed > 0 && in.from == "":
		return nil, errors.New("the records begin with the frame of a schema registry, not with JSON: let the tool write plain JSON (org.apache.kafka.connect.json.JsonConverter)")
	case in.from == "" || len(in.tables) == 0:
		return nil, fmt.Errorf("none of %d records of topic %s is a row that Debezium, Canal or Maxwell wrote", len(records), topic)
	}
	return in.capture(), nil
}

// inference collects what records say.
type inference struct {
	topic          string
	from           From
	tables         map[string]*seenTable
	other          map[From]int
	events, framed int
	tombstones     int
	rewritten      bool
}

// seenTable is a table while its rows are read.
type seenTable struct {
	database, name string
	key            []string
	order          []string
	columns        map[string]*seenColumn
	rows           int
	typed          bool // the records state the types as the server prints them
}

// seenColumn is what is known of a column.
type seenColumn struct {
	typ   schemas.ColumnType
	text  string
	kinds map[string]bool
	rows  int
	// zero: a date that does not exist. negative, above: an integer below 0, or above 2^63-1.
	zero, negative, above bool
}

// row is a row of a record.
type row struct {
	from            From
	database, table string
	object          string // JSON
	key             []string
	types           map[string]schemas.ColumnType
	texts           map[string]string
	partial         bool // it is not the whole row
}

func (in *inference) add(rec *schemas.Record) {
	for i := range rec.Headers {
		if name := strings.ToLower(rec.Headers[i].Key); name == "ce_type" || name == "ce_specversion" {
			in.events++
			return
		}
	}
	if rec.Value == nil {
		in.tombstones++
		return
	}
	if len(rec.Value) > 5 && rec.Value[0] == 0 {
		in.framed++
		return
	}
	members, err := membersOf(string(rec.Value))
	if err != nil {
		return
	}
	for _, r := range recognise(rec, members) {
		if in.from == "" {
			in.from = r.from
		}
		if r.from != in.from {
			in.other[r.from]++
			continue
		}
		in.addRow(&r)
	}
}

func (in *inference) addRow(r *row) {
	id := r.database + "." + r.table
	t := in.tables[id]
	if t == nil {
		t = &seenTable{database: r.database, name: r.table, columns: map[string]*seenColumn{}, typed: r.from == Canal && len(r.texts) > 0}
		in.tables[id] = t
	}
	if len(t.key) == 0 {
		t.key = r.key
	}
	if r.partial {
		return
	}
	t.rows++
	_ = schemas.WalkObject(r.object, func(name string, v schemas.JSON) error { // it was read before
		if strings.HasPrefix(name, "__") {
			in.rewritten = in.rewritten || name == "__deleted"
			return nil
		}
		c := t.columns[name]
		if c == nil {
			c = &seenColumn{kinds: map[string]bool{}, typ: r.types[name], text: r.texts[name]}
			t.columns[name] = c
			t.order = append(t.order, name)
		}
		c.rows++
		c.see(v)
		return nil
	})
}

func (c *seenColumn) see(v schemas.JSON) {
	switch v.Kind {
	case schemas.JSONBoolean:
		c.kinds["boolean"] = true
	case schemas.JSONNumber:
		if strings.ContainsAny(v.Text, ".eE") {
			c.kinds["number"] = true
		} else {
			c.kinds["integer"] = true
			c.negative = c.negative || v.Text[0] == '-'
			_, err := strconv.ParseInt(v.Text, 10, 64)
			c.above = c.above || err != nil && v.Text[0] != '-'
		}
	case schemas.JSONString:
		c.kinds["string"] = true
		c.zero = c.zero || strings.HasPrefix(v.Text, "0000-00-00")
	case schemas.JSONArray, schemas.JSONObject:
		c.kinds["object"] = true
	case schemas.JSONNull:
	}
}

// kind is the JSON type of all values that were seen; problem is why there is none.
func (c *seenColumn) kind() (kind, problem string) {
	kinds := slices.Sorted(maps.Keys(c.kinds))
	switch {
	case len(kinds) == 0:
		return "", "was null in every record that was read; declare its property by hand, or give --dsn-file"
	case len(kinds) == 1:
		return kinds[0], ""
	case slices.Equal(kinds, []string{"integer", "number"}):
		return "number", ""
	}
	return "", "has values of several types (" + strings.Join(kinds, ", ") + "); declare its property by hand, or give --dsn-file"
}

// capture describes what was seen.
func (in *inference) capture() *Capture {
	c := &Capture{From: in.from, RewrittenDeletes: in.rewritten}
	for _, id := range slices.Sorted(maps.Keys(in.tables)) {
		t := in.tables[id]
		if t.rows > 0 {
			c.Tables = append(c.Tables, in.table(t, c))
		}
	}
	for from, n := range in.other {
		c.Notes = append(c.Notes, fmt.Sprintf("%d records look like those of %s and were left aside", n, from))
	}
	if in.from == DebeziumFlat && !in.rewritten {
		c.Notes = append(c.Notes, "no flattened record has __deleted, so cdc.deletes is tombstone: compare it with the connector's delete.tombstone.handling.mode; with drop, deletions never arrive")
	}
	return c
}

func (in *inference) table(t *seenTable, c *Capture) *Table {
	out := &Table{Database: t.database, Name: t.name, Key: t.key, Inferred: !t.typed}
	if t.name == "" { // no record says it
		out.Name = in.topic[strings.LastIndexByte(in.topic, '.')+1:]
	}
	guessed := true
	for _, name := range t.order {
		s := t.columns[name]
		col := Column{Name: name, Type: s.typ, Text: s.text, Nullable: !slices.Contains(t.key, name), ZeroDate: s.zero, Optional: s.rows < t.rows}
		guessed = guessed && s.typ.Base == ""
		if s.typ.Base == "" && s.text == "" {
			var problem string
			if col.Kind, problem = s.kind(); problem != "" {
				c.Notes = append(c.Notes, fmt.Sprintf("%s: column %s is left out: it %s", out.Name, name, problem))
				continue
			}
		}
		if col.Kind == "integer" && s.above && !s.negative {
			col.Type = schemas.ColumnType{Base: "bigint", Unsigned: true}
		}
		if s.negative && (in.from == Debezium || in.from == DebeziumFlat) && (s.typ.Base == "" || s.typ.Base == "bigint") {
			c.Notes = append(c.Notes, fmt.Sprintf("%s: column %s has negative numbers, or the upper half of BIGINT UNSIGNED, which Debezium writes so: they are refused until cdc.columns states its type", out.Name, name))
		}
		out.Columns = append(out.Columns, col)
	}
	switch {
	case t.typed:
	case guessed:
		c.Notes = append(c.Notes, fmt.Sprintf("%s: its types were inferred from %d rows, where dates, times, decimals and bytes look like integers or texts; give --dsn-file to read them from the database, or correct the draft", out.Name, t.rows))
	default:
		c.Notes = append(c.Notes, out.Name+": its types are those that Kafka Connect knows; give --dsn-file to read lengths and sizes from the database")
	}
	return out
}
