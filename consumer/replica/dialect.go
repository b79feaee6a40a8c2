package replica

import (
	"context"
	"database/sql"
	"strconv"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// Dialect is how a server wants the guarded upsert and the key columns written.
type Dialect uint8

// The dialects.
const (
	// MariaDB names the incoming row by VALUES(column); keys are compared by utf8mb4_nopad_bin.
	MariaDB Dialect = iota + 1
	// ModernMySQL, from 8.0.19, names the incoming row by an alias; keys are compared by utf8mb4_0900_bin.
	ModernMySQL
	// OldMySQL knows neither the alias nor a collation that tells keys with trailing spaces apart: its string keys are
	// VARBINARY.
	OldMySQL
)

// String gives the dialect's name.
func (d Dialect) String() string {
	switch d {
	case MariaDB:
		return "mariadb"
	case ModernMySQL:
		return "mysql"
	case OldMySQL:
		return "mysql-old"
	}
	return "unknown"
}

// DetectDialect asks the server for its version.
func DetectDialect(ctx context.Context, db *sql.DB) (Dialect, error) {
	var version string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return 0, doing("ask for the server's version", "", err)
	}
	return dialectOf(version), nil
}

func dialectOf(version string) Dialect {
	if strings.Contains(strings.ToLower(version), "mariadb") {
		return MariaDB
	}
	var part [3]int
	for i, s := range strings.SplitN(version, ".", 3) {
		end := 0
		for end < len(s) && s[end] >= '0' && s[end] <= '9' {
			end++
		}
		part[i], _ = strconv.Atoi(s[:end]) // no digits: 0, the oldest
	}
	switch {
	case part[0] > 8, part[0] == 8 && (part[1] > 0 || part[2] >= 19):
		return ModernMySQL
	}
	return OldMySQL
}

// Freshet's own columns of every replica table.
const (
	colVersion = "_version"
	colDeleted = "_deleted"
	colAt      = "_at"
)

// ownColumns is their number.
const ownColumns = 3

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
func UpsertSQL(ds *schemas.Dataset, d Dialect, rows int) string {
	r := ds.Replica
	names := make([]string, 0, len(r.Columns)+ownColumns)
	for _, c := range r.Columns {
		names = append(names, quote(c.Name))
	}
	names = append(names, quote(colDeleted), quote(colAt), quote(colVersion))
	one := "(?" + strings.Repeat(",?", len(names)-1) + ")"

	var b strings.Builder
	b.Grow(rows*(len(one)+1) + 200*len(names))
	b.WriteString("INSERT INTO " + quote(r.Table) + " (" + strings.Join(names, ", ") + ") VALUES ")
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(one)
	}
	incoming := func(col string) string { return "VALUES(" + col + ")" }
	current := func(col string) string { return col }
	if d == ModernMySQL {
		b.WriteString(" AS n")
		incoming = func(col string) string { return "n." + col }
		current = func(col string) string { return quote(r.Table) + "." + col }
	}
	version := quote(colVersion)
	newer := incoming(version) + " > " + current(version)
	b.WriteString(" ON DUPLICATE KEY UPDATE ")
	for i, name := range names[r.KeyColumns : len(names)-1] {
		when := newer
		if ds.KeepOnDelete && i+r.KeyColumns < len(r.Columns) {
			when += " AND " + incoming(quote(colDeleted)) + " = 0"
		}
		kept := current(name)
		if name == quote(colAt) {
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
		was, is := current(quote(c.Name)), incoming(quote(c.Name))
		if c.Property.Kind == schemas.KindString {
			was, is = "CAST("+was+" AS BINARY)", "CAST("+is+" AS BINARY)"
		}
		same = append(same, was+" = "+is)
	}
	return strings.Join(same, " AND ")
}

// overwrites reports whether an upsert was refused because it found another record's row.
func overwrites(number uint16) bool { return number == 1690 }

// quote makes an identifier of a name from a dataset declaration.
func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// nowMillis is the database's clock, Unix ms. Ages are always judged by it, never by a worker's.
const nowMillis = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
