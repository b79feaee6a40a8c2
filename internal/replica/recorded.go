package replica

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

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
func (d *difference) compare(t *table, noted tables.Schema) (extra []string) {
	mine := tables.SchemaOf(t.ds).Columns
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
		return &tables.DatasetError{Dataset: t.ds.Name, Problem: "its column " + d.missing + " is not registered in the database", Fix: tables.FixMigrate}
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
func lacking(ds *schemas.Dataset, property string) *tables.DatasetError {
	e := &tables.DatasetError{Dataset: ds.Name, Fix: "start a program with the registered declarations"}
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

// UnknownProperties returns the noted properties of a dataset that its declaration does not have, sorted: the declaration is
// older than the one that was registered.
func (l *Declarations) UnknownProperties(ctx context.Context, ds *schemas.Dataset) ([]string, error) {
	noted, _, err := tables.Noted(ctx, l.pool.DB(), ds.Name)
	if err != nil {
		return nil, err
	}
	var out []string
	mine := tables.SchemaOf(ds).Columns
	for column, property := range noted.Columns {
		if _, ok := mine[column]; !ok {
			out = append(out, property)
		}
	}
	slices.Sort(out)
	return out, nil
}
