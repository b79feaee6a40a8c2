package schemas

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/freshet/freshet/internal/jsontext"
)

// FormatKey makes the canonical key of the key properties' values, in the order of Dataset.Key. A string property takes
// a string, an integer property any Go integer or json.Number, a boolean property a bool, or the values that ParseKey returns.
//
// The key of a single property is the plain value. In a key of several the components are percent-encoded ("%", "," and
// control bytes) and joined by commas.
func (d *Dataset) FormatKey(values ...any) (string, error) { return d.keyForm().format(values) }

// ParseKey splits a canonical key into the values of the key columns, as in Row.
func (d *Dataset) ParseKey(key string) ([]any, error) { return d.keyForm().parse(key) }

// keyForm are the columns whose values make a key, in the key's order.
type keyForm []Column

func (d *Dataset) keyForm() keyForm { return d.Replica.Columns[:d.Replica.KeyColumns] }

func (f keyForm) names() string {
	names := make([]string, len(f))
	for i := range f {
		names[i] = f[i].Property.Name
	}
	return strings.Join(names, ", ")
}

func (f keyForm) format(values []any) (string, error) {
	if len(values) != len(f) {
		return "", keyError("has another number of components than it needs", "give "+f.names())
	}
	var buf []byte
	for i, v := range values {
		text, ok := keyText(f[i].Property.Kind, v)
		if !ok {
			return "", keyError("component "+strconv.Itoa(i+1)+" has the wrong type", "give "+f.names()+" as the schema has it")
		}
		if len(values) == 1 {
			buf = append(buf, text...)
			break
		}
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendComponent(buf, text)
	}
	key := string(buf)
	if _, err := f.texts(key, nil); err != nil {
		return "", err
	}
	return key, nil
}

func (f keyForm) parse(key string) ([]any, error) {
	var room [4]string
	texts, err := f.texts(key, room[:0])
	if err != nil {
		return nil, err
	}
	values := make([]any, len(texts))
	for i, text := range texts {
		values[i] = keyValue(&f[i].Property, text)
	}
	return values, nil
}

// CacheKey is the name of the record's own cache entry; "" when the dataset has no cache section. Errors: a key that is
// not canonical.
func (d *Dataset) CacheKey(key string) (string, error) {
	var room [4]string
	texts, err := d.keyTexts(key, room[:0])
	if err != nil || d.Cache == nil {
		return "", err
	}
	return d.compiled.cacheKey.render(texts), nil
}

// CacheHash identifies the cache section: programs that disagree about it must not share entries. "" without one.
func (d *Dataset) CacheHash() string { return d.compiled.cacheHash }

func appendComponent(buf []byte, text string) []byte {
	return appendPercent(buf, text, func(c byte) bool { return c < ' ' || c == 0x7F || c == '%' || c == ',' })
}

// keyTexts is texts of the record's own key.
func (d *Dataset) keyTexts(key string, dst []string) ([]string, error) {
	return d.keyForm().texts(key, dst)
}

// texts checks a key in full and appends the decoded text of each component to dst.
func (f keyForm) texts(key string, dst []string) ([]string, error) {
	if err := checkKeyBounds(key); err != nil {
		return nil, err
	}
	if len(f) == 1 {
		if problem := checkComponent(&f[0].Property, key); problem != "" {
			return nil, keyError(problem, "")
		}
		return append(dst, key), nil
	}
	rest, more := key, true
	for i := range f {
		var text string
		if !more {
			return nil, keyError("has too few components", "join "+f.names()+" by commas")
		}
		text, rest, more = strings.Cut(rest, ",")
		text, ok := decodeComponent(text)
		if !ok {
			return nil, keyError("is not encoded canonically", "make it with FormatKey")
		}
		if problem := checkComponent(&f[i].Property, text); problem != "" {
			return nil, keyError("component "+strconv.Itoa(i+1)+" "+problem, "")
		}
		dst = append(dst, text)
	}
	if more {
		return nil, keyError("has too many components", "a comma inside a component is written %2C")
	}
	return dst, nil
}

func checkKeyBounds(key string) error {
	switch {
	case key == "":
		return keyError("is missing", "every event names its record")
	case len(key) > MaxKeyBytes:
		return keyError("is longer than 512 bytes", "")
	case !utf8.ValidString(key):
		return keyError("is not valid UTF-8", "")
	}
	return nil
}

// decodeComponent undoes appendComponent and refuses whatever that would not have written.
func decodeComponent(text string) (string, bool) {
	plain := true
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' || c == 0x7F {
			return "", false
		} else if c == '%' {
			plain = false
		}
	}
	if plain {
		return text, true
	}
	buf := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			buf = append(buf, text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", false
		}
		c, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		buf = append(buf, byte(c))
		i += 2
	}
	// Another spelling of the same text (%41, %2c) would be a second key of one record.
	if string(appendComponent(nil, string(buf))) != text {
		return "", false
	}
	return string(buf), true
}

// checkComponent returns the problem of one component's text, "" if there is none.
func checkComponent(p *Property, text string) string {
	switch p.Kind {
	case KindInteger:
		if !isCanonicalInteger(p, text) {
			return "is not a canonical integer in range"
		}
	case KindBoolean:
		if text != "true" && text != "false" {
			return "is neither true nor false"
		}
	default:
		if !utf8.ValidString(text) {
			return "is not valid UTF-8"
		}
		if p.MaxLength > 0 && len(text) > p.MaxLength && utf8.RuneCountInString(text) > p.MaxLength {
			return "is longer than its property's maxLength"
		}
	}
	return ""
}

func isCanonicalInteger(p *Property, text string) bool {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || (digits[0] == '0' && text != "0") || !jsontext.IsDigit(digits[0]) {
		return false
	}
	if p.Unsigned {
		_, err := strconv.ParseUint(text, 10, 64)
		return err == nil
	}
	_, err := strconv.ParseInt(text, 10, 64)
	return err == nil
}

// keyValue returns the column value of a component that checkComponent accepted.
func keyValue(p *Property, text string) any {
	switch p.Kind {
	case KindInteger:
		if p.Unsigned {
			n, _ := strconv.ParseUint(text, 10, 64) // checked before
			return n
		}
		n, _ := strconv.ParseInt(text, 10, 64) // checked before
		return n
	case KindBoolean:
		return boolValue(text == "true")
	default:
		return text
	}
}

// isKeyValue reports whether a column's value is the one that keyValue returns for a component that checkComponent accepted.
func isKeyValue(v any, text string) bool {
	var room [20]byte
	switch v := v.(type) {
	case string:
		return v == text
	case int64:
		if text == "true" || text == "false" {
			return (v == 1) == (text == "true")
		}
		return string(strconv.AppendInt(room[:0], v, 10)) == text
	case uint64:
		return string(strconv.AppendUint(room[:0], v, 10)) == text
	}
	return false
}

func boolValue(b bool) any {
	if b {
		return int64(1)
	}
	return int64(0)
}

// keyText is the canonical text of a value for a key property of that kind.
func keyText(kind Kind, v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, kind == KindString
	case bool:
		return strconv.FormatBool(v), kind == KindBoolean
	}
	n, isInt := integerText(v)
	switch {
	case !isInt:
		return "", false
	case kind == KindInteger:
		return n, true
	case kind == KindBoolean && (n == "0" || n == "1"):
		return strconv.FormatBool(n == "1"), true
	}
	return "", false
}

func integerText(v any) (string, bool) {
	signed := func(n int64) (string, bool) { return strconv.FormatInt(n, 10), true }
	unsigned := func(n uint64) (string, bool) { return strconv.FormatUint(n, 10), true }
	switch v := v.(type) {
	case int:
		return signed(int64(v))
	case int8:
		return signed(int64(v))
	case int16:
		return signed(int64(v))
	case int32:
		return signed(int64(v))
	case int64:
		return signed(v)
	case uint:
		return unsigned(uint64(v))
	case uint8:
		return unsigned(uint64(v))
	case uint16:
		return unsigned(uint64(v))
	case uint32:
		return unsigned(uint64(v))
	case uint64:
		return unsigned(v)
	case json.Number:
		return v.String(), true // whether it is canonical is seen with the whole key
	}
	return "", false
}

func keyError(problem, fix string) error {
	return &FieldError{Field: "key", Problem: problem, Fix: fix, Reason: ReasonKey}
}
