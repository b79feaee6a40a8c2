package invalidation

import (
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
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
