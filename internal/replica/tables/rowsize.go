package tables

import (
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// MaxRowBytes is the server's limit of a row, without what TEXT and JSON columns keep elsewhere; CREATE TABLE beyond it
// is error 1118.
const MaxRowBytes = 65535

// MaxColumns is InnoDB's limit of a table, Freshet's own columns included.
const MaxColumns = 1017

// RowBytes is how much of MaxRowBytes the dataset's table takes.
func RowBytes(ds *schemas.Dataset) int {
	n := 8 + 1 + 8 // _version, _deleted, _at
	nullable := 0
	for i, c := range ds.Replica.Columns {
		key := i < ds.Replica.KeyColumns
		n += columnBytes(c, key)
		if !key {
			nullable++
		}
	}
	return n + (nullable+7)/8
}

// MaxPageBytes is InnoDB's limit of the part of a row that is stored in its page, for pages of 16 KiB; CREATE TABLE beyond it
// is error 1118 too.
const MaxPageBytes = 8126

// PageBytes is how much of MaxPageBytes the dataset's table takes. A text counts with what it may take within the page:
// MariaDB moves one out of the page when it may be longer than 255 bytes and keeps 20 bytes of it; MySQL keeps up to 40.
func PageBytes(ds *schemas.Dataset, d mysql.Dialect) int {
	n := 5 + 6 + 7 + 8 + 1 + 8 // the record's header, InnoDB's own columns, _version, _deleted, _at
	nullable := 0
	for i, c := range ds.Replica.Columns {
		key := i < ds.Replica.KeyColumns
		n += pageColumnBytes(c, key, d)
		if !key {
			nullable++
		}
	}
	return n + (nullable+7)/8
}

func pageColumnBytes(c schemas.Column, key bool, d mysql.Dialect) int {
	p := c.Property
	outside := strings.HasSuffix(c.Type.Base, "text") || strings.HasSuffix(c.Type.Base, "blob") || c.Type.Base == "json"
	switch n, varies := typeBytes(c.Type); {
	case n == 0:
	case !varies:
		return n
	case d != mysql.MariaDB && outside:
		return 40 + 1
	case d != mysql.MariaDB:
		return min(n, 40) + 1
	case n > 255+1 || outside:
		return 20 + 1
	default:
		return n
	}
	text := p.Kind == schemas.KindString || p.Kind == schemas.KindJSON
	bytes := 4 * p.MaxLength // utf8mb4
	switch {
	case !text:
		return columnBytes(c, key)
	case d != mysql.MariaDB && p.Kind == schemas.KindString && (key || inVarchar(p)):
		return min(bytes, 40) + 1
	case d != mysql.MariaDB:
		return 40 + 1
	case key && bytes > 255:
		return bytes + 2 // MariaDB never moves a key out
	case key:
		return bytes + 1
	case p.Kind == schemas.KindString && inVarchar(p) && bytes <= 255:
		return bytes + 1
	}
	return 20 + 1
}

// typeBytes is how many bytes a declared type takes in a row at most, without what is kept elsewhere; 0 without one. varies
// is true for a type that InnoDB may move out of its page.
func typeBytes(t schemas.ColumnType) (n int, varies bool) {
	fraction := (t.Length + 1) / 2
	switch t.Base {
	case "":
		return 0, false
	case "tinyint", "year":
		return 1, false
	case "smallint":
		return 2, false
	case "mediumint", "date":
		return 3, false
	case "int", "float", "inet4":
		return 4, false
	case "bigint", "double":
		return 8, false
	case "time":
		return 3 + fraction, false
	case "timestamp":
		return 4 + fraction, false
	case "datetime":
		return 5 + fraction, false
	case "bit":
		return max((t.Length+7)/8, 1), false
	case "decimal":
		return decimalBytes(t.Precision-t.Scale) + decimalBytes(t.Scale), false
	case "enum":
		return 1 + len(t.Labels)/256, false
	case "set":
		n = (len(t.Labels) + 7) / 8
		if n > 4 {
			n = 8
		}
		return n, false
	case "uuid", "inet6":
		return 16, false
	case "binary":
		return max(t.Length, 1), t.Length > 255
	case "char":
		return 4 * max(t.Length, 1), true // utf8mb4
	case "varchar":
		return withLength(4 * t.Length), true
	case "varbinary":
		return withLength(t.Length), true
	case "tinytext", "tinyblob":
		return 1 + 8, true
	case "text", "blob":
		return 2 + 8, true
	case "mediumtext", "mediumblob":
		return 3 + 8, true
	}
	return 4 + 8, true
}

// withLength is a text with the bytes that its length takes.
func withLength(bytes int) int {
	if bytes > 255 {
		return bytes + 2
	}
	return bytes + 1
}

func columnBytes(c schemas.Column, key bool) int {
	if n, _ := typeBytes(c.Type); n > 0 {
		return n
	}
	p := c.Property
	switch p.Kind {
	case schemas.KindString:
		if !key && !inVarchar(p) {
			return 3 + 8 // MEDIUMTEXT: a length and a pointer
		}
		return withLength(4 * p.MaxLength) // utf8mb4
	case schemas.KindDecimal:
		return decimalBytes(p.Precision-p.Scale) + decimalBytes(p.Scale)
	case schemas.KindDate:
		return 3
	case schemas.KindBoolean:
		return 1
	case schemas.KindJSON:
		return 4 + 8
	case schemas.KindInteger, schemas.KindNumber, schemas.KindDateTime:
	}
	return 8
}

// decimalBytes: nine digits take four bytes, what is left over as many as it needs.
func decimalBytes(digits int) int {
	return digits/9*4 + (digits%9+1)/2
}
