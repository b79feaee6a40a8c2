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
	newer := incoming(quote(colVersion)) + " > " + current(quote(colVersion))
	b.WriteString(" ON DUPLICATE KEY UPDATE ")
	for i, name := range names {
		if i < r.KeyColumns {
			continue
		}
		when := newer
		if ds.KeepOnDelete && i < len(r.Columns) {
			when += " AND " + incoming(quote(colDeleted)) + " = 0"
		}
		b.WriteString(name + " = IF(" + when + ", " + incoming(name) + ", " + current(name) + ")")
		if i < len(names)-1 {
			b.WriteString(", ")
		}
	}
	return b.String()
}

// quote makes an identifier of a name from a dataset declaration.
func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// nowMillis is the database's clock, Unix ms. Ages are always judged by it, never by a worker's.
const nowMillis = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
