package lane

import (
	"strconv"
	"unicode/utf8"
)

// Payload is what one lane entry says.
//
//	{"v":1,"s":"users/kR3…/3","f":1000,"o":1099,"t":1760000000123,"k":["user:42"],"n":[17],"g":["cat:5"],"x":1,"tp":["00-…-01"]}
type Payload struct {
	// Source, From and To name the offsets that the entry covers. To = From−1: a part of a larger emission, which moves
	// no watermark. Source is empty in root entries.
	Source   string
	From, To int64
	// Time is the broker's time of the newest record, Unix ms; 0 if unknown. For metrics only.
	Time int64
	// Items are the cache keys that became stale, Tags the tags.
	Items []Item
	Tags  []string
	// Traces are traceparents of changes that the entry is about and whose traces are recorded; for traces only.
	Traces []string
	// Flush: everything of the lane is invalid.
	Flush bool
}

// AppendPayload appends p as JSON. It allocates nothing when dst is large enough. A name that is not UTF-8 cannot be
// written in JSON without becoming another name, so it becomes a flush.
func AppendPayload(dst []byte, p *Payload) []byte {
	flush := p.Flush
	dst = append(dst, `{"v":1`...)
	if p.Source != "" {
		dst = append(dst, `,"s":`...)
		dst = appendString(dst, p.Source)
		dst = append(dst, `,"f":`...)
		dst = strconv.AppendInt(dst, p.From, 10)
		dst = append(dst, `,"o":`...)
		dst = strconv.AppendInt(dst, p.To, 10)
	}
	if p.Time > 0 {
		dst = append(dst, `,"t":`...)
		dst = strconv.AppendInt(dst, p.Time, 10)
	}
	if len(p.Items) > 0 {
		var bad bool
		dst, bad = appendItems(dst, p.Items)
		flush = flush || bad
	}
	if len(p.Tags) > 0 {
		dst = append(dst, `,"g":[`...)
		n := 0
		for _, t := range p.Tags {
			if !utf8.ValidString(t) {
				flush = true
				continue
			}
			dst = appendComma(dst, n)
			dst = appendString(dst, t)
			n++
		}
		dst = append(dst, ']')
	}
	if flush {
		dst = append(dst, `,"x":1`...)
	}
	if len(p.Traces) > 0 {
		dst = append(dst, `,"tp":[`...)
		for i, parent := range p.Traces {
			dst = appendString(appendComma(dst, i), parent)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendItems(dst []byte, items []Item) (out []byte, bad bool) {
	dst = append(dst, `,"k":[`...)
	n := 0
	for i := range items {
		if !utf8.ValidString(items[i].Key) {
			bad = true
			continue
		}
		dst = appendComma(dst, n)
		dst = appendString(dst, items[i].Key)
		n++
	}
	dst = append(dst, `],"n":[`...)
	n = 0
	for i := range items {
		if bad && !utf8.ValidString(items[i].Key) {
			continue
		}
		dst = appendComma(dst, n)
		dst = strconv.AppendInt(dst, comparable64(items[i].Version), 10)
		n++
	}
	return append(dst, ']'), bad
}

// comparable64 returns v if it can be compared, else 0: always delete, which is always safe.
func comparable64(v int64) int64 {
	if v < 0 || v >= PrimaryOnly {
		return 0
	}
	return v
}

func appendComma(dst []byte, n int) []byte {
	if n > 0 {
		return append(dst, ',')
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Bytes above 0x7f are copied.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
			continue
		}
		dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}
