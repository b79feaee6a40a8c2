package tables

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
	"github.com/freshet/freshet/schemas"
)

// The columns of a dataset's schema are noted in freshet_meta by `freshet migrate datasets`. A worker of an older release of
// the declarations does not know some of them. It sets those to NULL with each row that it writes, which is right as long as
// events lack the property; an event that has it pauses the dataset, because a row without it would be a state that the
// record never had.

// Schema is what is noted of a dataset's schema. Column names are in lower case.
type Schema struct {
	// Columns are the properties by column.
	Columns map[string]string `json:"columns"`
	// Retired are columns whose properties an operator took out of the schema: they are cleared, and events may have them.
	Retired []string `json:"retired,omitempty"`
}

// SchemaOf returns what is to be noted of a dataset.
func SchemaOf(ds *schemas.Dataset) Schema {
	s := Schema{Columns: map[string]string{}}
	for _, c := range ds.Replica.Columns {
		s.Columns[strings.ToLower(c.Name)] = c.Property.Name
	}
	return s
}

// added is what is noted when the columns of other are declared too. A property that other has in another column leaves
// its previous one, which is then cleared.
func (s Schema) added(other Schema) Schema {
	out := Schema{Columns: maps.Clone(s.Columns)}
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

func (s Schema) equal(other Schema) bool {
	return maps.Equal(s.Columns, other.Columns) && slices.Equal(s.Retired, other.Retired)
}

// planSchema registers the columns that a dataset has and the note lacks. It removes nothing: a rollback must not make
// columns unknown that newer events fill.
func planSchema(ctx context.Context, db *sql.DB, ds *schemas.Dataset) ([]Statement, error) {
	noted, known, err := Noted(ctx, db, ds.Name)
	if err != nil {
		return nil, err
	}
	want := noted.added(SchemaOf(ds))
	if known && want.equal(noted) {
		return nil, nil
	}
	value, err := json.Marshal(want)
	if err != nil {
		return nil, fmt.Errorf("write schema of dataset %s: %w", ds.Name, err)
	}
	return []Statement{{
		Dataset: ds.Name, Note: "its columns are new to the database", SQL: meta.SQLSet, register: "its schema",
		args: []any{[]byte(meta.Schema + ds.Name), value},
	}}, nil
}

// Noted returns the noted schema of a dataset; known is false if none is noted.
func Noted(ctx context.Context, db *sql.DB, dataset string) (s Schema, known bool, err error) {
	value, known, err := meta.Read(ctx, db, "read noted schema of dataset "+dataset, meta.Schema+dataset)
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
	s, _, err := Noted(ctx, db, dataset)
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
	_, err = db.ExecContext(ctx, meta.SQLSet, []byte(meta.Schema+dataset), value)
	return true, mysql.Wrap("note schema of dataset", dataset, err)
}
