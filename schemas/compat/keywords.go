package compat

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// types is a set of JSON types; integers are the numbers without a fraction, as JSON Schema has it.
type types uint8

const (
	null types = 1 << iota
	boolean
	integer
	fraction
	text
	array
	object
	allTypes = null | boolean | integer | fraction | text | array | object
)

// typeNamed returns the set of a type's name.
func typeNamed(name string) types {
	switch name {
	case "null":
		return null
	case "boolean":
		return boolean
	case "integer":
		return integer
	case "number":
		return integer | fraction
	case "string":
		return text
	case "array":
		return array
	case "object":
		return object
	}
	return 0
}

// names lists a set as people write it.
func (t types) names() string {
	var list []string
	for _, name := range []string{"null", "boolean", "number", "integer", "string", "array", "object"} {
		if s := typeNamed(name); s&t == s {
			list = append(list, name)
			t &^= s
		}
	}
	if t&fraction != 0 {
		list = append(list, "number with a fraction")
	}
	return strings.Join(list, ", ")
}

func typeOf(v any) types {
	switch v := v.(type) {
	case nil:
		return null
	case bool:
		return boolean
	case string:
		return text
	case json.Number:
		if r := rational(v); r != nil && r.IsInt() {
			return integer
		}
		return fraction
	case []any:
		return array
	}
	return object
}

// declared is what the keyword "type" allows.
func declared(node map[string]any) types {
	switch t := node["type"].(type) {
	case string:
		return typeNamed(t)
	case []any:
		var all types
		for _, name := range t {
			name, _ := name.(string)
			all |= typeNamed(name)
		}
		return all
	}
	return allTypes
}

// members are the only values that enum and const of a node leave; ok is false when there are neither.
func members(node map[string]any) (list []any, ok bool) {
	only, isConst := node["const"]
	if list, ok = node["enum"].([]any); !ok && isConst {
		list = []any{only}
	}
	allowed := declared(node)
	list = slices.DeleteFunc(slices.Clone(list), func(v any) bool {
		return typeOf(v)&allowed == 0 || isConst && !equal(v, only)
	})
	return list, ok || isConst
}

// nodes are two schemas whose keywords are compared.
type nodes struct {
	*walk
	path    string
	was, is map[string]any
}

func (n *nodes) breaks(keyword, reason string, args ...any) {
	n.add(Breaking, n.path+"/"+keyword, fmt.Sprintf(reason, args...))
}

func (n *nodes) compare() {
	before := declared(n.was)
	few, finite := members(n.was)
	if finite {
		before = 0
		for _, v := range few {
			before |= typeOf(v)
		}
	}
	if lost := before &^ declared(n.is); lost != 0 {
		n.breaks("type", "values of type %s are refused", lost.names())
	}
	n.compareMembers(few, finite)
	if before&(integer|fraction) != 0 {
		n.compareNumbers(before)
	}
	if before&text != 0 {
		n.compareTexts()
	}
	if before&array != 0 {
		n.compareCounts("minItems", "maxItems", "items")
		if n.is["uniqueItems"] == true && n.was["uniqueItems"] != true {
			n.breaks("uniqueItems", "arrays with equal items are refused")
		}
		n.node(n.path+"/items", orTrue(n.was, "items"), orTrue(n.is, "items"))
	}
	if before&object != 0 {
		n.compareCounts("minProperties", "maxProperties", "properties")
		n.compareObjects()
	}
}

func orTrue(node map[string]any, keyword string) any {
	if v, ok := node[keyword]; ok {
		return v
	}
	return true
}

// compareMembers: a list of allowed values may only grow, and may not appear.
func (n *nodes) compareMembers(few []any, finite bool) {
	for _, keyword := range []string{"enum", "const"} {
		v, ok := n.is[keyword]
		if !ok {
			continue
		}
		list, isList := v.([]any)
		if keyword == "const" || !isList {
			list = []any{v}
		}
		if !finite {
			n.breaks(keyword, "only %d values are allowed where any was", len(list))
			continue
		}
		lost := 0
		for _, old := range few {
			if !slices.ContainsFunc(list, func(v any) bool { return equal(v, old) }) {
				lost++
			}
		}
		if lost > 0 {
			n.breaks(keyword, "%d of %d values are refused", lost, len(few))
		}
	}
}

// edge is a bound of numbers; nil at is none.
type edge struct {
	at        *big.Rat
	exclusive bool
	keyword   string
}

// edgeOf returns the tighter of the two bounds on one side; sign is 1 for the lower side, −1 for the upper.
func edgeOf(node map[string]any, sign int, inclusive, exclusive string) edge {
	a := edge{at: rational(node[inclusive]), keyword: inclusive}
	if b := rational(node[exclusive]); b != nil && (a.at == nil || sign*b.Cmp(a.at) >= 0) {
		return edge{at: b, exclusive: true, keyword: exclusive}
	}
	return a
}

func (n *nodes) compareNumbers(before types) {
	for _, side := range []struct {
		sign                 int
		inclusive, exclusive string
	}{{1, "minimum", "exclusiveMinimum"}, {-1, "maximum", "exclusiveMaximum"}} {
		was := edgeOf(n.was, side.sign, side.inclusive, side.exclusive)
		is := edgeOf(n.is, side.sign, side.inclusive, side.exclusive)
		if is.at == nil {
			continue
		}
		if was.at == nil {
			n.breaks(is.keyword, "there was no such bound")
		} else if c := side.sign * is.at.Cmp(was.at); c > 0 || c == 0 && is.exclusive && !was.exclusive {
			n.breaks(is.keyword, "the bound is narrower than it was")
		}
	}
	step := rational(n.is["multipleOf"])
	if step == nil {
		return
	}
	was := rational(n.was["multipleOf"])
	if was == nil && before&fraction == 0 {
		was = big.NewRat(1, 1)
	}
	if was == nil || step.Sign() == 0 || !new(big.Rat).Quo(was, step).IsInt() {
		n.breaks("multipleOf", "not every earlier number is a multiple of it")
	}
}

// compareCounts compares bounds that count from 0.
func (n *nodes) compareCounts(least, most, what string) {
	if is := rational(n.is[least]); is != nil && is.Sign() > 0 {
		if was := rational(n.was[least]); was == nil || was.Cmp(is) < 0 {
			n.breaks(least, "fewer %s were allowed than %s", what, is.RatString())
		}
	}
	if is := rational(n.is[most]); is != nil {
		switch was := rational(n.was[most]); {
		case was == nil:
			n.breaks(most, "any number of %s was allowed, now %s", what, is.RatString())
		case was.Cmp(is) > 0:
			n.breaks(most, "%s %s were allowed, now %s", was.RatString(), what, is.RatString())
		}
	}
}

func (n *nodes) compareTexts() {
	n.compareCounts("minLength", "maxLength", "characters")
	if is, ok := n.is["pattern"]; ok {
		switch was, had := n.was["pattern"]; {
		case !had:
			n.breaks("pattern", "any text was allowed")
		case was != is:
			n.add(Unknown, n.path+"/pattern", "differs, and patterns are not compared")
		}
	}
	// Only these two formats are checked; all others are annotations.
	if is := n.is["format"]; (is == "date" || is == "date-time") && is != n.was["format"] {
		n.breaks("format", "texts were not checked to be a %s", is)
	}
}

func (n *nodes) compareObjects() {
	must, had := textsOf(n.was["required"]), textsOf(n.is["required"])
	for _, name := range had {
		if !slices.Contains(must, name) {
			n.breaks("required/"+escape(name), "was not required: events without it were valid")
		}
	}
	for _, name := range must {
		if n.path == "" && !slices.Contains(had, name) {
			n.add(Safe, "/required/"+escape(name), "is optional now: readers may meet NULL")
		}
	}
	was, _ := n.was["properties"].(map[string]any)
	is, _ := n.is["properties"].(map[string]any)
	restWas, restIs := n.rest(n.was, n.wasClosed), n.rest(n.is, n.isClosed)
	all := map[string]any{}
	maps.Copy(all, was)
	maps.Copy(all, is)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		path := n.path + "/properties/" + escape(name)
		older, known := was[name]
		newer, kept := is[name]
		if !known {
			if older = n.undeclared(path, restWas); newer == false {
				older = restWas // to forbid a property is no way of declaring it
			}
		}
		if !kept {
			newer = restIs
		}
		n.node(path, older, newer)
	}
	if n.path == "" && n.isClosed && !n.wasClosed && restWas != false {
		n.add(Breaking, "unknown_properties", "undeclared properties were ignored and are refused")
		return
	}
	n.node(n.path+"/additionalProperties", restWas, restIs)
}

// rest is the schema of undeclared properties.
func (n *nodes) rest(node map[string]any, closed bool) any {
	if closed && n.path == "" {
		return false
	}
	return orTrue(node, "additionalProperties")
}

// undeclared is what a newly declared property may have been in earlier events.
func (n *nodes) undeclared(path string, rest any) any {
	elsewhere := false
	for k := range n.was {
		elsewhere = elsewhere || classOf(k) == declaring
	}
	_, open := n.was["additionalProperties"]
	switch {
	case rest == false:
		if n.path == "" {
			n.add(Safe, path, "is new: workers with the older schema refuse it, so roll out workers before services")
		}
		return false
	case n.cfg.Strict, elsewhere, open, !has(n.was, "properties"):
		return rest
	}
	n.add(Safe, path, "is new, and taken to be absent from earlier events")
	return false
}

// textsOf returns the texts of a list.
func textsOf(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, item := range list {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
