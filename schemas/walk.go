package schemas

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
	p := parser{text: text}
	p.space()
	v, err := p.value(false)
	if err == nil {
		err = p.end()
	}
	if err != nil {
		return JSON{}, malformed(err)
	}
	out := exported(v)
	if p.gap && (out.Kind == JSONArray || out.Kind == JSONObject) {
		out.Text = compact(out.Text)
	}
	return out, nil
}

// WalkObject calls fn with each member of a JSON object in one pass, in the order of the text, as strictly as ReadJSON.
// It ends with fn's first error. Its own errors are FieldErrors.
func WalkObject(text string, fn func(name string, v JSON) error) error {
	var seen names
	return walk(text, '{', '}', "is not a JSON object", func(p *parser) error {
		name, err := p.name()
		if err != nil {
			return err
		}
		if !seen.add(name) {
			return p.fail("a property name occurs twice")
		}
		v, err := p.value(false)
		if err != nil {
			return err
		}
		return fn(name, exported(v))
	})
}

// WalkArray is WalkObject for the items of an array.
func WalkArray(text string, fn func(v JSON) error) error {
	return walk(text, '[', ']', "is not a JSON array", func(p *parser) error {
		v, err := p.value(false)
		if err != nil {
			return err
		}
		return fn(exported(v))
	})
}

func walk(text string, opening, closing byte, other string, one func(*parser) error) error {
	p := parser{text: text}
	p.space()
	if p.peek() != opening {
		if framed(text) {
			return frameError()
		}
		return &FieldError{Field: "data", Problem: other, Reason: ReasonMalformed}
	}
	empty, err := p.enter(closing)
	for more := !empty; more && err == nil; {
		if err = one(&p); err == nil {
			more, err = p.more(closing)
		}
	}
	if err == nil {
		err = p.end()
	}
	return malformed(err)
}

// framed reports whether a text begins with what serializers of a schema registry write before the JSON: a zero byte and the
// four bytes of a schema's id.
func framed(text string) bool { return len(text) > 5 && text[0] == 0 }

func frameError() error {
	return &FieldError{
		Field: "data", Problem: "begins with the frame of a schema registry (a zero byte and a schema id), not with JSON", Reason: ReasonMalformed,
		Mend: "let the producer write plain JSON: org.apache.kafka.connect.json.JsonConverter, or a JSON serializer without the registry",
	}
}

func exported(v value) JSON {
	out := JSON{Text: v.text}
	switch v.shape {
	case shapeNull:
		out.Kind = JSONNull
	case shapeBoolean:
		out.Kind = JSONBoolean
	case shapeNumber:
		out.Kind = JSONNumber
	case shapeString:
		out.Kind = JSONString
	case shapeArray:
		out.Kind = JSONArray
	case shapeObject:
		out.Kind = JSONObject
	}
	return out
}

// AppendJSONString appends s as a JSON string. s must be valid UTF-8.
func AppendJSONString(buf []byte, s string) []byte { return appendJSONString(buf, s) }
