package schemas

import (
	"encoding/base64"
)

// readStructured takes the attributes from a CloudEvent in the JSON format. data is the text of "data" or the bytes of
// "data_base64"; nil without either.
func (a *attributes) readStructured(value []byte) error {
	p := parser{text: string(value)}
	p.space()
	if p.peek() != '{' {
		if framed(p.text) {
			return frameError()
		}
		return structuredError("value", "is not a JSON object")
	}
	empty, err := p.enter('}')
	var seen names
	for more := !empty; more && err == nil; {
		var name string
		if name, err = p.name(); err != nil {
			break
		}
		if !seen.add(name) {
			return structuredError("value", "has an attribute twice")
		}
		if err = a.readAttribute(&p, name); err == nil {
			more, err = p.more('}')
		}
	}
	if err == nil {
		err = p.end()
	}
	if err != nil {
		return malformed(err)
	}
	if a.contentType != "" && !isJSON(a.contentType) {
		return structuredError("datacontenttype", "is not JSON")
	}
	return nil
}

func (a *attributes) readAttribute(p *parser, name string) error {
	start := p.pos
	v, err := p.value(false)
	if err != nil {
		return err
	}
	if v.shape == shapeNull {
		return nil // the JSON format: null is the same as absent
	}
	switch name {
	case "data":
		if a.data != nil {
			return structuredError("data", "comes twice, plain and in base64")
		}
		a.data = []byte(p.text[start:p.pos])
		return nil
	case "data_base64":
		if a.data != nil {
			return structuredError("data_base64", "comes twice, plain and in base64")
		}
		if a.data, err = base64.StdEncoding.DecodeString(v.text); err != nil || v.shape != shapeString {
			return structuredError("data_base64", "is not base64")
		}
		return nil
	}
	field := a.member(name)
	if field == nil {
		return nil
	}
	// Integers are a type of CloudEvents, so a writer may give the sequence as one.
	if v.shape != shapeString && (v.shape != shapeNumber || !v.plain || field != &a.sequence) {
		return structuredError(name, "is not a string")
	}
	*field = v.text
	a.hasPartitionKey = a.hasPartitionKey || field == &a.partitionKey
	return nil
}

// member gives the attribute of a member's name, nil if it is not ours.
func (a *attributes) member(name string) *string {
	switch name {
	case "datacontenttype":
		return &a.contentType
	case "traceparent":
		return &a.traceParent
	case "tracestate":
		return &a.traceState
	case "content-type":
		return nil
	}
	return a.header("ce_" + name)
}

func structuredError(field, problem string) error {
	return &FieldError{Field: field, Problem: problem, Mend: "write CloudEvents 1.0 in the JSON format", Reason: ReasonMalformed}
}
