package schemas

import (
	"encoding/base64"

	"github.com/freshet/freshet/internal/jsontext"
)

// readStructured takes the attributes from a CloudEvent in the JSON format. data is the text of "data" or the bytes of
// "data_base64"; nil without either.
func (a *attributes) readStructured(value []byte) error {
	p := jsontext.New(string(value))
	p.Space()
	if p.Peek() != '{' {
		if framed(string(value)) {
			return frameError()
		}
		return structuredError("value", "is not a JSON object")
	}
	empty, err := p.Enter('}')
	var seen jsontext.Names
	for more := !empty; more && err == nil; {
		var name string
		if name, err = p.Name(); err != nil {
			break
		}
		if !seen.Add(name) {
			return structuredError("value", "has an attribute twice")
		}
		if err = a.readAttribute(&p, name); err == nil {
			more, err = p.More('}')
		}
	}
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return malformed(err)
	}
	if a.contentType != "" && !isJSON(a.contentType) {
		return structuredError("datacontenttype", "is not JSON")
	}
	return nil
}

func (a *attributes) readAttribute(p *jsontext.Parser, name string) error {
	start := p.Pos()
	v, err := p.Value(false)
	if err != nil {
		return err
	}
	if v.Shape == jsontext.Null {
		return nil // the JSON format: null is the same as absent
	}
	switch name {
	case "data":
		if a.data != nil {
			return structuredError("data", "comes twice, plain and in base64")
		}
		a.data = []byte(p.Since(start))
		return nil
	case "data_base64":
		if a.data != nil {
			return structuredError("data_base64", "comes twice, plain and in base64")
		}
		if a.data, err = base64.StdEncoding.DecodeString(v.Text); err != nil || v.Shape != jsontext.String {
			return structuredError("data_base64", "is not base64")
		}
		return nil
	}
	field := a.member(name)
	if field == nil {
		return nil
	}
	// Integers are a type of CloudEvents, so a writer may give the sequence as one.
	if v.Shape != jsontext.String && (v.Shape != jsontext.Number || !v.Plain || field != &a.sequence) {
		return structuredError(name, "is not a string")
	}
	*field = v.Text
	a.hasPartitionKey = a.hasPartitionKey || field == &a.partitionKey
	return nil
}

// member returns the attribute of a member's name, nil if it is not ours.
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
	return &FieldError{Field: field, Problem: problem, Fix: "write CloudEvents 1.0 in the JSON format", Reason: ReasonMalformed}
}
