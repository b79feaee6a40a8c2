package backfill_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/internal/backfill"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

// newBedOf is newBed for another dataset, whose name is items.
func newBedOf(t *testing.T, declaration, schema, table string) *bed {
	t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: []byte("dataset: items\nschema: items.json\nreplica: {table: items}\n" + declaration)},
		"items.json": {Data: []byte(schema)},
	})
	if err != nil {
		t.Fatal(err)
	}
	my := testenv.MySQL(t)
	dsn := my.NewDatabase(t)
	b := &bed{t: t, db: my.Open(t, dsn)}
	b.ds, _ = set.Get("items")
	for _, text := range append(outbox.DDL(), table) {
		b.exec(text)
	}
	if b.pool, err = mysql.Open(t.Context(), mysql.Config{DSN: dsn, Writers: 2}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.pool.Close() })
	return b
}

const textKey = `{"type":"object","required":["a","id"],"properties":{"a":{"type":"string","maxLength":30},"id":{"type":"integer","minimum":0}}}`

// The server compares a cursor, and a key that is looked for, as the index does.
func TestKeysOfEveryTypeAreFound(t *testing.T) {
	for name, tc := range map[string]struct{ column, value string }{
		"latin1":           {"VARCHAR(30) CHARACTER SET latin1 COLLATE latin1_swedish_ci", "CONVERT(CONCAT(ELT(1 + seq % 8, 'ä', 'å', 'z', 'Z', 'a', 'ö', 'ü', 'y'), seq) USING latin1)"},
		"ignores case":     {"VARCHAR(30) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", "CONCAT(ELT(1 + seq % 6, 'ä', 'Å', 'z', 'Z', 'ß', 'ss '), seq)"},
		"pads":             {"CHAR(30) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "CONCAT(seq, ELT(1 + seq % 2, '', '\\t'), '!')"},
		"bytes":            {"VARCHAR(30) CHARACTER SET ascii COLLATE ascii_bin", "CONCAT(ELT(1 + seq % 3, '-', 'a', 'Z'), seq)"},
		"numbers as texts": {"BIGINT UNSIGNED", "9007199254740992 + seq"},
		"decimals":         {"DECIMAL(20,2)", "seq - 200.5"},
		"dates":            {"DATE", "DATE '1999-12-01' + INTERVAL seq DAY"},
		"moments":          {"DATETIME(3)", "TIMESTAMP '1999-12-31 23:59:59.9' + INTERVAL seq SECOND"},
		"timestamps":       {"TIMESTAMP", "TIMESTAMP '1999-12-31 23:59:59' + INTERVAL seq SECOND"},
		"times":            {"TIME", "SEC_TO_TIME(seq * 1000 - 90000)"},
		"years":            {"YEAR", "1901 + seq % 200"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBedOf(t, "key: [a, id]\n", textKey, "CREATE TABLE items (a "+tc.column+" NOT NULL, id INT NOT NULL, PRIMARY KEY (a, id))")
			b.exec("INSERT INTO items SELECT " + tc.value + ", seq FROM " + numbers(700))
			p, err := b.run(backfill.Config{})
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, line := range b.queued() {
				_, key, _ := strings.Cut(line, " ")
				key, _, _ = strings.Cut(key, " {")
				keys = append(keys, key)
			}
			if sorted := slices.Sorted(slices.Values(keys)); len(slices.Compact(sorted)) != 700 || len(keys) != 700 {
				t.Fatalf("%d events of %d records, want 700: %+v", len(keys), len(slices.Compact(sorted)), p)
			}
			p, err = b.run(backfill.Config{Replica: pages{keys: append(slices.Clone(keys), "1999,800")}})
			if err != nil || p.Deletions != 1 {
				t.Errorf("deletions of records that the source has: %+v, %v", p, err)
			}
		})
	}
}

// Types that the server orders or compares otherwise than the property's values: rows of an ENUM were left out behind the first
// chunk, and rows of a FLOAT were taken for missing and deleted.
func TestKeysThatCannotBeFoundAreRefused(t *testing.T) {
	for _, column := range []string{"ENUM('us','eu')", "SET('us','eu')", "FLOAT", "DOUBLE", "BIT(16)", "VARBINARY(30)", "BINARY(16)"} {
		t.Run(column, func(t *testing.T) {
			b := newBedOf(t, "key: [a, id]\n", textKey, "CREATE TABLE items (a "+column+" NOT NULL, id INT NOT NULL, PRIMARY KEY (a, id))")
			if _, err := b.run(backfill.Config{}); err == nil || !strings.Contains(err.Error(), "key column a of table items") {
				t.Fatalf("error is %v", err)
			}
		})
	}
}

// The relay publishes no event of a capture tool's dataset: every row would end in freshet_outbox_dead.
func TestDatasetsOfCaptureToolsAreRefused(t *testing.T) {
	b := newBedOf(t, "key: [a, id]\nformat: maxwell\ncdc: {table: shop.items}\nversion: {column: id}\n", textKey,
		"CREATE TABLE items (a VARCHAR(30) NOT NULL, id INT NOT NULL, PRIMARY KEY (a, id))")
	if _, err := b.run(backfill.Config{}); err == nil || !strings.Contains(err.Error(), "format maxwell") {
		t.Fatalf("error is %v", err)
	}
}
