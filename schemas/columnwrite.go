package schemas

import (
	"encoding/base64"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/freshet/freshet/internal/jsontext"
)

// typedValue brings a value, which columnValue made for the property's default column, into the form of a column of type t;
// problem is why the column would alter it. What keeps has proved for every value is not checked again.
func (t ColumnType) typedValue(v any) (out any, problem string) {
	switch v := v.(type) {
	case int64:
		if t.Base == "year" && v > 0 && v < 1901 {
			return nil, "is neither 0 nor a year from 1901 to 2155"
		}
	case float64:
		return t.float(v)
	case string:
		return t.textValue(v)
	}
	return v, ""
}

// float: a FLOAT keeps a number that is one, written exactly or by the fewest digits that identify it.
func (t ColumnType) float(f float64) (any, string) {
	if t.Unsigned && f < 0 {
		return nil, "is negative, and its column is unsigned"
	}
	if t.Base != "float" {
		return f, ""
	}
	short, err := strconv.ParseFloat(strconv.FormatFloat(f, 'g', -1, 32), 64)
	narrow := float64(float32(f))
	if err != nil || math.IsInf(narrow, 0) || f != narrow && f != short {
		return nil, "has more digits than its column, a float, keeps"
	}
	return narrow, ""
}

func (t ColumnType) textValue(s string) (any, string) {
	ok := true
	switch t.Base {
	case "decimal":
		if t.Unsigned && strings.HasPrefix(s, "-") && strings.Trim(s, "-0.") != "" {
			return nil, "is negative, and its column is unsigned"
		}
	case "char":
		ok = !strings.HasSuffix(s, " ") // the server cuts spaces off
	case "datetime":
		ok = fractionFits(s, t.Length)
	case "timestamp":
		ok = fractionFits(s, t.Length) && s >= "1970-01-01 00:00:01" && s < "2038-01-19 03:14:08"
	case "time":
		return t.clock(s)
	case "set":
		ok = t.isSet(s)
	case "uuid":
		ok = isUUID(s)
	case "inet4", "inet6":
		a, err := netip.ParseAddr(s)
		ok = err == nil && a.Is4() == (t.Base == "inet4") && a.Zone() == "" && a.String() == s
	default:
		if t.IsBinary() {
			return t.bytes(s)
		}
	}
	if !ok {
		return nil, "is not a value that its column, " + t.String() + ", keeps unchanged"
	}
	return s, ""
}

// fractionFits reports whether a date-time with six digits of a second needs no more than n of them.
func fractionFits(s string, n int) bool {
	_, fraction, _ := strings.Cut(s, ".")
	return len(fraction) <= n || strings.Trim(fraction[n:], "0") == ""
}

// bytes decodes base64 that has one spelling.
func (t ColumnType) bytes(s string) (any, string) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, "is not canonical base64"
	}
	n := int64(len(b))
	switch {
	case t.Base == "binary" && n != int64(max(t.Length, 1)): // the server would fill it up with zeros
		return nil, "has another number of bytes than its column, " + t.String()
	case t.Base == "varbinary" && n > int64(t.Length), t.room() > 0 && n > t.room():
		return nil, "has more bytes than its column, " + t.String() + ", keeps"
	}
	return b, ""
}

// clock reads TIME as the server writes it, with at most as many digits of a second as the column has.
func (t ColumnType) clock(s string) (any, string) {
	const problem = "is not a time between -838:59:59 and 838:59:59, or has more digits of a second than its column"
	whole, fraction, point := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	hours, rest, ok := strings.Cut(whole, ":")
	h, okH := digits(hours)
	if !ok || !okH || len(hours) < 2 || len(hours) > 3 || len(hours) == 3 && hours[0] == '0' || h > 838 {
		return nil, problem
	}
	if len(rest) != 5 || rest[2] != ':' || point && fraction == "" || len(fraction) > t.Length {
		return nil, problem
	}
	m, okM := digits(rest[:2])
	sec, okS := digits(rest[3:])
	_, okF := digits(fraction)
	if !okM || !okS || !okF || m > 59 || sec > 59 || h == 838 && m == 59 && sec == 59 && strings.Trim(fraction, "0") != "" {
		return nil, problem
	}
	if strings.HasPrefix(s, "-") && h+m+sec == 0 && strings.Trim(fraction, "0") == "" {
		return nil, problem // the server writes it without the sign
	}
	if t.Length > 0 {
		if !point {
			s += "."
		}
		s += strings.Repeat("0", t.Length-len(fraction))
	}
	return s, ""
}

// isSet reports whether a text has labels of a SET in the column's order, each once.
func (t ColumnType) isSet(s string) bool {
	if s == "" {
		return true
	}
	next := 0
	for part := range strings.SplitSeq(s, ",") {
		for next < len(t.Labels) && t.Labels[next] != part {
			next++
		}
		if next == len(t.Labels) {
			return false
		}
		next++
	}
	return true
}

// isUUID reports whether a text is a UUID in small letters.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case !jsontext.IsDigit(c) && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}
