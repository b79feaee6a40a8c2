package replica_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

func TestCreateTable(t *testing.T) {
	got := tables.Create(dataset(t, "wide"), mysql.MariaDB)
	want := "CREATE TABLE `wide` (\n" +
		"  `shop` VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,\n" +
		"  `number` BIGINT UNSIGNED NOT NULL,\n" +
		"  `at` DATETIME(6) NULL,\n" +
		"  `day` DATE NULL,\n" +
		"  `long` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,\n" +
		"  `on` TINYINT(1) NULL,\n" +
		"  `ord` VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,\n" +
		"  `price` DECIMAL(12,2) NULL,\n" +
		"  `ratio` DOUBLE NULL,\n" +
		"  `tags` JSON NULL,\n" +
		"  `_version` BIGINT NOT NULL,\n" +
		"  `_deleted` TINYINT NOT NULL,\n" +
		"  `_at` BIGINT NOT NULL,\n" +
		"  PRIMARY KEY (`shop`, `number`)\n" +
		") ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table differs (-want +got):\n%s", diff)
	}
	for d, collation := range map[mysql.Dialect]string{mysql.ModernMySQL: "COLLATE utf8mb4_0900_bin", mysql.OldMySQL: "`name` VARBINARY(400) NOT NULL"} {
		if got := tables.Create(dataset(t, "names"), d); !strings.Contains(got, collation) {
			t.Errorf("%s: no %s in\n%s", d, collation, got)
		}
	}
	if got, want := tables.LiveView(dataset(t, "names")), "CREATE OR REPLACE VIEW `names_live` AS SELECT `name`, `n` FROM `names` WHERE `_deleted` = 0"; got != want {
		t.Errorf("view %s", got)
	}
}

// grown is a dataset whose schema is given.
func grown(t *testing.T, properties string) []*schemas.Dataset {
	t.Helper()
	return grownTyped(t, properties, "")
}

// grownTyped is grown with columns that are declared.
func grownTyped(t *testing.T, properties, columns string) []*schemas.Dataset {
	t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"g.yaml": {Data: []byte("dataset: g\nschema: g.json\nkey: [id]\nreplica: {table: g, columns: {" + columns + "}}\ncache: {key: \"g:{id}\"}\n")},
		"g.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"string","maxLength":20}` + properties + `}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set.All()
}

func texts(ddl *tables.DDL) []string {
	got := []string{}
	for _, s := range ddl.Statements {
		got = append(got, s.SQL)
	}
	return got
}

func TestMigrateGrows(t *testing.T) {
	b := newBed(t, replica.Config{})
	small := grown(t, `,"a":{"type":"string","maxLength":10}`)
	if ddl, err := tables.Migrate(t.Context(), b.db, small, true); err != nil || len(ddl.Statements) != 3 {
		t.Fatalf("dry run: %v, %v", ddl, err)
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'g'"); n != 0 {
		t.Fatal("a dry run made the table")
	}
	migrate := func(list []*schemas.Dataset) *tables.DDL {
		t.Helper()
		ddl, err := tables.Migrate(t.Context(), b.db, list, false)
		if err != nil || len(ddl.Problems) > 0 {
			t.Fatalf("migrate: %v, problems %v", err, ddl.Problems)
		}
		if again, err := tables.Plan(t.Context(), b.db, list); err != nil || len(again.Statements) > 0 {
			t.Fatalf("not settled: %v, %v", texts(again), err)
		}
		return ddl
	}
	migrate(small)
	b.exec(t, "INSERT INTO g (id, a, _version, _deleted, _at) VALUES ('x', 'kept', 1, 0, 0)")
	b.exec(t, "ALTER TABLE g ADD COLUMN theirs INT NULL, ADD INDEX freshet_deleted_at (_deleted, _at)")
	ddl := migrate(grown(t, `,"a":{"type":"string","maxLength":200},"b":{"type":"boolean"}`))
	want := []string{
		"ALTER TABLE `g` MODIFY COLUMN `a` VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL",
		"ALTER TABLE `g` ADD COLUMN `b` TINYINT(1) NULL",
		"DROP INDEX `freshet_deleted_at` ON `g`",                                                             // of an earlier release
		"INSERT INTO freshet_meta (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = VALUES(value)", // its schema
	}
	if diff := cmp.Diff(want, texts(ddl)); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
	if got := one[string](t, b.db, "SELECT a FROM g WHERE id = 'x' AND theirs IS NULL"); got != "kept" {
		t.Errorf("row has %q", got)
	}
	// A shorter schema fits into the longer column and changes nothing.
	migrate(small)
	// Digits and texts beyond VARCHAR widen too, and keep what is there.
	migrate(grown(t, `,"a":{"type":"string","maxLength":10},"d":{"type":"string","x-decimal":"12,2"}`))
	b.exec(t, "UPDATE g SET d = 1234567890.12")
	ddl = migrate(grown(t, `,"a":{"type":"string","maxLength":2000},"d":{"type":"string","x-decimal":"14,3"}`))
	want = []string{
		"ALTER TABLE `g` MODIFY COLUMN `a` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL",
		"ALTER TABLE `g` MODIFY COLUMN `d` DECIMAL(14,3) NULL",
	}
	if diff := cmp.Diff(want, texts(ddl)); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
	if got := one[string](t, b.db, "SELECT CONCAT(a, ' ', d) FROM g WHERE id = 'x'"); got != "kept 1234567890.120" {
		t.Errorf("row has %q", got)
	}
	migrate(grown(t, `,"a":{"type":"string","maxLength":10},"d":{"type":"string","x-decimal":"12,2"}`))
}

func TestTablesThatAreRefused(t *testing.T) {
	const cols = "name VARCHAR(40), n BIGINT, _version BIGINT NOT NULL, _deleted TINYINT NOT NULL, _at BIGINT NOT NULL"
	const own = "_version BIGINT NOT NULL, _deleted TINYINT NOT NULL, _at BIGINT NOT NULL"
	for name, c := range map[string]struct {
		dataset, create, problem string
	}{
		"secondary unique index": {"items", "id BIGINT NOT NULL PRIMARY KEY, " + cols + ", UNIQUE KEY by_name (name)", "unique index by_name"},
		"foreign key":            {"items", "id BIGINT NOT NULL PRIMARY KEY, " + cols + ", CONSTRAINT fk FOREIGN KEY (n) REFERENCES parent (id)", "foreign key fk"},
		"type":                   {"items", "id BIGINT NOT NULL PRIMARY KEY, name INT, n BIGINT, " + own, "not VARCHAR(40)"},
		"narrower integer":       {"items", "id INT NOT NULL PRIMARY KEY, " + cols, "not BIGINT"},
		"not null":               {"items", "id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(40) NOT NULL, n BIGINT, " + own, "items.name is NOT NULL"},
		"no version":             {"items", "id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(40), n BIGINT, _deleted TINYINT NOT NULL, _at BIGINT NOT NULL", "lacks the column _version"},
		"primary key":            {"items", "id BIGINT NOT NULL, " + cols + ", PRIMARY KEY (id, _at)", "another primary key"},
		"engine":                 {"items", "id BIGINT NOT NULL PRIMARY KEY, " + cols + ") ENGINE = MyISAM -- ", "engine MyISAM"},
		"padding collation":      {"names", "name VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, n BIGINT, " + own, "names.name is varchar(100), not VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"},
		"other decimal": {"wide", "shop VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL, number BIGINT UNSIGNED NOT NULL, ord VARCHAR(20)," +
			" `long` MEDIUMTEXT, price DECIMAL(12,3), ratio DOUBLE, `on` TINYINT, tags JSON, at DATETIME(6), day DATE, " + own + ", PRIMARY KEY (shop, number)", "wide.price is decimal(12,3), not DECIMAL(12,2)"},
		"seconds only": {"wide", "shop VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL, number BIGINT UNSIGNED NOT NULL, ord VARCHAR(20)," +
			" `long` MEDIUMTEXT, price DECIMAL(12,2), ratio DOUBLE, `on` TINYINT, tags JSON, at DATETIME, day DATE, " + own + ", PRIMARY KEY (shop, number)", "wide.at is datetime, not DATETIME(6)"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, replica.Config{})
			ds, _ := b.set.Get(c.dataset)
			if b.Dialect() != mysql.MariaDB {
				c.create = strings.ReplaceAll(c.create, "utf8mb4_nopad_bin", "utf8mb4_0900_bin")
				c.problem = strings.ReplaceAll(c.problem, "utf8mb4_nopad_bin", "utf8mb4_0900_bin")
			}
			b.exec(t, "CREATE TABLE parent (id BIGINT NOT NULL PRIMARY KEY)")
			b.exec(t, "DROP TABLE "+ds.Replica.Table)
			b.exec(t, fmt.Sprintf("CREATE TABLE %s (%s)", ds.Replica.Table, c.create))
			broken, err := b.Prepare(t.Context(), b.set.All())
			if err != nil {
				t.Fatal(err)
			}
			if len(broken) != 1 || broken[0].Dataset != c.dataset || !strings.Contains(broken[0].Problem, c.problem) || broken[0].Fix == "" {
				t.Fatalf("broken %v, want %s", broken, c.problem)
			}
			ddl, err := tables.Migrate(t.Context(), b.db, b.set.All(), false)
			if err != nil || len(ddl.Problems) != 1 || len(ddl.Statements) != 0 {
				t.Errorf("migrate: statements %v, problems %v, %v; it must leave such a table alone", texts(ddl), ddl.Problems, err)
			}
			if p := ddl.Problems; len(p) == 1 && strings.Contains(p[0].Fix, "freshet migrate") && !strings.Contains(p[0].Fix, "--adopt") {
				t.Errorf("migrate recommends itself: %v", p[0])
			}
		})
	}
}

func TestMissingTable(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.exec(t, "DROP TABLE items")
	broken, err := b.Prepare(t.Context(), b.set.All())
	if err != nil || len(broken) != 1 || !strings.Contains(broken[0].Error(), "freshet migrate datasets") {
		t.Errorf("broken %v, %v", broken, err)
	}
}
