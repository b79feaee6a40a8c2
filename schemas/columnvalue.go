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
		return nil, "is not an integer that its column can hold"
	case KindNumber:
		f, err := strconv.ParseFloat(v.Text, 64)
		if err != nil || math.IsInf(f, 0) {
			return nil, "is beyond the range of a double"
		}
		return f, ""
	case KindBoolean:
		return boolValue(v.Text == "true"), ""
	case KindDateTime:
		if text, ok := columnDateTime(v.Text); ok {
			return text, ""
		}
		return nil, "is not a date-time of the years 1 to 9999"
	case KindDate:
		if year, _, _, ok := readDate(v.Text); !ok || year < 1 {
			return nil, "is not a date of the years 1 to 9999"
		}
	case KindDecimal:
		if !isDecimal(v.Text, rule.Precision, rule.Scale) {
			return nil, "is not a decimal that fits its x-decimal"
		}
	case KindString:
		if rule.MaxLength > 0 && len(v.Text) > rule.MaxLength && utf8.RuneCountInString(v.Text) > rule.MaxLength {
			return nil, "breaks the schema's maxLength"
		}
	case KindJSON:
	}
	return v.Text, ""
}

// columnInteger returns the exact int64 or uint64, also of 1.0 and 1e3.
func columnInteger(p *Property, v *jsontext.Value) (any, bool) {
	literal := v.Text
	if !v.Plain || literal == "-0" {
		r, ok := new(big.Rat).SetString(literal)
		if !ok || !r.IsInt() {
			return nil, false
		}
		literal = r.Num().String()
	}
	if p.Unsigned {
		n, err := strconv.ParseUint(literal, 10, 64)
		return n, err == nil
	}
	n, err := strconv.ParseInt(literal, 10, 64)
	return n, err == nil
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
