package schemas_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/schemas"
)

// vectors reads a file of those that implementations in other languages run as well.
func vectors[T any](t *testing.T, name string) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "invalidation", "lane", "testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []T
	if err := json.Unmarshal(b, &all); err != nil || len(all) == 0 {
		t.Fatalf("%s: %d vectors, %v", name, len(all), err)
	}
	return all
}

func TestNameVectors(t *testing.T) {
	type vector struct {
		Template string
		Values   map[string]json.RawMessage
		Name     string
	}
	for _, v := range vectors[vector](t, "names.json") {
		props := map[string]any{"key": map[string]any{"type": "integer"}}
		texts := map[string]any{}
		columns := "key: key" // a property's name may be none of a column
		for p, raw := range v.Values {
			columns += fmt.Sprintf(", c%d: %s", len(texts), p)
			var s string
			var b bool
			switch {
			case json.Unmarshal(raw, &s) == nil:
				props[p], texts[p] = map[string]any{"type": "string", "maxLength": 1000}, s
			case json.Unmarshal(raw, &b) == nil:
				props[p], texts[p] = map[string]any{"type": "boolean"}, b
			default:
				var n int64
				if err := json.Unmarshal(raw, &n); err != nil {
					t.Fatal(err)
				}
				props[p], texts[p] = map[string]any{"type": "integer"}, n
			}
		}
		schema, err := json.Marshal(map[string]any{"type": "object", "properties": props, "required": []string{"key"}})
		if err != nil {
			t.Fatal(err)
		}
		all, err := schemas.LoadDatasets(fstest.MapFS{
			"d.json": {Data: schema},
			"d.yaml": {Data: []byte("dataset: d\nschema: d.json\nkey: [key]\nreplica: {table: d, columns: {" + columns + "}}\ncache: {key: \"d:{key}\", tags: [\"" + v.Template + "\"]}\n")},
		})
		if err != nil {
			t.Fatal(err)
		}
		d, _ := all.Get("d")
		var values []any
		for _, m := range regexp.MustCompile(`{([^{}]+)}`).FindAllStringSubmatch(v.Template, -1) {
			values = append(values, texts[m[1]])
		}
		if got, err := d.Tag(v.Template, values...); err != nil || got != v.Name {
			t.Errorf("%s: got %q, %v, want %q", v.Template, got, err, v.Name)
		}
	}
}

// What followers must refuse to make a name of is not a value of its kind here either.
func TestSpellingVectors(t *testing.T) {
	type vector struct {
		Template string
		Kinds    map[string]string
		Values   map[string]any
	}
	for _, v := range vectors[vector](t, "spellings.json") {
		props := map[string]any{"key": map[string]any{"type": "integer"}}
		for p, kind := range v.Kinds {
			props[p] = map[string]any{"type": kind, "maxLength": 1000}
		}
		schema, err := json.Marshal(map[string]any{"type": "object", "properties": props, "required": []string{"key"}})
		if err != nil {
			t.Fatal(err)
		}
		all, err := schemas.LoadDatasets(fstest.MapFS{
			"d.json": {Data: schema},
			"d.yaml": {Data: []byte("dataset: d\nschema: d.json\nkey: [key]\nreplica: {table: d}\ncache: {key: \"d:{key}\", tags: [\"" + v.Template + "\"]}\n")},
		})
		if err != nil {
			t.Fatal(err)
		}
		d, _ := all.Get("d")
		var values []any
		for _, m := range regexp.MustCompile(`{([^{}]+)}`).FindAllStringSubmatch(v.Template, -1) {
			x := v.Values[m[1]]
			if n, ok := x.(float64); ok && n == float64(int(n)) {
				x = int(n)
			}
			values = append(values, x)
		}
		if got, err := d.Tag(v.Template, values...); err == nil {
			t.Errorf("%s of %v: got %q, want an error", v.Template, v.Values, got)
		}
	}
}

func TestTokenVectors(t *testing.T) {
	type vector struct {
		Offsets map[string]int64
		Token   string
	}
	for _, v := range vectors[vector](t, "tokens.json") {
		var tok schemas.Token
		for s, off := range v.Offsets {
			tok = tok.Merge(schemas.NewToken(s, off))
		}
		if got := tok.String(); got != v.Token {
			t.Errorf("%v: got %s, want %s", v.Offsets, got, v.Token)
		}
		back, err := schemas.ParseToken(v.Token)
		if err != nil || back.String() != v.Token {
			t.Errorf("%s reads back as %s, %v", v.Token, back, err)
		}
	}
}
