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
}

type foundColumn struct {
	name, dataType string // dataType in lower case, without length: "varchar"
	unsigned       bool
	nullable       bool
	required       bool  // a row without a value for it is refused
	length         int64 // in characters, bytes for binary types
	precision      int64
	scale          int64
	collation      string
}

const (
	sqlFindTable   = "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
	sqlFindColumns = "SELECT column_name, data_type, column_type, is_nullable, character_maximum_length, numeric_precision, numeric_scale," +
		" datetime_precision, collation_name, NOT (is_nullable = 'YES' OR column_default IS NOT NULL OR extra <> '') FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position"
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
	if err := scan(&c.name, &c.dataType, &columnType, &nullable, &length, &precision, &scale, &fraction, &collation, &c.required); err != nil {
		return err
	}
	c.dataType = strings.ToLower(c.dataType)
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

// want is a column as Freshet makes it.
type want struct {
	name string
	sql  string // its type, "VARCHAR(200)"
	null bool
	key  bool
	prop schemas.Property
}

// widenable are text types by their room; a wider one takes whatever a narrower one holds.
var textRoom = map[string]int64{"tinytext": 255, "text": 65535, "mediumtext": 1<<24 - 1, "longtext": 1<<32 - 1} //nolint:gochecknoglobals // a table of constants

// fit reports how a found column serves a wanted one.
type fit uint8

const (
	fitGood   fit = iota
	fitWiden      // the same type, too short: it can be widened without loss
	fitRefuse     // another type
)

func (w want) fits(c foundColumn) fit {
	switch w.prop.Kind {
	case schemas.KindString:
		return w.fitsString(c)
	case schemas.KindInteger:
		return good(c.dataType == "bigint" && c.unsigned == w.prop.Unsigned)
	case schemas.KindNumber:
		return good(c.dataType == "double")
	case schemas.KindDecimal:
		whole, scale := int64(w.prop.Precision-w.prop.Scale), int64(w.prop.Scale)
		switch found := c.precision - c.scale; {
		case c.dataType == "decimal" && found <= whole && c.scale <= scale && (found < whole || c.scale < scale):
			return fitWiden
		default:
			return good(c.dataType == "decimal" && found >= whole && c.scale >= scale)
		}
	case schemas.KindDateTime:
		return good(c.dataType == "datetime" && c.precision == 6)
	case schemas.KindDate:
		return good(c.dataType == "date")
	case schemas.KindBoolean:
		return good(c.dataType == "tinyint" || c.dataType == "bigint")
	case schemas.KindJSON:
		// MariaDB's JSON is LONGTEXT with a check.
		return good(c.dataType == "json" || c.dataType == "longtext")
	}
	return fitRefuse
}

func good(ok bool) fit {
	if ok {
		return fitGood
	}
	return fitRefuse
}

func (w want) fitsString(c foundColumn) fit {
	room := c.length
	isText := false
	if n, ok := textRoom[c.dataType]; ok {
		room, isText = n, true
	}
	switch {
	case w.key && c.dataType == "varbinary":
		return good(room >= 4*int64(w.prop.MaxLength))
	case w.key && (c.dataType != "varchar" || !keyCollation(c.collation)):
		return fitRefuse
	case c.dataType != "varchar" && !isText:
		return fitRefuse
	case inVarchar(w.prop) && !isText:
		if room < int64(w.prop.MaxLength) {
			return fitWiden
		}
		return fitGood
	case !inVarchar(w.prop):
		if room < textRoom["mediumtext"] {
			return fitWiden
		}
		return fitGood
	}
	return good(room >= 4*int64(w.prop.MaxLength))
}

// keyCollation reports whether a collation tells any two keys apart, also such that differ by trailing spaces.
func keyCollation(collation string) bool {
	return collation == "utf8mb4_nopad_bin" || collation == "utf8mb4_0900_bin"
}

// inVarchar reports whether a string property is short enough for VARCHAR.
func inVarchar(p schemas.Property) bool { return p.MaxLength > 0 && p.MaxLength <= maxVarchar }

const maxVarchar = 1024
