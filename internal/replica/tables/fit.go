package tables

import (
	"slices"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// want is a column as Freshet makes it.
type want struct {
	name string
	sql  string // its type, "VARCHAR(200)"
	null bool
	key  bool
	prop schemas.Property
	typ  schemas.ColumnType // the declared type
}

// widenable are text types by their room; a wider one takes whatever a narrower one holds.
var textRoom = map[string]int64{"tinytext": 255, "text": 65535, "mediumtext": 1<<24 - 1, "longtext": 1<<32 - 1} //nolint:gochecknoglobals // a table of constants

// own reports whether it is one of Freshet's own columns.
func (w want) own() bool { return w.prop.Name == "" }

// fit reports how a found column serves a wanted one.
type fit uint8

const (
	fitGood   fit = iota
	fitWiden      // the same type, too short: it can be widened without loss
	fitRefuse     // another type
)

func (w want) fits(c foundColumn) fit {
	if w.typ.Base != "" {
		return fitsType(w.typ, c.typ)
	}
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

// fitsType compares a declared type with the one that the server has. A wider one serves as well, since values are held against
// the declared one.
func fitsType(want, have schemas.ColumnType) fit {
	switch {
	case want.IsInteger() && have.IsInteger():
		return compareSizes(intSize(want)-intSize(have), want.Unsigned == have.Unsigned)
	case want.Base == "json" && have.Base == "longtext": // MariaDB's JSON
		return fitGood
	case want.Base == "decimal" && have.Base == "decimal" && want.Unsigned == have.Unsigned:
		scale, whole := want.Scale-have.Scale, want.Precision-want.Scale-(have.Precision-have.Scale)
		return compareSizes(max(scale, whole), (scale >= 0) == (whole >= 0) || max(scale, whole) <= 0)
	case want.Base != have.Base || want.Unsigned != have.Unsigned || want.Precision != have.Precision:
		return compareSizes(int(textRoom[want.Base]-textRoom[have.Base]), textRoom[want.Base] > 0 && textRoom[have.Base] > 0)
	case want.Base == "enum" || want.Base == "set":
		n := min(len(want.Labels), len(have.Labels))
		return compareSizes(len(want.Labels)-len(have.Labels), slices.Equal(want.Labels[:n], have.Labels[:n]))
	case want.Base == "varchar" || want.Base == "varbinary" || want.Base == "char":
		return compareSizes(max(want.Length, 1)-max(have.Length, 1), true)
	}
	return good(max(want.Length, 1) == max(have.Length, 1) || want.Base == "year")
}

// compareSizes tells what a column is by how much it lacks; same is false for one of another kind.
func compareSizes(lacks int, same bool) fit {
	switch {
	case !same:
		return fitRefuse
	case lacks > 0:
		return fitWiden
	}
	return fitGood
}

func intSize(t schemas.ColumnType) int {
	return slices.Index([]string{"tinyint", "smallint", "mediumint", "int", "bigint"}, t.Base)
}

// widened is w for a column that is there and keeps its collation.
func (w want) widened(c foundColumn) want {
	if !w.key && c.collation != "" {
		_, own, _ := strings.Cut(w.sql, " CHARACTER SET ")
		if own != "" {
			charset, _, _ := strings.Cut(c.collation, "_")
			w.sql = strings.TrimSuffix(w.sql, " CHARACTER SET "+own) + " CHARACTER SET " + charset + " COLLATE " + c.collation
		}
	}
	return w
}
