package schemas

import (
	"time"

	"github.com/freshet/freshet/internal/jsontext"
)

// dateTime is an RFC 3339 date-time, taken apart.
type dateTime struct {
	year, month, day, hour, minute, second int
	// micros is the fraction, cut off behind the sixth digit.
	micros int
	// offset is the zone's distance from UTC in minutes.
	offset int
}

// readDateTime reads RFC 3339. "T" and "Z" may be small; a leap second is taken where UTC can have one.
func readDateTime(s string) (t dateTime, ok bool) {
	if len(s) < len("2006-01-02T15:04:05Z") || s[10]|0x20 != 't' || s[13] != ':' || s[16] != ':' {
		return t, false
	}
	if t.year, t.month, t.day, ok = readDate(s[:10]); !ok {
		return t, false
	}
	var okH, okM, okS bool
	t.hour, okH = digits(s[11:13])
	t.minute, okM = digits(s[14:16])
	t.second, okS = digits(s[17:19])
	if !okH || !okM || !okS || t.hour > 23 || t.minute > 59 || t.second > 60 {
		return t, false
	}
	rest := s[19:]
	if rest[0] == '.' {
		n := 1
		for n < len(rest) && jsontext.IsDigit(rest[n]) {
			n++
		}
		if n == 1 {
			return t, false
		}
		for i := 1; i <= 6; i++ {
			t.micros *= 10
			if i < n {
				t.micros += int(rest[i] - '0')
			}
		}
		rest = rest[n:]
	}
	if t.offset, ok = readZone(rest); !ok {
		return t, false
	}
	const day = 24 * 60
	return t, t.second < 60 || (t.hour*60+t.minute-t.offset+day)%day == day-1
}

func readZone(s string) (minutes int, ok bool) {
	if s == "Z" || s == "z" {
		return 0, true
	}
	if len(s) != 6 || s[3] != ':' || (s[0] != '+' && s[0] != '-') {
		return 0, false
	}
	h, okH := digits(s[1:3])
	m, okM := digits(s[4:6])
	if !okH || !okM || h > 23 || m > 59 {
		return 0, false
	}
	minutes = h*60 + m
	if s[0] == '-' {
		minutes = -minutes
	}
	return minutes, true
}

func readDate(s string) (year, month, day int, ok bool) {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return 0, 0, 0, false
	}
	year, okY := digits(s[:4])
	month, okM := digits(s[5:7])
	day, okD := digits(s[8:])
	ok = okY && okM && okD && 1 <= month && month <= 12 && 1 <= day && day <= daysOf(year, month)
	return year, month, day, ok
}

func daysOf(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func digits(s string) (n int, ok bool) {
	for _, c := range []byte(s) {
		if !jsontext.IsDigit(c) {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

func isDateTime(s string) bool {
	_, ok := readDateTime(s)
	return ok
}

func isDate(s string) bool {
	_, _, _, ok := readDate(s)
	return ok
}

// columnDateTime rewrites an RFC 3339 text to UTC with six digits of a second, the form that DATETIME(6) takes. A leap
// second becomes the first of the next minute. ok is false outside the years 1 to 9999.
func columnDateTime(s string) (text string, ok bool) {
	t, ok := columnTime(s)
	if !ok {
		return "", false
	}
	b := make([]byte, 0, len("2006-01-02 15:04:05.000000"))
	b = appendPadded(b, t.year, 4)
	b = appendPadded(append(b, '-'), t.month, 2)
	b = appendPadded(append(b, '-'), t.day, 2)
	b = appendPadded(append(b, ' '), t.hour, 2)
	b = appendPadded(append(b, ':'), t.minute, 2)
	b = appendPadded(append(b, ':'), t.second, 2)
	b = appendPadded(append(b, '.'), t.micros, 6)
	return string(b), true
}

// columnTime reads an RFC 3339 text as UTC.
func columnTime(s string) (t dateTime, ok bool) {
	if t, ok = readDateTime(s); !ok {
		return t, false
	}
	if t.offset != 0 || t.second == 60 {
		u := time.Date(t.year, time.Month(t.month), t.day, t.hour, t.minute-t.offset, t.second, 0, time.UTC)
		t.year, t.month, t.day = u.Year(), int(u.Month()), u.Day()
		t.hour, t.minute, t.second = u.Clock()
	}
	return t, t.year >= 1 && t.year <= 9999
}

func appendPadded(b []byte, n, width int) []byte {
	start := len(b)
	for range width {
		b = append(b, '0')
	}
	for i := start + width - 1; i >= start; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}
