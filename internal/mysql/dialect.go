package mysql

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// Dialect is a family of servers, which differ in how an upsert and a column are written.
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

// String returns the dialect's name.
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
		return 0, Wrap("ask for the server's version", "", err)
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

// Quote makes an identifier of a name.
func Quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// NowMillis is an expression for the database's clock, in Unix ms. Ages are always judged by it, never by a worker's clock.
const NowMillis = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
