package compat

import (
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// alone are the keywords that assert by themselves and are not understood here: the same on both sides, they refuse the
// same. Their value may hold any schema.
var alone = []string{"not", "allOf", "anyOf", "oneOf", "propertyNames", "dependentRequired", "dependentSchemas"}

// together are keywords whose meaning hangs on their neighbours or on other places of the document.
var together = []string{
	"$ref", "$dynamicRef", "$anchor", "$dynamicAnchor", "$vocabulary", "patternProperties", "unevaluatedProperties",
	"unevaluatedItems", "prefixItems", "contains", "minContains", "maxContains", "if", "then", "else",
	"additionalItems", "dependencies", "$recursiveRef", "$recursiveAnchor",
}

// declaring are those that may declare properties elsewhere than in "properties".
var declaring = []string{"allOf", "anyOf", "oneOf", "not", "dependentSchemas", "propertyNames", "dependentRequired"}

// understood are compared keyword by keyword.
var understood = []string{
	"type", "enum", "const", "required", "properties", "additionalProperties", "items", "minimum", "maximum",
	"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "format", "minItems",
	"maxItems", "uniqueItems", "minProperties", "maxProperties",
}

// silent keywords never refuse anything.
var silent = []string{
	"title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly", "$schema", "$id",
	"$defs", "contentEncoding", "contentMediaType", "contentSchema",
}

// IsKeyword says whether JSON Schema knows the keyword, or it begins with "x-".
func IsKeyword(k string) bool {
	return strings.HasPrefix(k, "x-") || slices.ContainsFunc([][]string{understood, silent, together, alone}, func(list []string) bool {
		return slices.Contains(list, k)
	})
}

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
	for _, k := range slices.Sorted(maps.Keys(is)) {
		switch {
		case slices.Contains(understood, k), slices.Contains(silent, k), slices.Contains(together, k), strings.HasPrefix(k, "x-"):
		case slices.Contains(alone, k) && equal(was[k], is[k]) && w.sameRefs(is[k]):
		default:
			w.add(Unknown, path+"/"+escape(k), "is not understood here and differs")
		}
	}
	for _, k := range together {
		if has(was, k) || has(is, k) {
			w.add(Unknown, path+"/"+escape(k), "is not understood here, and something beside it differs")
			return
		}
	}
	n := nodes{walk: w, path: path, was: was, is: is}
	n.compare()
}

func has(node map[string]any, keyword string) bool {
	_, ok := node[keyword]
	return ok
}

// sameRefs says whether the same text means the same on both sides: it refers to nothing, or only to equal $defs.
func (w *walk) sameRefs(node any) bool {
	if !refers(node, "") {
		return true
	}
	return !refers(node, "#/$defs/") && !refers(w.older["$defs"], "#/$defs/") && equal(w.older["$defs"], w.newer["$defs"]) &&
		equal(w.older["$id"], w.newer["$id"])
}

// refers says whether there is a reference that does not begin with inside; "" stands for any.
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
