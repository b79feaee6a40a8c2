package cdctest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Case is a table as one tool captured it, with the declaration that reads it.
type Case struct {
	// Name is also the name of its dataset, with - for /.
	Name string
	// Tool and Capture name the known differences.
	Tool, Capture string
	// Table is the captured table.
	Table string
	// Files are the captures, to be read one after the other.
	Files []string
	// Rules are the declaration's format and cdc section, Schema its JSON Schema, Key its key.
	Rules, Schema, Key string
	// Partitions of the capture's topic.
	Partitions int32
	// Differs are cells that this mode of the tool cannot carry, beside the known differences of Capture.
	Differs []Cell
}

const (
	customerTypes = "created_at: datetime(3), alarm: time, avatar: varbinary(64), flags: bit(12), color: \"enum('red','green','blue','it''s, \\\"x\\\"')\", tags: \"set('a','b','c d')\""
	maxwellTypes  = customerTypes + ", prefs: json"
)

// Cases are all tables of all captures whose end is known.
func Cases() []Case {
	debezium := func(mode, table, rules, schema string) Case {
		c := Case{
			Name: "debezium-" + mode + "-" + table, Tool: "debezium", Capture: "plain", Table: table, Partitions: 1,
			Files: []string{"debezium/" + mode + "." + table}, Schema: schema, Key: keyOf(table),
		}
		types := map[string]string{"customers": customerTypes + ", id: bigint, vip: tinyint, score: int", "order_lines": "shipped_at: datetime, qty: int"}[table]
		if mode == "schema" {
			types = map[string]string{"customers": "id: bigint", "order_lines": "qty: int"}[table] // the records say the others
		}
		c.Rules = fmt.Sprintf("format: debezium\ncdc: {%s, columns: {%s}}\n", rules, types)
		if mode == "unwrap" {
			c.Rules = fmt.Sprintf("format: debezium-flat\ncdc: {deletes: rewrite, columns: {%s}}\n", types)
		}
		return c
	}
	var cases []Case
	for _, table := range []string{"customers", "order_lines"} {
		double := debezium("decimal-double", table, "table: shop."+table, table+"-double")
		double.Differs = []Cell{{"2,11", "price"}} // 20 digits do not fit a double
		cases = append(cases, double,
			debezium("plain", table, "decimals: precise", table),
			debezium("decimal-string", table, "decimals: string", table),
			debezium("schema", table, "table: shop."+table, table),
			debezium("unwrap", table, "", table))
		converters := debezium("converters", table, "decimals: precise, binary: hex, times: connect", table)
		if table == "customers" {
			converters.Schema = "customers-boolean"
			converters.Differs = []Cell{{"-5", "vip"}} // −1 becomes true or false
		}
		cases = append(cases, converters)
	}
	cases = append(cases, debezium("plain", "outbox", "table: shop.outbox", "outbox"))
	for _, table := range []string{"customers", "order_lines", "outbox"} {
		schema, types := table, map[string]string{"customers": maxwellTypes}[table]
		if table == "customers" {
			schema = "customers-zero"
		}
		multi := func(tool, capture, name, rules string, partitions int32, files ...string) {
			cases = append(cases, Case{
				Name: tool + "-" + name + "-" + table, Tool: tool, Capture: capture, Table: table, Files: files, Schema: schema,
				Key: keyOf(table), Rules: "format: " + tool + "\ncdc: {table: shop." + table + rules + "}\n", Partitions: partitions,
				Differs: map[string][]Cell{"bootstrap": {{"40", "created_at"}, {"40", "updated_at"}}}[name], // zero dates become null there
			})
		}
		multi("canal", "flat", "flat", "", 1, "canal/flat")
		multi("canal", "flat", "flat-hash3", "", 3, "canal/flat-hash3")
		columns := ", columns: {" + types + "}"
		multi("maxwell", "default", "default", columns, 1, "maxwell/default")
		multi("maxwell", "default", "all-fields", columns, 1, "maxwell/all-fields")
		multi("maxwell", "default", "bootstrap", columns, 1, "maxwell/default", "maxwell/bootstrap")
	}
	return cases
}

func keyOf(table string) string {
	if table == "order_lines" {
		return "[order_id, line_no]"
	}
	return "[id]"
}

// Folder is the folder of the case's dataset: its declaration and its schema. dir is schemas/cdc/testdata.
func (c *Case) Folder(dir, topic string) (map[string]string, error) {
	schema, err := os.ReadFile(filepath.Join(dir, "datasets", c.Schema+".json"))
	if err != nil {
		return nil, err
	}
	name := "c-" + c.Name
	return map[string]string{
		name + ".yaml": fmt.Sprintf("dataset: %s\ntopic: %s\nschema: %s.json\nkey: %s\nreplica: {table: %q}\n%s",
			name, topic, name, c.Key, c.ReplicaTable(), c.Rules),
		name + ".json": string(schema),
	}, nil
}

// ReplicaTable is the name of the case's replica table.
func (c *Case) ReplicaTable() string {
	name := []byte("c_" + c.Name)
	for i, b := range name {
		if b == '-' || b == '.' {
			name[i] = '_'
		}
	}
	return string(name)
}

// Final reads what the table held, without the cells that the capture cannot give.
func (c *Case) Final(dir string) (*Table, error) {
	t, err := Final(dir, c.Tool, c.Capture, c.Table)
	if err != nil {
		return nil, err
	}
	for _, cell := range c.Differs {
		t.Unknown[cell] = true
	}
	return t, nil
}

// Twice returns the records as a careless delivery does: each one twice, and the second half once more.
func Twice(records []Captured) []Captured {
	var out []Captured
	for _, r := range records {
		out = append(out, r, r)
	}
	return slices.Concat(out, records[len(records)/2:])
}
