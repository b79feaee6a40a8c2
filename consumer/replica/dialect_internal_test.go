package replica

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-sql-driver/mysql"

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
		d    Dialect
		keep bool
		want string
	}{
		"mariadb": {MariaDB, false, "INSERT INTO `we``ird` (`id`, `name`, `_deleted`, `_at`, `_version`) VALUES (?,?,?,?,?),(?,?,?,?,?)" +
			" ON DUPLICATE KEY UPDATE `name` = IF(VALUES(`_version`) > `_version`, VALUES(`name`), `name`)," +
			" `_deleted` = IF(VALUES(`_version`) > `_version`, VALUES(`_deleted`), `_deleted`)," +
			" `_at` = IF(VALUES(`_version`) > `_version`, VALUES(`_at`), IF(LAST_INSERT_ID(1), `_at`, `_at`))," +
			" `_version` = IF(`id` = VALUES(`id`), IF(VALUES(`_version`) > `_version`, VALUES(`_version`), `_version`), VALUES(`_version`) + 9223372036854775807)"},
		"mysql": {ModernMySQL, false, "INSERT INTO `we``ird` (`id`, `name`, `_deleted`, `_at`, `_version`) VALUES (?,?,?,?,?),(?,?,?,?,?) AS n" +
			" ON DUPLICATE KEY UPDATE `name` = IF(n.`_version` > `we``ird`.`_version`, n.`name`, `we``ird`.`name`)," +
			" `_deleted` = IF(n.`_version` > `we``ird`.`_version`, n.`_deleted`, `we``ird`.`_deleted`)," +
			" `_at` = IF(n.`_version` > `we``ird`.`_version`, n.`_at`, IF(LAST_INSERT_ID(1), `we``ird`.`_at`, `we``ird`.`_at`))," +
			" `_version` = IF(`we``ird`.`id` = n.`id`, IF(n.`_version` > `we``ird`.`_version`, n.`_version`, `we``ird`.`_version`), n.`_version` + 9223372036854775807)"},
		"keep": {MariaDB, true, "INSERT INTO `we``ird` (`id`, `name`, `_deleted`, `_at`, `_version`) VALUES (?,?,?,?,?),(?,?,?,?,?)" +
			" ON DUPLICATE KEY UPDATE `name` = IF(VALUES(`_version`) > `_version` AND VALUES(`_deleted`) = 0, VALUES(`name`), `name`)," +
			" `_deleted` = IF(VALUES(`_version`) > `_version`, VALUES(`_deleted`), `_deleted`)," +
			" `_at` = IF(VALUES(`_version`) > `_version`, VALUES(`_at`), IF(LAST_INSERT_ID(1), `_at`, `_at`))," +
			" `_version` = IF(`id` = VALUES(`id`), IF(VALUES(`_version`) > `_version`, VALUES(`_version`), `_version`), VALUES(`_version`) + 9223372036854775807)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := UpsertSQL(golden(c.keep), c.d, 2); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	old := UpsertSQL(golden(false), OldMySQL, 2)
	if old != UpsertSQL(golden(false), MariaDB, 2) {
		t.Error("old MySQL wants what MariaDB wants")
	}
	// Assignments run from left to right: _version must be the last one in every dialect.
	for _, d := range []Dialect{MariaDB, ModernMySQL, OldMySQL} {
		text := UpsertSQL(golden(false), d, 1)
		if last := text[strings.LastIndex(text, " = IF(")-len("`_version`"):]; !strings.HasPrefix(last, "`_version`") {
			t.Errorf("%s: the last assignment is %s", d, last)
		}
	}
}

func TestDialectOf(t *testing.T) {
	for version, want := range map[string]Dialect{
		"10.11.19-MariaDB-0+deb12u1": MariaDB, "5.5.5-10.6.4-mariadb": MariaDB, "8.4.3": ModernMySQL, "9.1.0-cluster": ModernMySQL,
		"8.0.19": ModernMySQL, "8.0.18-log": OldMySQL, "5.7.44": OldMySQL, "8.0.31-freshet-dev": ModernMySQL, "unknown": OldMySQL, "8": OldMySQL,
	} {
		if got := dialectOf(version); got != want {
			t.Errorf("%s is %s, want %s", version, got, want)
		}
	}
}

func TestLadder(t *testing.T) {
	ds := loaded(t)
	tab := newTable(ds, MariaDB)
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
	wide := newTable(ds, MariaDB)
	if n := wide.ladder[0]; n*(len(ds.Replica.Columns)+ownColumns) > maxPlaceholders || n != 500 {
		t.Errorf("%d rows of %d columns", n, len(ds.Replica.Columns))
	}
}

func TestSortRows(t *testing.T) {
	ds := loaded(t)
	ds.Replica.KeyColumns = 2
	tab := newTable(ds, MariaDB)
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

func TestClassify(t *testing.T) {
	my := func(n uint16) error {
		return doing("x", "t", &mysql.MySQLError{Number: n, Message: "Duplicate entry 'secret'"})
	}
	for want, errs := range map[class][]error{
		classConflict:       {my(1213), my(1205), my(3572), my(1020)},
		classPoison:         {my(1048), my(1062), my(1264), my(1265), my(1292), my(1366), my(1406), my(1690), my(3140), my(3819), my(4025)},
		classDataset:        {my(1054), my(1064), my(1136), my(1146), my(1390), my(1451), my(1452)},
		classConnection:     {mysql.ErrInvalidConn, driver.ErrBadConn, &net.OpError{Err: errors.New("x")}, fmt.Errorf("x: %w", mysql.ErrInvalidConn)},
		classUnknown:        {my(1118), my(1364), my(1526), my(1644), my(3157), my(9999)},
		classInfrastructure: {my(1040), my(1045), my(1114), my(1290), my(1836), my(1105), my(1021), my(1030), my(1047), my(1142), my(1180), my(1203), my(1317), my(1461), my(1665), my(3024), my(3101), errors.New("x"), context.Canceled},
	} {
		for _, err := range errs {
			if got := classify(err); got != want {
				t.Errorf("%v is of class %d, want %d", err, got, want)
			}
			own := map[class]class{classPoison: classInfrastructure, classDataset: classInfrastructure, classUnknown: classInfrastructure}
			wantOwn, ok := own[want]
			if n, _ := Errno(err); n == 1062 {
				wantOwn = classConflict
			} else if !ok {
				wantOwn = want
			}
			if got := classifyOwn(err); got != wantOwn {
				t.Errorf("%v on our own tables is of class %d, want %d", err, got, wantOwn)
			}
		}
	}
	err := doing("apply batch", "", my(1062))
	if strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "1062") {
		t.Errorf("error text %q", err)
	}
	if n, ok := Errno(err); !ok || n != 1062 {
		t.Errorf("number %d, %t", n, ok)
	}
}

func TestDriverConfig(t *testing.T) {
	for _, flag := range []string{"multiStatements", "allowAllFiles", "interpolateParams", "allowCleartextPasswords"} {
		_, err := Config{DSN: "u:secret@tcp(h:1)/d?" + flag + "=true"}.DriverConfig()
		if err == nil || !strings.Contains(err.Error(), flag) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	for name, c := range map[string]Config{
		"bad DSN": {DSN: "u:secret@tcp(h:1"}, "no database": {DSN: "u:secret@tcp(h:1)/"}, "no database in fields": {Addr: "h:1"},
	} {
		if _, err := c.DriverConfig(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]Config{
		"nothing": {}, "two": {DSN: "x", Addr: "y"}, "negative": {Addr: "h:1", Writers: -1}, "negative time": {Addr: "h:1", SessionTimeout: -1},
	} {
		if _, err := Open(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg, err := Config{Addr: "h:3306", User: "u", Password: "p@:/?", Database: "d"}.DriverConfig()
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.ClientFoundRows || !cfg.RejectReadOnly || cfg.ParseTime || cfg.MaxAllowedPacket != 0 || cfg.Collation != "utf8mb4_bin" ||
		cfg.ReadTimeout == 0 || cfg.WriteTimeout == 0 || cfg.Timeout == 0 || cfg.Passwd != "p@:/?" {
		t.Errorf("driver configuration %+v", cfg)
	}
	if cfg, err = (Config{DSN: "u:p@tcp(h:1)/d?parseTime=true&clientFoundRows=false"}).DriverConfig(); err != nil || cfg.ParseTime || !cfg.ClientFoundRows {
		t.Errorf("the DSN has its way: %+v, %v", cfg, err)
	}
}
