package tables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// Check returns everything about a dataset's table that forbids writing to it.
func Check(ds *schemas.Dataset, d mysql.Dialect, f *Table) (problems []*DatasetError) {
	fail := func(fix, problem string, args ...any) {
		problems = append(problems, &DatasetError{Dataset: ds.Name, Problem: fmt.Sprintf(problem, args...), Fix: fix})
	}
	table := ds.Replica.Table
	if !f.Exists {
		fail("run freshet migrate datasets", "table %s does not exist", table)
		return problems
	}
	if f.engine != "" && !strings.EqualFold(f.engine, "InnoDB") {
		fail("ALTER TABLE … ENGINE = InnoDB", "table %s has the engine %s, which has no transactions", table, f.engine)
	}
	// The upsert fires on any unique key, and could then change another record's row.
	for _, index := range f.unique {
		fail("drop the index on the replica, or make it non-unique", "table %s has the secondary unique index %s", table, index)
	}
	for _, key := range f.ForeignKeys {
		fail("drop the constraint on the replica", "table %s has the foreign key %s, and the order between records is not promised", table, key)
	}
	ours := make(map[string]bool, len(ds.Replica.Columns)+OwnColumns)
	if lacks := lacksOwn(f); len(lacks) > 0 {
		fail("if it is a service's own table, choose another database or replica.table; else run freshet migrate datasets --adopt --dry-run to see how the table and its rows can be kept, or rebuild the table with `freshet replay start`, --rebuild and --apply",
			"table %s was not made by Freshet: it lacks the column %s", table, strings.Join(lacks, ", "))
	}
	for _, w := range wanted(ds, d) {
		ours[strings.ToLower(w.name)] = true
		if _, ok := f.Columns[strings.ToLower(w.name)]; !ok && w.own() {
			continue
		}
		checkColumn(ds, w, f, fail)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Columns)) {
		if c := f.Columns[name]; c.required && !ours[name] {
			fail("give the column a default, or let it be NULL", "column %s.%s is NOT NULL without a default, or has a default of zeros, and the dataset has no property for it", table, c.name)
		}
	}
	if !samePrimary(ds, f.primary) {
		fail("make the primary key of exactly the dataset's key columns", "table %s has another primary key than the dataset", table)
	}
	return problems
}

func checkColumn(ds *schemas.Dataset, w want, f *Table, fail func(fix, problem string, args ...any)) {
	table := ds.Replica.Table
	c, ok := f.Columns[strings.ToLower(w.name)]
	switch {
	case !ok:
		fail("run freshet migrate datasets", "table %s lacks the column %s", table, w.name)
	case w.fits(c) == fitWiden:
		fail("run freshet migrate datasets", "column %s.%s is shorter than the schema allows values to be", table, w.name)
	case w.fits(c) == fitRefuse:
		fail(mendColumn(ds, w, c), "column %s.%s is %s, not %s", table, w.name, c.text, w.sql)
	case w.null && !c.nullable:
		fail("make the column nullable", "column %s.%s is NOT NULL, but a deletion or an absent property needs NULL", table, w.name)
	}
}

// First returns the first of problems, which says how many others there are; nil without any.
func First(problems []*DatasetError) *DatasetError {
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return problems[0]
	}
	one := *problems[0]
	one.Problem += fmt.Sprintf(", and %d more problems, which freshet migrate datasets --dry-run lists", len(problems)-1)
	return &one
}

// mendColumn is how to fix a column of another type. Where the dataset could declare the column's own type, that is the least.
func mendColumn(ds *schemas.Dataset, w want, c foundColumn) string {
	const fix = "change it to %s by hand, or rebuild the table with `freshet replay start`, --rebuild and --apply"
	switch {
	case w.key && w.prop.Kind == schemas.KindString:
		return "change it to " + w.sql + ": other collations take different keys for equal, such as one with a trailing space"
	case w.prop.Name == "" || c.typ.Base == "" || w.key && !c.typ.IsInteger():
		return fmt.Sprintf(fix, w.sql)
	}
	problem, remedy := ds.Keeps(w.prop.Name, c.typ)
	if problem != "" {
		return fmt.Sprintf("the property does not fit the column, which %s: %s; or "+fix, problem, remedy, w.sql)
	}
	return fmt.Sprintf("declare the column's own type: replica.columns: {%s: {property: %s, type: %q}}; or "+fix, w.name, w.prop.Name, c.typ, w.sql)
}

func samePrimary(ds *schemas.Dataset, primary []string) bool {
	if len(primary) != ds.Replica.KeyColumns {
		return false
	}
	for _, c := range ds.Replica.Columns[:ds.Replica.KeyColumns] {
		if !slices.ContainsFunc(primary, func(p string) bool { return strings.EqualFold(p, c.Name) }) {
			return false
		}
	}
	return true
}
