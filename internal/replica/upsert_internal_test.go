package replica

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

func golden(keep bool) *schemas.Dataset {
	return &schemas.Dataset{Name: "t", KeepOnDelete: keep, Replica: &schemas.Replica{
		Table: "we`ird", KeyColumns: 1,
		Columns: []schemas.Column{
			{Name: "id", Key: true, Property: schemas.Property{Name: "id", Kind: schemas.KindInteger}},
			{Name: "name", Property: schemas.Property{Name: "name", Kind: schemas.KindString, MaxLength: 10}},
		},
	}}
}

// loaded is a dataset of the same columns as programs have it: newTable asks for parts that loading prepares.
func loaded(t *testing.T) *schemas.Dataset {
	t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"t.yaml": {Data: []byte("dataset: t\nschema: t.json\nkey: [id]\n")},
		"t.json": {Data: []byte(`{"type":"object","properties":{"id":{"type":"integer"},"name":{"type":"string","maxLength":10}},"required":["id","name"]}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ds, _ := set.Get("t")
	return ds
}

func TestUpsertSQL(t *testing.T) {
	for name, c := range map[string]struct {
		d    mysql.Dialect
		keep bool
		want string
	}{
		"mariadb": {mysql.MariaDB, false, "INSERT INTO `we``ird` (`id`, `name`, `_deleted`, `_at`, `_version`) VALUES (?,?,?,?,?),(?,?,?,?,?)" +
			" ON DUPLICATE KEY UPDATE `name` = IF(VALUES(`_version`) > `_version`, VALUES(`name`), `name`)," +
			" `_deleted` = IF(VALUES(`_version`) > `_version`, VALUES(`_deleted`), `_deleted`)," +
			" `_at` = IF(VALUES(`_version`) > `_version`, VALUES(`_at`), IF(LAST_INSERT_ID(1), `_at`, `_at`))," +
			" `_version` = IF(`id` = VALUES(`id`), IF(VALUES(`_version`) > `_version`, VALUES(`_version`), `_version`), VALUES(`_version`) + 9223372036854775807)"},
		"mysql": {mysql.ModernMySQL, false, "INSERT INTO `we``ird` (`id`, `name`, `_deleted`, `_at`, `_version`) VALUES (?,?,?,?,?),(?,?,?,?,?) AS n" +
			" ON DUPLICATE KEY UPDATE `name` = IF(n.`_version` > `we``ird`.`_version`, n.`name`, `we``ird`.`name`)," +
			" `_deleted` = IF(n.`_version` > `we``ird`.`_version`, n.`_deleted`, `we``ird`.`_deleted`)," +
			" `_at` = IF(n.`_version` > `we``ird`.`_version`, n.`_at`, IF(LAST_INSERT_ID(1), `we``ird`.`_at`, `we``ird`.`_at`))," +
			" `_version` = IF(`we``ird`.`id` = n.`id`, IF(n.`_version` > `we``ird`.`_version`, n.`_version`, `we``ird`.`_version`), n.`_version` + 9223372036854775807)"},
		"keep": {mysql.MariaDB, true, "INSERT INTO `we``ird` (`id`, `name`, `_deleted`, `_at`, `_version`) VALUES (?,?,?,?,?),(?,?,?,?,?)" +
			" ON DUPLICATE KEY UPDATE `name` = IF(VALUES(`_version`) > `_version` AND VALUES(`_deleted`) = 0, VALUES(`name`), `name`)," +
			" `_deleted` = IF(VALUES(`_version`) > `_version`, VALUES(`_deleted`), `_deleted`)," +
			" `_at` = IF(VALUES(`_version`) > `_version`, VALUES(`_at`), IF(LAST_INSERT_ID(1), `_at`, `_at`))," +
			" `_version` = IF(`id` = VALUES(`id`), IF(VALUES(`_version`) > `_version`, VALUES(`_version`), `_version`), VALUES(`_version`) + 9223372036854775807)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tables.UpsertSQL(golden(c.keep), c.d, 2); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	old := tables.UpsertSQL(golden(false), mysql.OldMySQL, 2)
	if old != tables.UpsertSQL(golden(false), mysql.MariaDB, 2) {
		t.Error("old MySQL wants what MariaDB wants")
	}
	// Assignments run from left to right: _version must be the last one in every dialect.
	for _, d := range []mysql.Dialect{mysql.MariaDB, mysql.ModernMySQL, mysql.OldMySQL} {
		text := tables.UpsertSQL(golden(false), d, 1)
		if last := text[strings.LastIndex(text, " = IF(")-len("`_version`"):]; !strings.HasPrefix(last, "`_version`") {
			t.Errorf("%s: the last assignment is %s", d, last)
		}
	}
}

func TestLadder(t *testing.T) {
	ds := loaded(t)
	tab := newTable(ds, mysql.MariaDB)
	rows := make([]*Change, 1237)
	for i := range rows {
		rows[i] = &Change{Values: []any{int64(i), "x"}}
	}
	var sizes []int
	for rest := rows; len(rest) > 0; {
		n := tab.chunk(rest)
		sizes = append(sizes, n)
		rest = rest[n:]
	}
	if got, want := fmt.Sprint(sizes), "[1000 100 100 10 10 10 1 1 1 1 1 1 1]"; got != want {
		t.Errorf("chunks %s, want %s", got, want)
	}

	// Big rows: no statement above its bytes, except for a single row.
	for i := range rows {
		rows[i].Values[1] = strings.Repeat("x", 100_000)
	}
	if n := tab.chunk(rows); n != 10 {
		t.Errorf("%d rows of 100 kB in a statement", n)
	}
	rows[0].Values[1] = strings.Repeat("x", maxStatementBytes+1)
	if n := tab.chunk(rows); n != 1 {
		t.Errorf("%d rows with a giant", n)
	}

	// Wide tables: no statement with more placeholders than the protocol has.
	for i := range 100 {
		ds.Replica.Columns = append(ds.Replica.Columns, schemas.Column{Name: fmt.Sprint("c", i)})
	}
	wide := newTable(ds, mysql.MariaDB)
	if n := wide.ladder[0]; n*(len(ds.Replica.Columns)+tables.OwnColumns) > maxPlaceholders || n != 500 {
		t.Errorf("%d rows of %d columns", n, len(ds.Replica.Columns))
	}
}

func TestSortRows(t *testing.T) {
	ds := loaded(t)
	ds.Replica.KeyColumns = 2
	tab := newTable(ds, mysql.MariaDB)
	var rows []*Change
	for _, k := range [][]any{
		{int64(2), "a"}, {int64(-1), "b"}, {uint64(1 << 63), "a"}, {int64(2), "B"}, {uint64(3), "a"}, {1.5, "a"}, {nil, "a"}, {int64(2), []byte("a")},
	} {
		rows = append(rows, &Change{Values: k})
	}
	tab.sortRows(rows)
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprint(r.Values...))
	}
	want := "<nil> a|-1 b|2 B|2 a|2 [97]|3 a|9223372036854775808 a|1.5 a"
	if s := strings.ReplaceAll(strings.Join(got, "|"), "<nil>a", "<nil> a"); strings.ReplaceAll(s, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("order %s, want %s", s, want)
	}
}
