package cdc

import (
	"math/big"
	"math/bits"
	"strconv"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// isInteger reports whether a text is a canonical decimal integer.
func isInteger(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || (len(digits) > 1 && digits[0] == '0') || s == "-0" {
		return false
	}
	for i := 0; i < len(digits); i++ {
		if digits[i] < '0' || digits[i] > '9' {
			return false
		}
	}
	return true
}

// isNumber reports whether a text is a JSON number.
func isNumber(s string) bool {
	v, err := schemas.ReadJSON(s)
	return err == nil && v.Kind == schemas.JSONNumber && v.Text == s
}

// integerValue is an integer as Dataset.FormatKey takes it.
func integerValue(text string, unsigned bool, c *column) (any, error) {
	if unsigned {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, c.mismatch()
		}
		return n, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, c.mismatch()
	}
	return n, nil
}

// wrapped is what an unsigned 64-bit column holds when a tool wrote it as a signed number.
func wrapped(text string) (string, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return "", false
	}
	return strconv.FormatUint(uint64(n), 10), true
}

// swappedBits undoes what Maxwell's bootstrap does to BIT(n): it reads the bytes from the wrong end. A number that would not
// fit n bits the other way round was right already.
func swappedBits(text string, n int) string {
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n <= 8 || n > 64 {
		return text
	}
	swapped := bits.ReverseBytes64(v) >> (64 - (n+7)/8*8)
	if n < 64 && swapped>>n != 0 {
		return text
	}
	return strconv.FormatUint(swapped, 10)
}

// plainDecimal writes a number literal with digits and a point alone, without zeros that a column of that scale does not
// keep. Digits are never rounded away; ok is false for an exponent beyond any column.
func plainDecimal(literal string, scale int) (text string, ok bool) {
	mantissa, exp := literal, 0
	if i := strings.IndexAny(literal, "eE"); i >= 0 {
		n, err := strconv.Atoi(literal[i+1:])
		if err != nil {
			return "", false
		}
		mantissa, exp = literal[:i], n
	}
	negative := strings.HasPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(mantissa, "-"), ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0", true
	}
	const most = 100 // DECIMAL has 65 digits; what is longer is refused by the column
	point := len(digits) - len(fraction) + exp
	if point > most || point < -most || len(digits) > most {
		return "", false
	}
	if point <= 0 {
		digits = strings.Repeat("0", 1-point) + digits
		point = 1
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	text, fraction = digits[:point], digits[point:]
	for len(fraction) > scale && strings.HasSuffix(fraction, "0") {
		fraction = fraction[:len(fraction)-1]
	}
	if fraction != "" {
		text += "." + fraction
	}
	if negative {
		text = "-" + text
	}
	return text, true
}

// bigEndian reads two's complement bytes with a scale into a decimal literal.
func bigEndian(b []byte, scale int) string {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
	}
	return scaled(n.String(), scale)
}

// scaled puts a point into an integer.
func scaled(integer string, scale int) string {
	if scale <= 0 {
		return integer + strings.Repeat("0", -scale)
	}
	digits := strings.TrimPrefix(integer, "-")
	if len(digits) <= scale {
		digits = strings.Repeat("0", scale-len(digits)+1) + digits
	}
	at := len(digits) - scale
	text := digits[:at] + "." + digits[at:]
	if integer[0] == '-' {
		text = "-" + text
	}
	return text
}
