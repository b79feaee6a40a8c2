package compat

import (
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// class is how a keyword is dealt with.
type class int

const (
	// foreign: JSON Schema does not know it; two that differ are a reason to look.
	foreign class = iota
	// silent: it never refuses anything.
	silent
	// understood: it is compared.
	understood
	// alone: it asserts by itself and is not understood: the same on both sides refuses the same.
	alone
	// declaring is alone, and may declare properties elsewhere than in "properties".
	declaring
	// together: its meaning hangs on its neighbours or on other places of the document.
	together
)

func classOf(keyword string) class {
	switch keyword {
	case "title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly", "$schema", "$id",
		"$defs", "contentEncoding", "contentMediaType", "contentSchema":
		return silent
	case "type", "enum", "const", "required", "properties", "additionalProperties", "items", "minimum", "maximum",
		"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "format", "minItems",
		"maxItems", "uniqueItems", "minProperties", "maxProperties":
		return understood
	case "dependentRequired", "propertyNames":
		return alone
	case "not", "allOf", "anyOf", "oneOf", "dependentSchemas":
		return declaring
	case "$ref", "$dynamicRef", "$anchor", "$dynamicAnchor", "$vocabulary", "patternProperties", "unevaluatedProperties",
		"unevaluatedItems", "prefixItems", "contains", "minContains", "maxContains", "if", "then", "else",
		"additionalItems", "dependencies", "$recursiveRef", "$recursiveAnchor":
		return together
	}
	if strings.HasPrefix(keyword, "x-") {
		return silent
	}
	return foreign
}

// IsKeyword reports whether JSON Schema knows the keyword, or it begins with "x-".
func IsKeyword(k string) bool { return classOf(k) != foreign }

// node compares two schemas: whatever older accepts, newer must accept.
func (w *walk) node(path string, older, newer any) {
	if older == false || newer == true || equal(older, newer) && w.sameRefs(older) && (path != "" || w.wasClosed == w.isClosed) {
		return
	}
	if newer == false {
		w.add(Breaking, path, "is not allowed any more")
		return
	}
	was, _ := older.(map[string]any) // true is {}
	is, _ := newer.(map[string]any)
	entangled := false
	both := maps.Clone(was)
	if both == nil {
		both = map[string]any{}
	}
	maps.Copy(both, is)
	for _, k := range slices.Sorted(maps.Keys(both)) {
		switch c := classOf(k); {
		case c == together:
			entangled = true
			w.add(Unknown, path+"/"+escape(k), "is not understood, and something beside it differs")
		case c == silent, c == understood, !has(is, k):
		case !equal(was[k], is[k]), !w.sameRefs(is[k]):
			w.add(Unknown, path+"/"+escape(k), "is not understood, and differs")
		}
	}
	if entangled {
		return
	}
	n := nodes{walk: w, path: path, was: was, is: is}
	n.compare()
}

func has(node map[string]any, keyword string) bool {
	_, ok := node[keyword]
	return ok
}

// sameRefs reports whether the same text means the same on both sides: it refers to nothing, or only to equal $defs.
func (w *walk) sameRefs(node any) bool {
	if !refers(node, "") {
		return true
	}
	return !refers(node, "#/$defs/") && !refers(w.older["$defs"], "#/$defs/") && equal(w.older["$defs"], w.newer["$defs"]) &&
		equal(w.older["$id"], w.newer["$id"])
}

// refers reports whether there is a reference that does not begin with inside; "" stands for any.
func refers(node any, inside string) bool {
	switch node := node.(type) {
	case map[string]any:
		for k, v := range node {
			if k == "$ref" || k == "$dynamicRef" {
				target, _ := v.(string)
				if inside == "" || k != "$ref" || !strings.HasPrefix(target, inside) {
					return true
				}
			}
			if k == "$id" && inside != "" {
				return true // it moves what # means
			}
			if refers(v, inside) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(node, func(v any) bool { return refers(v, inside) })
	}
	return false
}

// equal compares JSON values; numbers by value.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, equal)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || rational(a) != nil && rational(b) != nil && rational(a).Cmp(rational(b)) == 0)
	}
	return a == b
}

func rational(v any) *big.Rat {
	n, ok := v.(json.Number)
	if !ok {
		return nil
	}
	r, ok := new(big.Rat).SetString(string(n))
	if !ok {
		return nil
	}
	return r
}
