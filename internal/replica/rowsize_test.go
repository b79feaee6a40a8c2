package replica_test

import (
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// TestRowBytesIsTheServers: a table of exactly the greatest size is made, and one byte more is refused.
func TestRowBytesIsTheServers(t *testing.T) {
	b := newBed(t, replica.Config{})
	integer := `{"type":"integer","minimum":0,"maximum":100}`
	moment := `{"type":"string","format":"date-time"}`
	raw := `{"type":"string","contentEncoding":"base64","maxLength":40}`
	types := map[string]string{
		"every type": `t1: {type: tinyint}, t2: {type: smallint}, t3: {type: mediumint}, t4: {type: int}, bits: {type: bit(12)}, f: {type: float}, dec: {type: "decimal(9,2) unsigned"},` +
			` dt: {type: datetime}, dt3: {type: datetime(3)}, ts: {type: timestamp}, ts6: {type: timestamp(6)}, tm: {type: time}, tm5: {type: time(5)}, ch: {type: char(9)}, vc: {type: varchar(70)},` +
			` tt: {type: tinytext}, tx: {type: text}, mt: {type: mediumtext}, lt: {type: longtext}, bi: {type: binary(30)}, vb: {type: varbinary(30)}, vb3: {type: varbinary(300)}, tb: {type: tinyblob}, bl: {type: blob},` +
			` mb: {type: mediumblob}, lb: {type: longblob}, en: {type: "enum('a','b')"}, se: {type: "set('a','b','c','d','e','f','g','h','i')"}`,
	}
	for name, properties := range map[string]string{
		"texts": "",
		"every type": `,"t1":` + integer + `,"t2":` + integer + `,"t3":` + integer + `,"t4":` + integer + `,"bits":` + integer + `,"f":{"type":"number"},"dec":{"type":"string","x-decimal":"9,2"},` +
			`"dt":` + moment + `,"dt3":` + moment + `,"ts":` + moment + `,"ts6":` + moment + `,"tm":{"type":"string"},"tm5":{"type":"string"},"ch":{"type":"string","maxLength":9},"vc":{"type":"string","maxLength":70},` +
			`"tt":{"type":"string","maxLength":9},"tx":{"type":"string","maxLength":9},"mt":{"type":"string"},"lt":{"type":"string"},"bi":` + raw + `,"vb":` + raw + `,"vb3":` + raw + `,"tb":` + raw + `,"bl":` + raw +
			`,"mb":` + raw + `,"lb":` + raw + `,"en":{"type":"string","enum":["a"]},"se":{"type":"string"}`,
		"every kind": `,"i":{"type":"integer"},"n":{"type":"number"},"b":{"type":"boolean"},"j":{"type":"object"},"l":{"type":"string"},
			"d":{"type":"string","format":"date"},"t":{"type":"string","format":"date-time"},"s":{"type":"string","maxLength":63},
			"p":{"type":"string","x-decimal":"12,2"},"q":{"type":"string","x-decimal":"65,30"}`,
		"eight bits": `,"a1":{"type":"boolean"},"a2":{"type":"boolean"},"a3":{"type":"boolean"}`,
		"seven bits": `,"a1":{"type":"boolean"},"a2":{"type":"boolean"}`,
		"nine bits":  `,"a1":{"type":"boolean"},"a2":{"type":"boolean"},"a3":{"type":"boolean"},"a4":{"type":"boolean"}`,
	} {
		t.Run(name, func(t *testing.T) {
			// Texts of 1024 characters fill up most, one more text and up to 32 booleans the rest.
			at := func(texts, last, bits int) (string, int) {
				var more strings.Builder
				more.WriteString(properties)
				for i := range texts {
					fmt.Fprintf(&more, `,"f%d":{"type":"string","maxLength":1024}`, i)
				}
				fmt.Fprintf(&more, `,"last":{"type":"string","maxLength":%d}`, last)
				for i := range bits {
					fmt.Fprintf(&more, `,"z%d":{"type":"boolean"}`, i)
				}
				ds := grownTyped(t, more.String(), types[name])[0]
				return tables.Create(ds, b.Dialect()), tables.RowBytes(ds)
			}
			makes := func(statement string) bool {
				if _, err := b.db.ExecContext(t.Context(), statement); err != nil {
					if no, _ := mysql.Errno(err); no != 1118 {
						t.Fatal(err)
					}
					return false
				}
				b.exec(t, "DROP TABLE g")
				return true
			}
			tried := map[int]bool{}
			_, least := at(15, 1, 0)
			near := (tables.MaxRowBytes - least) / 4
			for last := near - 10; last <= near+1; last++ {
				for bits := range 33 {
					statement, size := at(15, last, bits)
					if size != tables.MaxRowBytes && size != tables.MaxRowBytes+1 {
						continue
					}
					tried[size] = true
					if made := makes(statement); made != (size <= tables.MaxRowBytes) {
						t.Errorf("%d bytes, made %v", size, made)
					}
				}
			}
			if len(tried) != 2 {
				t.Errorf("tried %v, want the limit and one byte more", tried)
			}
		})
	}
}

// TestPageBytesIsTheServers: as many columns of a kind as a page takes are made, and one more is refused.
func TestPageBytesIsTheServers(t *testing.T) {
	b := newBed(t, replica.Config{})
	for name, property := range map[string]string{
		"short texts":    `{"type":"string","maxLength":9}`,
		"longer texts":   `{"type":"string","maxLength":30}`,
		"texts":          `{"type":"string"}`,
		"integers":       `{"type":"integer"}`,
		"decimals":       `{"type":"string","x-decimal":"30,2"}`,
		"objects":        `{"type":"object"}`,
		"outside texts":  `{"type":"string","maxLength":1025}`,
		"char(60)":       `{"type":"string","maxLength":60}`,
		"varchar(60)":    `{"type":"string","maxLength":60}`,
		"binary(200)":    `{"type":"string","contentEncoding":"base64","maxLength":200}`,
		"varbinary(100)": `{"type":"string","contentEncoding":"base64","maxLength":100}`,
		"tinyblob":       `{"type":"string","contentEncoding":"base64","maxLength":300}`,
		"longblob":       `{"type":"string","contentEncoding":"base64"}`,
		"decimal(60,2)":  `{"type":"string","x-decimal":"60,2"}`,
	} {
		t.Run(name, func(t *testing.T) {
			with := func(n int) (string, int) {
				var more, types strings.Builder
				for i := range n {
					fmt.Fprintf(&more, `,"f%d":%s`, i, property)
					if _, ok := schemas.ParseColumnType(name); ok {
						fmt.Fprintf(&types, "f%d: {type: %q}, ", i, name)
					}
				}
				ds := grownTyped(t, more.String(), types.String())[0]
				return tables.Create(ds, b.Dialect()), tables.PageBytes(ds, b.Dialect())
			}
			most := sort.Search(1013, func(n int) bool { _, size := with(n); return size > tables.MaxPageBytes })
			statement, _ := with(most - 1)
			b.exec(t, statement)
			b.exec(t, "DROP TABLE g")
			statement, size := with(most)
			_, err := b.db.ExecContext(t.Context(), statement)
			if n, _ := mysql.Errno(err); n != 1118 {
				t.Errorf("%d columns, %d bytes: %v, want error 1118", most, size, err)
			}
			b.exec(t, "DROP TABLE IF EXISTS g")
		})
	}
}
