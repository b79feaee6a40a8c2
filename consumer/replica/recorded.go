package replica

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// The columns of a dataset's schema are noted in freshet_meta by `freshet migrate datasets`. A worker of an older release of
// the declarations does not know some of them. It sets those to NULL with each row that it writes, which is right as long as
// events lack the property; an event that has it pauses the dataset, because a row without it would be a state that the
// record never had.

// recordedSchema is what is noted of a dataset. Column names are in lower case.
type recordedSchema struct {
	// Columns are the properties by column.
	Columns map[string]string `json:"columns"`
	// Retired are columns whose properties an operator took out of the schema: they are cleared, and events may have them.
	Retired []string `json:"retired,omitempty"`
}

func schemaOf(ds *schemas.Dataset) recordedSchema {
	s := recordedSchema{Columns: map[string]string{}}
	for _, c := range ds.Replica.Columns {
		s.Columns[strings.ToLower(c.Name)] = c.Property.Name
	}
	return s
}

// added is what is noted when the columns of other are declared too. A property that other has in another column leaves
// its former one, which is then cleared.
func (s recordedSchema) added(other recordedSchema) recordedSchema {
	out := recordedSchema{Columns: maps.Clone(s.Columns)}
	if out.Columns == nil {
		out.Columns = map[string]string{}
	}
	maps.Copy(out.Columns, other.Columns)
	retired := slices.Clone(s.Retired)
	properties := slices.Collect(maps.Values(other.Columns))
	for name, property := range s.Columns {
		if _, declared := other.Columns[name]; !declared && slices.Contains(properties, property) {
			delete(out.Columns, name)
			retired = append(retired, name)
		}
	}
	for _, name := range slices.Sorted(slices.Values(retired)) {
		if _, back := other.Columns[name]; !back {
			out.Retired = append(out.Retired, name)
		}
	}
	return out
}

func (s recordedSchema) equal(other recordedSchema) bool {
	return maps.Equal(s.Columns, other.Columns) && slices.Equal(s.Retired, other.Retired)
}

// difference is how a dataset differs from what is noted.
type difference struct {
	note string // as read
	// unknown are the properties that only the noted schema has.
	unknown map[string]bool
	// wide is the table with all noted columns; nil if it has no others.
	wide *table
	// missing is a column that is not noted: this declaration is newer than the last migration.
	missing string
}

// compare returns the columns that only the note has.
func (d *difference) compare(t *table, noted recordedSchema) (extra []string) {
	mine := schemaOf(t.ds).Columns
	for _, column := range slices.Sorted(maps.Keys(noted.Columns)) {
		if _, ok := mine[column]; !ok {
			d.unknown[noted.Columns[column]] = true
			extra = append(extra, column)
		}
	}
	for _, column := range noted.Retired {
		if _, ok := mine[column]; !ok {
			extra = append(extra, column)
		}
	}
	for _, column := range slices.Sorted(maps.Keys(mine)) {
		if _, ok := noted.Columns[column]; !ok && !slices.Contains(noted.Retired, column) {
			d.missing = column
		}
	}
	return extra
}

// checkSchema compares a table's dataset with the note, and with the events that are about to be written.
func (r *run) checkSchema(ctx context.Context, t *table, note []byte) error {
	d, err := r.m.tables.difference(ctx, t, note)
	if err != nil {
		return err
	}
	if d.missing != "" {
		return &DatasetError{Dataset: t.ds.Name, Problem: "its column " + d.missing + " is not registered in the database", Fix: mendMigrate}
	}
	if len(d.unknown) > 0 {
		if property := r.carried(t, d.unknown); property != "" {
			return lacking(t.ds, property)
		}
	}
	if d.wide != nil {
		if r.wide == nil {
			r.wide = map[*table]*table{}
		}
		r.wide[t] = d.wide
	}
	return nil
}

// lacking is the error of events with a property that the registered schema has, and ds lacks or keeps in another column.
func lacking(ds *schemas.Dataset, property string) *DatasetError {
	e := &DatasetError{Dataset: ds.Name, Fix: "start a program with the registered declarations"}
	for _, c := range ds.Replica.Columns {
		if c.Property.Name == property {
			e.Problem = fmt.Sprintf("events have the property %s, which the registered declaration keeps in another column than this program's", property)
			e.Fix += ", or run freshet migrate datasets with this program's"
			return e
		}
	}
	e.Problem = fmt.Sprintf("events have the property %s, which the registered schema has and this program's does not", property)
	e.Fix += "; if the property is to go, run freshet migrate datasets --drop-property " + ds.Name + "." + property
	return e
}

// carried returns one of the properties that the events of t have, or refused events may have; "" if there is none.
func (r *run) carried(t *table, properties map[string]bool) string {
	for _, p := range r.parts {
		if p.t != t {
			continue
		}
		for _, c := range p.rows {
			for ; c != nil; c = c.Older {
				if name := carriedBy(c.Event, properties); name != "" {
					return name
				}
			}
		}
	}
	for _, l := range r.b.Letters {
		if l.Dataset == t.ds.Name && l.Reason == schemas.ReasonSchema { // the older schema has judged it
			return slices.Sorted(maps.Keys(properties))[0]
		}
	}
	return ""
}

func carriedBy(ev *schemas.Event, properties map[string]bool) (found string) {
	if ev == nil || ev.Op == schemas.Delete {
		return ""
	}
	// The event was checked, so its data is an object.
	_ = schemas.WalkObject(string(ev.Data), func(name string, v schemas.JSON) error {
		if properties[name] && v.Kind != schemas.JSONNull {
			found = name
		}
		return nil
	})
	return found
}

// planSchema registers the columns that a dataset has and the note lacks. It removes nothing: a rollback must not make
// columns unknown that newer events fill.
func planSchema(ctx context.Context, db *sql.DB, ds *schemas.Dataset) ([]Statement, error) {
	noted, known, err := notedSchema(ctx, db, ds.Name)
	if err != nil {
		return nil, err
	}
	want := noted.added(schemaOf(ds))
	if known && want.equal(noted) {
		return nil, nil
	}
	value, err := json.Marshal(want)
	if err != nil {
		return nil, fmt.Errorf("write schema of dataset %s: %w", ds.Name, err)
	}
	return []Statement{{
		Dataset: ds.Name, Note: "its columns are new to the database", SQL: sqlSetMeta, register: "its schema",
		args: []any{[]byte(metaSchema + ds.Name), value},
	}}, nil
}

func notedSchema(ctx context.Context, db *sql.DB, dataset string) (s recordedSchema, known bool, err error) {
	value, known, err := readMeta(ctx, db, "read noted schema of dataset "+dataset, metaSchema+dataset)
	if err == nil && known {
		if err = json.Unmarshal(value, &s); err != nil {
			err = fmt.Errorf("read noted schema of dataset %s: %w", dataset, err)
		}
	}
	return s, known && err == nil, err
}

// DropProperty notes that a property is out of a dataset's schema: its column is cleared with each row that is written, and
// events that still have it are applied without it. found is false if no such property is noted.
func DropProperty(ctx context.Context, db *sql.DB, dataset, property string) (found bool, err error) {
	s, _, err := notedSchema(ctx, db, dataset)
	if err != nil {
		return false, err
	}
	for column, p := range s.Columns {
		if p == property {
			delete(s.Columns, column)
			s.Retired = append(s.Retired, column)
			found = true
		}
	}
	if !found {
		return false, nil
	}
	slices.Sort(s.Retired)
	value, err := json.Marshal(s)
	if err != nil {
		return false, fmt.Errorf("write schema of dataset %s: %w", dataset, err)
	}
	_, err = db.ExecContext(ctx, sqlSetMeta, []byte(metaSchema+dataset), value)
	return true, mysql.Wrap("note schema of dataset", dataset, err)
}

// UnknownProperties returns the noted properties of a dataset that its declaration does not have, sorted: the declaration is
// older than the one that was registered.
func (l *Declarations) UnknownProperties(ctx context.Context, ds *schemas.Dataset) ([]string, error) {
	noted, _, err := notedSchema(ctx, l.pool.DB(), ds.Name)
	if err != nil {
		return nil, err
	}
	var out []string
	mine := schemaOf(ds).Columns
	for column, property := range noted.Columns {
		if _, ok := mine[column]; !ok {
			out = append(out, property)
		}
	}
	slices.Sort(out)
	return out, nil
}
