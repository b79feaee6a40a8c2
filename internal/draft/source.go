package draft

import (
	"context"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	sqlTables  = "SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_type = 'BASE TABLE' ORDER BY table_name"
	sqlKind    = "SELECT table_type FROM information_schema.tables WHERE table_schema = ? AND table_name = ?"
	sqlColumns = "SELECT column_name, column_type, is_nullable, extra, COALESCE(column_default LIKE '%0000-00-00%', 0) FROM information_schema.columns" +
		" WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position"
	sqlKey = "SELECT COALESCE(column_name, ''), sub_part IS NOT NULL FROM information_schema.statistics" +
		" WHERE table_schema = ? AND table_name = ? AND index_name = 'PRIMARY' ORDER BY seq_in_index"
	// MariaDB's JSON is LONGTEXT with this constraint.
	sqlJSON = "SELECT check_clause FROM information_schema.check_constraints WHERE constraint_schema = ? AND table_name = ?"
	sqlZone = "SELECT IF(@@global.time_zone = 'SYSTEM', @@system_time_zone, @@global.time_zone)"
)

// Tables lists the tables of a database.
func Tables(ctx context.Context, q mysql.Querier, database string) ([]string, error) {
	return mysql.Texts(ctx, q, "list tables of "+database, sqlTables, database)
}

// Read reads a table's description. What makes a dataset of it impossible is in Unwritable.
func Read(ctx context.Context, q mysql.Querier, dialect mysql.Dialect, database, name string) (*Table, error) {
	t := &Table{Database: database, Name: name}
	what := "inspect table " + database + "." + name
	var kind string
	found, err := mysql.One(ctx, q, what, sqlKind, []any{database, name}, &kind)
	switch {
	case err != nil:
		return nil, err
	case !found:
		t.Unwritable = "it does not exist, or the account may not read it: GRANT SELECT ON " + database + "." + name
		return t, nil
	case kind != "BASE TABLE":
		t.Unwritable = "it is not a table but a " + strings.ToLower(kind) + ", whose changes nothing reports: name its tables"
		return t, nil
	}
	if _, err := mysql.One(ctx, q, what, sqlZone, nil, &t.Zone); err != nil {
		return nil, err
	}
	documents, err := jsonColumns(ctx, q, dialect, database, name)
	if err != nil {
		return nil, err
	}
	err = mysql.Each(ctx, q, what, sqlColumns, []any{database, name}, func(scan func(...any) error) error {
		var c Column
		var nullable, extra string
		if err := scan(&c.Name, &c.Text, &nullable, &extra, &c.ZeroDate); err != nil {
			return err
		}
		c.Type, _ = schemas.ParseColumnType(c.Text)
		c.Nullable = nullable == "YES"
		c.Generated = strings.Contains(extra, "VIRTUAL GENERATED") || strings.Contains(extra, "STORED GENERATED")
		if slices.Contains(documents, c.Name) && c.Type.Base == "longtext" {
			c.Type = schemas.ColumnType{Base: "json"}
		}
		t.Columns = append(t.Columns, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, mysql.Each(ctx, q, what, sqlKey, []any{database, name}, func(scan func(...any) error) error {
		var column string
		var prefix bool
		err := scan(&column, &prefix)
		t.Key = append(t.Key, column)
		for i := range t.Columns {
			if t.Columns[i].Name == column {
				t.Columns[i].Prefix = prefix
			}
		}
		return err
	})
}

// jsonColumns are the columns that MariaDB shows as LONGTEXT and that hold JSON.
func jsonColumns(ctx context.Context, q mysql.Querier, dialect mysql.Dialect, database, name string) ([]string, error) {
	if dialect != mysql.MariaDB {
		return nil, nil
	}
	clauses, err := mysql.Texts(ctx, q, "read constraints of "+database+"."+name, sqlJSON, database, name)
	var columns []string
	for _, clause := range clauses {
		if strings.HasPrefix(strings.ToLower(clause), "json_valid(`") {
			_, rest, _ := strings.Cut(clause, "`")
			column, end, _ := strings.Cut(rest, "`")
			if end == ")" {
				columns = append(columns, column)
			}
		}
	}
	return columns, err
}
