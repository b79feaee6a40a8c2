package schemas

import "github.com/freshet/freshet/internal/jsontext"

// JSONKind is the type of a JSON value.
type JSONKind uint8

// The types of JSON.
const (
	JSONNull JSONKind = iota + 1
	JSONBoolean
	JSONNumber
	JSONString
	JSONArray
	JSONObject
)

// JSON is one JSON value as its text.
type JSON struct {
	Kind JSONKind
	// Text is the decoded string, the literal of a number, boolean or null as it was written, or the compact text of an
	// array or object.
	Text string
}

// ReadJSON reads a text that is one JSON value, as strictly as Check does: no name twice in an object, no invalid UTF-8,
// bounded depth and numbers. Errors are FieldErrors.
func ReadJSON(text string) (JSON, error) {
	v, err := jsontext.ParseValue(text)
	if err != nil {
		return JSON{}, malformed(err)
	}
	return exported(v), nil
}

// WalkObject calls fn with each member of a JSON object in one pass, in the order of the text, as strictly as ReadJSON.
// It ends with fn's first error. Its own errors are FieldErrors.
func WalkObject(text string, fn func(name string, v JSON) error) error {
	var seen jsontext.Names
	return walk(text, '{', '}', "is not a JSON object", func(p *jsontext.Parser) error {
		name, err := p.Name()
		if err != nil {
			return err
		}
		if !seen.Add(name) {
			return p.Fail("a property name occurs twice")
		}
		v, err := p.Value(false)
		if err != nil {
			return err
		}
		return fn(name, exported(v))
	})
}

// WalkArray is WalkObject for the items of an array.
func WalkArray(text string, fn func(v JSON) error) error {
	return walk(text, '[', ']', "is not a JSON array", func(p *jsontext.Parser) error {
		v, err := p.Value(false)
		if err != nil {
			return err
		}
		return fn(exported(v))
	})
}

func walk(text string, opening, closing byte, other string, one func(*jsontext.Parser) error) error {
	p := jsontext.New(text)
	p.Space()
	if p.Peek() != opening {
		if framed(text) {
			return frameError()
		}
		return &FieldError{Field: "data", Problem: other, Reason: ReasonMalformed}
	}
	empty, err := p.Enter(closing)
	for more := !empty; more && err == nil; {
		if err = one(&p); err == nil {
			more, err = p.More(closing)
		}
	}
	if err == nil {
		err = p.End()
	}
	return malformed(err)
}

// framed reports whether a text begins with what serializers of a schema registry write before the JSON: a zero byte and the
// four bytes of a schema's id.
func framed(text string) bool { return len(text) > 5 && text[0] == 0 }

func frameError() error {
	return &FieldError{
		Field: "data", Problem: "begins with the frame of a schema registry (a zero byte and a schema id), not with JSON", Reason: ReasonMalformed,
		Fix: "let the producer write plain JSON: org.apache.kafka.connect.json.JsonConverter, or a JSON serializer without the registry",
	}
}

func exported(v jsontext.Value) JSON {
	out := JSON{Text: v.Text}
	switch v.Shape {
	case jsontext.Null:
		out.Kind = JSONNull
	case jsontext.Boolean:
		out.Kind = JSONBoolean
	case jsontext.Number:
		out.Kind = JSONNumber
	case jsontext.String:
		out.Kind = JSONString
	case jsontext.Array:
		out.Kind = JSONArray
	case jsontext.Object:
		out.Kind = JSONObject
	}
	return out
}

// AppendJSONString appends s as a JSON string. s must be valid UTF-8.
func AppendJSONString(buf []byte, s string) []byte { return appendJSONString(buf, s) }
