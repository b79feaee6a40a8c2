package replica_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// shelf declares a dataset whose columns are declared as given.
func shelf(t *testing.T, columns string) []*schemas.Dataset {
	t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"shelf.yaml": {Data: []byte("dataset: shelf\nschema: shelf.json\nkey: [id]\nreplica:\n  columns: {" + columns + "}\n")},
		"shelf.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{
			"id":{"type":"integer","minimum":0,"maximum":4294967295},
			"n":{"type":["integer","null"],"minimum":-100,"maximum":100},
			"at":{"type":["string","null"],"format":"date-time"},
			"code":{"type":["string","null"],"maxLength":8},
			"raw":{"type":["string","null"],"contentEncoding":"base64","maxLength":24},
			"state":{"type":["string","null"],"enum":["on","off",null]},
			"open":{"type":["string","null"]}}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set.All()
}

const shelfTypes = `id: {type: int unsigned}, n: {type: smallint}, at: {type: timestamp}, code: {type: char(8)}, raw: {type: varbinary(16)}, ` +
	`state: {type: "enum('on','off')"}, open: {type: time}`

const shelfTable = "CREATE TABLE shelf (id INT UNSIGNED NOT NULL PRIMARY KEY, n SMALLINT, at TIMESTAMP NULL, code CHAR(8) CHARACTER SET latin1, raw VARBINARY(16)," +
	" state ENUM('on','off') CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, open TIME, _version BIGINT NOT NULL, _deleted TINYINT NOT NULL, _at BIGINT NOT NULL)"

// TestColumnsOfAnotherType: every column of another type is a problem that says what to declare, and with the types declared
// there is none.
func TestColumnsOfAnotherType(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.exec(t, shelfTable)
	ddl, err := tables.Plan(t.Context(), b.db, shelf(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	fixes := map[string]string{}
	for _, p := range ddl.Problems {
		_, rest, _ := strings.Cut(p.Problem, "column shelf.")
		name, _, _ := strings.Cut(rest, " ")
		fixes[name], _, _ = strings.Cut(p.Fix, "; or change it")
	}
	declare := func(name, typ string) string {
		return "declare the column's own type: replica.columns: {" + name + ": {property: " + name + ", type: " + typ + "}}"
	}
	want := map[string]string{
		"id": declare("id", `"int unsigned"`), "n": declare("n", `"smallint"`), "at": declare("at", `"timestamp"`), "code": declare("code", `"char(8)"`),
		"raw": declare("raw", `"varbinary(16)"`), "state": declare("state", `"enum('on','off')"`), "open": declare("open", `"time"`),
	}
	if diff := cmp.Diff(want, fixes); diff != "" {
		t.Errorf("fixes by column (-want +got):\n%s", diff)
	}
	ddl, err = tables.Migrate(t.Context(), b.db, shelf(t, shelfTypes), false)
	if err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("declared: %v, problems %v", err, ddl.Problems)
	}
	for _, s := range texts(ddl) {
		if strings.Contains(s, "ALTER") {
			t.Errorf("the declared types need %s", s)
		}
	}
	set := shelf(t, shelfTypes)
	if broken, err := b.Prepare(t.Context(), set); err != nil || len(broken) > 0 {
		t.Fatalf("prepare: %v, broken %v", err, broken)
	}
	state := `{"id":4294967295,"at":"2024-01-01T12:00:00Z","code":"x","n":-100,"open":"25:00:00","raw":"AAH/","state":"off"}`
	if res := b.apply(t, b.changeOf(t, set[0], "4294967295", state)); res.Refused > 0 {
		t.Fatalf("refused: %s", b.letters(t)[0].Detail)
	}
	if got := one[string](t, b.db, "SELECT CONCAT_WS(' ', id, n, at, code, HEX(raw), state, open) FROM shelf"); got != "4294967295 -100 2024-01-01 12:00:00 x 0001FF off 25:00:00" {
		t.Errorf("row is %s", got)
	}
}

// TestTypesThatAlter: a column that does not keep every value is refused, and the fix says what the property lacks.
func TestTypesThatAlter(t *testing.T) {
	b := newBed(t, replica.Config{})
	for column, want := range map[string]string{
		"n TINYINT UNSIGNED":     `write "minimum": 0 and "maximum": 255`,
		"code VARCHAR(7) BINARY": "",
		"code CHAR(7)":           `write "maxLength": 7 or less`,
		"raw VARBINARY(15)":      `write "maxLength": 20 or less`,
		"state ENUM('on','of')":  `write "enum" with labels of the column alone`,
		"at DATE":                "choose another type, or change the property in the schema",
	} {
		t.Run(column, func(t *testing.T) {
			b.exec(t, "DROP TABLE IF EXISTS shelf")
			name, typ, _ := strings.Cut(column, " ")
			b.exec(t, shelfTable)
			b.exec(t, "ALTER TABLE shelf MODIFY "+name+" "+typ+" NULL")
			types := ""
			for part := range strings.SplitSeq(shelfTypes, ", ") {
				if !strings.HasPrefix(part, name+":") && strings.Contains(part, ": {") {
					types += part + ", "
				}
			}
			ddl, err := tables.Plan(t.Context(), b.db, shelf(t, types))
			if err != nil {
				t.Fatal(err)
			}
			if want == "" { // VARCHAR(7) grows
				if len(ddl.Problems) > 0 || !strings.Contains(texts(ddl)[0], "MODIFY COLUMN `code` VARCHAR(8)") {
					t.Errorf("statements %v, problems %v", texts(ddl), ddl.Problems)
				}
				return
			}
			if len(ddl.Problems) != 1 || !strings.Contains(ddl.Problems[0].Fix, want) || !strings.Contains(ddl.Problems[0].Problem, "column shelf."+name+" is ") {
				t.Errorf("problems %v, want one of shelf.%s with %q", ddl.Problems, name, want)
			}
		})
	}
}

// TestTypedColumnsGrow: a declared type that is wider than the column's widens it and leaves its collation and its rows alone.
func TestTypedColumnsGrow(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.exec(t, shelfTable)
	b.exec(t, "INSERT INTO shelf (id, n, code, state, _version, _deleted, _at) VALUES (1, -5, 'é', 'off', 1, 0, 0)")
	wider := strings.NewReplacer("smallint", "int", "char(8)", "char(20)", "'off')", "'off','broken')", "varbinary(16)", "varbinary(32)").Replace(shelfTypes)
	ddl, err := tables.Migrate(t.Context(), b.db, shelf(t, wider), false)
	if err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate: %v, problems %v", err, ddl.Problems)
	}
	var got []string
	for _, s := range texts(ddl) {
		if strings.HasPrefix(s, "ALTER") {
			got = append(got, strings.TrimPrefix(s, "ALTER TABLE `shelf` MODIFY COLUMN "))
		}
	}
	want := []string{
		"`code` CHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci NULL", "`n` INT NULL", "`raw` VARBINARY(32) NULL",
		"`state` enum('on','off','broken') CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NULL",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
	if row := one[string](t, b.db, "SELECT CONCAT_WS(' ', n, code, state) FROM shelf"); row != "-5 é off" {
		t.Errorf("row is %s", row)
	}
	if again, err := tables.Plan(t.Context(), b.db, shelf(t, wider)); err != nil || len(again.Statements)+len(again.Problems) > 0 {
		t.Errorf("not settled: %v, %v, %v", err, texts(again), again.Problems)
	}
	if narrow, err := tables.Plan(t.Context(), b.db, shelf(t, shelfTypes)); err != nil || len(narrow.Statements)+len(narrow.Problems) > 0 {
		t.Errorf("the previous types: %v, %v, %v", err, texts(narrow), narrow.Problems)
	}
}
