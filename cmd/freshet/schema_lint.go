package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/compat"
)

// The levels of lint.
const (
	lintError  = "error"
	lintAdvice = "advice"
)

// lintLine is one thing that lint found.
type lintLine struct {
	Level   string `json:"level"`
	Dataset string `json:"dataset,omitempty"`
	Path    string `json:"path,omitempty"`
	Text    string `json:"text"`
}

func schemaLint(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lint [DIR]",
		Short: "Check the declarations and schemas of a folder of datasets, and give advice",
		Long:  "Without DIR the folder of the settings is checked. Errors make the exit code 1, advice does not.",
		Args:  args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			l, _, err := p.load(cmd)
			if err != nil {
				return err
			}
			dir := l.Config.Datasets
			if len(a) == 1 {
				dir = a[0]
			}
			return printLint(p, lintFolder(dir))
		},
	}
	config.Bind(cmd.Flags(), "datasets", "log")
	return cmd
}

func printLint(p *program, lines []lintLine) error {
	failed := slices.ContainsFunc(lines, func(l lintLine) bool { return l.Level == lintError })
	if p.json {
		if err := p.printJSON(lines); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		for _, l := range lines {
			if l.Dataset == "" {
				fmt.Fprintf(w, "%s\t%s\n", l.Level, l.Text)
				continue
			}
			fmt.Fprintf(w, "%s\t%s %s\t%s\n", l.Level, l.Dataset, l.Path, l.Text)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if len(lines) == 0 {
			fmt.Fprintln(p.out, "nothing to say")
		}
	}
	if failed {
		return errReported
	}
	return nil
}

func lintFolder(dir string) []lintLine {
	set, err := schemas.LoadDatasets(os.DirFS(dir))
	if err != nil {
		all := []error{err}
		var joined interface{ Unwrap() []error }
		if errors.As(err, &joined) {
			all = joined.Unwrap()
		}
		var lines []lintLine
		for _, err := range all {
			lines = append(lines, lintLine{Level: lintError, Text: err.Error()})
		}
		return lines
	}
	lines := []lintLine{}
	for _, text := range set.Warnings() {
		lines = append(lines, lintLine{Level: lintAdvice, Text: text})
	}
	for _, d := range set.All() {
		l := linter{dataset: d}
		l.check()
		lines = append(lines, l.lines...)
	}
	slices.SortStableFunc(lines, func(a, b lintLine) int { return len(a.Level) - len(b.Level) }) // errors first
	return lines
}

// linter looks at one dataset that loads.
type linter struct {
	dataset *schemas.Dataset
	lines   []lintLine
}

func (l *linter) say(level, path, format string, a ...any) {
	l.lines = append(l.lines, lintLine{Level: level, Dataset: l.dataset.Name, Path: path, Text: fmt.Sprintf(format, a...)})
}

// nearRowBytes is where advice begins: a few more texts, and the table cannot take them.
const nearRowBytes = tables.MaxRowBytes * 8 / 10

// maxKeyBytes bounds the key of an event.
const maxKeyBytes = 512

func (l *linter) check() {
	d := l.dataset
	for _, text := range d.Unbuilt() {
		l.say(lintError, "", "%s", text)
	}
	if n := len(d.Replica.Columns) + 3; n > tables.MaxColumns {
		l.say(lintError, "replica.table", "has %d columns with Freshet's own; at most %d are possible", n, tables.MaxColumns)
	}
	switch n := tables.RowBytes(d); {
	case n > tables.MaxRowBytes:
		l.say(lintError, "replica.table", "a row takes %d bytes and %d is the server's limit: lower a maxLength, or raise one above 1024, which is then kept outside of the row", n, tables.MaxRowBytes)
	case n > nearRowBytes:
		l.say(lintAdvice, "replica.table", "a row takes %d of at most %d bytes: there is little room for new properties", n, tables.MaxRowBytes)
	}
	maria, my := tables.PageBytes(d, mysql.MariaDB), tables.PageBytes(d, mysql.ModernMySQL)
	const page = "the row is too large for a page of InnoDB%s: its columns take %d bytes of at most %d; declare fewer properties, or keep some together in one object"
	switch {
	case maria > tables.MaxPageBytes && my > tables.MaxPageBytes:
		l.say(lintError, "replica.table", page, "", min(maria, my), tables.MaxPageBytes)
	case maria > tables.MaxPageBytes:
		l.say(lintAdvice, "replica.table", page, " on MariaDB", maria, tables.MaxPageBytes)
	case my > tables.MaxPageBytes:
		l.say(lintAdvice, "replica.table", page, " on MySQL", my, tables.MaxPageBytes)
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
			l.say(lintAdvice, "/properties/"+c.Property.Name, "is part of the key and may be any text, also one with spaces or control characters; give it a pattern")
		}
	}
	if room > maxKeyBytes {
		l.say(lintAdvice, "key", "may get longer than %d bytes, and such events are refused", maxKeyBytes)
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
			l.say(lintAdvice, "/required", "has a property that is not declared: it must be there and then is not stored")
		}
	}
	for _, k := range []string{"allOf", "anyOf", "oneOf", "then", "else", "dependentSchemas", "patternProperties"} {
		if root[k] != nil {
			l.say(lintAdvice, "/"+k, "is checked, but properties that are declared only there have no column")
		}
	}
	if rest, ok := root["additionalProperties"]; ok && rest != false {
		l.say(lintAdvice, "/additionalProperties", "undeclared properties have no column: they are counted and not stored")
	}
	for _, c := range l.dataset.Replica.Columns {
		if c.Property.Kind == schemas.KindString && !c.Key && c.Type.Base == "" && (c.Property.MaxLength == 0 || c.Property.MaxLength > 1024) {
			l.say(lintAdvice, "/properties/"+c.Property.Name, "becomes MEDIUMTEXT, which costs more than VARCHAR; a maxLength up to 1024 avoids it")
		}
	}
}

// checkWords looks for keywords that do nothing: misspelt ones, defaults, formats that are not checked.
func (l *linter) checkWords(path string, node map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(node)) {
		at := path + "/" + k
		switch {
		case !compat.IsKeyword(k):
			l.say(lintAdvice, at, "is not a keyword of JSON Schema and does nothing; is it misspelt?")
		case k == "default":
			l.say(lintAdvice, at, "is not applied: an absent property is NULL")
		case k == "format" && node[k] != "date" && node[k] != "date-time":
			l.say(lintAdvice, at, "only date and date-time are checked; use a pattern")
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
