package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/internal/cdctest"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// TestInitReportsWhatItCannotExpress: a table or column that has no draft is reported with what to do, and the others are drafted.
func TestInitReportsWhatItCannotExpress(t *testing.T) {
	const point = "POINT NULL"
	s := newSource(t, "CREATE TABLE plain (id INT PRIMARY KEY, `first name` VARCHAR(9), _version INT, place "+point+", twice INT GENERATED ALWAYS AS (id * 2) STORED, flag TINYINT(1))"+
		";\nCREATE TABLE keyless (a INT)"+
		";\nCREATE TABLE prefixed (url TEXT NOT NULL, PRIMARY KEY (url(20)))"+
		";\nCREATE TABLE measured (at DOUBLE NOT NULL PRIMARY KEY)"+
		";\nCREATE TABLE `order-items` (id INT PRIMARY KEY)"+
		";\nCREATE TABLE `2fa` (id INT PRIMARY KEY)"+
		";\nCREATE TABLE freshet_things (id INT PRIMARY KEY)"+
		";\nCREATE TABLE wide (id INT PRIMARY KEY, a VARCHAR(900), b VARCHAR(1000), c VARCHAR(800), "+manyColumns(18)+") DEFAULT CHARSET = latin1"+
		";\nCREATE VIEW seen AS SELECT * FROM plain")
	tables := "plain,keyless,prefixed,measured,order-items,2fa,freshet_things,wide,seen,absent,plain=again,order-items=plain"
	out := s.freshet(t, 1, "init", "--dsn-file", s.dsnFile, "--tables", tables, "--from", "publish")
	for _, want := range []string{
		"note: plain: column first name is left out: it has a name that is not a plain SQL identifier; declare its property by hand",
		"note: plain: column _version is left out: it has the name of one of Freshet's own columns",
		"note: plain: column place is left out: it is a spatial column",
		"note: plain: column twice is left out: it is computed from others",
		"note: plain: column flag is TINYINT(1) and became an integer: make it a boolean",
		"PROBLEM " + s.name + ".keyless: it has no primary key",
		"PROBLEM " + s.name + ".prefixed: column url of its primary key is in the key with its first characters only",
		"PROBLEM " + s.name + ".measured: column at of its primary key is of type double",
		"PROBLEM " + s.name + ".2fa: its name is not a name of a dataset",
		"PROBLEM " + s.name + ".seen: it is not a table but a view",
		"PROBLEM " + s.name + ".absent: it does not exist",
		"PROBLEM " + s.name + ".order-items: dataset plain is drafted already; write --tables " + s.name + ".order-items=NAME",
		"is MEDIUMTEXT in the replica, since the row would be too large",
		"  freshet.order-items\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	files, err := filepath.Glob(filepath.Join(s.out, "*.yaml"))
	if err != nil || len(files) != 4 {
		t.Errorf("files %v, %v; want drafts of plain, order-items, wide and things", files, err)
	}
}

// manyColumns are so many texts that a row of a table with utf8mb4 has no room for all.
func manyColumns(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("v%d VARCHAR(1000)", i)
	}
	return strings.Join(list, ", ")
}

// TestInitAgain: what exists is compared and never written; a column that the table got since is not required.
func TestInitAgain(t *testing.T) {
	s := newSource(t, "CREATE TABLE things (id INT PRIMARY KEY, name VARCHAR(9) NOT NULL)")
	args := []string{"init", "--dsn-file", s.dsnFile, "--tables", "things", "--from", "outbox", "--json"}
	report := func(code int) (r initReport) {
		t.Helper()
		if err := json.Unmarshal([]byte(s.freshet(t, code, args...)), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := report(0); len(r.Written) != 2 || len(r.Differs)+len(r.Unchanged)+len(r.Problems) > 0 {
		t.Errorf("first run: %+v", r)
	}
	if r := report(0); len(r.Unchanged) != 2 || len(r.Differs)+len(r.Written) > 0 {
		t.Errorf("second run: %+v", r)
	}
	file := filepath.Join(s.out, "things.json")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.ExecContext(t.Context(), "ALTER TABLE things ADD COLUMN since DATE NULL"); err != nil {
		t.Fatal(err)
	}
	r := report(1)
	if len(r.Differs) != 1 || !strings.Contains(r.Differs[0].Diff, "+     \"since\": {\"type\": [\"string\", \"null\"], \"format\": \"date\"}\n") || !strings.Contains(r.Differs[0].Diff, "    \"required\": [\"id\", \"name\"],\n") {
		t.Errorf("after a column was added: %+v", r)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed: %v\n%s", err, after)
	}
}

func TestInitFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte("user:hunter2@nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"--tables a --from outbox":                                 "--dsn-file",
		"--dsn-file " + file + " --from outbox":                    "--tables is missing",
		"--dsn-file " + file + " --tables a":                       "write outbox, publish, debezium, canal, maxwell",
		"--dsn-file " + file + " --tables a --from fax":            "write outbox, publish, debezium, canal, maxwell",
		"--dsn-file " + file + " --tables a --from maxwell":        "--topic is missing",
		"--dsn-file " + file + "x --tables a --from outbox":        "no such file",
		"--dsn-file " + file + " --tables a --from outbox --out x": "the DSN cannot be parsed",
	} {
		_, errOut, code := freshet(t, nil, append([]string{"init"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(errOut, want) || strings.Contains(errOut, "hunter2") {
			t.Errorf("%s: exit code %d, %s; want %q", args, code, errOut, want)
		}
	}
}

// TestInitExplainsCaptures: with a draft of the captured tables, every record that the tools wrote of them is understood.
func TestInitExplainsCaptures(t *testing.T) {
	const dir = "../../schemas/cdc/testdata"
	text, err := os.ReadFile(filepath.Join(dir, "sql", "ddl.sql"))
	if err != nil {
		t.Fatal(err)
	}
	_, create, _ := strings.Cut(string(text), "USE shop;\n")
	s := newSource(t, create)
	for from, files := range map[string]map[string]string{
		"debezium": {"customers": "debezium/decimal-string.customers", "order_lines": "debezium/decimal-string.order_lines"},
		"canal":    {"customers": "canal/flat", "order_lines": "canal/flat", "outbox": "canal/flat"},
		"maxwell":  {"customers": "maxwell/default", "order_lines": "maxwell/default", "outbox": "maxwell/default"},
	} {
		for table, file := range files {
			t.Run(from+" "+table, func(t *testing.T) {
				s.out = t.TempDir()
				out := s.freshet(t, 0, "init", "--dsn-file", s.dsnFile, "--tables", table, "--from", from, "--topic", "x.{table}")
				if table == "customers" && !strings.Contains(out, "column prefs is JSON") {
					t.Errorf("nothing is said of JSON:\n%s", out)
				}
				set, err := schemas.LoadDatasets(renamed(t, s.out, s.name+"."+table, "shop."+table))
				if err != nil {
					t.Fatal(err)
				}
				d := set.All()[0]
				records, err := cdctest.Read(dir, file)
				if err != nil {
					t.Fatal(err)
				}
				rows := decodeAll(t, d, records)
				if rows < 3 {
					t.Errorf("%d rows were understood", rows)
				}
			})
		}
	}
}

// renamed is a folder of datasets with another name of the captured table.
func renamed(t *testing.T, dir, was, is string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(string(text), was, is))}
	}
	return files
}

// decodeAll reads and checks every row, and returns how many there are. Dates that do not exist and JSON that is neither object
// nor array are refused, as documented.
func decodeAll(t *testing.T, d *schemas.Dataset, records []cdctest.Captured) (rows int) {
	t.Helper()
	dec := cdc.New(cdc.Config{Dataset: d, Partitions: 1})
	for i := range records {
		res, err := dec.Decode(records[i].Record)
		if err != nil {
			t.Fatal(err)
		}
		for j := range res.Rows {
			ev, err := &res.Rows[j].Event, res.Rows[j].Err
			if err == nil {
				_, err = d.Check(ev)
			}
			if err != nil && !strings.Contains(err.Error(), "a date that does not exist") && err.Error() != "data/prefs: breaks the schema's type" {
				t.Errorf("record %d: %v", i, err)
			}
			rows++
		}
	}
	return rows
}
