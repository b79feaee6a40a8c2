// Package lint checks declarations and schemas of datasets, and gives advice.
package lint

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/compat"
)

// The levels of a Line.
const (
	Error  = "error"
	Advice = "advice"
)

// Line is one thing that was found.
type Line struct {
	Level   string `json:"level"`
	Dataset string `json:"dataset,omitempty"`
	// Path is a JSON pointer into the schema, or a field of the declaration.
	Path string `json:"path,omitempty"`
	// Text says what is wrong, and how to fix it.
	Text string `json:"text"`
}

// Folder checks every declaration of a folder of datasets. What keeps one from loading is an error.
func Folder(fsys fs.FS) []Line {
	set, err := schemas.LoadDatasets(fsys)
	if err != nil {
		return Refusals(err)
	}
	lines := []Line{}
	for _, text := range set.Warnings() {
		lines = append(lines, Line{Level: Advice, Text: text})
	}
	for _, d := range set.All() {
		lines = append(lines, Dataset(d)...)
	}
	sortLines(lines)
	return lines
}

// Refusals returns a line for each error of schemas.LoadDatasets.
func Refusals(err error) []Line {
	all := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		all = joined.Unwrap()
	}
	var lines []Line
	for _, err := range all {
		lines = append(lines, Line{Level: Error, Text: err.Error()})
	}
	return lines
}

// Dataset checks a dataset that loads, errors first.
func Dataset(d *schemas.Dataset) []Line {
	l := linter{dataset: d}
	l.check()
	sortLines(l.lines)
	return l.lines
}

func sortLines(lines []Line) {
	slices.SortStableFunc(lines, func(a, b Line) int { return len(a.Level) - len(b.Level) }) // errors first
}

// linter looks at one dataset that loads.
type linter struct {
	dataset *schemas.Dataset
	lines   []Line
}

func (l *linter) say(level, path, format string, a ...any) {
	l.lines = append(l.lines, Line{Level: level, Dataset: l.dataset.Name, Path: path, Text: fmt.Sprintf(format, a...)})
}

// nearRowBytes is where advice begins: a few more texts, and the table cannot take them.
const nearRowBytes = tables.MaxRowBytes * 8 / 10

// maxKeyBytes bounds the key of an event.
const maxKeyBytes = 512

func (l *linter) check() {
	d := l.dataset
	for _, text := range d.Unbuilt() {
		l.say(Error, "", "%s", text)
	}
	if n := len(d.Replica.Columns) + 3; n > tables.MaxColumns {
		l.say(Error, "replica.table", "has %d columns with Freshet's own; at most %d are possible", n, tables.MaxColumns)
	}
	switch n := tables.RowBytes(d); {
	case n > tables.MaxRowBytes:
		l.say(Error, "replica.table", "a row takes %d bytes and %d is the server's limit: lower a maxLength, or raise one above 1024, which is then kept outside of the row", n, tables.MaxRowBytes)
	case n > nearRowBytes:
		l.say(Advice, "replica.table", "a row takes %d of at most %d bytes: there is little room for new properties", n, tables.MaxRowBytes)
	}
	maria, my := tables.PageBytes(d, mysql.MariaDB), tables.PageBytes(d, mysql.ModernMySQL)
	const page = "the row is too large for a page of InnoDB%s: its columns take %d bytes of at most %d; declare fewer properties, or keep some together in one object"
	switch {
	case maria > tables.MaxPageBytes && my > tables.MaxPageBytes:
		l.say(Error, "replica.table", page, "", min(maria, my), tables.MaxPageBytes)
	case maria > tables.MaxPageBytes:
		l.say(Advice, "replica.table", page, " on MariaDB", maria, tables.MaxPageBytes)
	case my > tables.MaxPageBytes:
		l.say(Advice, "replica.table", page, " on MySQL", my, tables.MaxPageBytes)
	}
	l.checkKey()
	l.checkRoot()
	l.checkWords("", d.Schema().Document())
}

func (l *linter) checkKey() {
	room := 0
	for _, c := range l.dataset.Replica.Columns[:l.dataset.Replica.KeyColumns] {
		if c.Property.Kind != schemas.KindString {
			room += 20
			continue
		}
		room += c.Property.MaxLength
		node := l.property(c.Property.Name)
		if node["pattern"] == nil && node["enum"] == nil && node["const"] == nil {
			l.say(Advice, "/properties/"+c.Property.Name, "is part of the key and may be any text, also one with spaces or control characters; give it a pattern")
		}
	}
	if room > maxKeyBytes {
		l.say(Advice, "key", "may get longer than %d bytes, and such events are refused", maxKeyBytes)
	}
}

func (l *linter) property(name string) map[string]any {
	declared, _ := l.dataset.Schema().Document()["properties"].(map[string]any)
	node, _ := declared[name].(map[string]any)
	return node
}

// checkRoot looks for what reaches no column, and for columns that are larger than they need to be.
func (l *linter) checkRoot() {
	root := l.dataset.Schema().Document()
	declared, _ := root["properties"].(map[string]any)
	required, _ := root["required"].([]any)
	for _, v := range required {
		if name, _ := v.(string); declared[name] == nil {
			l.say(Advice, "/required", "has a property that is not declared: it must be there and then is not stored")
		}
	}
	for _, k := range []string{"allOf", "anyOf", "oneOf", "then", "else", "dependentSchemas", "patternProperties"} {
		if root[k] != nil {
			l.say(Advice, "/"+k, "is checked, but properties that are declared only there have no column")
		}
	}
	if rest, ok := root["additionalProperties"]; ok && rest != false {
		l.say(Advice, "/additionalProperties", "undeclared properties have no column: they are counted and not stored")
	}
	for _, c := range l.dataset.Replica.Columns {
		if c.Property.Kind == schemas.KindString && !c.Key && c.Type.Base == "" && (c.Property.MaxLength == 0 || c.Property.MaxLength > 1024) {
			l.say(Advice, "/properties/"+c.Property.Name, "becomes MEDIUMTEXT, which costs more than VARCHAR; a maxLength up to 1024 avoids it")
		}
	}
}

// checkWords looks for keywords that do nothing: misspelt ones, defaults, formats that are not checked.
func (l *linter) checkWords(path string, node map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(node)) {
		at := path + "/" + k
		switch {
		case !compat.IsKeyword(k):
			l.say(Advice, at, "is not a keyword of JSON Schema and does nothing; is it misspelt?")
		case k == "default":
			l.say(Advice, at, "is not applied: an absent property is NULL")
		case k == "format" && node[k] != "date" && node[k] != "date-time":
			l.say(Advice, at, "only date and date-time are checked; use a pattern")
		}
	}
	if items, ok := node["items"].(map[string]any); ok {
		l.checkWords(path+"/items", items)
	}
	props, _ := node["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(props)) {
		if sub, ok := props[name].(map[string]any); ok {
			l.checkWords(path+"/properties/"+name, sub)
		}
	}
}
