package cdc

import (
	"strconv"
	"strings"
	"time"
)

const dateTimeLayout = "2006-01-02 15:04:05.999999"

// dateTimeOf is the text of a moment; ok is false outside of the years that a column can hold.
func dateTimeOf(t time.Time) (string, bool) {
	t = t.UTC()
	return t.Format(dateTimeLayout), t.Year() >= 0 && t.Year() <= 9999
}

// dateOf is the text of a day, counted from 1970-01-01.
func dateOf(days int64) (string, bool) {
	const most = 4_000_000
	if days < -most || days > most {
		return "", false
	}
	t := time.Unix(days*86400, 0).UTC()
	return t.Format(time.DateOnly), t.Year() >= 0 && t.Year() <= 9999
}

// timeOf is the text of a TIME of so many microseconds, with as many digits of a second as are declared, or as it needs.
func timeOf(micros int64, digits int) string {
	var b strings.Builder
	if micros < 0 {
		b.WriteByte('-')
		micros = -micros
	}
	second := micros / 1_000_000
	pad := func(n int64) {
		if n < 10 {
			b.WriteByte('0')
		}
		b.WriteString(strconv.FormatInt(n, 10))
	}
	pad(second / 3600)
	b.WriteByte(':')
	pad(second / 60 % 60)
	b.WriteByte(':')
	pad(second % 60)
	fraction := strconv.FormatInt(1_000_000+micros%1_000_000, 10)[1:]
	if digits == 0 {
		fraction = strings.TrimRight(fraction, "0")
	} else {
		fraction = fraction[:min(digits, 6)]
	}
	if fraction != "" {
		b.WriteByte('.')
		b.WriteString(fraction)
	}
	return b.String()
}

// readMoment reads ISO 8601 with or without a zone; without one it is UTC.
func readMoment(s string) (string, bool) {
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return dateTimeOf(t)
		}
	}
	return "", false
}

// readDateTime checks the text of a DATETIME, or of a TIMESTAMP in a zone, and returns it in UTC. Month and day may be 00: the
// server stores dates that do not exist.
func readDateTime(s string, zone int) (string, bool) {
	if len(s) < 19 || s[10] != ' ' || s[13] != ':' || s[16] != ':' || !isDatePart(s[:10]) {
		return "", false
	}
	if zone != 0 && !isZeroDate(s) {
		t, err := time.Parse("2006-01-02 15:04:05.999999999", s)
		if err != nil {
			return "", false
		}
		return dateTimeOf(t.Add(-time.Duration(zone) * time.Minute))
	}
	clock, fraction, point := strings.Cut(s[11:], ".")
	if len(clock) != 8 || (point && (fraction == "" || !allDigits(fraction))) {
		return "", false
	}
	if !allDigits(clock[:2]) || !allDigits(clock[3:5]) || !allDigits(clock[6:]) || clock[:2] > "23" || clock[3:5] > "59" || clock[6:] > "59" {
		return "", false
	}
	return s, true
}

func isDatePart(s string) bool {
	return len(s) == 10 && s[4] == '-' && s[7] == '-' && allDigits(s[:4]) && allDigits(s[5:7]) && allDigits(s[8:])
}

// isZeroDate reports whether a date's month or day is 00.
func isZeroDate(s string) bool { return len(s) >= 10 && (s[5:7] == "00" || s[8:10] == "00") }

func allDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// unixMillis returns milliseconds: some tools write seconds, and Unix milliseconds passed 10^11 in 1973.
func unixMillis(n int64) int64 {
	const limit = 100_000_000_000
	if n > -limit && n < limit {
		return n * 1000
	}
	return n
}
