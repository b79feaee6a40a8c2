package replica_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// theirs is a table as others make them.
const theirs = "CREATE TABLE shelf (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, n SMALLINT NOT NULL DEFAULT 7 COMMENT 'is NOT NULL, `x`'," +
	" at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, code CHAR(8) CHARACTER SET latin1 NOT NULL DEFAULT '', raw VARBINARY(16) NOT NULL," +
	" state ENUM('on','off') NOT NULL, open TIME NULL, old DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00', KEY by_code (code)) %s"

// setUp makes their table, with three rows.
func (b *bed) setUp(t *testing.T, options string) {
	t.Helper()
	conn, err := b.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, text := range []string{
		"SET SESSION sql_mode = ''", fmt.Sprintf(theirs, options),
		"INSERT INTO shelf (id, n, at, code, raw, state) VALUES (1, 1, '2024-01-01', 'é', x'00FF', 'on'), (2, 2, '2024-01-02', '', '', 'off'), (7, 3, '2024-01-03', 'x', 'y', 'on')",
		"SET SESSION sql_mode = DEFAULT",
	} {
		if _, err := conn.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

const theirRows = "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, n, at, code, HEX(raw), state, open, old) ORDER BY id SEPARATOR '; ') FROM shelf"

func columnsOf(t *testing.T, b *bed) string {
	t.Helper()
	return one[string](t, b.db, "SELECT GROUP_CONCAT(CONCAT(column_name, ' ', is_nullable) ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'shelf'")
}

// execute runs a plan that has no problems.
func (b *bed) execute(t *testing.T, p tables.Planner, list []*schemas.Dataset) *tables.DDL {
	t.Helper()
	ddl, err := p.Plan(t.Context(), b.db, list)
	if err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("plan: %v, problems %v", err, ddl.Problems)
	}
	if err := ddl.Execute(t.Context(), b.db); err != nil {
		t.Fatal(err)
	}
	return ddl
}

func TestAdoptTableWithRows(t *testing.T) {
	for name, options := range map[string]string{"as usual": "", "where no column can be added at once": "ROW_FORMAT = COMPRESSED"} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, replica.Config{})
			b.setUp(t, options)
			rows, columns, set := one[string](t, b.db, theirRows), columnsOf(t, b), shelf(t, shelfTypes)
			for _, adopt := range []bool{false, true} {
				ddl, err := tables.Planner{Adopt: adopt}.Plan(t.Context(), b.db, set)
				if err != nil || adopt && len(ddl.Problems) > 0 {
					t.Fatalf("dry run: %v, problems %v", err, ddl.Problems)
				}
				var problems string
				for _, p := range ddl.Problems {
					problems += p.Error() + "\n"
				}
				for _, want := range []string{"lacks the column _version, _deleted, _at; if it is a service's own table, choose another database or replica.table; else run freshet migrate datasets --adopt", "shelf.n is NOT NULL", "shelf.state is NOT NULL", "shelf.old is NOT NULL without a default"} {
					if !adopt && !strings.Contains(problems, want) {
						t.Errorf("%q is not among the problems:\n%s", want, problems)
					}
				}
				if got := columnsOf(t, b); got != columns {
					t.Fatalf("a dry run changed the columns to %s", got)
				}
			}
			before := time.Now().UnixMilli()
			b.execute(t, tables.Planner{Adopt: true}, set)
			if diff := cmp.Diff(rows, one[string](t, b.db, theirRows)); diff != "" {
				t.Errorf("rows (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff("id NO,n YES,at YES,code YES,raw YES,state YES,open YES,old YES,_version NO,_deleted NO,_at NO", columnsOf(t, b)); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
			if got := one[int](t, b.db, "SELECT COUNT(*) FROM shelf WHERE _version = 1 AND _deleted = 0 AND _at BETWEEN ? AND ?", before-60_000, before+60_000); got != 3 {
				t.Errorf("%d of 3 rows are in version 1", got)
			}
			if _, err := b.db.ExecContext(t.Context(), "INSERT INTO shelf (id) VALUES (8)"); err == nil {
				t.Error("a row without a version is accepted")
			}
			for _, adopt := range []bool{false, true} {
				if ddl, err := (tables.Planner{Adopt: adopt}).Plan(t.Context(), b.db, set); err != nil || len(ddl.Statements)+len(ddl.Problems) > 0 {
					t.Errorf("not settled: %v, %v, %v", err, texts(ddl), ddl.Problems)
				}
			}
			b.useAdopted(t, set)
		})
	}
}

// useAdopted applies events to the adopted table.
func (b *bed) useAdopted(t *testing.T, set []*schemas.Dataset) {
	t.Helper()
	if broken, err := b.Prepare(t.Context(), set); err != nil || len(broken) > 0 {
		t.Fatalf("prepare: %v, broken %v", err, broken)
	}
	state := func(id int) string {
		return fmt.Sprintf(`{"id":%d,"n":50,"at":"2030-05-05T05:05:05Z","code":"new","raw":"AA==","state":"off"}`, id)
	}
	stale, fresh, zero := b.changeOf(t, set[0], "1", state(1)), b.changeOf(t, set[0], "2", state(2)), b.changeOf(t, set[0], "0", state(0))
	fresh.Version, fresh.Event.Version = 2, 2
	gone := b.changeOf(t, set[0], "7", `{"id":7}`)
	gone.Version, gone.Deleted, gone.Event.Op = 2, true, schemas.Delete
	if res := b.apply(t, stale, fresh, zero, gone); res.Refused > 0 || res.Lost.Conflicts != 1 {
		t.Errorf("refused %d, conflicts %d, want the event of version 1 to be one", res.Refused, res.Lost.Conflicts)
	}
	want := "0 1 50 new 0; 1 1 1 é 0; 2 2 50 new 0; 7 2 1"
	if got := one[string](t, b.db, "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, _version, n, code, _deleted) ORDER BY id SEPARATOR '; ') FROM shelf"); got != want {
		t.Errorf("rows are %s, want %s", got, want)
	}
}

// logged is a dataset whose versions are in a column and whose key has two columns.
func logged(t *testing.T, version string) []*schemas.Dataset {
	t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"logged.yaml": {Data: []byte("dataset: logged\nschema: logged.json\nkey: [shop, id]\nversion: " + version + "\n")},
		"logged.json": {Data: []byte(`{"type":"object","required":["shop","id"],"properties":{"shop":{"type":"integer"},"id":{"type":"integer"},"rev":{"type":"integer"}}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set.All()
}

// TestAdoptTakesVersionsFromColumn: also after it was interrupted by a row that has none.
func TestAdoptTakesVersionsFromColumn(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.exec(t, "CREATE TABLE logged (shop BIGINT NOT NULL, id BIGINT NOT NULL, rev BIGINT NULL, PRIMARY KEY (shop, id))")
	values := make([]string, 2500)
	for i := range values {
		values[i] = fmt.Sprintf("(%d, %d, %d)", i%3, i, i+10)
	}
	b.exec(t, "INSERT INTO logged VALUES "+strings.Join(values, ", "))
	b.exec(t, "UPDATE logged SET rev = NULL WHERE id = 1700")
	set := logged(t, "{column: rev}")
	ddl, err := tables.Planner{Adopt: true}.Plan(t.Context(), b.db, set)
	if err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("plan: %v, problems %v", err, ddl.Problems)
	}
	if err := ddl.Execute(t.Context(), b.db); err == nil || !strings.Contains(err.Error(), "1 rows of table logged have no version") {
		t.Fatalf("error %v, want one about the row without a version", err)
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM logged WHERE _version = rev"); n != 2499 {
		t.Errorf("%d rows have their version, want 2499", n)
	}
	if ddl, err := tables.Plan(t.Context(), b.db, set); err != nil || len(ddl.Problems) != 1 || !strings.Contains(ddl.Problems[0].Error(), "has not ended") {
		t.Errorf("without --adopt: %v, problems %v", err, ddl.Problems)
	}
	b.exec(t, "UPDATE logged SET rev = 5 WHERE id = 1700")
	b.execute(t, tables.Planner{Adopt: true}, set)
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM logged WHERE _version = rev"); n != 2500 {
		t.Errorf("%d rows have their version, want 2500", n)
	}
	if ddl, err := tables.Plan(t.Context(), b.db, set); err != nil || len(ddl.Problems)+len(ddl.Statements) > 0 {
		t.Errorf("not settled: %v, %v, %v", err, texts(ddl), ddl.Problems)
	}
}

// TestAdoptStatesTheVersionOfRows: where versions are places, an operator has to say which one the rows have.
func TestAdoptStatesTheVersionOfRows(t *testing.T) {
	for _, c := range []struct {
		version string
		given   map[string]int64
		want    string
		problem bool
	}{
		{"event", nil, "its rows count as version 1: events of a greater version replace them", false},
		{"event", map[string]int64{"logged": 44}, "its rows count as version 44:", false},
		{"offset", nil, "write --adopt-version logged=N", true},
		{"offset", map[string]int64{"logged": 1<<40 + 5}, "its rows count as version " + strconv.Itoa(1<<40+5), false},
		{"event", map[string]int64{"logged": 1 << 53}, "outside 1 … 2^53-2", true},
		{"{column: rev}", nil, "its rows count as the version in their column rev", false},
	} {
		t.Run(c.version, func(t *testing.T) {
			b := newBed(t, replica.Config{})
			b.exec(t, "CREATE TABLE logged (shop BIGINT NOT NULL, id BIGINT NOT NULL, rev BIGINT NULL, PRIMARY KEY (shop, id))")
			ddl, err := tables.Planner{Adopt: true, Versions: c.given}.Plan(t.Context(), b.db, logged(t, c.version))
			if err != nil {
				t.Fatal(err)
			}
			var all string
			for _, p := range ddl.Problems {
				all += p.Error() + "\n"
			}
			for _, s := range ddl.Statements {
				all += s.String() + "\n"
			}
			if !strings.Contains(all, c.want) || c.problem != (len(ddl.Problems) > 0) || c.problem == (len(ddl.Blocked) == 0) {
				t.Errorf("%q is not in\n%s", c.want, all)
			}
		})
	}
}
