package invalidation

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Codec writes values for the shared tier.
type Codec[V any] interface {
	// Name marks the entries of the codec, so that those of another are a miss and not garbage: 1 to 16 of a-z, 0-9,
	// hyphen and dot. Change it when what is written cannot be read by what was. Entries of "json" without a form carry no mark.
	Name() string
	// Encode must not return an empty slice if Name is "json": that means an absent record.
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

// Encode returns v as JSON.
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

// Encode returns v itself.
func (Raw) Encode(v []byte) ([]byte, error) { return v, nil }

// Decode returns a copy of data.
func (Raw) Decode(data []byte) ([]byte, error) { return bytes.Clone(data), nil }

var (
	errDecode    = errors.New("shared value cannot be decoded")
	errOtherForm = errors.New("shared value is of another codec or form")
)

// FormNone is the CacheConfig.Form of entries that carry none, as they are shared with programs in other languages.
const FormNone = "-"

// maxForm is the greatest length of a form's name.
const maxForm = 32

func checkForm(form string) error {
	ok := len(form) <= maxForm
	for _, r := range form {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	}
	if !ok {
		return fmt.Errorf("%w: Form is %q; it is 1 to %d of letters, digits, hyphen, underscore and dot", ErrConfig, form, maxForm)
	}
	return nil
}

// formOf returns the form of a type's values: "" where no field can be lost, otherwise a hash of what encoders see of it. Two types with the
// same fields, tags and types of fields have the same form, whatever they are called.
func formOf(t reflect.Type) string {
	w := shape{seen: map[reflect.Type]int{}}
	w.write(t)
	if !w.lossy {
		return ""
	}
	sum := sha256.Sum256([]byte(w.text.String()))
	return "t-" + base64.RawURLEncoding.EncodeToString(sum[:9])
}

// shape writes a type as its encoders see it.
type shape struct {
	text  strings.Builder
	seen  map[reflect.Type]int // named types by the order in which they were met: a type may contain itself
	lossy bool                 // there is a struct, or a type with an encoding of its own
}

func (w *shape) write(t reflect.Type) {
	if n, ok := w.seen[t]; ok {
		fmt.Fprintf(&w.text, "again %d;", n)
		return
	}
	if t.Name() != "" {
		w.seen[t] = len(w.seen)
	}
	if t.Kind() != reflect.Interface && ownEncoding(t) { // its fields say something too: its methods may have changed with them
		w.lossy = true
		fmt.Fprintf(&w.text, "own %s.%s ", t.PkgPath(), t.Name())
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		w.text.WriteString(t.Kind().String() + " ")
		w.write(t.Elem())
	case reflect.Array:
		fmt.Fprintf(&w.text, "array %d ", t.Len())
		w.write(t.Elem())
	case reflect.Map:
		w.text.WriteString("map ")
		w.write(t.Key())
		w.write(t.Elem())
	case reflect.Struct:
		w.fields(t)
	default:
		w.text.WriteString(t.Kind().String() + ";")
	}
}

func (w *shape) fields(t reflect.Type) {
	w.lossy = true
	w.text.WriteString("struct{")
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() && !f.Anonymous { // the fields of an embedded type count, whatever its name is
			continue
		}
		fmt.Fprintf(&w.text, "%q %q %t ", f.Name, f.Tag, f.Anonymous)
		w.write(f.Type)
	}
	w.text.WriteString("}")
}

// ownEncoding reports whether a type decides itself how it is written.
func ownEncoding(t reflect.Type) bool {
	for _, own := range []reflect.Type{
		reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.BinaryMarshaler](),
	} {
		if t.Implements(own) || t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(own) {
			return true
		}
	}
	return false
}
