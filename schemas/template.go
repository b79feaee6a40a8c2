package schemas

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// MaxNameBytes is the greatest length of a cache key, a tag or a foreign key.
const MaxNameBytes = 512

// hashMark stands before the hash of a name that was too long. No encoded value contains it, so no one can choose a key
// whose name equals another key's hash.
const hashMark = "%."

// maxTemplateBytes bounds a declared template.
const maxTemplateBytes = 256

// template is a cache template, prepared: literals[0] {fields[0]} literals[1] {fields[1]} … literals[n].
type template struct {
	text     string
	literals []string
	// fields are positions in whatever list of texts render gets.
	fields []int
	// names are the properties between the braces, kinds their kinds.
	names []string
	kinds []Kind
}

// parseTemplate splits a template. problem is empty when it is well formed.
//
// The rule about ":" makes names unambiguous: a rendered value never holds a ":", so the colons of a name are those of
// its template, and each part between two of them holds one value at most.
func parseTemplate(text string) (t template, problem string) {
	if text == "" || len(text) > maxTemplateBytes || !utf8.ValidString(text) {
		return t, "a template is 1 to 256 bytes of UTF-8"
	}
	t.text = text
	for rest := text; ; {
		literal, after, found := strings.Cut(rest, "{")
		if strings.ContainsFunc(literal, func(r rune) bool { return r <= ' ' || r == '}' || r == 0x7F }) {
			return t, "a template's fixed text holds no space, control character or brace"
		}
		t.literals = append(t.literals, literal)
		if !found {
			break
		}
		name, behind, closed := strings.Cut(after, "}")
		if !closed || name == "" || strings.Contains(name, "{") {
			return t, "a placeholder is {property}"
		}
		t.names = append(t.names, name)
		rest = behind
	}
	if len(t.names) == 0 {
		return t, "a template without a placeholder gives one name to all records"
	}
	if t.literals[0] == "" {
		return t, "a template begins with fixed text, such as user:"
	}
	for _, between := range t.literals[1 : len(t.literals)-1] {
		if !strings.Contains(between, ":") {
			return t, "two placeholders need a colon between them, otherwise two records could share a name"
		}
	}
	return t, ""
}

// render makes the name from the texts that fields point into.
func (t *template) render(texts []string) string {
	return t.assemble(func(i int) string { return texts[t.fields[i]] })
}

// assemble makes the name from the text of each placeholder; a name that gets too long is hashed.
func (t *template) assemble(text func(i int) string) string {
	var room [128]byte // most names fit
	buf := room[:0]
	buf = append(buf, t.literals[0]...)
	for i, l := range t.literals[1:] {
		buf = appendEncoded(buf, text(i))
		buf = append(buf, l...)
	}
	if len(buf) <= MaxNameBytes {
		return string(buf)
	}
	sum := sha256.Sum256(buf)
	return t.literals[0] + hashMark + base64.RawURLEncoding.EncodeToString(sum[:])
}

// appendEncoded percent-encodes what would make a name ambiguous or break a Redis hash tag or a frame.
func appendEncoded(buf []byte, s string) []byte {
	return appendPercent(buf, s, func(c byte) bool {
		return c <= ' ' || c == 0x7F || c == '%' || c == ':' || c == '{' || c == '}'
	})
}

func appendPercent(buf []byte, s string, special func(byte) bool) []byte {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if c := s[i]; special(c) {
			buf = append(buf, '%', hex[c>>4], hex[c&15])
		} else {
			buf = append(buf, c)
		}
	}
	return buf
}

// overlaps reports whether the two templates could give one record of each the same name. It may say so of two that could
// not; it never misses one.
func (t *template) overlaps(o *template) bool {
	a, b := t.parts(), o.parts()
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].meets(b[i]) {
			return false
		}
	}
	return true
}

// part is what stands between two colons of a template: fixed text, or fixed text around one placeholder.
type part struct {
	before, after string
	open          bool
	kind          Kind // of the placeholder
}

func (t *template) parts() []part {
	var parts []part
	var cur part
	for i, literal := range t.literals {
		if i > 0 {
			cur.open, cur.kind = true, t.kinds[i-1]
		}
		for j, piece := range strings.Split(literal, ":") {
			if j > 0 {
				parts = append(parts, cur)
				cur = part{}
			}
			if cur.open {
				cur.after += piece
			} else {
				cur.before += piece
			}
		}
	}
	return append(parts, cur)
}

func (p part) meets(o part) bool {
	switch {
	case !p.open && !o.open:
		return p.before == o.before
	case !p.open:
		return o.meets(p)
	case !o.open:
		return len(o.before) >= len(p.before)+len(p.after) &&
			strings.HasPrefix(o.before, p.before) && strings.HasSuffix(o.before, p.after) &&
			isTextOf(p.kind, o.before[len(p.before):len(o.before)-len(p.after)])
	}
	return (strings.HasPrefix(p.before, o.before) || strings.HasPrefix(o.before, p.before)) &&
		(strings.HasSuffix(p.after, o.after) || strings.HasSuffix(o.after, p.after))
}

// isTextOf reports whether a value of that kind could have the text.
func isTextOf(kind Kind, text string) bool {
	switch kind {
	case KindInteger:
		return strings.Trim(text, "-0123456789") == ""
	case KindBoolean:
		return text == "true" || text == "false"
	default:
		return true
	}
}
