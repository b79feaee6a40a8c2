package jsontext

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// number reads a number literal.
func (p *Parser) number() (Value, error) {
	start := p.pos
	if p.Peek() == '-' {
		p.pos++
	}
	first := p.pos
	whole := p.digits()
	if whole == 0 || (whole > 1 && p.text[first] == '0') {
		p.pos = start
		return Value{}, p.Fail("no JSON value")
	}
	v := Value{Shape: Number, Plain: true}
	if p.Peek() == '.' {
		v.Plain = false
		p.pos++
		if p.digits() == 0 {
			return Value{}, p.Fail("a fraction without digits")
		}
	}
	if c := p.Peek(); c == 'e' || c == 'E' {
		v.Plain = false
		if err := p.exponent(); err != nil {
			return Value{}, err
		}
	}
	v.Text = p.text[start:p.pos]
	if len(v.Text) > maxNumberBytes {
		return Value{}, p.Fail("a number with too many digits")
	}
	return v, nil
}

func (p *Parser) exponent() error {
	p.pos++
	if c := p.Peek(); c == '+' || c == '-' {
		p.pos++
	}
	start := p.pos
	if p.digits() == 0 {
		return p.Fail("an exponent without digits")
	}
	if e, err := strconv.Atoi(p.text[start:p.pos]); err != nil || e > maxExponent {
		return p.Fail("a number with too large an exponent")
	}
	return nil
}

func (p *Parser) digits() int {
	start := p.pos
	for p.pos < len(p.text) && IsDigit(p.text[p.pos]) {
		p.pos++
	}
	return p.pos - start
}

// IsDigit reports whether c is a decimal digit.
func IsDigit(c byte) bool { return '0' <= c && c <= '9' }

// str reads the string at pos and decodes it.
func (p *Parser) str() (string, error) {
	start := p.pos + 1
	ascii := true
	for i := start; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			p.pos = i + 1
			if s := p.text[start:i]; ascii || utf8.ValidString(s) {
				return s, nil
			}
			return "", p.Fail("invalid UTF-8")
		case c == '\\':
			return p.escaped(start, i)
		case c < 0x20:
			p.pos = i
			return "", p.Fail("a control character in a string")
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	p.pos = len(p.text)
	return "", p.Fail("an unfinished string")
}

// escaped decodes the string that began at start and has its first backslash at i.
func (p *Parser) escaped(start, i int) (string, error) {
	buf := append(make([]byte, 0, i-start+32), p.text[start:i]...)
	for p.pos = i; p.pos < len(p.text); {
		c := p.text[p.pos]
		switch {
		case c == '"':
			p.pos++
			if !utf8.Valid(buf) {
				return "", p.Fail("invalid UTF-8")
			}
			return string(buf), nil
		case c < 0x20:
			return "", p.Fail("a control character in a string")
		case c != '\\':
			buf = append(buf, c)
			p.pos++
		default:
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			buf = utf8.AppendRune(buf, r)
		}
	}
	return "", p.Fail("an unfinished string")
}

// escape reads one escape sequence; a surrogate must come as a pair.
func (p *Parser) escape() (rune, error) {
	p.pos++
	c := p.Peek()
	p.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, ok := p.hex4()
		if ok && !utf16.IsSurrogate(r) {
			return r, nil
		}
		if ok && strings.HasPrefix(p.text[p.pos:], `\u`) {
			p.pos += 2
			if low, ok := p.hex4(); ok {
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					return r, nil
				}
			}
		}
	}
	return 0, p.Fail("an invalid escape in a string")
}

func (p *Parser) hex4() (rune, bool) {
	if len(p.text)-p.pos < 4 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(p.text[p.pos : p.pos+4]) {
		switch {
		case IsDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	p.pos += 4
	return r, true
}
