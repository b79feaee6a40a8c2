package tables

import (
	"context"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// Table is a table as the database has it.
type Table struct {
	// Exists is false for a table that is not there; everything else is then empty.
	Exists bool
	engine string
	// Columns are by lower-case name: column names are not case-sensitive.
	Columns map[string]foundColumn
	primary []string
	// unique are the other unique indexes, indexes all of them by name.
	unique  []string
	indexes map[string]bool
	// ForeignKeys are the names of its constraints.
	ForeignKeys []string
	// definitions are the columns' definitions by lower-case name, and now is the server's clock in Unix ms; read for an adoption.
	definitions map[string]string
	now         int64
}

type foundColumn struct {
	name, dataType string // dataType in lower case, without length: "varchar"
	unsigned       bool
	nullable       bool
	required       bool  // a row without a value for it is refused, also for a default of zeros
	hasDefault     bool  // other than NULL
	length         int64 // in characters, bytes for binary types
	precision      int64
	scale          int64
	collation      string
	// typ is the type as the server prints it, text; its Base is "" if it is not known.
	typ  schemas.ColumnType
	text string
}

const (
	sqlFindTable   = "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
	sqlFindColumns = "SELECT column_name, data_type, column_type, is_nullable, character_maximum_length, numeric_precision, numeric_scale," +
		" datetime_precision, collation_name, is_nullable = 'NO' AND column_default IS NULL AND extra = '' OR COALESCE(column_default LIKE '%0000-00-00%', 0), column_default IS NOT NULL FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position"
	sqlFindIndexes = "SELECT index_name, non_unique, column_name FROM information_schema.statistics" +
		" WHERE table_schema = DATABASE() AND table_name = ? ORDER BY index_name, seq_in_index"
	sqlFindForeign = "SELECT constraint_name FROM information_schema.table_constraints" +
		" WHERE table_schema = DATABASE() AND table_name = ? AND constraint_type = 'FOREIGN KEY' ORDER BY constraint_name"
)

// Find reads what the database knows of a table.
func Find(ctx context.Context, q mysql.Querier, name string) (*Table, error) {
	f := &Table{Columns: map[string]foundColumn{}, indexes: map[string]bool{}}
	err := mysql.Each(ctx, q, "inspect table "+name, sqlFindTable, []any{name}, func(scan func(...any) error) error {
		var engine *string
		f.Exists = true
		err := scan(&engine)
		if engine != nil {
			f.engine = *engine
		}
		return err
	})
	if err != nil || !f.Exists {
		return f, err
	}
	if err = mysql.Each(ctx, q, "inspect table "+name, sqlFindColumns, []any{name}, f.addColumn); err != nil {
		return nil, err
	}
	if err = mysql.Each(ctx, q, "inspect table "+name, sqlFindIndexes, []any{name}, f.addIndex); err != nil {
		return nil, err
	}
	err = mysql.Each(ctx, q, "inspect table "+name, sqlFindForeign, []any{name}, func(scan func(...any) error) error {
		var constraint string
		err := scan(&constraint)
		f.ForeignKeys = append(f.ForeignKeys, constraint)
		return err
	})
	return f, err
}

func (f *Table) addColumn(scan func(...any) error) error {
	var c foundColumn
	var columnType, nullable string
	var length, precision, scale, fraction *int64
	var collation *string
	if err := scan(&c.name, &c.dataType, &columnType, &nullable, &length, &precision, &scale, &fraction, &collation, &c.required, &c.hasDefault); err != nil {
		return err
	}
	c.dataType = strings.ToLower(c.dataType)
	c.typ, _ = schemas.ParseColumnType(columnType)
	c.text = columnType
	c.unsigned = strings.Contains(strings.ToLower(columnType), "unsigned")
	c.nullable = strings.EqualFold(nullable, "YES")
	if length != nil {
		c.length = *length
	}
	if precision != nil {
		c.precision = *precision
	}
	if fraction != nil {
		c.precision = *fraction
	}
	if scale != nil {
		c.scale = *scale
	}
	if collation != nil {
		c.collation = strings.ToLower(*collation)
	}
	f.Columns[strings.ToLower(c.name)] = c
	return nil
}

func (f *Table) addIndex(scan func(...any) error) error {
	var index string
	var nonUnique bool
	var column *string // NULL for an expression
	if err := scan(&index, &nonUnique, &column); err != nil {
		return err
	}
	switch {
	case index == "PRIMARY":
		if column != nil {
			f.primary = append(f.primary, *column)
		}
	case !nonUnique && !f.indexes[index]:
		f.unique = append(f.unique, index)
	}
	f.indexes[index] = true
	return nil
}
