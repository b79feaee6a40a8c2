package schemas

import (
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// propertyProblem is a property that Freshet cannot store, and what to do about it.
type propertyProblem struct{ name, problem, fix string }

// readProperties derives the Property list, sorted by name, from the properties of a schema's root.
func readProperties(root map[string]any) ([]Property, []propertyProblem) {
	declared, _ := root["properties"].(map[string]any)
	var list []Property
	var problems []propertyProblem
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		p, problem, fix := readProperty(name, declared[name])
		if problem != "" {
			problems = append(problems, propertyProblem{name, problem, fix})
			continue
		}
		list = append(list, p)
	}
	return list, problems
}

func readProperty(name string, declared any) (p Property, problem, fix string) {
	p.Name = name
	decl, ok := declared.(map[string]any)
	if !ok {
		return p, "has no type, so it has no column", "give it a type, or remove it"
	}
	types := typeNames(decl["type"])
	switch len(types) {
	case 0:
		return p, "has no type, so it has no column", `write "type" beside whatever else it says`
	case 1:
	default:
		return p, "has several types, so it has no column", `use one type, or one type and "null"`
	}
	switch types[0] {
	case "string":
		return readString(p, decl)
	case "integer":
		p.Kind = KindInteger
		p.Unsigned = isUnsigned(decl)
		least := bound(decl, "minimum")
		p.Signed = least != nil && least.Sign() < 0
	case "number":
		p.Kind = KindNumber
	case "boolean":
		p.Kind = KindBoolean
	case "object", "array":
		p.Kind = KindJSON
	default:
		return p, "can only be null, so it has no column", "remove it"
	}
	return p, "", ""
}

// typeNames lists the types of a "type" keyword without "null"; an object-or-array counts as one, both are JSON.
func typeNames(v any) []string {
	var names []string
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, t := range v {
			if s, _ := t.(string); s != "null" {
				names = append(names, s)
			}
		}
	}
	if len(names) == 2 && slices.Contains(names, "object") && slices.Contains(names, "array") {
		return names[:1]
	}
	return names
}

func readString(p Property, decl map[string]any) (_ Property, problem, fix string) {
	format, _ := decl["format"].(string)
	switch decimal, isDecimal := decl["x-decimal"]; {
	case isDecimal:
		p.Kind = KindDecimal
		text, _ := decimal.(string)
		var ok bool
		if p.Precision, p.Scale, ok = readDecimal(text); !ok {
			return p, "has an x-decimal that is not a DECIMAL(p,s)", `write "x-decimal": "12,2": 1 to 65 digits, of which 0 to 30 behind the point`
		}
	case format == "date-time":
		p.Kind = KindDateTime
	case format == "date":
		p.Kind = KindDate
	default:
		p.Kind = KindString
		p.Base64 = decl["contentEncoding"] == "base64"
	}
	if n, ok := decl["maxLength"].(json.Number); ok {
		length, ok := new(big.Rat).SetString(string(n))
		if !ok || length.Sign() <= 0 || !length.IsInt() {
			return p, "has a maxLength below 1", "give a maxLength of at least 1"
		}
		// Longer than any record: the same as no bound.
		if n := length.Num(); n.IsInt64() && n.Int64() <= MaxRecordBytes {
			p.MaxLength = int(n.Int64())
		}
	}
	return p, "", ""
}

func readDecimal(text string) (precision, scale int, ok bool) {
	a, b, found := strings.Cut(text, ",")
	precision, err1 := strconv.Atoi(a)
	scale, err2 := strconv.Atoi(strings.TrimPrefix(b, " "))
	ok = found && err1 == nil && err2 == nil &&
		1 <= precision && precision <= 65 && 0 <= scale && scale <= 30 && scale <= precision
	return precision, scale, ok
}

// isUnsigned: only values that BIGINT cannot hold make a column unsigned.
func isUnsigned(decl map[string]any) bool {
	least, greatest := bound(decl, "minimum"), bound(decl, "maximum")
	limit := new(big.Rat).SetInt64(1<<63 - 1)
	return least != nil && least.Sign() >= 0 && greatest != nil && greatest.Cmp(limit) > 0
}

// bound reads a numeric keyword exactly; nil when it is absent.
func bound(decl map[string]any, keyword string) *big.Rat {
	n, ok := decl[keyword].(json.Number)
	if !ok {
		return nil
	}
	r, ok := new(big.Rat).SetString(string(n))
	if !ok {
		return nil
	}
	return r
}
