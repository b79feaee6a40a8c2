package invalidation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Codec writes values for the shared tier.
type Codec[V any] interface {
	// Name marks the entries of the codec, so that those of another are a miss and not garbage: 1 to 16 of a-z, 0-9,
	// hyphen and dot. Change it when what is written cannot be read by what was. Entries of "json" without a form carry no mark.
	Name() string
	// Encode must not give nothing at all if Name is "json": that is how absence is told.
	Encode(v V) ([]byte, error)
	// Decode must not keep data.
	Decode(data []byte) (V, error)
}

// A marked value is   C1 <name> 00 <what the codec wrote>,   or   C1 <name> ; <form> 00 <what the codec wrote>.   Neither JSON nor any UTF-8
// begins with C1.
const (
	markBegin = 0xC1
	markForm  = ";"
	markEnd   = 0x00
	unmarked  = "json"
	maxName   = 16
)

func checkName(name string) error {
	ok := name != "" && len(name) <= maxName
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	}
	if !ok {
		return fmt.Errorf("%w: the Codec's name is %q; it is 1 to %d of a-z, 0-9, hyphen and dot", ErrConfig, name, maxName)
	}
	return nil
}

// markOf returns the mark of a codec's values of a form: "" for JSON without one.
func markOf(name, form string) string {
	switch {
	case form != "":
		return name + markForm + form
	case name == unmarked:
		return ""
	}
	return name
}

// mark puts a mark in front of data.
func mark(by string, data []byte) []byte {
	if by == "" {
		return data
	}
	out := make([]byte, 0, len(by)+2+len(data))
	out = append(out, markBegin)
	out = append(out, by...)
	return append(append(out, markEnd), data...)
}

// unmark returns what stands behind that mark; false if there is another.
func unmark(by string, data []byte) ([]byte, bool) {
	if len(data) == 0 || data[0] != markBegin {
		return data, by == ""
	}
	got, data, ok := bytes.Cut(data[1:], []byte{markEnd})
	return data, ok && by != "" && string(got) == by
}

// JSON is the default Codec.
type JSON[V any] struct{}

// Name is json.
func (JSON[V]) Name() string { return unmarked }

// Encode gives v as JSON.
func (JSON[V]) Encode(v V) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	return b, nil
}

// Decode reads JSON.
func (JSON[V]) Decode(data []byte) (v V, err error) {
	if err := json.Unmarshal(data, &v); err != nil {
		return v, errDecode // the decoder's words may quote the value
	}
	return v, nil
}

// Raw is the Codec of values that are bytes already.
type Raw struct{}

// Name is raw.
func (Raw) Name() string { return "raw" }

// Encode gives v itself.
func (Raw) Encode(v []byte) ([]byte, error) { return v, nil }

// Decode gives a copy of data.
func (Raw) Decode(data []byte) ([]byte, error) { return bytes.Clone(data), nil }

var (
	errDecode    = errors.New("shared value cannot be decoded")
	errOtherForm = errors.New("shared value is of another codec or form")
)
