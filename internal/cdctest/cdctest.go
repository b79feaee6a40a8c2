// Package cdctest reads the captures of change events in schemas/cdc/testdata, and compares rows with those that the
// captured database held in the end.
package cdctest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// Captured is one record of a capture.
type Captured struct {
	// Partition is where the tool put it.
	Partition int32
	Record    schemas.Record
}

// Read returns the records of the files in order. dir is schemas/cdc/testdata.
func Read(dir string, files ...string) ([]Captured, error) {
	var all []Captured
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(dir, name+".ndjson"))
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			c, err := readLine(lines.Bytes())
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			all = append(all, c)
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return all, nil
}

func readLine(line []byte) (Captured, error) {
	var l struct {
		Partition   int32
		Offset      int64
		Timestamp   int64
		Headers     [][2]*string
		Key, Value  json.RawMessage
		KeyBase64   []byte `json:"key_base64"`
		ValueBase64 []byte `json:"value_base64"`
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return Captured{}, err
	}
	c := Captured{Partition: l.Partition, Record: schemas.Record{Offset: l.Offset, Time: l.Timestamp, Key: l.KeyBase64, Value: l.ValueBase64}}
	if c.Record.Key == nil && string(l.Key) != "null" {
		c.Record.Key = l.Key
	}
	if c.Record.Value == nil && string(l.Value) != "null" {
		c.Record.Value = l.Value
	}
	for _, h := range l.Headers {
		header := schemas.Header{Key: *h[0]}
		if h[1] != nil {
			value, err := base64.StdEncoding.DecodeString(*h[1])
			if err != nil {
				return Captured{}, err
			}
			header.Value = value
		}
		c.Record.Headers = append(c.Record.Headers, header)
	}
	return c, nil
}

// Cell names a value: the key's values joined by commas, and the column.
type Cell struct{ Key, Column string }

// Table is what the database held.
type Table struct {
	types map[string]string
	// Rows is key → column → text, nil for NULL.
	Rows map[string]map[string]*string
	// Unknown are the cells that a capture cannot give.
	Unknown map[Cell]bool
}

// Final reads a table's rows. tool and capture name the differences that are known ("debezium", "plain").
func Final(dir, tool, capture, table string) (*Table, error) {
	var final struct {
		Tables map[string]struct {
			Columns    [][2]string
			PrimaryKey []string `json:"primary_key"`
			Rows       []map[string]*string
		}
	}
	if err := readJSON(filepath.Join(dir, "final-rows.json"), &final); err != nil {
		return nil, err
	}
	ft, ok := final.Tables[table]
	if !ok {
		return nil, fmt.Errorf("final-rows.json has no table %s", table)
	}
	t := &Table{types: map[string]string{}, Rows: map[string]map[string]*string{}, Unknown: map[Cell]bool{}}
	for _, c := range ft.Columns {
		t.types[c[0]] = c[1]
	}
	for _, row := range ft.Rows {
		var key []string
		for _, c := range ft.PrimaryKey {
			key = append(key, *row[c])
		}
		t.Rows[strings.Join(key, ",")] = row
	}
	var known []struct {
		Table, Column, Capture string
		Key                    []string
	}
	if err := readJSON(filepath.Join(dir, tool, "unavoidable-differences.json"), &known); err != nil {
		return nil, err
	}
	for _, d := range known {
		if d.Table == "shop."+table && d.Capture == capture {
			t.Unknown[Cell{strings.Join(d.Key, ","), d.Column}] = true
		}
	}
	return t, nil
}

func readJSON(name string, v any) error {
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	return err
}

// Compare returns one line for each difference between the table and rows (key → column → text as the database prints it).
func (t *Table) Compare(rows map[string]map[string]*string) []string {
	var out []string
	for key := range rows {
		if _, ok := t.Rows[key]; !ok {
			out = append(out, "row "+key+" is left over")
		}
	}
	for key, want := range t.Rows {
		got, ok := rows[key]
		if !ok {
			out = append(out, "row "+key+" is missing")
			continue
		}
		for column, w := range want {
			if t.Unknown[Cell{key, column}] {
				continue
			}
			g, there := got[column]
			if !there {
				out = append(out, fmt.Sprintf("row %s lacks column %s", key, column))
			} else if a, b := t.canonical(column, w), t.canonical(column, g); a != b {
				out = append(out, fmt.Sprintf("row %s, %s: want %s, got %s", key, column, a, b))
			}
		}
	}
	slices.Sort(out)
	return out
}

// canonical brings the texts of one value together: databases differ in zeros and in the spaces of JSON.
func (t *Table) canonical(column string, v *string) string {
	if v == nil {
		return "NULL"
	}
	typ, _, _ := strings.Cut(t.types[column], "(")
	switch typ {
	case "decimal":
		if r, ok := new(big.Rat).SetString(*v); ok {
			return r.RatString()
		}
	case "double":
		if f, err := strconv.ParseFloat(*v, 64); err == nil {
			return strconv.FormatFloat(f+0, 'g', -1, 64)
		}
	case "datetime", "timestamp", "time":
		if strings.Contains(*v, ".") {
			return strings.TrimRight(strings.TrimRight(*v, "0"), ".")
		}
	case "longtext": // JSON, here
		var buf bytes.Buffer
		if json.Compact(&buf, []byte(*v)) == nil {
			return buf.String()
		}
	}
	return *v
}
