package tables

import (
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
		n += columnBytes(c.Property, key)
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
		n += pageColumnBytes(c.Property, key, d)
		if !key {
			nullable++
		}
	}
	return n + (nullable+7)/8
}

func pageColumnBytes(p schemas.Property, key bool, d mysql.Dialect) int {
	text := p.Kind == schemas.KindString || p.Kind == schemas.KindJSON
	bytes := 4 * p.MaxLength // utf8mb4
	switch {
	case !text:
		return columnBytes(p, key)
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

func columnBytes(p schemas.Property, key bool) int {
	switch p.Kind {
	case schemas.KindString:
		if !key && !inVarchar(p) {
			return 3 + 8 // MEDIUMTEXT: a length and a pointer
		}
		bytes := 4 * p.MaxLength // utf8mb4
		if bytes > 255 {
			return bytes + 2
		}
		return bytes + 1
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
