package tables

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// A table that others made and filled is adopted in four steps, each of which leaves readers and writers alone: Freshet's own
// columns are added with a default that stands for the rows there are; columns that Freshet has to empty or has no value for become nullable;
// rows take their versions from a column, if that is where versions come from; and the defaults are dropped, so that a later
// insert has to state its version. As long as _version has a default, an adoption is not finished.

// The algorithms of ALTER TABLE that let readers and writers continue.
const (
	algorithmInstant = ", ALGORITHM=INSTANT"
	algorithmInplace = ", ALGORITHM=INPLACE, LOCK=NONE"
)

// fillRows is how many rows one statement of a fill changes.
const fillRows = 1000

const sqlNow = "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"

// lacksOwn lists Freshet's own columns that a table does not have.
func lacksOwn(f *Table) (names []string) {
	for _, name := range []string{ColVersion, ColDeleted, ColAt} {
		if _, ok := f.Columns[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// adopts reports whether the table is to be adopted, or an adoption did not end.
func (p Planner) adopts(f *Table) bool {
	return p.Adopt && f.Exists && (len(lacksOwn(f)) > 0 || f.Columns[ColVersion].hasDefault)
}

// find is Find with what an adoption needs to know.
func (p Planner) find(ctx context.Context, db *sql.DB, ds *schemas.Dataset) (*Table, error) {
	f, err := Find(ctx, db, ds.Replica.Table)
	if err != nil || !p.adopts(f) {
		return f, err
	}
	var name, create string
	what := "inspect table " + ds.Replica.Table
	if _, err := mysql.One(ctx, db, what, "SHOW CREATE TABLE "+mysql.Quote(ds.Replica.Table), nil, &name, &create); err != nil {
		return nil, err
	}
	f.definitions = definitions(create)
	_, err = mysql.One(ctx, db, what, sqlNow, nil, &f.now)
	return f, err
}

// definitions are the columns of a CREATE TABLE as the server prints it: a line for each.
func definitions(create string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(create) {
		line = strings.TrimSuffix(strings.TrimSpace(line), ",")
		rest, ok := strings.CutPrefix(line, "`")
		if !ok {
			continue
		}
		if name, _, ok := strings.Cut(rest, "`"); ok {
			found[strings.ToLower(name)] = line
		}
	}
	return found
}

// relaxed is a column's definition without NOT NULL and without a default of zeros, which Freshet's sessions refuse; "" if it has
// neither.
func relaxed(definition string) string {
	text := definition
	if at := strings.Index(outside(text), " NOT NULL"); at >= 0 {
		text = text[:at] + " NULL" + text[at+len(" NOT NULL"):]
	}
	const zeros = " DEFAULT '0000-00-00"
	if at := strings.Index(text, zeros); at >= 0 && outside(text)[at+1] == 'D' {
		_, rest, _ := strings.Cut(text[at+len(zeros):], "'")
		text = text[:at] + " DEFAULT NULL" + rest
	}
	if text == definition {
		return ""
	}
	return text
}

// outside is a definition with whatever is within quotes blanked out.
func outside(definition string) string {
	b := []byte(definition)
	var quote byte
	for i, c := range b {
		switch {
		case quote == 0 && (c == '\'' || c == '`'):
			quote = c
		case c == quote:
			quote = 0 // a doubled one opens again at once
		case quote != 0:
			b[i] = '.'
		}
	}
	return string(b)
}

// planAdoption returns what is done before and after everything else, and notes in f what the table then has.
func (p Planner) planAdoption(ds *schemas.Dataset, d mysql.Dialect, f *Table) (before, after []Statement, problems []*DatasetError) {
	if !p.adopts(f) {
		return nil, nil, nil
	}
	version, counts, problem := p.versionOf(ds)
	if problem != nil {
		problems = append(problems, problem)
	}
	table := "ALTER TABLE " + mysql.Quote(ds.Replica.Table) + " "
	add := func(list *[]Statement, note, text string) *Statement {
		*list = append(*list, Statement{Dataset: ds.Name, table: ds, SQL: text, Note: note, planner: p})
		return &(*list)[len(*list)-1]
	}
	var columns, defaults []string
	for _, w := range wanted(ds, d) {
		c, ok := f.Columns[strings.ToLower(w.name)]
		switch {
		case !ok && w.own():
			value := map[string]int64{ColVersion: version, ColDeleted: 0, ColAt: f.now}[w.name]
			columns = append(columns, "ADD COLUMN "+w.definition()+" DEFAULT "+strconv.FormatInt(value, 10))
			f.Columns[w.name] = w.asFound()
		case w.own() && !c.hasDefault:
			continue
		}
		if w.own() {
			defaults = append(defaults, "ALTER COLUMN "+mysql.Quote(w.name)+" DROP DEFAULT")
		}
	}
	if len(columns) > 0 {
		add(&before, counts, table+strings.Join(columns, ", ")+algorithmInstant).instant = true
	}
	if modify := relax(ds, d, f); len(modify) > 0 {
		add(&before, "deletions and absent properties need NULL", table+strings.Join(modify, ", ")+algorithmInplace)
	}
	if ds.Version.Kind == schemas.VersionColumn {
		add(&after, "its rows have their versions in "+ds.Version.Column,
			"UPDATE "+mysql.Quote(ds.Replica.Table)+" SET "+ColVersion+" = "+mysql.Quote(ds.Version.Column)+" WHERE "+ColVersion+" = 0").fill = true
	}
	add(&after, "later inserts have to state their version", table+strings.Join(defaults, ", "))
	return before, after, problems
}

// relax makes columns nullable that Freshet has to empty, or has no value for.
func relax(ds *schemas.Dataset, d mysql.Dialect, f *Table) (modify []string) {
	ours := map[string]bool{}
	for _, w := range wanted(ds, d) {
		name := strings.ToLower(w.name)
		c, ok := f.Columns[name]
		ours[name] = !ok || !w.null || c.nullable || w.fits(c) != fitGood
	}
	for _, name := range slices.Sorted(maps.Keys(f.Columns)) {
		c := f.Columns[name]
		done, declared := ours[name]
		if done || !declared && !c.required {
			continue
		}
		if text := relaxed(f.definitions[name]); text != "" {
			modify = append(modify, "MODIFY COLUMN "+text)
			c.nullable, c.required = true, false
			f.Columns[name] = c
		}
	}
	return modify
}

// versionOf returns what the rows of an adopted table count as, and says so.
func (p Planner) versionOf(ds *schemas.Dataset) (version int64, counts string, problem *DatasetError) {
	version, given := p.Versions[ds.Name]
	fail := func(what, fix string) *DatasetError {
		return &DatasetError{Dataset: ds.Name, Problem: what, Fix: fix}
	}
	switch {
	case ds.Version.Kind == schemas.VersionColumn:
		return 0, "its rows count as the version in their column " + ds.Version.Column, nil
	case !given && ds.Version.Kind == schemas.VersionOffset:
		return 0, "", fail("the version of the table's rows is not known, since versions are places in the topic",
			"write --adopt-version "+ds.Name+"=N, where N is epoch × 2^40 + the end offset of the topic that was noted before the rows were read; docs/datasets.md, Loading rows by other means, says more")
	case !given:
		version = 1
	case version < schemas.MinVersion || version > schemas.MaxVersion:
		return 0, "", fail("the version of the table's rows is outside 1 … 2^53-2", "write another --adopt-version")
	}
	return version, fmt.Sprintf("its rows count as version %d: events of a greater version replace them, others are ignored", version), nil
}

// fillVersions sets the version of every row that has none yet from its column, in steps by primary key, so that no statement
// locks many rows. It can be repeated.
func (s Statement) fillVersions(ctx context.Context, conn *mysql.Conn) error {
	f := newFill(s.table)
	bad := 0
	for more := true; more; {
		var good []any
		var err error
		if good, more, err = f.next(ctx, conn, &bad); err != nil {
			return err
		}
		if rows := len(good) / f.columns; rows > 0 {
			text := s.SQL + " AND (" + f.list + ") IN (" + f.one + strings.Repeat(", "+f.one, rows-1) + ")"
			if _, err := conn.ExecOnce(ctx, text, good...); err != nil {
				return err //nolint:wrapcheck // the caller looks at it
			}
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d rows of table %s have no version from 1 to 2^53-2 in column %s; give them one, and run the command again", bad, s.table.Replica.Table, s.table.Version.Column)
	}
	return nil
}

// fill reads the keys of a table, page by page.
type fill struct {
	table, version string
	columns        int
	first          string // the first column of the key
	list, one      string // the columns of the key, and a placeholder for each
	last           []any
}

func newFill(ds *schemas.Dataset) *fill {
	keys := make([]string, ds.Replica.KeyColumns)
	for i := range keys {
		keys[i] = mysql.Quote(ds.Replica.Columns[i].Name)
	}
	return &fill{
		table: mysql.Quote(ds.Replica.Table), version: mysql.Quote(ds.Version.Column), columns: len(keys), first: keys[0],
		list: strings.Join(keys, ", "), one: "(?" + strings.Repeat(", ?", len(keys)-1) + ")",
	}
}

// next returns the keys of the next page whose rows have a version, and counts the others in bad. more is false behind the last.
func (f *fill) next(ctx context.Context, conn *mysql.Conn, bad *int) (good []any, more bool, err error) {
	where, args := "", []any(nil)
	if f.last != nil { // the first column bounds the range in the index
		where = " WHERE " + f.first + " >= ? AND (" + f.list + ") > " + f.one
		args = append([]any{f.last[0]}, f.last...)
	}
	text := "SELECT " + f.list + ", COALESCE(" + f.version + " BETWEEN 1 AND " + strconv.FormatInt(schemas.MaxVersion, 10) + ", 0) FROM " + f.table + where +
		" ORDER BY " + f.list + " LIMIT " + strconv.Itoa(fillRows)
	n := 0
	err = mysql.Each(ctx, conn, "read keys of "+f.table, text, args, func(scan func(...any) error) error {
		key := make([]any, f.columns)
		dest := make([]any, 0, f.columns+1)
		for i := range key {
			dest = append(dest, &key[i])
		}
		var has bool
		if err := scan(append(dest, &has)...); err != nil {
			return err
		}
		n++
		f.last = key
		if has {
			good = append(good, key...)
		} else {
			*bad++
		}
		return nil
	})
	return good, n == fillRows, err
}
