package schemas

import (
	"encoding/json"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/freshet/freshet/internal/jsontext"
)

// rules is a JSON Schema, prepared. The keywords that people write for flat records are checked in the parser's own
// pass; a property whose schema says more is checked by jsonschema alone, and a root that says more turns the whole
// check over to jsonschema. Both ways accept and refuse the same.
type rules struct {
	props []propertyRule
	index map[string]int
	// whole is set when the root has keywords that only jsonschema knows.
	whole *jsonschema.Schema
	// required are positions in props; missing lists required properties that are not declared.
	required []int
	missing  []string
	// closed: additionalProperties is false.
	closed bool
}

// propertyRule checks one property.
type propertyRule struct {
	Property
	// column is the position in Replica.Columns, typ the column's declared type.
	column int
	typ    ColumnType
	// schema is set when only jsonschema can check the property; nothing below counts then.
	schema  *jsonschema.Schema
	shapes  jsontext.Shape
	integer bool // numbers must be integers
	// minLength and maxLength are -1 when absent; they count characters.
	minLength, maxLength int
	pattern              *regexp.Regexp
	enum                 []jsontext.Value
	limits               []limit
}

// limit is one of the four numeric bounds.
type limit struct {
	keyword string
	rat     *big.Rat
	// whole is the bound as an int64, if it is one.
	whole   int64
	isWhole bool
	float   float64
	// lower: a least value; exclusive: the bound itself is refused.
	lower, exclusive bool
}

// newRules prepares the schema; root is the document that compiled was made from.
func newRules(root map[string]any, compiled *jsonschema.Schema, props []Property) *rules {
	r := &rules{index: make(map[string]int, len(props))}
	declared, _ := root["properties"].(map[string]any)
	for i, p := range props {
		r.index[p.Name] = i
		rule := propertyRule{Property: p, minLength: -1, maxLength: -1}
		decl, _ := declared[p.Name].(map[string]any)
		if !rule.read(decl) {
			rule.schema = compiled.Properties[p.Name]
		}
		r.props = append(r.props, rule)
	}
	if !r.readRoot(root) {
		r.whole = compiled
	}
	return r
}

// readRoot reports whether the root's keywords are all known here.
func (r *rules) readRoot(root map[string]any) bool {
	known := true
	for keyword, v := range root {
		switch keyword {
		case "$schema", "$id", "$defs", "properties":
		case "type":
			known = known && v == any("object")
		case "required":
			list, _ := v.([]any)
			for _, name := range list {
				name, _ := name.(string)
				if i, ok := r.index[name]; ok {
					r.required = append(r.required, i)
				} else {
					r.missing = append(r.missing, name)
				}
			}
		case "additionalProperties":
			allowed, isBool := v.(bool)
			r.closed = isBool && !allowed
			known = known && isBool
		default:
			known = known && isAnnotation(keyword)
		}
	}
	return known
}

// isAnnotation reports whether a keyword never refuses anything.
func isAnnotation(keyword string) bool {
	switch keyword {
	case "title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly",
		"contentEncoding", "contentMediaType":
		return true
	}
	return strings.HasPrefix(keyword, "x-")
}

// read prepares a property's keywords and reports whether it knew them all.
func (r *propertyRule) read(decl map[string]any) bool {
	known := true
	for keyword, v := range decl {
		switch keyword {
		case "type":
			r.readType(v)
		case "minLength":
			r.minLength, known = smallInt(v, known)
		case "maxLength":
			r.maxLength, known = smallInt(v, known)
		case "pattern":
			text, _ := v.(string)
			re, err := regexp.Compile(text)
			r.pattern = re
			known = known && err == nil
		case "enum":
			list, _ := v.([]any)
			for _, item := range list {
				known = r.allow(item) && known
			}
		case "const":
			known = r.enum == nil && decl["enum"] == nil && r.allow(v) && known
		case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
			known = r.limit(keyword, v) && known
		case "format": // date-time and date follow from the kind; all others are annotations
			known = known && (v != any("date-time") && v != any("date") || r.Kind == KindDateTime || r.Kind == KindDate)
		default:
			known = known && isAnnotation(keyword)
		}
	}
	return known
}

func (r *propertyRule) readType(v any) {
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	for _, t := range list {
		switch t {
		case "null":
			r.shapes |= jsontext.Null
		case "boolean":
			r.shapes |= jsontext.Boolean
		case "integer":
			r.shapes |= jsontext.Number
			r.integer = true
		case "number":
			r.shapes |= jsontext.Number
		case "string":
			r.shapes |= jsontext.String
		case "array":
			r.shapes |= jsontext.Array
		case "object":
			r.shapes |= jsontext.Object
		}
	}
}

func smallInt(v any, known bool) (int, bool) {
	n, _ := v.(json.Number)
	i, err := strconv.Atoi(string(n))
	return i, known && err == nil && i >= 0
}

// allow adds a member of enum; numbers and containers are left to jsonschema.
func (r *propertyRule) allow(item any) bool {
	switch item := item.(type) {
	case string:
		r.enum = append(r.enum, jsontext.Value{Shape: jsontext.String, Text: item})
	case bool:
		r.enum = append(r.enum, jsontext.Value{Shape: jsontext.Boolean, Text: strconv.FormatBool(item)})
	case nil:
		r.enum = append(r.enum, jsontext.Value{Shape: jsontext.Null, Text: "null"})
	default:
		return false
	}
	return true
}

func (r *propertyRule) limit(keyword string, v any) bool {
	rat := bound(map[string]any{keyword: v}, keyword)
	if rat == nil {
		return false
	}
	l := limit{
		keyword: keyword, rat: rat,
		lower:     keyword == "minimum" || keyword == "exclusiveMinimum",
		exclusive: strings.HasPrefix(keyword, "exclusive"),
	}
	l.float, _ = rat.Float64()
	if rat.IsInt() && rat.Num().IsInt64() {
		l.whole, l.isWhole = rat.Num().Int64(), true
	}
	r.limits = append(r.limits, l)
	return true
}

// check returns the keyword that the value breaks, "" if none.
func (r *propertyRule) check(v *jsontext.Value) string {
	if r.schema != nil {
		return "" // the caller asks jsonschema, which needs the tree
	}
	if r.shapes&v.Shape == 0 {
		return "type"
	}
	switch v.Shape {
	case jsontext.Number:
		if r.integer && !v.Plain && !isWhole(v.Text) {
			return "type"
		}
		for i := range r.limits {
			if !r.limits[i].holds(v) {
				return r.limits[i].keyword
			}
		}
	case jsontext.String:
		if broken := r.checkString(v.Text); broken != "" {
			return broken
		}
	case jsontext.Null, jsontext.Boolean, jsontext.Array, jsontext.Object:
	}
	if r.enum != nil && !r.allowed(v) {
		return "enum"
	}
	return ""
}

func (r *propertyRule) checkString(s string) string {
	if r.minLength > 0 && utf8.RuneCountInString(s) < r.minLength {
		return "minLength"
	}
	if r.maxLength >= 0 && len(s) > r.maxLength && utf8.RuneCountInString(s) > r.maxLength {
		return "maxLength"
	}
	if r.pattern != nil && !r.pattern.MatchString(s) {
		return "pattern"
	}
	switch r.Kind {
	case KindDateTime:
		if !isDateTime(s) {
			return "format"
		}
	case KindDate:
		if !isDate(s) {
			return "format"
		}
	default:
	}
	return ""
}

func (r *propertyRule) allowed(v *jsontext.Value) bool {
	for i := range r.enum {
		if r.enum[i].Shape == v.Shape && r.enum[i].Text == v.Text {
			return true
		}
	}
	return false
}

// isWhole reports whether a number with a fraction or exponent is an integer all the same (1.0, 1e3).
func isWhole(literal string) bool {
	r, ok := new(big.Rat).SetString(literal)
	return ok && r.IsInt()
}

// holds compares exactly. Conversion to float64 is monotone, so two different floats decide without big numbers.
func (l *limit) holds(v *jsontext.Value) bool {
	c := 0
	if n, err := strconv.ParseInt(v.Text, 10, 64); v.Plain && l.isWhole && err == nil {
		switch {
		case n < l.whole:
			c = -1
		case n > l.whole:
			c = 1
		}
	} else if f, err := strconv.ParseFloat(v.Text, 64); err == nil && f != l.float {
		c = 1
		if f < l.float {
			c = -1
		}
	} else {
		r, ok := new(big.Rat).SetString(v.Text)
		if !ok {
			return false
		}
		c = r.Cmp(l.rat)
	}
	if l.lower {
		c = -c
	}
	return c < 0 || (c == 0 && !l.exclusive)
}
