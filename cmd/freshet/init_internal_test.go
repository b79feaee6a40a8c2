package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/draft"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// source is a database that changes come from, and an empty one for the replica.
type source struct {
	name, dsnFile, out, replicaDSN string
	db                             *sql.DB
	dialect                        mysql.Dialect
}

// newSource fills a database with the statements of a file.
func newSource(t *testing.T, text string) *source {
	t.Helper()
	srv := testenv.MySQL(t)
	s := &source{out: t.TempDir(), dsnFile: filepath.Join(t.TempDir(), "source.dsn"), replicaDSN: srv.NewDatabase(t)}
	dsn := srv.NewDatabase(t)
	if err := os.WriteFile(s.dsnFile, []byte(dsn+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.db, err = (mysql.Config{DSN: dsn}).OpenDB(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	s.db.SetMaxOpenConns(1)
	if s.dialect, err = mysql.DetectDialect(t.Context(), s.db); err != nil {
		t.Fatal(err)
	}
	if err := s.db.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&s.name); err != nil {
		t.Fatal(err)
	}
	for statement := range strings.SplitSeq("SET SESSION sql_mode = ''\n;\n"+text, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := s.db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return s
}

// freshet runs the program and returns what it printed.
func (s *source) freshet(t *testing.T, want int, args ...string) string {
	t.Helper()
	out, errOut, code := freshet(t, []string{"FRESHET_MYSQL__DSN=" + s.replicaDSN, "FRESHET_DATASETS=" + s.out, "FRESHET_NAMESPACE=shop"}, args...)
	if code != want {
		t.Fatalf("freshet %s: exit code %d, want %d\n%s\n%s", strings.Join(args, " "), code, want, out, errOut)
	}
	return out + errOut
}

// sameCells compares a table with its replica, column by column.
func (s *source) sameCells(t *testing.T, replicaDB string, d *schemas.Dataset, table string) {
	t.Helper()
	quote := mysql.Quote
	var join []string
	for _, c := range d.Replica.Columns[:d.Replica.KeyColumns] {
		join = append(join, s.same(t, d, c, table))
	}
	for _, c := range d.Replica.Columns {
		var n int
		text := "SELECT COUNT(*) FROM " + quote(table) + " s LEFT JOIN " + quote(replicaDB) + "." + quote(d.Replica.Table) + " r ON " + strings.Join(join, " AND ") +
			" WHERE r._version IS NULL OR NOT (" + s.same(t, d, c, table) + ")"
		if err := s.db.QueryRowContext(t.Context(), text).Scan(&n); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if n > 0 {
			t.Errorf("%d rows differ in %s.%s", n, table, c.Name)
		}
	}
}

// same compares two cells.
func (s *source) same(t *testing.T, d *schemas.Dataset, c schemas.Column, table string) string {
	t.Helper()
	a, b := "s."+mysql.Quote(c.Name), "r."+mysql.Quote(c.Name)
	src, err := draft.Read(t.Context(), s.db, s.dialect, s.name, table)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(src.Columns, func(o draft.Column) bool { return o.Name == c.Name })
	typ := src.Columns[i].Type
	switch {
	case typ.Base == "json" && s.dialect == mysql.MariaDB:
		return "COALESCE(JSON_EQUALS(" + a + ", " + b + "), " + a + " IS NULL AND " + b + " IS NULL)"
	case typ.Base == "float", typ.Base == "double", typ.Base == "json":
		return a + " <=> " + b
	case typ.IsBinary() && c.Key:
		return "REPLACE(TO_BASE64(" + a + "), '\n', '') <=> CAST(" + b + " AS BINARY)"
	case typ.IsText() || len(typ.Labels) > 0:
		return "CAST(CONVERT(" + a + " USING utf8mb4) AS BINARY) <=> CAST(CONVERT(" + b + " USING utf8mb4) AS BINARY)"
	}
	return "CAST(" + a + " AS BINARY) <=> CAST(" + b + " AS BINARY)"
}

// replicate sends every row of a table through an event into the replica.
func (s *source) replicate(t *testing.T, db *replica.DB, d *schemas.Dataset, table string) {
	t.Helper()
	src, err := draft.Read(t.Context(), s.db, s.dialect, s.name, table)
	if err != nil {
		t.Fatal(err)
	}
	names, types := make([]string, len(d.Replica.Columns)), make([]schemas.ColumnType, len(d.Replica.Columns))
	raw := make([]any, len(names))
	dest := make([]any, len(names))
	for i, c := range d.Replica.Columns {
		names[i], dest[i] = mysql.Quote(c.Property.Name), &raw[i]
		types[i] = src.Columns[slices.IndexFunc(src.Columns, func(o draft.Column) bool { return o.Name == c.Property.Name })].Type
	}
	var changes []*replica.Change
	err = mysql.Each(t.Context(), s.db, "read rows", "SELECT "+strings.Join(names, ", ")+" FROM "+mysql.Quote(table)+" WHERE ? = 1", []any{1}, func(scan func(...any) error) error {
		if err := scan(dest...); err != nil {
			return err
		}
		state, err := d.AppendState(nil, types, raw)
		if err != nil {
			return err
		}
		key, err := keyOfRow(d, types, raw)
		if err != nil {
			return err
		}
		ev := &schemas.Event{ID: "1", Source: "//test", Dataset: d.Name, Key: key, Op: schemas.Upsert, Version: 1, Data: state}
		rec, err := d.Encode(ev)
		if err != nil {
			return fmt.Errorf("%s: %w", state, err)
		}
		row, err := d.Check(ev)
		if err != nil {
			return fmt.Errorf("%s: %w", state, err)
		}
		rec.Offset = int64(len(changes))
		c, err := replica.NewChange(d, &rec, 0, ev, row)
		changes = append(changes, c)
		return err
	})
	if err != nil {
		t.Fatalf("read %s: %v", table, err)
	}
	ps, err := db.Positions.Take(t.Context(), "g", "a", 1, []replica.Claim{{Source: "s-" + table}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := db.Apply(t.Context(), &replica.Batch{Source: ps[0].Source, Fence: ps[0].Fence, Next: int64(len(changes)), Changes: changes})
	if err != nil || res.Refused > 0 || len(changes) == 0 {
		t.Fatalf("apply %s: %v, %d rows, %d refused", table, err, len(changes), res.Refused)
	}
}

// keyOfRow is the canonical key of a row.
func keyOfRow(d *schemas.Dataset, types []schemas.ColumnType, raw []any) (string, error) {
	values := make([]any, d.Replica.KeyColumns)
	for i := range values {
		p := d.Replica.Columns[i].Property
		v, err := p.JSONValue(types[i], raw[i])
		if err != nil {
			return "", err
		}
		values[i] = v
	}
	return d.FormatKey(values...)
}

// TestInitOfKnownSchemas: schemas after those of well-known applications are drafted, pass lint and migrate, and their rows
// replicate.
func TestInitOfKnownSchemas(t *testing.T) {
	files, err := filepath.Glob("testdata/init/*.sql")
	if err != nil || len(files) != 20 {
		t.Fatalf("%d schemas, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".sql"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := newSource(t, string(text))
			want := 0
			if strings.Contains(string(text), "oc_no_key") {
				want = 1
			}
			out := s.freshet(t, want, "init", "--dsn-file", s.dsnFile, "--tables", s.name+".*", "--from", "outbox")
			if want == 1 && !strings.Contains(out, "oc_no_key: it has no primary key") {
				t.Errorf("the table without a primary key is not reported:\n%s", out)
			}
			s.freshet(t, want, "init", "--dsn-file", s.dsnFile, "--tables", s.name+".*", "--from", "outbox") // nothing differs
			if lint := s.freshet(t, 0, "schema", "lint", s.out); strings.Contains(strings.ReplaceAll(lint, "is part of the key", ""), "\tadvice") {
				t.Errorf("lint says\n%s", lint)
			}
			s.freshet(t, 0, "migrate", "up")
			s.freshet(t, 0, "migrate", "datasets", "--no-topics")
			if plan := s.freshet(t, 0, "migrate", "datasets", "--no-topics", "--dry-run"); !strings.Contains(plan, "nothing to do") {
				t.Errorf("the tables are not what was declared:\n%s", plan)
			}
			set, err := schemas.LoadDatasets(os.DirFS(s.out))
			if err != nil {
				t.Fatal(err)
			}
			db, err := replica.Open(t.Context(), replica.Config{MySQL: mysql.Config{DSN: s.replicaDSN}})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if broken, err := db.Prepare(t.Context(), set.All()); err != nil || len(broken) > 0 {
				t.Fatalf("prepare: %v, %v", err, broken)
			}
			var replicaDB string
			if err := db.SQL().QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&replicaDB); err != nil {
				t.Fatal(err)
			}
			for _, d := range set.All() {
				s.replicate(t, db, d, d.Replica.Table)
				s.sameCells(t, replicaDB, d, d.Replica.Table)
			}
		})
	}
}
