package lane

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/freshet/freshet/internal/jsontext"
)

// Errors of ParsePayload and ParseFrame. Whatever the error, the receiver flushes the lane.
var (
	// ErrVersion is returned when the sender speaks another version of the protocol.
	ErrVersion = errors.New("unknown protocol version")
	// ErrMalformed is returned when the bytes break the wire format or its limits.
	ErrMalformed = errors.New("malformed lane entry")
)

// ParsePayload reads the JSON of a lane entry. Its strings are parts of s: clone what is kept for long. Errors wrap
// ErrVersion or ErrMalformed and hold nothing of s.
func ParsePayload(s string) (Payload, error) {
	if len(s) > MaxFrame {
		return Payload{}, fmt.Errorf("parse payload of %d bytes: %w", len(s), ErrMalformed)
	}
	r := payloadReader{json: jsontext.New(s)}
	err := r.read()
	var syntax *jsontext.SyntaxError
	if errors.As(err, &syntax) {
		err = fmt.Errorf("%w: %w", ErrMalformed, syntax)
	}
	if err != nil {
		return Payload{}, fmt.Errorf("parse payload: %w", err)
	}
	return r.p, nil
}

// payloadReader reads one payload.
type payloadReader struct {
	json     jsontext.Parser
	p        Payload
	versions []int64
}

func (r *payloadReader) read() error {
	var seen jsontext.Names
	r.json.Space()
	if r.json.Peek() != '{' {
		return fmt.Errorf("no object: %w", ErrMalformed)
	}
	empty, err := r.json.Enter('}')
	for n, more := 0, !empty; more && err == nil; n++ {
		var name string
		if name, err = r.json.Name(); err != nil {
			return err
		}
		if (n == 0) != (name == "v") {
			return fmt.Errorf("v must be the first member, once: %w", ErrMalformed)
		}
		if !seen.Add(name) && len(name) == 1 { // longer names are of later versions
			return fmt.Errorf("member %s twice: %w", label(name), ErrMalformed)
		}
		if err = r.member(name); err != nil {
			return fmt.Errorf("member %s: %w", label(name), err)
		}
		more, err = r.json.More('}')
	}
	if err == nil {
		err = r.json.End()
	}
	if err != nil {
		return err
	}
	return r.finish(&seen)
}

// finish checks what members must have in common.
func (r *payloadReader) finish(seen *jsontext.Names) error {
	if !seen.Has("v") {
		return fmt.Errorf("v is missing: %w", ErrMalformed)
	}
	if len(r.versions) != len(r.p.Items) {
		return fmt.Errorf("k and n differ in length: %w", ErrMalformed)
	}
	for i, v := range r.versions {
		r.p.Items[i].Version = v
	}
	s, f, o := seen.Has("s"), seen.Has("f"), seen.Has("o")
	if s != f || f != o || s && r.p.Source == "" {
		return fmt.Errorf("s, f and o go together: %w", ErrMalformed)
	}
	return nil
}

// label keeps unknown members out of error texts.
func label(name string) string {
	if len(name) == 1 && strings.Contains("vsfotkngx", name) {
		return name
	}
	return "(unknown)"
}

func (r *payloadReader) member(name string) (err error) {
	switch name {
	case "v":
		var v int64
		if v, err = r.integer(); err == nil && v != Version {
			err = fmt.Errorf("version %d: %w", v, ErrVersion)
		}
	case "s":
		r.p.Source, err = r.text()
	case "f":
		r.p.From, err = r.integer()
	case "o":
		r.p.To, err = r.integer()
	case "t":
		r.p.Time, err = r.integer()
	case "k":
		err = r.list(MaxKeys, func() error {
			k, err := r.text()
			r.p.Items = append(r.p.Items, Item{Key: k})
			return err
		})
	case "n":
		err = r.list(MaxKeys, func() error {
			v, err := r.integer()
			if v < 0 {
				return fmt.Errorf("negative version: %w", ErrMalformed)
			}
			r.versions = append(r.versions, v)
			return err
		})
	case "g":
		err = r.list(MaxTags, func() error {
			g, err := r.text()
			r.p.Tags = append(r.p.Tags, g)
			return err
		})
	case "x":
		var x int64
		if x, err = r.integer(); err == nil && x != 1 {
			err = fmt.Errorf("flush is 1 or absent: %w", ErrMalformed)
		}
		r.p.Flush = true
	case "tp":
		err = r.traces()
	default:
		err = r.json.Skip() // what a later version adds is ignored, also where this parser is strict
	}
	return err
}

// traces reads what only traces need: nothing in it makes an entry malformed.
func (r *payloadReader) traces() error {
	if r.json.Peek() != '[' {
		return r.json.Skip()
	}
	return r.list(MaxFrame, func() error {
		v, err := r.json.Value(false)
		if err == nil && v.Shape == jsontext.String && len(r.p.Traces) < MaxTraces {
			r.p.Traces = append(r.p.Traces, v.Text)
		}
		return err
	})
}

// text reads a string.
func (r *payloadReader) text() (string, error) {
	v, err := r.json.Value(false)
	if err == nil && v.Shape != jsontext.String {
		err = fmt.Errorf("no string: %w", ErrMalformed)
	}
	return v.Text, err
}

// integer reads a whole number between −2^53 and 2^53.
func (r *payloadReader) integer() (int64, error) {
	v, err := r.json.Value(false)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(v.Text, 10, 64)
	if v.Shape != jsontext.Number || err != nil || n >= 1<<53 || n <= -1<<53 {
		return 0, fmt.Errorf("no integer below 2^53: %w", ErrMalformed)
	}
	return n, nil
}

// list calls each at the beginning of every element.
func (r *payloadReader) list(limit int, each func() error) error {
	if r.json.Peek() != '[' {
		return fmt.Errorf("no list: %w", ErrMalformed)
	}
	empty, err := r.json.Enter(']')
	for n, more := 0, !empty; more && err == nil; n++ {
		if n == limit {
			return fmt.Errorf("more than %d elements: %w", limit, ErrMalformed)
		}
		if err = each(); err == nil {
			more, err = r.json.More(']')
		}
	}
	return err
}
