package schemas

import (
	"strconv"
	"strings"
)

// CDCRules say how a capture tool (Debezium, Canal, Maxwell) is set up: what its records do not say themselves. They are
// the cdc section of a dataset; without the section every field has its zero value.
type CDCRules struct {
	// Table is "database.table" (in PostgreSQL "schema.table"): records of other tables are ignored and counted. Required
	// for Canal and Maxwell, whose topics carry many tables.
	Table string
	// RewrittenDeletes: a flattened delete is a row with __deleted (deletes: rewrite); else it is a record without a value
	// (deletes: tombstone). Only format debezium-flat.
	RewrittenDeletes bool
	// IgnoreTruncates: the table's being emptied or dropped is counted and nothing more (truncates: ignore); else the
	// dataset pauses.
	IgnoreTruncates bool
	// PartitionedByTable: all rows of the table are in one partition (partition_by: table); else the record's key chooses
	// it.
	PartitionedByTable bool
	// Columns is property → the column's type in the captured database, for what a record does not tell.
	Columns map[string]ColumnType
	// PreciseDecimals: decimals without schemas are two's complement in base64 with the column's scale (decimals:
	// precise); else they are texts. Only Debezium.
	PreciseDecimals bool
	// ConnectTimes: every date-time and time without a schema counts milliseconds (times: connect); else DATETIME above
	// three digits and TIME count microseconds. Only Debezium.
	ConnectTimes bool
	// Binary is how bytes are written as text. Only Debezium.
	Binary BinaryForm
	// ClearZeroDates: a date that does not exist (0000-00-00, 2024-06-00) becomes NULL (zero_dates: clear); else it is
	// refused by date properties.
	ClearZeroDates bool
	// RefuseDamaged: a text with U+FFFD is refused (damaged_text: refuse); else it is counted.
	RefuseDamaged bool
	// Zone is the time zone of TIMESTAMP texts in minutes east of UTC. Only Canal and Maxwell.
	Zone int
}

// BinaryForm is how a tool writes bytes.
type BinaryForm string

// The forms of bytes; Debezium's binary.handling.mode.
const (
	BinaryBase64  BinaryForm = "base64"
	BinaryBase64U BinaryForm = "base64-url-safe"
	BinaryHex     BinaryForm = "hex"
)

// readCDC reads the cdc section.
func (d *declaration) readCDC(root *section, ds *Dataset) {
	n := root.take("cdc")
	if ds.Format == FormatCloudEvents {
		if n != nil {
			d.fail(n.Line, "cdc", "belongs to the formats of capture tools", "remove it, or name the format")
		}
		return
	}
	ds.CDC = &CDCRules{Binary: BinaryBase64}
	s := &section{decl: d, path: "cdc.", line: root.line}
	if n != nil {
		if s = d.section("cdc.", n); s == nil {
			return
		}
	}
	debezium := ds.Format == FormatDebezium || ds.Format == FormatDebeziumFlat
	r := ds.CDC
	r.Table = s.text("table")
	if r.Table == "" && !debezium && d.lines["cdc.table"] == 0 {
		d.fail(s.line, "cdc.table", "is missing", "name the captured table: a topic of "+string(ds.Format)+" carries many")
	}
	if database, table, ok := strings.Cut(r.Table, "."); r.Table != "" && (!ok || database == "" || table == "") {
		d.fail(d.lines["cdc.table"], "cdc.table", "is not a database and table", "write database.table")
	}
	known := []string{"table", "truncates", "partition_by", "columns", "damaged_text"}
	r.IgnoreTruncates = s.choice("truncates", "pause", "ignore") == "ignore"
	r.PartitionedByTable = s.choice("partition_by", "key", "table") == "table"
	r.RefuseDamaged = s.choice("damaged_text", "keep", "refuse") == "refuse"
	if debezium {
		known = append(known, "decimals", "times", "binary")
		r.PreciseDecimals = s.choice("decimals", "string", "precise") == "precise"
		r.ConnectTimes = s.choice("times", "adaptive", "connect") == "connect"
		r.Binary = BinaryForm(s.choice("binary", string(BinaryBase64), string(BinaryBase64U), string(BinaryHex)))
	} else {
		known = append(known, "zero_dates", "zone")
		r.ClearZeroDates = s.choice("zero_dates", "refuse", "clear") == "clear"
		d.readZoneOf(s, r)
	}
	if ds.Format == FormatDebeziumFlat {
		known = append(known, "deletes")
		d.readDeletes(s, r)
	}
	d.readColumnTypes(s, r)
	s.done(known...)
}

func (d *declaration) readDeletes(s *section, r *CDCRules) {
	if s.fields["deletes"] == nil {
		d.fail(s.line, "cdc.deletes", "is missing: flattened records do not show how deletes come",
			"write tombstone or rewrite, as the connector's delete.tombstone.handling.mode says")
		return
	}
	r.RewrittenDeletes = s.choice("deletes", "tombstone", "rewrite") == "rewrite"
}

func (d *declaration) readZoneOf(s *section, r *CDCRules) {
	text := s.text("zone")
	if text == "" {
		return
	}
	minutes, ok := readZone(text)
	if !ok {
		d.fail(d.lines["cdc.zone"], "cdc.zone", "is not an offset from UTC", `write "+08:00"`)
	}
	r.Zone = minutes
}

func (d *declaration) readColumnTypes(s *section, r *CDCRules) {
	n := s.take("columns")
	if n == nil {
		return
	}
	columns := d.section("cdc.columns.", n)
	if columns == nil {
		return
	}
	r.Columns = make(map[string]ColumnType, len(columns.order))
	for _, property := range columns.order {
		text := columns.text(property)
		if text == "" {
			continue
		}
		t, ok := ParseColumnType(text)
		if !ok {
			d.fail(d.lines["cdc.columns."+property], "cdc.columns."+property, "is not a column type of MySQL or MariaDB",
				`write it as SHOW COLUMNS does: "bigint unsigned", "datetime(3)"`)
		}
		r.Columns[property] = t
	}
}

// checkCDC holds the cdc section against the rest.
func (d *declaration) checkCDC(ds *Dataset, props []Property) {
	if ds.CDC == nil {
		return
	}
	if ds.Format == FormatDebeziumFlat && !ds.CDC.RewrittenDeletes && ds.Version.Kind == VersionColumn {
		d.fail(d.lines["version"], "version", "is a column, which a delete without a row does not have",
			"set the connector's delete.tombstone.handling.mode to rewrite and write cdc.deletes: rewrite, or use version: offset")
	}
	for property, t := range ds.CDC.Columns {
		line := d.lines["cdc.columns."+property]
		switch p := findProperty(props, property); {
		case p == nil:
			d.fail(line, "cdc.columns."+property, "is not a property of the schema", "name a property, not a column of the replica")
		case t.Base != "" && !t.fits(p.Kind):
			d.fail(line, "cdc.columns."+property, "has values that the property cannot hold", "change the type, or the property in the schema")
		case t.Base == "decimal" && p.Kind == KindDecimal && (t.Scale > p.Scale || t.Precision-t.Scale > p.Precision-p.Scale):
			d.fail(line, "cdc.columns."+property, "is wider than the property's x-decimal",
				"widen x-decimal to "+strconv.Quote(strconv.Itoa(t.Precision)+","+strconv.Itoa(t.Scale)))
		}
	}
}
