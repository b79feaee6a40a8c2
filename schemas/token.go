package schemas

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/freshet/freshet/internal/jsontext"
)

// Limits of a token's text form; a reader never allocates for more.
const (
	maxTokenBytes  = 64 << 10
	maxTokenOffset = int64(1)<<53 - 1
)

// Token lists the offsets that a reader must have seen; it is merged by the greater offset per source. The zero value is
// empty and useful. A Token is immutable.
type Token struct {
	// source and offset are those of a token of one source, as most are; all is nil then, and has the sources of others.
	source string
	offset int64
	all    map[string]int64
}

// NewToken is the token of one offset of one source. A negative offset or an empty source returns the zero Token: there
// is nothing to wait for.
func NewToken(source string, offset int64) Token {
	if source == "" || offset < 0 {
		return Token{}
	}
	return Token{source: source, offset: offset}
}

// Merge returns the token that waits for both.
func (t Token) Merge(o Token) Token {
	switch {
	case o.IsZero():
		return t
	case t.IsZero():
		return o
	case t.all == nil && o.all == nil && t.source == o.source:
		return Token{source: t.source, offset: max(t.offset, o.offset)}
	}
	merged := t.Offsets()
	for s, off := range o.Offsets() {
		if have, ok := merged[s]; !ok || off > have {
			merged[s] = off
		}
	}
	return Token{all: merged}
}

// Offsets is a copy of source → offset; nil for the zero Token.
func (t Token) Offsets() map[string]int64 {
	if t.source != "" {
		return map[string]int64{t.source: t.offset}
	}
	return maps.Clone(t.all)
}

// IsZero reports whether the token waits for nothing.
func (t Token) IsZero() bool { return t.source == "" && len(t.all) == 0 }

// String is the token's text form: base64url of {"v":1,"s":{source:offset}}, sources in order, so that equal tokens have
// equal texts.
func (t Token) String() string {
	buf := []byte(`{"v":1,"s":{`)
	offsets := t.Offsets()
	for i, s := range slices.Sorted(maps.Keys(offsets)) {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendJSONString(buf, s)
		buf = append(buf, ':')
		buf = strconv.AppendInt(buf, offsets[s], 10)
	}
	return base64.RawURLEncoding.EncodeToString(append(buf, '}', '}'))
}

// MarshalText makes a Token a string in JSON.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText is ParseToken.
func (t *Token) UnmarshalText(text []byte) error {
	parsed, err := ParseToken(string(text))
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}

// ParseToken reads what String wrote. Errors wrap ErrInvalid.
func ParseToken(s string) (Token, error) {
	if len(s) > maxTokenBytes {
		return Token{}, tokenError("is too long")
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return Token{}, tokenError("is not base64url without padding")
	}
	tree, err := jsontext.ParseTree(string(text))
	if err != nil {
		return Token{}, tokenError("is not JSON inside")
	}
	obj, _ := tree.(map[string]any)
	if v, _ := obj["v"].(json.Number); v != "1" {
		return Token{}, tokenError("has a version that this release does not know")
	}
	offsets, ok := obj["s"].(map[string]any)
	if !ok {
		return Token{}, tokenError("has no sources")
	}
	if len(offsets) == 0 {
		return Token{}, nil
	}
	t := Token{all: make(map[string]int64, len(offsets))}
	for source, off := range offsets {
		n, _ := off.(json.Number)
		offset, err := strconv.ParseInt(string(n), 10, 64)
		if err != nil || offset < 0 || offset > maxTokenOffset {
			return Token{}, tokenError("has an offset that is not an integer from 0 to 2^53-1")
		}
		if source == "" || len(source) > MaxSourceBytes || !utf8.ValidString(source) {
			return Token{}, tokenError("has an empty or too long source")
		}
		if len(offsets) == 1 {
			return NewToken(source, offset), nil
		}
		t.all[source] = offset
	}
	return t, nil
}

func tokenError(problem string) error {
	return &FieldError{
		Field: "token", Problem: problem, Fix: "pass the token as the publish returned it", Reason: ReasonMalformed,
	}
}

// appendJSONString appends s as a JSON string. Whatever needs an escape is left to encoding/json.
func appendJSONString(buf []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, err := json.Marshal(s)
			if err != nil {
				return append(buf, '"', '"') // a string always has a JSON form
			}
			return append(buf, quoted...)
		}
	}
	buf = append(buf, '"')
	buf = append(buf, s...)
	return append(buf, '"')
}
