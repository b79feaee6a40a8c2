package lane

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Errors of ParsePayload and ParseFrame. Whatever the error, the receiver flushes the lane.
var (
	// ErrVersion: the sender speaks another version of the protocol.
	ErrVersion = errors.New("unknown protocol version")
	// ErrMalformed: the bytes break the wire format or its limits.
	ErrMalformed = errors.New("malformed lane entry")
)

// ParsePayload reads the JSON of a lane entry. Its strings are parts of s: clone what is kept for long. Errors wrap
// ErrVersion or ErrMalformed and hold nothing of s.
func ParsePayload(s string) (Payload, error) {
	if len(s) > MaxFrame {
		return Payload{}, fmt.Errorf("parse payload of %d bytes: %w", len(s), ErrMalformed)
	}
	// A name with bytes outside UTF-8 would be read as another name by half of the decoders there are.
	if !utf8.ValidString(s) || !json.Valid([]byte(s)) {
		return Payload{}, fmt.Errorf("parse payload: no JSON in UTF-8: %w", ErrMalformed)
	}
	c := cursor{s: s}
	p, err := c.payload()
	if err != nil {
		return Payload{}, fmt.Errorf("parse payload: %w", err)
	}
	return p, nil
}

// cursor walks over JSON that is known to be valid, so it looks at what it wants to know and nothing else.
type cursor struct {
	s string
	i int
}

func (c *cursor) payload() (Payload, error) {
	var p Payload
	var versions []int64
	var seen [256]bool
	if c.space() != '{' {
		return p, fmt.Errorf("no object: %w", ErrMalformed)
	}
	c.i++
	for n := 0; c.space() != '}'; n++ {
		if n > 0 {
			c.i++ // comma
		}
		c.space()
		name := c.text()
		c.space()
		c.i++ // colon
		c.space()
		if (n == 0) != (name == "v") {
			return p, fmt.Errorf("v must be the first member, once: %w", ErrMalformed)
		}
		if len(name) == 1 {
			if seen[name[0]] {
				return p, fmt.Errorf("member %q twice: %w", name, ErrMalformed)
			}
			seen[name[0]] = true
		}
		if err := c.member(name, &p, &versions); err != nil {
			return p, fmt.Errorf("member %s: %w", label(name), err)
		}
	}
	if !seen['v'] {
		return p, fmt.Errorf("v is missing: %w", ErrMalformed)
	}
	if len(versions) != len(p.Items) {
		return p, fmt.Errorf("k and n differ in length: %w", ErrMalformed)
	}
	for i, v := range versions {
		p.Items[i].Version = v
	}
	if seen['s'] != seen['f'] || seen['f'] != seen['o'] || seen['s'] && p.Source == "" {
		return p, fmt.Errorf("s, f and o go together: %w", ErrMalformed)
	}
	return p, nil
}

// label keeps unknown members out of error texts.
func label(name string) string {
	if len(name) == 1 && strings.Contains("vsfotkngx", name) {
		return name
	}
	return "(unknown)"
}

func (c *cursor) member(name string, p *Payload, versions *[]int64) (err error) {
	switch name {
	case "v":
		var v int64
		if v, err = c.integer(); err == nil && v != Version {
			err = fmt.Errorf("version %d: %w", v, ErrVersion)
		}
	case "s":
		p.Source, err = c.name()
	case "f":
		p.From, err = c.integer()
	case "o":
		p.To, err = c.integer()
	case "t":
		p.Time, err = c.integer()
	case "k":
		err = c.list(MaxKeys, func() error {
			k, err := c.name()
			p.Items = append(p.Items, Item{Key: k})
			return err
		})
	case "n":
		err = c.list(MaxKeys, func() error {
			v, err := c.integer()
			if v < 0 {
				return fmt.Errorf("negative version: %w", ErrMalformed)
			}
			*versions = append(*versions, v)
			return err
		})
	case "g":
		err = c.list(MaxTags, func() error {
			g, err := c.name()
			p.Tags = append(p.Tags, g)
			return err
		})
	case "x":
		var x int64
		if x, err = c.integer(); err == nil && x != 1 {
			err = fmt.Errorf("flush is 1 or absent: %w", ErrMalformed)
		}
		p.Flush = true
	default:
		c.skip()
	}
	return err
}

// space moves to the next byte that is no white space and gives it.
func (c *cursor) space() byte {
	for c.s[c.i] == ' ' || c.s[c.i] == '\t' || c.s[c.i] == '\n' || c.s[c.i] == '\r' {
		c.i++
	}
	return c.s[c.i]
}

// text reads the string that begins here.
func (c *cursor) text() string {
	from, escaped := c.i, false
	for c.i++; c.s[c.i] != '"'; c.i++ {
		if c.s[c.i] == '\\' {
			escaped = true
			c.i++
		}
	}
	c.i++
	raw := c.s[from:c.i]
	if !escaped {
		return raw[1 : len(raw)-1]
	}
	var out string
	if json.Unmarshal([]byte(raw), &out) != nil {
		return ""
	}
	return out
}

// name reads a string that names something. A lone surrogate would decode to U+FFFD, that is to another name.
func (c *cursor) name() (string, error) {
	if c.s[c.i] != '"' {
		return "", fmt.Errorf("no string: %w", ErrMalformed)
	}
	from := c.i
	out := c.text()
	raw := c.s[from:c.i]
	if strings.Contains(raw, `\u`) && strings.Count(out, "\uFFFD") != strings.Count(raw, "\uFFFD") {
		return "", fmt.Errorf("escape of no character: %w", ErrMalformed)
	}
	return out, nil
}

// integer reads a whole number between −2^53 and 2^53.
func (c *cursor) integer() (int64, error) {
	from := c.i
	for c.i < len(c.s) && strings.IndexByte("+-.0123456789eE", c.s[c.i]) >= 0 {
		c.i++
	}
	n, err := strconv.ParseInt(c.s[from:c.i], 10, 64)
	if err != nil || n >= 1<<53 || n <= -1<<53 {
		return 0, fmt.Errorf("no integer below 2^53: %w", ErrMalformed)
	}
	return n, nil
}

// list calls each at the beginning of every element.
func (c *cursor) list(limit int, each func() error) error {
	if c.s[c.i] != '[' {
		return fmt.Errorf("no list: %w", ErrMalformed)
	}
	c.i++
	for n := 0; c.space() != ']'; n++ {
		if n == limit {
			return fmt.Errorf("more than %d elements: %w", limit, ErrMalformed)
		}
		if n > 0 {
			c.i++ // comma
			c.space()
		}
		if err := each(); err != nil {
			return err
		}
	}
	c.i++
	return nil
}

// skip passes over any value.
func (c *cursor) skip() {
	depth := 0
	for {
		switch c.space() {
		case '"':
			c.text()
		case '{', '[':
			depth++
			c.i++
		case '}', ']':
			depth--
			c.i++
		case ',', ':':
			c.i++
			continue
		default: // number, true, false, null
			for strings.IndexByte(" \t\r\n,:]}", c.s[c.i]) < 0 {
				c.i++
			}
		}
		if depth == 0 {
			return
		}
	}
}
