package replica

import "github.com/freshet/freshet/schemas"

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
