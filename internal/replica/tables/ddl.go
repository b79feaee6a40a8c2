// Package tables compares the replica tables of datasets with their declarations and changes them: the DDL of a dataset's
// table, what is noted of its declaration, and the guarded upsert into it.
package tables

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// purgeIndex found soft-deleted rows by age in earlier releases. It costs every update of every row, and is dropped.
const purgeIndex = "freshet_deleted_at"

// Statement is one statement of DDL, or the registration of a dataset's cache hash.
type Statement struct {
	Dataset string
	SQL     string
	// Note is why.
	Note string

	table    *schemas.Dataset // whose table it changes; nil for a registration
	planner  Planner          // that planned it
	instant  bool             // it is tried without a copy of the table first
	fill     bool             // it sets the versions of an adopted table, in steps
	args     []any            // of a registration
	register string           // what it registers; empty: the cache hash
}

// String is the statement as people read it, followed by its reason. The registration of a hash is a sentence.
func (s Statement) String() string {
	if len(s.args) > 0 {
		return fmt.Sprintf("-- %s: %s; %s is noted in freshet_meta", s.Dataset, s.Note, cmp.Or(s.register, "its hash"))
	}
	return fmt.Sprintf("%s;  -- %s: %s", s.SQL, s.Dataset, s.Note)
}

// sameChange reports whether two plans of one table have the statement in common. Its text may have a time.
func (s Statement) sameChange(o Statement) bool { return s.SQL == o.SQL || s.instant && o.instant }

// DDL is what a database needs to take datasets.
type DDL struct {
	// Statements only add tables, columns and length, and drop an index of an earlier release.
	Statements []Statement
	// Problems are what additive statements cannot fix; a dataset with one has no Statements.
	Problems []*DatasetError
	// Blocked are statements that wait for the problems of their datasets to be solved.
	Blocked []Statement
}

// Planner plans the changes of tables. Its zero value adds what datasets have and tables lack.
type Planner struct {
	// DropCache are datasets whose cache section may go although the database knows one: no node caches them any more.
	DropCache []string
	// Adopt takes over tables that were not made by Freshet: its own columns are added, and columns become nullable.
	Adopt bool
	// Versions are the versions that the rows of adopted tables count as, by dataset. For a dataset whose publishers state
	// versions it is 1 by default; where a column has the versions, none is needed.
	Versions map[string]int64
}

// wanted are the columns of a dataset's table, the key first.
func wanted(ds *schemas.Dataset, d mysql.Dialect) []want {
	cols := make([]want, 0, len(ds.Replica.Columns)+OwnColumns)
	for i, c := range ds.Replica.Columns {
		key := i < ds.Replica.KeyColumns
		cols = append(cols, want{name: c.Name, sql: columnType(c, key, d), null: !key, key: key, prop: c.Property, typ: c.Type})
	}
	return append(cols,
		want{name: ColVersion, sql: "BIGINT", prop: schemas.Property{Kind: schemas.KindInteger}},
		want{name: ColDeleted, sql: "TINYINT", prop: schemas.Property{Kind: schemas.KindBoolean}},
		want{name: ColAt, sql: "BIGINT", prop: schemas.Property{Kind: schemas.KindInteger}},
	)
}

func columnType(c schemas.Column, key bool, d mysql.Dialect) string {
	if c.Type.Base != "" {
		return typeSQL(c.Type, "utf8mb4_bin")
	}
	p := c.Property
	switch p.Kind {
	case schemas.KindString:
		return stringType(p, key, d)
	case schemas.KindInteger:
		if p.Unsigned {
			return "BIGINT UNSIGNED"
		}
		return "BIGINT"
	case schemas.KindNumber:
		return "DOUBLE"
	case schemas.KindDecimal:
		return fmt.Sprintf("DECIMAL(%d,%d)", p.Precision, p.Scale)
	case schemas.KindDateTime:
		return "DATETIME(6)"
	case schemas.KindDate:
		return "DATE"
	case schemas.KindBoolean:
		return "TINYINT(1)"
	case schemas.KindJSON:
		return "JSON"
	}
	return "LONGTEXT"
}

// typeSQL is a declared type in a statement.
func typeSQL(t schemas.ColumnType, collation string) string {
	text := t.String()
	if len(t.Labels) == 0 {
		text = strings.ToUpper(text)
	}
	if t.IsText() || len(t.Labels) > 0 {
		charset, _, _ := strings.Cut(collation, "_")
		text += " CHARACTER SET " + charset + " COLLATE " + collation
	}
	return text
}

func stringType(p schemas.Property, key bool, d mysql.Dialect) string {
	const charset = " CHARACTER SET utf8mb4 COLLATE "
	length := strconv.Itoa(p.MaxLength)
	switch {
	case key && d == mysql.MariaDB:
		return "VARCHAR(" + length + ")" + charset + "utf8mb4_nopad_bin"
	case key && d == mysql.ModernMySQL:
		return "VARCHAR(" + length + ")" + charset + "utf8mb4_0900_bin"
	case key:
		return "VARBINARY(" + strconv.Itoa(4*p.MaxLength) + ")"
	case inVarchar(p):
		return "VARCHAR(" + length + ")" + charset + "utf8mb4_bin"
	}
	return "MEDIUMTEXT" + charset + "utf8mb4_bin"
}

func (w want) definition() string {
	if w.null {
		return mysql.Quote(w.name) + " " + w.sql + " NULL"
	}
	return mysql.Quote(w.name) + " " + w.sql + " NOT NULL"
}

// Create returns the statement that makes a dataset's table.
func Create(ds *schemas.Dataset, d mysql.Dialect) string {
	var b strings.Builder
	b.WriteString("CREATE TABLE " + mysql.Quote(ds.Replica.Table) + " (\n")
	for _, w := range wanted(ds, d) {
		b.WriteString("  " + w.definition() + ",\n")
	}
	keys := make([]string, 0, ds.Replica.KeyColumns)
	for _, c := range ds.Replica.Columns[:ds.Replica.KeyColumns] {
		keys = append(keys, mysql.Quote(c.Name))
	}
	b.WriteString("  PRIMARY KEY (" + strings.Join(keys, ", ") + ")\n")
	b.WriteString(") ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
	return b.String()
}

// LiveView is the statement that makes a view of the rows that exist, for readers who would forget `_deleted = 0`. No
// part of Freshet needs it.
func LiveView(ds *schemas.Dataset) string {
	cols := make([]string, 0, len(ds.Replica.Columns))
	for _, c := range ds.Replica.Columns {
		cols = append(cols, mysql.Quote(c.Name))
	}
	return "CREATE OR REPLACE VIEW " + mysql.Quote(ds.Replica.Table+"_live") + " AS SELECT " + strings.Join(cols, ", ") +
		" FROM " + mysql.Quote(ds.Replica.Table) + " WHERE " + mysql.Quote(ColDeleted) + " = 0"
}

// Plan is Planner.Plan of a Planner with DropCache.
func Plan(ctx context.Context, db *sql.DB, datasets []*schemas.Dataset, dropCache ...string) (*DDL, error) {
	return Planner{DropCache: dropCache}.Plan(ctx, db, datasets)
}

// Plan compares datasets with the database and returns what is missing, without changing anything. Freshet's own tables
// must be there already. A cache section that the database knows and the declaration lacks is a problem, unless DropCache
// names the dataset.
func (p Planner) Plan(ctx context.Context, db *sql.DB, datasets []*schemas.Dataset) (*DDL, error) {
	dialect, err := mysql.DetectDialect(ctx, db)
	if err != nil {
		return nil, err
	}
	ddl := &DDL{}
	for _, ds := range datasets {
		f, err := p.find(ctx, db, ds)
		if err != nil {
			return nil, err
		}
		statements, problems := p.planTable(ds, dialect, f)
		if len(problems) == 0 {
			hash, problem, err := planHash(ctx, db, ds, slices.Contains(p.DropCache, ds.Name))
			if err != nil {
				return nil, err
			}
			if problem != nil {
				problems = append(problems, problem)
			}
			schema, err := planSchema(ctx, db, ds)
			if err != nil {
				return nil, err
			}
			statements = slices.Concat(statements, hash, schema)
		}
		if len(problems) > 0 {
			ddl.Problems = append(ddl.Problems, problems...)
			ddl.Blocked = append(ddl.Blocked, statements...)
			continue
		}
		ddl.Statements = append(ddl.Statements, statements...)
	}
	return ddl, nil
}

// planTable creates or extends one table. It returns nothing that loses data; everything else is a problem for an operator.
// With problems the statements are what is left to do afterwards.
func (p Planner) planTable(ds *schemas.Dataset, d mysql.Dialect, f *Table) ([]Statement, []*DatasetError) {
	if !f.Exists {
		if n := PageBytes(ds, d); n > MaxPageBytes {
			return nil, []*DatasetError{{
				Dataset: ds.Name, Fix: "declare fewer properties, or keep some together in one object",
				Problem: fmt.Sprintf("the row is too large: its columns take %d bytes of a page, and InnoDB's limit is %d", n, MaxPageBytes),
			}}
		}
		return []Statement{{Dataset: ds.Name, table: ds, SQL: Create(ds, d), Note: "the table does not exist"}}, nil
	}
	fixed := *f
	fixed.Columns = maps.Clone(f.Columns)
	before, after, problems := p.planAdoption(ds, d, &fixed)
	if !p.Adopt && ds.Version.Kind == schemas.VersionColumn && f.Columns[ColVersion].hasDefault {
		problems = append(problems, &DatasetError{
			Dataset: ds.Name, Problem: "an adoption of table " + ds.Replica.Table + " has not ended: some rows may lack their versions", Fix: "run freshet migrate datasets --adopt again",
		})
	}
	statements := before
	for _, w := range wanted(ds, d) { // one statement each: a server that fails half-way has done the first ones
		var change string
		switch c, ok := fixed.Columns[strings.ToLower(w.name)]; {
		case !ok && w.null:
			change = "ADD COLUMN " + w.definition()
		case ok && w.fits(c) == fitWiden && (w.null || w.key):
			change = "MODIFY COLUMN " + w.widened(c).definition()
		default:
			continue
		}
		fixed.Columns[strings.ToLower(w.name)] = w.asFound()
		statements = append(statements, Statement{
			Dataset: ds.Name, table: ds, SQL: "ALTER TABLE " + mysql.Quote(ds.Replica.Table) + " " + change, Note: "the schema has grown",
		})
	}
	if f.indexes[purgeIndex] {
		statements = append(statements, Statement{
			Dataset: ds.Name, table: ds, Note: "the index of an earlier release costs every update and is not used",
			SQL: "DROP INDEX " + mysql.Quote(purgeIndex) + " ON " + mysql.Quote(ds.Replica.Table),
		})
	}
	for i := range statements {
		statements[i].planner = p
	}
	return append(statements, after...), append(problems, Check(ds, d, &fixed)...)
}

// asFound is how the column looks once its statement ran.
func (w want) asFound() foundColumn {
	c := foundColumn{name: w.name, nullable: w.null, unsigned: w.prop.Unsigned, length: int64(w.prop.MaxLength), collation: "utf8mb4_0900_bin", typ: w.typ}
	if w.typ.Base != "" {
		return c
	}
	c.dataType, _, _ = strings.Cut(strings.ToLower(w.sql), " ")
	c.dataType, _, _ = strings.Cut(c.dataType, "(")
	switch w.prop.Kind {
	case schemas.KindDecimal:
		c.precision, c.scale = int64(w.prop.Precision), int64(w.prop.Scale)
	case schemas.KindDateTime:
		c.precision = 6
	case schemas.KindString, schemas.KindInteger, schemas.KindNumber, schemas.KindDate, schemas.KindBoolean, schemas.KindJSON:
	}
	return c
}

// Migrate plans and, unless dryRun, executes. dropCache as in Plan.
func Migrate(ctx context.Context, db *sql.DB, datasets []*schemas.Dataset, dryRun bool, dropCache ...string) (*DDL, error) {
	ddl, err := Plan(ctx, db, datasets, dropCache...)
	if err != nil || dryRun {
		return ddl, err
	}
	return ddl, ddl.Execute(ctx, db)
}
