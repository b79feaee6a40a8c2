package draft

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// json is the schema.
func (w *writer) json() string {
	var b strings.Builder
	b.WriteString("{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"type\": \"object\",\n  \"required\": [")
	first := true
	for i := range w.properties {
		if p := &w.properties[i]; w.requires(p) {
			if !first {
				b.WriteString(", ")
			}
			first = false
			b.WriteString(quoteJSON(p.column.Name))
		}
	}
	b.WriteString("],\n  \"properties\": {\n")
	for i := range w.properties {
		p := &w.properties[i]
		comma := ","
		if i == len(w.properties)-1 {
			comma = ""
		}
		fmt.Fprintf(&b, "    %s: {%s}%s\n", quoteJSON(p.column.Name), p.line(), comma)
	}
	b.WriteString("  }\n}\n")
	return b.String()
}

// requires reports whether each record must have a property.
func (w *writer) requires(p *property) bool {
	name := p.column.Name
	if slices.Contains(w.table.Key, name) {
		return true
	}
	return !p.column.Optional && (w.cfg.Known == nil || slices.Contains(w.cfg.Known, name))
}

func quoteJSON(s string) string {
	text, err := json.Marshal(s)
	if err != nil { // a string always has one
		return `""`
	}
	return string(text)
}

// yaml is the declaration.
func (w *writer) yaml() string {
	var b strings.Builder
	t := w.table
	format := map[From]string{Outbox: "cloudevents", Publish: "cloudevents"}[w.cfg.From]
	if format == "" {
		format = string(w.cfg.From)
	}
	fmt.Fprintf(&b, "# A draft of freshet init. docs/datasets.md explains each field.\ndataset: %s\ntopic: %s\n", w.dataset, scalar(w.topic))
	if format != "cloudevents" {
		fmt.Fprintf(&b, "format: %s\n", format)
	}
	keys := make([]string, len(t.Key))
	names := make([]string, len(t.Key))
	for i, k := range t.Key {
		keys[i], names[i] = scalar(k), "{"+k+"}"
	}
	fmt.Fprintf(&b, "schema: %s.json\nkey: [%s]\n", w.dataset, strings.Join(keys, ", "))
	table := t.Name
	if !isIdentifier(table) || strings.HasPrefix(strings.ToLower(table), "freshet_") {
		table = strings.ReplaceAll(w.dataset, "-", "_")
	}
	fmt.Fprintf(&b, "replica:\n  table: %s\n", scalar(table))
	if slices.ContainsFunc(w.properties, func(p property) bool { return w.typeOf(&p) != "" }) {
		b.WriteString("  columns:\n")
	}
	for i := range w.properties {
		if typ := w.typeOf(&w.properties[i]); typ != "" {
			fmt.Fprintf(&b, "    %s: {type: %s}\n", scalar(w.properties[i].column.Name), scalar(typ))
		}
	}
	fmt.Fprintf(&b, "cache:\n  key: %s\n", strconv.Quote(w.dataset+":"+strings.Join(names, ":")))
	w.cdc(&b)
	return b.String()
}

// typeOf is the declared type of a property's column.
func (w *writer) typeOf(p *property) string {
	if w.outside[p.column.Name] {
		return "mediumtext"
	}
	return p.typ
}

// cdc writes what a capture tool does not say of its records.
func (w *writer) cdc(b *strings.Builder) {
	if !w.cfg.From.Captured() {
		return
	}
	b.WriteString("cdc:\n")
	if w.table.Database != "" {
		fmt.Fprintf(b, "  table: %s\n", scalar(w.table.Database+"."+w.table.Name))
	}
	if w.cfg.From == DebeziumFlat {
		deletes := "tombstone"
		if w.cfg.RewrittenDeletes {
			deletes = "rewrite"
		}
		fmt.Fprintf(b, "  deletes: %s\n", deletes)
	}
	if z := w.zone(); z != "" {
		fmt.Fprintf(b, "  zone: %q\n", z)
	}
	if w.table.Inferred {
		return
	}
	b.WriteString("  columns:\n")
	for i := range w.properties {
		c := w.properties[i].column
		fmt.Fprintf(b, "    %s: %s\n", scalar(c.Name), scalar(c.Type.String()))
	}
}

// scalar is a text in YAML, also within braces.
func scalar(s string) string {
	plain := s != "" && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789_ ().-") == "" && s[0] > '9' && s[len(s)-1] != ' '
	switch strings.ToLower(s) {
	case "y", "yes", "n", "no", "on", "off", "true", "false", "null":
		plain = false
	}
	if plain {
		return s
	}
	return strconv.Quote(s)
}

// check loads the draft as a worker does. fits is false for a row that is too large for a table, after the longest text was
// put outside of the row.
func (w *writer) check(d *Draft) (fits bool, err error) {
	set, err := schemas.LoadDatasets(folder{d.Dataset + ".yaml": d.YAML, d.Dataset + ".json": d.JSON})
	if err != nil {
		return false, w.fail("its draft is refused: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	ds := set.All()[0]
	if tables.RowBytes(ds) <= tables.MaxRowBytes && tables.PageBytes(ds, mysql.MariaDB) <= tables.MaxPageBytes && tables.PageBytes(ds, mysql.ModernMySQL) <= tables.MaxPageBytes {
		return true, nil
	}
	var longest *property
	for i := range w.properties {
		p := &w.properties[i]
		inside := p.typ == "" || strings.HasPrefix(p.typ, "char") || strings.HasPrefix(p.typ, "varchar")
		if !inside || p.size == 0 || w.outside[p.column.Name] || slices.Contains(w.table.Key, p.column.Name) {
			continue
		}
		if longest == nil || p.size > longest.size {
			longest = p
		}
	}
	if longest == nil {
		return false, w.fail("its columns are too large for a row of a replica table; leave some out, or keep some together in one object")
	}
	w.outside[longest.column.Name] = true
	w.note("column %s is MEDIUMTEXT in the replica, since the row would be too large", longest.column.Name)
	return false, nil
}
