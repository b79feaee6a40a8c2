package schemas

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// fits reports whether a property of that kind can hold every value of the type: what a record of a captured table needs.
func (t ColumnType) fits(k Kind) bool {
	switch k {
	case KindString:
		return true
	case KindInteger:
		return t.IsInteger() || t.Base == "bit" || t.Base == "year" || (t.Base == "decimal" && t.Scale == 0)
	case KindNumber:
		return t.IsInteger() || t.Base == "decimal" || t.Base == "float" || t.Base == "double"
	case KindDecimal:
		return t.IsInteger() || t.Base == "decimal"
	case KindDateTime:
		return t.Base == "datetime" || t.Base == "timestamp"
	case KindDate:
		return t.Base == "date"
	case KindBoolean:
		return t.Base == "tinyint" || t.Base == "bit"
	case KindJSON:
		return t.Base == "json" || strings.HasSuffix(t.Base, "text")
	}
	return false
}

// misfit is why a column does not keep every value of a property, and what to do about it; zero if it does.
type misfit struct{ problem, fix string }

// Keeps returns how a column of type t would alter values of a property of the dataset, and how to fix that; both are empty if
// it keeps every value exactly. What a JSON Schema cannot say (a CHAR cuts spaces off, a FLOAT rounds, a SET has an order) is
// checked with each value instead, so it is not among the problems.
func (d *Dataset) Keeps(property string, t ColumnType) (problem, fix string) {
	i, ok := d.compiled.rules.index[property]
	if !ok {
		return "is not a property of the schema", "name a property"
	}
	declared, _ := d.schema.root["properties"].(map[string]any)
	decl, _ := declared[property].(map[string]any)
	m := t.keeps(&d.compiled.rules.props[i].Property, decl)
	return m.problem, m.fix
}

// keeps is the other direction of fits: whether a replica's column can hold every value of a property, which decl declares.
func (t ColumnType) keeps(p *Property, decl map[string]any) misfit {
	other := misfit{"is " + t.String() + ", which does not hold " + p.Kind.words(), "choose another type, or change the property in the schema"}
	switch p.Kind {
	case KindInteger:
		return t.keepsInteger(decl, other)
	case KindBoolean:
		if t.IsInteger() || t.Base == "bit" && t.Length <= 1 {
			return misfit{}
		}
	case KindNumber:
		switch {
		case t.Base != "float" && t.Base != "double":
		case t.Precision > 0 || t.Length > 0:
			return misfit{"is " + t.String() + ", which rounds to its digits", "write float or double"}
		default:
			return misfit{}
		}
	case KindDecimal:
		switch {
		case t.Base != "decimal":
		case t.Scale < p.Scale || t.Precision-t.Scale < p.Precision-p.Scale:
			return misfit{"is " + t.String() + ", which is narrower than the property's x-decimal", "widen the type, or narrow x-decimal"}
		default:
			return misfit{}
		}
	case KindDateTime:
		if (t.Base == "datetime" || t.Base == "timestamp") && t.Length <= 6 {
			return misfit{}
		}
	case KindDate:
		if t.Base == "date" {
			return misfit{}
		}
	case KindJSON:
		if t.Base == "json" || t.Base == "longtext" || t.Base == "mediumtext" {
			return misfit{}
		}
	case KindString:
		return t.keepsString(p, decl, other)
	}
	return other
}

// words describes the values of a kind.
func (k Kind) words() string {
	switch k {
	case KindString:
		return "a string"
	case KindInteger:
		return "an integer"
	case KindNumber:
		return "a number"
	case KindDecimal:
		return "a decimal"
	case KindDateTime:
		return "a date-time"
	case KindDate:
		return "a date"
	case KindBoolean:
		return "a boolean"
	case KindJSON:
		return "an object or array"
	}
	return "its values"
}

// integerRange is what an integer type holds; nil for other types.
func (t ColumnType) integerRange() (least, greatest *big.Int) {
	var size int
	unsigned := t.Unsigned
	switch t.Base {
	case "tinyint":
		size = 8
	case "smallint":
		size = 16
	case "mediumint":
		size = 24
	case "int":
		size = 32
	case "bigint":
		size = 64
	case "bit":
		size, unsigned = max(t.Length, 1), true
	case "year":
		return big.NewInt(0), big.NewInt(2155)
	case "decimal":
		if t.Scale > 0 {
			return nil, nil
		}
		greatest = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Precision)), nil)
		greatest.Sub(greatest, big.NewInt(1))
		least = new(big.Int).Neg(greatest)
		if t.Unsigned {
			least = big.NewInt(0)
		}
		return least, greatest
	default:
		return nil, nil
	}
	if unsigned {
		greatest = new(big.Int).Lsh(big.NewInt(1), uint(size))
		return big.NewInt(0), greatest.Sub(greatest, big.NewInt(1))
	}
	half := new(big.Int).Lsh(big.NewInt(1), uint(size-1))
	return new(big.Int).Neg(half), new(big.Int).Sub(half, big.NewInt(1))
}

func (t ColumnType) keepsInteger(decl map[string]any, other misfit) misfit {
	least, greatest := t.integerRange()
	if least == nil {
		return other
	}
	fix := `write "minimum": ` + least.String() + ` and "maximum": ` + greatest.String() + ` or a narrower range in the schema, or choose a wider type`
	atLeast, atMost := bounds(decl)
	if t.Base == "bigint" && !t.Unsigned && atLeast == nil && atMost == nil { // what an integer without bounds is
		return misfit{}
	}
	if t.Base == "bigint" && atMost == nil {
		atMost = new(big.Rat).SetInt64(1<<63 - 1)
	}
	if t.Base == "bigint" && atLeast == nil {
		atLeast = new(big.Rat).SetInt64(-1 << 63)
	}
	switch {
	case atLeast == nil || atMost == nil:
		return misfit{"is " + t.String() + ", and the integer has no bounds", fix}
	case atLeast.Cmp(new(big.Rat).SetInt(least)) < 0 || atMost.Cmp(new(big.Rat).SetInt(greatest)) > 0:
		return misfit{"is " + t.String() + ", and the integer may be outside of its range", fix}
	}
	return misfit{}
}

// bounds are the least and the greatest value that a schema allows; nil where it has no bound.
func bounds(decl map[string]any) (least, greatest *big.Rat) {
	least, greatest = bound(decl, "minimum"), bound(decl, "maximum")
	if b := bound(decl, "exclusiveMinimum"); b != nil && (least == nil || b.Cmp(least) > 0) {
		least = b
	}
	if b := bound(decl, "exclusiveMaximum"); b != nil && (greatest == nil || b.Cmp(greatest) < 0) {
		greatest = b
	}
	return least, greatest
}

// room is how many bytes a type of text or bytes holds whose length is not declared; 0 for others.
func (t ColumnType) room() int64 {
	switch t.Base {
	case "tinytext", "tinyblob":
		return 1<<8 - 1
	case "text", "blob":
		return 1<<16 - 1
	case "mediumtext", "mediumblob":
		return 1<<24 - 1
	case "longtext", "longblob":
		return 1<<32 - 1
	}
	return 0
}

func (t ColumnType) keepsString(p *Property, decl map[string]any, other misfit) misfit {
	switch t.Base {
	case "set", "time", "uuid", "inet4", "inet6":
		return misfit{}
	case "enum":
		return t.keepsLabels(decl)
	case "char", "varchar":
		if n := max(t.Length, 1); p.MaxLength == 0 || p.MaxLength > n {
			return misfit{"is " + t.String() + ", and the string may be longer", `write "maxLength": ` + strconv.Itoa(n) + ` or less in the schema, or choose a longer type`}
		}
		return misfit{}
	}
	switch {
	case t.isSpatial() || t.Base == "vector":
		return misfit{"is " + t.String() + ", which Freshet does not write", "leave the column out"}
	case t.IsBinary():
		return t.keepsBytes(p)
	case t.IsText() && t.room() < 1<<24-1 && (p.MaxLength == 0 || int64(p.MaxLength)*4 > t.room()):
		return misfit{
			"is " + t.String() + ", and the string may be longer",
			`write "maxLength": ` + strconv.FormatInt(t.room()/4, 10) + ` or less in the schema, or choose mediumtext`,
		}
	case t.IsText():
		return misfit{}
	}
	return other
}

// keepsLabels: the server would take another spelling for the label, and refuse all else.
func (t ColumnType) keepsLabels(decl map[string]any) misfit {
	const fix = `write "enum" with labels of the column alone, and null if it may be absent`
	list, ok := decl["enum"].([]any)
	if one, isConst := decl["const"]; isConst {
		list, ok = []any{one}, true
	}
	if !ok {
		return misfit{"is an enum, and the string may be any", fix}
	}
	for _, item := range list {
		if s, isText := item.(string); item != nil && (!isText || !slices.Contains(t.Labels, s)) {
			return misfit{"is an enum that lacks values of the property", fix}
		}
	}
	return misfit{}
}

func (t ColumnType) keepsBytes(p *Property) misfit {
	if !p.Base64 {
		return misfit{"is " + t.String() + ", which holds bytes", `write "contentEncoding": "base64" in the schema`}
	}
	n := t.room()
	if n == 0 {
		n = int64(max(t.Length, 1))
	}
	if most := (n + 2) / 3 * 4; most < MaxRecordBytes && (p.MaxLength == 0 || int64(p.MaxLength) > most) {
		return misfit{"is " + t.String() + ", and the bytes may be more", `write "maxLength": ` + strconv.FormatInt(most, 10) + ` or less in the schema: that many characters of base64`}
	}
	return misfit{}
}
