package schemas

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/freshet/freshet/internal/jsontext"
)

// shapes are the JSON types that a column of that kind can be made from.
func (k Kind) shapes() jsontext.Shape {
	switch k {
	case KindString, KindDecimal, KindDateTime, KindDate:
		return jsontext.Null | jsontext.String
	case KindInteger, KindNumber:
		return jsontext.Null | jsontext.Number
	case KindBoolean:
		return jsontext.Null | jsontext.Boolean
	case KindJSON:
		return jsontext.Null | jsontext.Array | jsontext.Object
	}
	return 0
}

// shapesOfKey are the types of a key property; a delete's data is not held against the schema.
func (r *propertyRule) shapesOfKey() jsontext.Shape { return r.Kind.shapes() &^ jsontext.Null }

// What keeps a value of the right shape from its column.
const (
	notColumnInteger = "is not an integer that its column can hold"
	notDouble        = "is beyond the range of a double"
	notDateTime      = "is not a date-time of the years 1 to 9999"
)

// columnValue converts a value of the right shape to what its column takes; problem is empty if that went well.
func columnValue(rule *propertyRule, v *jsontext.Value) (out any, problem string) {
	out, problem = defaultValue(rule, v)
	if problem == "" && rule.typ.Base != "" {
		return rule.typ.typedValue(out)
	}
	return out, problem
}

// defaultValue converts a value to what a column of the property's default type takes.
func defaultValue(rule *propertyRule, v *jsontext.Value) (out any, problem string) {
	switch rule.Kind {
	case KindInteger:
		if n, ok := columnInteger(&rule.Property, v); ok {
			return n, ""
		}
		return nil, notColumnInteger
	case KindNumber:
		if f, ok := columnNumber(v); ok {
			return f, ""
		}
		return nil, notDouble
	case KindBoolean:
		return boolValue(v.Text == "true"), ""
	case KindDateTime:
		if text, ok := columnDateTime(v.Text); ok {
			return text, ""
		}
		return nil, notDateTime
	case KindDate, KindDecimal, KindString, KindJSON:
	}
	if problem := defaultProblem(rule, v); problem != "" {
		return nil, problem
	}
	return v.Text, ""
}

// columnProblem returns the problem that columnValue would have, "" for none. It converts only for columns with a type of their own.
func columnProblem(rule *propertyRule, v *jsontext.Value) string {
	if rule.typ.Base != "" {
		_, problem := columnValue(rule, v)
		return problem
	}
	return defaultProblem(rule, v)
}

// defaultProblem returns the problem that defaultValue would have.
func defaultProblem(rule *propertyRule, v *jsontext.Value) string {
	switch rule.Kind {
	case KindInteger:
		literal, ok := integerLiteral(v)
		if ok && rule.Unsigned {
			_, err := strconv.ParseUint(literal, 10, 64)
			ok = err == nil
		} else if ok {
			_, err := strconv.ParseInt(literal, 10, 64)
			ok = err == nil
		}
		if !ok {
			return notColumnInteger
		}
	case KindNumber:
		if _, ok := columnNumber(v); !ok {
			return notDouble
		}
	case KindDateTime:
		if _, ok := columnTime(v.Text); !ok {
			return notDateTime
		}
	case KindDate:
		if year, _, _, ok := readDate(v.Text); !ok || year < 1 {
			return "is not a date of the years 1 to 9999"
		}
	case KindDecimal:
		if !isDecimal(v.Text, rule.Precision, rule.Scale) {
			return "is not a decimal that fits its x-decimal"
		}
	case KindString:
		if rule.MaxLength > 0 && len(v.Text) > rule.MaxLength && utf8.RuneCountInString(v.Text) > rule.MaxLength {
			return "breaks the schema's maxLength"
		}
	case KindBoolean, KindJSON:
	}
	return ""
}

// isKeyText reports whether a value that its column can hold is the one that a part of a key stands for.
func isKeyText(rule *propertyRule, v *jsontext.Value, text string) bool {
	switch {
	case rule.typ.Base != "": // it may hold something else than the text
	case rule.Kind == KindString, rule.Kind == KindBoolean, rule.Kind == KindInteger && v.Plain && v.Text != "-0":
		return v.Text == text // both are canonical
	}
	out, problem := columnValue(rule, v)
	return problem == "" && isKeyValue(out, text)
}

// columnNumber returns a finite double.
func columnNumber(v *jsontext.Value) (float64, bool) {
	f, err := strconv.ParseFloat(v.Text, 64)
	return f, err == nil && !math.IsInf(f, 0)
}

// columnInteger returns the exact int64 or uint64, also of 1.0 and 1e3.
func columnInteger(p *Property, v *jsontext.Value) (any, bool) {
	literal, ok := integerLiteral(v)
	if !ok {
		return nil, false
	}
	if p.Unsigned {
		n, err := strconv.ParseUint(literal, 10, 64)
		return n, err == nil
	}
	n, err := strconv.ParseInt(literal, 10, 64)
	return n, err == nil
}

// integerLiteral writes a number that is an integer with digits alone.
func integerLiteral(v *jsontext.Value) (string, bool) {
	if v.Plain && v.Text != "-0" {
		return v.Text, true
	}
	r, ok := new(big.Rat).SetString(v.Text)
	if !ok || !r.IsInt() {
		return "", false
	}
	return r.Num().String(), true
}

// isDecimal: digits, at most one point, no exponent, and nothing that DECIMAL(p,s) would have to round.
func isDecimal(s string, precision, scale int) bool {
	whole, fraction, point := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	if whole == "" || (point && fraction == "") || (len(whole) > 1 && whole[0] == '0') {
		return false
	}
	for _, part := range [...]string{whole, fraction} {
		for i := 0; i < len(part); i++ {
			if !jsontext.IsDigit(part[i]) {
				return false
			}
		}
	}
	if whole == "0" {
		whole = ""
	}
	return len(whole) <= precision-scale && len(fraction) <= scale
}
