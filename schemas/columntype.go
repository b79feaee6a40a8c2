package schemas

import (
	"strconv"
	"strings"
)

// ColumnType is the type of a column in the database that changes are captured from, as MySQL and MariaDB write it.
type ColumnType struct {
	// Base is the type's name in small letters, synonyms resolved ("int", "decimal", "double"); "" is an unknown type.
	Base string
	// Unsigned integers.
	Unsigned bool
	// Length is the number in parentheses: bytes of binary, bits of bit, fraction digits of times; 0 without one.
	Length int
	// Precision and Scale of a decimal, and of a FLOAT(M,D) or DOUBLE(M,D), which rounds.
	Precision, Scale int
	// Labels of enum and set, in order.
	Labels []string
}

// typeBase returns the Base of a type, "" if it is unknown.
func typeBase(name string) string {
	switch name {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "bit", "year", "decimal", "float", "double", "date", "datetime",
		"timestamp", "time", "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "binary", "varbinary", "tinyblob",
		"blob", "mediumblob", "longblob", "enum", "set", "json", "geometry", "point", "linestring", "polygon", "multipoint",
		"multilinestring", "multipolygon", "geometrycollection", "uuid", "inet4", "inet6", "vector":
		return name
	case "integer", "int4":
		return "int"
	case "int1":
		return "tinyint"
	case "int2":
		return "smallint"
	case "int3", "middleint":
		return "mediumint"
	case "int8":
		return "bigint"
	case "float4":
		return "float"
	case "character", "nchar":
		return "char"
	case "varcharacter", "nvarchar", "national":
		return "varchar"
	case "bool", "boolean":
		return "tinyint"
	case "numeric", "dec", "fixed":
		return "decimal"
	case "real", "float8":
		return "double"
	case "geomcollection":
		return "geometrycollection"
	}
	return ""
}

// ParseColumnType reads a type as SHOW COLUMNS or CREATE TABLE writes it: "bigint(20) unsigned", "DECIMAL(10,2)",
// "enum('a','it”s')". Case does not matter outside of labels. ok is false for what is not a type of MySQL or MariaDB.
func ParseColumnType(text string) (t ColumnType, ok bool) {
	n := 0
	for n < len(text) && isWord(text[n]) {
		n++
	}
	t.Base = typeBase(strings.ToLower(text[:n]))
	if t.Base == "" {
		return ColumnType{}, false
	}
	rest := strings.TrimLeft(text[n:], " ")
	if strings.HasPrefix(rest, "(") {
		if rest, ok = readParens(&t, rest[1:]); !ok {
			return ColumnType{}, false
		}
	}
	if t.Base == "decimal" && t.Precision == 0 {
		t.Precision = 10 // what the server takes for DECIMAL without numbers
	}
	if (t.Base == "enum" || t.Base == "set") && len(t.Labels) == 0 {
		return ColumnType{}, false
	}
	for word := range strings.FieldsSeq(strings.ToLower(rest)) {
		if word == "unsigned" || word == "zerofill" {
			t.Unsigned = true
		}
	}
	return t, true
}

// readParens reads what is between parentheses and returns the text after them.
func readParens(t *ColumnType, text string) (rest string, ok bool) {
	if t.Base == "enum" || t.Base == "set" {
		return readLabels(t, text)
	}
	inside, rest, ok := strings.Cut(text, ")")
	if !ok {
		return "", false
	}
	a, b, two := strings.Cut(inside, ",")
	first, err := strconv.Atoi(strings.TrimSpace(a))
	if err != nil || first < 0 {
		return "", false
	}
	second := 0
	if two {
		if second, err = strconv.Atoi(strings.TrimSpace(b)); err != nil || second < 0 {
			return "", false
		}
	}
	if t.Base == "decimal" {
		t.Precision, t.Scale = first, second
		return rest, first >= 1 && first <= 65 && second <= 30 && second <= first
	}
	if two {
		t.Precision, t.Scale = first, second
		return rest, t.Base == "float" || t.Base == "double"
	}
	t.Length = first
	return rest, true
}

// readLabels reads 'a','b' up to the closing parenthesis; a quote inside a label is doubled, and a backslash and what would break
// the line have a backslash before them.
func readLabels(t *ColumnType, text string) (rest string, ok bool) {
	for {
		text = strings.TrimLeft(text, " ")
		if !strings.HasPrefix(text, "'") {
			return "", false
		}
		var label strings.Builder
		i := 1
		for ; i < len(text); i++ {
			if text[i] == '\\' && i+1 < len(text) {
				if c, ok := unescaped(text[i+1]); ok {
					label.WriteByte(c)
					i++
					continue
				}
			}
			if text[i] != '\'' {
				label.WriteByte(text[i])
				continue
			}
			if i+1 < len(text) && text[i+1] == '\'' {
				label.WriteByte('\'')
				i++
				continue
			}
			break
		}
		if i >= len(text) {
			return "", false
		}
		t.Labels = append(t.Labels, label.String())
		text = strings.TrimLeft(text[i+1:], " ")
		switch {
		case strings.HasPrefix(text, ","):
			text = text[1:]
		case strings.HasPrefix(text, ")"):
			return text[1:], true
		default:
			return "", false
		}
	}
}

// unescaped is the byte that the server writes as a backslash and c.
func unescaped(c byte) (byte, bool) {
	switch c {
	case '\\':
		return '\\', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case '0':
		return 0, true
	}
	return 0, false
}

// IsInteger reports whether t is one of the integer types.
func (t ColumnType) IsInteger() bool {
	switch t.Base {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		return true
	}
	return false
}

// IsText reports whether its values are text of the column's character set.
func (t ColumnType) IsText() bool {
	switch t.Base {
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		return true
	}
	return false
}

// IsBinary reports whether its values are bytes rather than text.
func (t ColumnType) IsBinary() bool {
	switch t.Base {
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "geometry", "point", "linestring", "polygon",
		"multipoint", "multilinestring", "multipolygon", "geometrycollection", "vector":
		return true
	}
	return false
}

// isSpatial reports whether its values are shapes.
func (t ColumnType) isSpatial() bool {
	return t.IsBinary() && t.Base != "vector" && !strings.HasSuffix(t.Base, "binary") && !strings.HasSuffix(t.Base, "blob")
}

// String returns the type as a declaration writes it, "bigint unsigned", "enum('a','b')".
func (t ColumnType) String() string {
	text := t.Base
	switch {
	case t.Base == "decimal", t.Precision > 0:
		text += "(" + strconv.Itoa(t.Precision) + "," + strconv.Itoa(t.Scale) + ")"
	case len(t.Labels) > 0:
		text += "('" + strings.Join(escapeLabels(t.Labels), "','") + "')"
	case t.Base == "tinyint" && t.Length != 1, t.Base != "tinyint" && t.IsInteger(), t.Base == "year": // a width of display
	case t.Length > 0:
		text += "(" + strconv.Itoa(t.Length) + ")"
	}
	if t.Unsigned {
		text += " unsigned"
	}
	return text
}

func escapeLabels(labels []string) []string {
	out := make([]string, len(labels))
	escape := strings.NewReplacer("'", "''", `\`, `\\`, "\n", `\n`, "\r", `\r`, "\x00", `\0`)
	for i, l := range labels {
		out[i] = escape.Replace(l)
	}
	return out
}
