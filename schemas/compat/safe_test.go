package compat_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/compat"
)

// TestSafeNeverLies draws pairs of schemas, the newer one mostly an edit of the older, and documents near the older one's
// borders. If the answer is safe, each document that the older accepts must be accepted by the newer. Another
// implementation says who accepts what.
func TestSafeNeverLies(t *testing.T) {
	safe, valid, unsafe, lost := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		strict := rapid.Bool().Draw(t, "strict")
		older := record(t)
		newer := clone(older)
		for range pick(t, []int{1, 1, 1, 2, 0}) {
			edit(t, newer)
		}
		a, err := compiled(older)
		b, err2 := compiled(newer)
		if err != nil || err2 != nil {
			t.Fatalf("schemas do not compile: %v, %v", err, err2)
		}
		report := compat.Schemas(loaded(t, older), loaded(t, newer), compat.Config{Strict: strict})
		for range 20 {
			doc := value(t, older, newer, strict, 0)
			if a.Validate(doc) != nil {
				continue
			}
			refused := b.Validate(doc)
			if report.Answer != compat.Safe {
				unsafe++
				if refused != nil {
					lost++
				}
				continue
			}
			valid++
			if refused != nil {
				t.Fatalf("safe (strict %v), but refused: %v\nolder %s\nnewer %s\n  doc %s\n%v",
					strict, refused, text(older), text(newer), text(doc), report.Findings)
			}
		}
		if report.Answer == compat.Safe {
			safe++
		}
	})
	t.Logf("%d pairs are safe, with %d documents; of %d documents of other pairs %d were refused", safe, valid, unsafe, lost)
	if safe < 10 || valid < 50 || lost == 0 {
		t.Error("the draws prove nothing: too few safe pairs, valid documents or refusals")
	}
}

func loaded(t *rapid.T, n node) *schemas.Schema {
	s, err := schemas.LoadSchema(fstest.MapFS{"s.json": {Data: []byte(text(n))}}, "s.json")
	if err != nil {
		t.Fatalf("%v in %s", err, text(n))
	}
	return s
}

type node = map[string]any

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func tree(s string) any {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(s))
	if err != nil {
		panic(err)
	}
	return v
}

func clone(n node) node { return tree(text(n)).(node) }

func compiled(n node) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("s.json", clone(n)); err != nil {
		return nil, err
	}
	return c.Compile("s.json")
}

var (
	declarable = []string{"a", "b", "c"}
	elsewhere  = []string{"y", "z"} // no schema declares them
	texts      = []any{"", "a", "ab", "abc", "2026-01-31", "2026-01-31T00:00:00Z", "zzzz"}
	numbers    = []any{json.Number("0"), json.Number("1"), json.Number("2"), json.Number("3"), json.Number("-1"), json.Number("1.0"), json.Number("2.5"), json.Number("6")}
)

func pick[T any](t *rapid.T, list []T) T { return rapid.SampledFrom(list).Draw(t, "pick") }

func chance(t *rapid.T, of int) bool { return rapid.IntRange(1, of).Draw(t, "chance") == 1 }

// record is a schema as a dataset could have it: every property of the root has a type.
func record(t *rapid.T) node {
	n := node{"type": "object", "properties": node{"id": node{"type": "integer"}}}
	objectWords(t, n, 0)
	return n
}

func schemaNode(t *rapid.T, depth int) node {
	kinds := []string{"string", "integer", "number", "boolean", "array", "object"}
	if depth > 2 {
		kinds = kinds[:4]
	}
	kind := pick(t, kinds)
	n := node{"type": kind}
	if chance(t, 3) {
		n["type"] = []any{kind, "null"}
	} else if depth > 1 && chance(t, 4) {
		delete(n, "type")
	}
	for range rapid.IntRange(1, 3).Draw(t, "words") {
		word(t, n, depth)
	}
	return n
}

// word sets or replaces a keyword that matters to the node.
func word(t *rapid.T, n node, depth int) {
	words := []string{pick(t, []string{"enum", "const", "anyOf", "not"})}
	kinds := text(n["type"])
	for kind, own := range map[string][]string{
		"string": {"minLength", "maxLength", "pattern", "format"}, "array": {"minItems", "maxItems", "uniqueItems", "items"},
		"integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
		"number":  {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
		"object":  {"minProperties", "maxProperties", "object", "object"},
	} {
		if strings.Contains(kinds, kind) || n["type"] == nil {
			words = append(words, slices.Concat(own, own)...)
		}
	}
	slices.Sort(words)
	setWord(t, n, pick(t, words), depth)
}

func setWord(t *rapid.T, n node, k string, depth int) {
	small := func() json.Number { return json.Number(pick(t, []string{"0", "1", "2", "3"})) }
	switch k {
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		n[k] = json.Number(pick(t, []string{"-1", "0", "1", "2", "2.5", "6"}))
	case "multipleOf":
		n[k] = json.Number(pick(t, []string{"1", "2", "3", "0.5"}))
	case "pattern":
		n[k] = pick(t, []string{"^a", "b$"})
	case "format":
		n[k] = pick(t, []string{"date", "date-time"})
		if depth <= 1 {
			delete(n, k) // the root's would be another column, which is another test's business
		}
	case "uniqueItems":
		n[k] = rapid.Bool().Draw(t, k)
	case "enum":
		n[k] = rapid.SliceOfNDistinct(rapid.SampledFrom([]any{"a", "ab", "", nil, true, json.Number("1"), json.Number("2")}), 1, 3, text).Draw(t, k)
	case "const":
		n[k] = pick(t, []any{"a", true, json.Number("1"), json.Number("1.0")})
	case "items":
		if depth < 3 {
			n[k] = schemaNode(t, depth+2)
		}
	case "object", "properties", "additionalProperties", "required":
		if depth < 3 {
			objectWords(t, n, depth+1)
		}
	case "type": // editNode's
	case "anyOf":
		n[k] = []any{node{"type": pick(t, []string{"string", "integer"})}, node{"required": []any{pick(t, declarable)}}}
	case "not":
		n[k] = node{"const": pick(t, texts)}
	default:
		if n[k] = small(); k == "maxLength" && n[k] == json.Number("0") {
			n[k] = json.Number("1")
		}
	}
}

func objectWords(t *rapid.T, n node, depth int) {
	props, _ := n["properties"].(node)
	if props == nil {
		props = node{}
	}
	for _, name := range declarable {
		if chance(t, 2) {
			props[name] = schemaNode(t, depth+1)
			if depth > 0 && chance(t, 8) {
				props[name] = false
			}
		}
	}
	if n["properties"] = props; len(props) == 0 {
		delete(n, "properties")
	}
	if chance(t, 2) {
		n["required"] = anys(rapid.SliceOfDistinct(rapid.SampledFrom(declarable), rapid.ID).Draw(t, "required"))
	}
	switch rapid.IntRange(0, 3).Draw(t, "rest") {
	case 0:
		n["additionalProperties"] = false
	case 1:
		n["additionalProperties"] = pick(t, []any{true, node{"type": "string"}, node{"type": "integer", "minimum": json.Number("1")}})
	default:
		delete(n, "additionalProperties")
	}
}

func anys(list []string) []any {
	out := []any{}
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

// edit changes one place of a record's schema.
func edit(t *rapid.T, n node) {
	props, _ := n["properties"].(node)
	names := []string{}
	for _, name := range declarable {
		if props[name] != nil {
			names = append(names, name)
		}
	}
	switch rapid.IntRange(0, 12).Draw(t, "edit") {
	case 0:
		objectWords(t, n, 0)
	case 1:
		props[pick(t, declarable)] = schemaNode(t, 1)
	case 2:
		if len(names) > 0 {
			delete(props, pick(t, names))
		}
	case 3:
		delete(n, pick(t, []string{"required", "additionalProperties", "anyOf", "not"}))
	case 4:
		n[pick(t, []string{"minProperties", "maxProperties"})] = json.Number("1")
	default:
		if len(names) > 0 {
			editNode(t, props[pick(t, names)].(node))
		}
	}
}

func editNode(t *rapid.T, n node) {
	words := []string{}
	for k := range n {
		if k != "type" {
			words = append(words, k)
		}
	}
	slices.Sort(words)
	inner, _ := n["items"].(node)
	props, _ := n["properties"].(node)
	switch {
	case inner != nil && chance(t, 2):
		editNode(t, inner)
	case len(props) > 0 && chance(t, 2):
		if sub, ok := props[pick(t, names(props))].(node); ok {
			editNode(t, sub)
		}
	case len(words) > 0 && chance(t, 6):
		delete(n, pick(t, words))
	case len(words) > 0 && !chance(t, 3):
		setWord(t, n, pick(t, words), 1)
	case chance(t, 4) && n["type"] != nil:
		if kind, ok := n["type"].(string); ok {
			n["type"] = []any{kind, "null"}
		} else {
			n["type"] = n["type"].([]any)[0]
		}
	default:
		word(t, n, 1)
	}
}

func names(n node) []string {
	var list []string
	for k := range n {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// value draws a value that older probably accepts. Without strict it keeps the promise that the comparison relies on: what
// newer declares for the first time is absent where older left undeclared properties unmentioned.
func value(t *rapid.T, older, newer any, strict bool, depth int) any {
	n, _ := older.(node)
	is, _ := newer.(node)
	if list, ok := n["enum"].([]any); ok && !chance(t, 8) {
		return pick(t, list)
	}
	if only, ok := n["const"]; ok && !chance(t, 8) {
		return only
	}
	kind := pick(t, []string{"null", "boolean", "number", "string", "array", "object"})
	switch s := n["type"].(type) {
	case string:
		kind = s
	case []any:
		kind = pick(t, s).(string)
	}
	switch kind {
	case "null":
		return nil
	case "boolean":
		return rapid.Bool().Draw(t, "boolean")
	case "integer", "number":
		return pick(t, numbers)
	case "string":
		return pick(t, texts)
	case "array":
		list := []any{}
		if depth < 5 {
			for range rapid.IntRange(0, 3).Draw(t, "items") {
				list = append(list, value(t, n["items"], is["items"], strict, depth+1))
			}
		}
		return list
	}
	return members(t, n, is, strict, depth)
}

func members(t *rapid.T, n, is node, strict bool, depth int) node {
	props, declares := n["properties"].(node)
	later, _ := is["properties"].(node)
	required, _ := n["required"].([]any)
	_, rest := n["additionalProperties"]
	_, anyOf := n["anyOf"]
	_, not := n["not"]
	promised := !strict && declares && !rest && !anyOf && !not
	out := node{}
	for _, name := range slices.Concat([]string{"id"}, declarable, elsewhere) {
		sub, ok := props[name]
		inner := later[name]
		if !ok {
			if promised && inner != nil && inner != false {
				continue
			}
			sub = n["additionalProperties"]
		}
		if inner == nil {
			inner = is["additionalProperties"]
		}
		odds := 5
		if ok {
			odds = 2
		}
		if depth < 5 && (slices.Contains(required, any(name)) || name == "id" && ok || chance(t, odds)) {
			out[name] = value(t, sub, inner, strict, depth+1)
		}
	}
	return out
}
