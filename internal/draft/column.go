package draft

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/freshet/freshet/schemas"
)

// property is a property of the schema, and its column.
type property struct {
	column *Column
	types  []string // of JSON, without null
	// rest are the other keywords, as JSON.
	rest []string
	// typ is the replica column's own type; "" for the one that the property has by default.
	typ  string
	size int // of a text in characters, 0 without bound
	note string
}

func (p *property) add(keyword string, value any) {
	text, err := json.Marshal(value)
	if err != nil { // strings and numbers alone come here
		text = []byte("null")
	}
	p.rest = append(p.rest, fmt.Sprintf("%q: %s", keyword, text))
}

// bounds adds minimum and maximum.
func (p *property) bounds(least, greatest string) {
	p.rest = append(p.rest, `"minimum": `+least, `"maximum": `+greatest)
}

// text makes it a string of at most n characters.
func (p *property) text(n int) {
	p.types, p.size = []string{"string"}, n
	if n > 0 {
		p.add("maxLength", n)
	}
}

// bytes makes it base64 of at most n bytes.
func (p *property) bytes(n int) {
	if n > 0 {
		n = base64.StdEncoding.EncodedLen(n)
	}
	p.text(n)
	p.add("contentEncoding", "base64")
}

// describe makes the property of a column; left is why it cannot be made, and what to do. Keys are integers or texts, and their
// columns have the types that Freshet gives to keys.
func describe(c *Column, key, inferred bool) (p property, left string) {
	p = property{column: c}
	t := c.Type
	switch {
	case c.Generated:
		return p, "is computed from others; compute it in the replica too, or declare its property by hand"
	case t.Base == "" && c.Kind != "":
		p.inferred(c, key)
		return p, ""
	case t.Base == "":
		return p, "is of type " + c.Text + ", which Freshet does not know; declare its property by hand if its values are texts"
	case key && c.Prefix:
		return p, "is in the key with its first characters only; make the key of whole columns"
	}
	switch t.Base {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "bit", "year":
		p.integer(t, key)
	case "decimal", "float", "double", "json":
		if key {
			return p, "is of type " + c.Text + ", whose values have more than one text; make the key of integers or texts"
		}
		p.number(t)
	case "date", "datetime", "timestamp", "time":
		p.moment(c, key)
	case "enum", "set":
		p.labels(c, key)
	default:
		left = p.other(c, key)
	}
	if inferred {
		p.typ = ""
	}
	return p, left
}

// other describes texts and bytes.
func (p *property) other(c *Column, key bool) (left string) {
	t := c.Type
	switch t.Base {
	case "char", "varchar":
		p.text(max(t.Length, 1))
		if !key && (t.Base == "char" || t.Length > 1024) {
			p.typ = t.String()
		}
	case "tinytext":
		p.text(255)
	case "text":
		p.text(65535)
		p.typ = "mediumtext"
	case "mediumtext", "longtext":
		p.text(0)
		p.typ = t.Base
	case "uuid":
		p.text(36)
	case "inet4":
		p.text(15)
	case "inet6":
		p.text(39)
	case "binary", "varbinary":
		p.bytes(max(t.Length, 1))
		p.typ = t.String()
	case "tinyblob":
		p.bytes(1<<8 - 1)
		p.typ = t.Base
	case "blob":
		p.bytes(1<<16 - 1)
		p.typ = t.Base
	case "mediumblob", "longblob":
		p.bytes(0)
		p.typ = t.Base
	case "vector":
		p.bytes(4 * t.Length)
		p.typ = "mediumtext"
	default:
		return "is a spatial column, which Freshet does not write; store the coordinates in other columns, or a text of them"
	}
	if key {
		p.typ = ""
		if p.size == 0 {
			return "is a text without a length"
		}
	}
	return ""
}

func (p *property) integer(t schemas.ColumnType, key bool) {
	p.types = []string{"integer"}
	p.typ = t.String()
	switch {
	case t.Base == "bit" && max(t.Length, 1) == 1 && !key:
		p.types = []string{"boolean"}
	case t.Base == "bit":
		p.bounds("0", strconv.FormatUint(^uint64(0)>>(64-max(t.Length, 1)), 10))
	case t.Base == "year":
		p.bounds("0", "2155")
	case t.Base == "bigint" && !t.Unsigned:
		p.typ = ""
	default:
		size := map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}[t.Base]
		if t.Unsigned {
			p.bounds("0", strconv.FormatUint(^uint64(0)>>(64-size), 10))
		} else {
			p.bounds(strconv.FormatInt(-1<<(size-1), 10), strconv.FormatInt(1<<(size-1)-1, 10))
		}
		if t.Base == "bigint" {
			p.typ = ""
		}
	}
	if key && !t.IsInteger() {
		p.typ = ""
	}
	if t.Base == "tinyint" && t.Length == 1 && !key {
		p.note = "is TINYINT(1) and became an integer: make it a boolean if it holds 0 and 1 alone"
	}
}

func (p *property) number(t schemas.ColumnType) {
	switch t.Base {
	case "decimal":
		p.types = []string{"string"}
		p.add("x-decimal", fmt.Sprintf("%d,%d", t.Precision, t.Scale))
	case "json":
		p.types = []string{"object", "array"}
		p.note = "is JSON: a document that is a text, a number or a boolean is refused; make it a plain string if there are such"
	default:
		p.types = []string{"number"}
	}
	switch {
	case (t.Base == "float" || t.Base == "double") && t.Precision > 0: // it rounds to its digits, and DOUBLE does not
	case t.Base == "float" || t.Unsigned:
		p.typ = t.String()
	}
}

// moment: dates that do not exist have no JSON but their text.
func (p *property) moment(c *Column, key bool) {
	t := c.Type
	digits := 0
	if t.Length > 0 {
		digits = t.Length + 1
	}
	length := map[string]int{"date": 10, "datetime": 19, "timestamp": 19, "time": 10}[t.Base] + digits
	switch {
	case t.Base == "time":
		p.text(length)
		p.typ = t.String()
	case c.ZeroDate && !key:
		p.text(length)
		p.note = "has a date that does not exist as its default, so it became a plain string; once no row has such a date, make it " + dateFormat(t) + " (capture tools: cdc.zero_dates)"
	case key:
		p.text(length)
	default:
		p.types = []string{"string"}
		p.add("format", dateFormat(t))
		if t.Base != "date" && t.String() != "datetime(6)" {
			p.typ = t.String()
		}
	}
	if key {
		p.typ = ""
	}
}

func dateFormat(t schemas.ColumnType) string {
	if t.Base == "date" {
		return "date"
	}
	return "date-time"
}

func (p *property) labels(c *Column, key bool) {
	t := c.Type
	longest, all := 1, 0
	list := make([]any, 0, len(t.Labels)+1)
	for _, l := range t.Labels {
		n := utf8.RuneCountInString(l)
		longest = max(longest, n)
		all += n + 1
		list = append(list, l)
	}
	switch {
	case t.Base == "set":
		p.text(max(all-1, 1))
		p.typ = t.String()
	case key:
		p.text(longest)
	default:
		p.types = []string{"string"}
		if c.Nullable {
			list = append(list, nil)
		}
		p.add("enum", list)
		p.typ = t.String()
	}
	if key {
		p.typ = ""
	}
}

// inferred describes a column of which only values are known.
func (p *property) inferred(c *Column, key bool) {
	p.types = []string{c.Kind}
	switch {
	case c.Kind == "object":
		p.types = []string{"object", "array"}
	case c.Kind == "string" && key:
		p.text(255)
		p.note = "is a text of the key, and its length is not known: lower or raise its maxLength to that of the column"
	}
}

// line is the property in the schema.
func (p *property) line() string {
	types := p.types
	if p.column.Nullable {
		types = append(types[:len(types):len(types)], "null")
	}
	text := fmt.Sprintf("%q", types[0])
	if len(types) > 1 {
		quoted := make([]string, len(types))
		for i, t := range types {
			quoted[i] = strconv.Quote(t)
		}
		text = "[" + strings.Join(quoted, ", ") + "]"
	}
	return strings.Join(append([]string{`"type": ` + text}, p.rest...), ", ")
}
