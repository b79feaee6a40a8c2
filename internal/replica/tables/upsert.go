package tables

import (
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// Freshet's own columns of every replica table.
const (
	ColVersion = "_version"
	ColDeleted = "_deleted"
	ColAt      = "_at"
)

// OwnColumns is their number.
const OwnColumns = 3

// UpsertSQL is the guarded upsert of that many rows: a row changes if the incoming version is greater than its own.
// Arguments per row: the dataset's columns in order, then _deleted, _at, _version.
//
// Assignments run from left to right, so _version must come last: were it first, the later ones would compare the new
// version with itself and keep old values under it.
//
// A row that keeps its version makes the statement's last insert id 1, which tells that events lost the guard; it is 0 when
// every row was inserted or changed.
//
// The server may find a row by any unique index, also by one that was added since the table was checked, or by a collation
// that takes two keys for equal. If the row that it finds has another key, the last assignment overflows, which every
// sql_mode refuses (error 1690), and the whole statement is undone.
func UpsertSQL(ds *schemas.Dataset, d mysql.Dialect, rows int) string {
	r := ds.Replica
	names := make([]string, 0, len(r.Columns)+OwnColumns)
	for _, c := range r.Columns {
		names = append(names, mysql.Quote(c.Name))
	}
	names = append(names, mysql.Quote(ColDeleted), mysql.Quote(ColAt), mysql.Quote(ColVersion))
	one := "(?" + strings.Repeat(",?", len(names)-1) + ")"

	var b strings.Builder
	b.Grow(rows*(len(one)+1) + 200*len(names))
	b.WriteString("INSERT INTO " + mysql.Quote(r.Table) + " (" + strings.Join(names, ", ") + ") VALUES ")
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(one)
	}
	incoming := func(col string) string { return "VALUES(" + col + ")" }
	current := func(col string) string { return col }
	if d == mysql.ModernMySQL {
		b.WriteString(" AS n")
		incoming = func(col string) string { return "n." + col }
		current = func(col string) string { return mysql.Quote(r.Table) + "." + col }
	}
	version := mysql.Quote(ColVersion)
	newer := incoming(version) + " > " + current(version)
	b.WriteString(" ON DUPLICATE KEY UPDATE ")
	for i, name := range names[r.KeyColumns : len(names)-1] {
		when := newer
		if ds.KeepOnDelete && i+r.KeyColumns < len(r.Columns) {
			when += " AND " + incoming(mysql.Quote(ColDeleted)) + " = 0"
		}
		kept := current(name)
		if name == mysql.Quote(ColAt) {
			kept = "IF(LAST_INSERT_ID(1), " + kept + ", " + kept + ")"
		}
		b.WriteString(name + " = IF(" + when + ", " + incoming(name) + ", " + kept + "), ")
	}
	b.WriteString(version + " = IF(" + sameKey(r, incoming, current) + ", IF(" + newer + ", " + incoming(version) + ", " + current(version) + "), " +
		incoming(version) + " + 9223372036854775807)")
	return b.String()
}

// sameKey compares the keys of two rows. Strings are compared as bytes: the column's collation may have changed.
func sameKey(r *schemas.Replica, incoming, current func(string) string) string {
	var same []string
	for _, c := range r.Columns[:r.KeyColumns] {
		was, is := current(mysql.Quote(c.Name)), incoming(mysql.Quote(c.Name))
		if c.Property.Kind == schemas.KindString {
			was, is = "CAST("+was+" AS BINARY)", "CAST("+is+" AS BINARY)"
		}
		same = append(same, was+" = "+is)
	}
	return strings.Join(same, " AND ")
}

// Overwrites reports whether an upsert was refused because it found another record's row.
func Overwrites(number uint16) bool { return number == 1690 }
