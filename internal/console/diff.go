package console

import (
	"encoding/json"
	"slices"
)

// diffLine is one property of two states of a record.
type diffLine struct {
	Name     string
	Old, New string
	Differs  bool
}

// diff compares two JSON objects property by property. What is not an object is one property without a name.
func diff(before, after json.RawMessage) []diffLine {
	a, b := properties(before), properties(after)
	var names []string
	for n := range a {
		names = append(names, n)
	}
	for n := range b {
		if _, ok := a[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	out := make([]diffLine, 0, len(names))
	for _, n := range names {
		out = append(out, diffLine{Name: n, Old: string(a[n]), New: string(b[n]), Differs: !equalJSON(a[n], b[n])})
	}
	return out
}

func properties(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return map[string]json.RawMessage{"": raw}
	}
	return m
}

func equalJSON(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return string(a) == string(b)
	}
	p, errP := json.Marshal(x)
	q, errQ := json.Marshal(y)
	return errP == nil && errQ == nil && string(p) == string(q)
}

// dataOf is the data of an event: the record's bytes may be an event that holds its data, as structured CloudEvents do.
func dataOf(event json.RawMessage) json.RawMessage {
	var structured struct {
		SpecVersion string          `json:"specversion"`
		Data        json.RawMessage `json:"data"`
	}
	if json.Unmarshal(event, &structured) == nil && structured.SpecVersion != "" && len(structured.Data) > 0 {
		return structured.Data
	}
	return event
}
