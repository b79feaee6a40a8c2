package compat_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/compat"
)

func schema(t *testing.T, text string) *schemas.Schema {
	t.Helper()
	s, err := schemas.LoadSchema(fstest.MapFS{"s.json": {Data: []byte(text)}}, "s.json")
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return s
}

// object is a schema with an id, these properties and these further keywords.
func object(properties, more string) string {
	return `{"type":"object","properties":{"id":{"type":"integer"}` + properties + `}` + more + `}`
}

func TestCommonEdits(t *testing.T) {
	const name = `,"name":{"type":"string","maxLength":100}`
	const safe, unknown, breaking = compat.Safe, compat.Unknown, compat.Breaking
	for _, c := range []struct {
		edit         string
		older, newer string
		lenient      compat.Answer
		strict       compat.Answer
		path         string // of the first finding
	}{
		{"nothing", object(name, ""), object(name, ""), safe, safe, ""},
		{"texts for people", object(name, `,"title":"a"`), object(name, `,"title":"b"`), safe, safe, ""},
		{"new optional property", object("", ""), object(name, ""), safe, breaking, "/properties/name"},
		{"new optional property of a closed schema", object("", `,"additionalProperties":false`), object(name, `,"additionalProperties":false`), safe, safe, "/properties/name"},
		{"new optional property where others were allowed by word", object("", `,"additionalProperties":true`), object(name, ""), breaking, breaking, "/properties/name/type"},
		{"new required property", object("", ""), object(name, `,"required":["name"]`), breaking, breaking, "/required/name"},
		{"property becomes required", object(name, ""), object(name, `,"required":["name"]`), breaking, breaking, "/required/name"},
		{"property becomes optional", object(name, `,"required":["name"]`), object(name, ""), safe, safe, "/required/name"},
		{"removed property", object(name, ""), object("", ""), breaking, breaking, "/properties/name"},
		{"closed", object("", ""), object("", `,"additionalProperties":false`), breaking, breaking, "/additionalProperties"},
		{"opened", object("", `,"additionalProperties":false`), object("", ""), safe, safe, ""},
		{"narrowed maxLength", object(name, ""), object(`,"name":{"type":"string","maxLength":99}`, ""), breaking, breaking, "/properties/name/maxLength"},
		{"first maxLength", object(`,"name":{"type":"string"}`, ""), object(name, ""), breaking, breaking, "/properties/name/maxLength"},
		{"widened maxLength", object(name, ""), object(`,"name":{"type":"string","maxLength":101}`, ""), safe, safe, ""},
		{"minLength", object(name, ""), object(`,"name":{"type":"string","maxLength":100,"minLength":1}`, ""), breaking, breaking, "/properties/name/minLength"},
		{"null allowed", object(name, ""), object(`,"name":{"type":["string","null"],"maxLength":100}`, ""), safe, safe, ""},
		{"null refused", object(`,"name":{"type":["null","string"]}`, ""), object(`,"name":{"type":"string"}`, ""), breaking, breaking, "/properties/name/type"},
		{"changed type", object(`,"n":{"type":"integer"}`, ""), object(`,"n":{"type":"string"}`, ""), breaking, breaking, "/properties/n/type"},
		{"integer becomes number", object(`,"n":{"type":"integer"}`, ""), object(`,"n":{"type":"number"}`, ""), breaking, breaking, "/properties/n"},
		{"integer becomes number inside", object(`,"o":{"type":"object","properties":{"n":{"type":"integer"}}}`, ""), object(`,"o":{"type":"object","properties":{"n":{"type":"number"}}}`, ""), safe, safe, ""},
		{"column becomes unsigned", object(`,"n":{"type":"integer","minimum":0,"maximum":1}`, ""), object(`,"n":{"type":"integer","minimum":0,"maximum":18446744073709551615}`, ""), breaking, breaking, "/properties/n"},
		{"widened enum", object(`,"s":{"enum":["a","b"],"type":"string"}`, ""), object(`,"s":{"enum":["c","b","a"],"type":"string"}`, ""), safe, safe, ""},
		{"narrowed enum", object(`,"s":{"enum":["a","b"],"type":"string"}`, ""), object(`,"s":{"enum":["a"],"type":"string"}`, ""), breaking, breaking, "/properties/s/enum"},
		{"const becomes enum", object(`,"s":{"const":"a","type":"string"}`, ""), object(`,"s":{"enum":["b","a"],"type":"string"}`, ""), safe, safe, ""},
		{"first enum", object(`,"s":{"type":"string"}`, ""), object(`,"s":{"enum":["a"],"type":"string"}`, ""), breaking, breaking, "/properties/s/enum"},
		{"minimum raised", object(`,"n":{"type":"integer","minimum":1}`, ""), object(`,"n":{"type":"integer","exclusiveMinimum":1}`, ""), breaking, breaking, "/properties/n/exclusiveMinimum"},
		{"minimum excluded beside it", object(`,"n":{"type":"integer","minimum":1}`, ""), object(`,"n":{"type":"integer","minimum":1,"exclusiveMinimum":1}`, ""), breaking, breaking, "/properties/n/exclusiveMinimum"},
		{"listed fraction refused", object(`,"l":{"type":"array","items":{"enum":[1.0,2.5]}}`, ""), object(`,"l":{"type":"array","items":{"type":"integer"}}`, ""), breaking, breaking, "/properties/l/items/type"},
		{"listed whole number", object(`,"l":{"type":"array","items":{"enum":[1.0,2]}}`, ""), object(`,"l":{"type":"array","items":{"type":"integer"}}`, ""), safe, safe, ""},
		{"maximum raised", object(`,"n":{"type":"number","exclusiveMaximum":10}`, ""), object(`,"n":{"type":"number","maximum":1e1}`, ""), safe, safe, ""},
		{"multiple of a divisor", object(`,"n":{"type":"integer","multipleOf":6}`, ""), object(`,"n":{"type":"integer","multipleOf":3}`, ""), safe, safe, ""},
		{"multiple of more", object(`,"n":{"type":"integer","multipleOf":3}`, ""), object(`,"n":{"type":"integer","multipleOf":6}`, ""), breaking, breaking, "/properties/n/multipleOf"},
		{"first pattern", object(name, ""), object(`,"name":{"type":"string","maxLength":100,"pattern":"^a"}`, ""), breaking, breaking, "/properties/name/pattern"},
		{"other pattern", object(`,"s":{"type":"string","pattern":"^a"}`, ""), object(`,"s":{"type":"string","pattern":"a"}`, ""), unknown, unknown, "/properties/s/pattern"},
		{"no pattern", object(`,"s":{"type":"string","pattern":"^a"}`, ""), object(`,"s":{"type":"string"}`, ""), safe, safe, ""},
		{"text becomes date", object(`,"s":{"type":"string"}`, ""), object(`,"s":{"type":"string","format":"date"}`, ""), breaking, breaking, "/properties/s/format"},
		{"text becomes e-mail", object(`,"s":{"type":"string"}`, ""), object(`,"s":{"type":"string","format":"email"}`, ""), safe, safe, ""},
		{"narrower decimal", object(`,"s":{"type":"string","x-decimal":"12,2"}`, ""), object(`,"s":{"type":"string","x-decimal":"12,3"}`, ""), breaking, breaking, "/properties/s/x-decimal"},
		{"wider decimal", object(`,"s":{"type":"string","x-decimal":"12,2"}`, ""), object(`,"s":{"type":"string","x-decimal":"13,3"}`, ""), safe, safe, "/properties/s/x-decimal"},
		{"new property inside", object(`,"o":{"type":"object","properties":{"a":{"type":"string"}}}`, ""), object(`,"o":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}}}`, ""), safe, breaking, "/properties/o/properties/b"},
		{"first property of a free object", object(`,"o":{"type":"object"}`, ""), object(`,"o":{"type":"object","properties":{"b":{"type":"string"}}}`, ""), breaking, breaking, "/properties/o/properties/b/type"},
		{"forbidden inside", object(`,"o":{"type":"object","properties":{"a":{"type":"string"}}}`, ""), object(`,"o":{"type":"object","properties":{"a":{"type":"string"},"b":false}}`, ""), breaking, breaking, "/properties/o/properties/b"},
		{"removed property inside", object(`,"o":{"type":"object","properties":{"a":{"type":"string"}}}`, ""), object(`,"o":{"type":"object"}`, ""), safe, safe, ""},
		{"items narrowed", object(`,"l":{"type":"array","items":{"type":["string","null"]}}`, ""), object(`,"l":{"type":"array","items":{"type":"string"},"minItems":1}`, ""), breaking, breaking, "/properties/l/minItems"},
		{"unique items", object(`,"l":{"type":"array"}`, ""), object(`,"l":{"type":"array","uniqueItems":true}`, ""), breaking, breaking, "/properties/l/uniqueItems"},
		{"the same anyOf beside a new property", object("", `,"anyOf":[{"required":["id"]}],"additionalProperties":false`), object(name, `,"anyOf":[{"required":["id"]}],"additionalProperties":false`), safe, safe, "/properties/name"},
		{"another anyOf", object("", `,"anyOf":[{"required":["id"]}]`), object("", `,"anyOf":[{"required":["name"]}]`), unknown, unknown, "/anyOf"},
		{"dropped anyOf", object("", `,"anyOf":[{"required":["id"]}]`), object("", ""), safe, safe, ""},
		{"property that anyOf declared before", object("", `,"allOf":[{"properties":{"name":{"type":"integer"}}}]`), object(name, ""), breaking, breaking, "/properties/name/type"},
		{"the same $ref", object(`,"o":{"type":"object","$ref":"#/$defs/o"}`, `,"$defs":{"o":{"required":["a"]}}`), object(`,"o":{"type":"object","$ref":"#/$defs/o"}`, `,"title":"x","$defs":{"o":{"required":["a"]}}`), safe, safe, ""},
		{"the same $ref to something else", object(`,"o":{"type":"object","$ref":"#/$defs/o"}`, `,"$defs":{"o":{"required":["a"]}}`), object(`,"o":{"type":"object","$ref":"#/$defs/o"}`, `,"$defs":{"o":{"required":["b"]}}`), unknown, unknown, "/properties/o/$ref"},
		{"patternProperties that were there", object("", `,"patternProperties":{"^x":{"type":"string"}},"additionalProperties":false`), object("", `,"additionalProperties":false`), unknown, unknown, "/patternProperties"},
		{"an unknown keyword", object("", ""), object("", `,"surprise":1`), unknown, unknown, "/surprise"},
	} {
		t.Run(c.edit, func(t *testing.T) {
			a, b := schema(t, c.older), schema(t, c.newer)
			got := compat.Schemas(a, b, compat.Config{})
			path := ""
			if len(got.Findings) > 0 {
				path = got.Findings[0].Path
			}
			if got.Answer != c.lenient || path != c.path {
				t.Errorf("got %s, first at %q; want %s at %q: %v", got.Answer, path, c.lenient, c.path, got.Findings)
			}
			if got := compat.Schemas(a, b, compat.Config{Strict: true}); got.Answer != c.strict {
				t.Errorf("strict: got %s, want %s: %v", got.Answer, c.strict, got.Findings)
			}
			if got := compat.Schemas(a, a, compat.Config{Strict: true}); got.Answer != compat.Safe || len(got.Findings) > 0 {
				t.Errorf("with itself: %v", got)
			}
		})
	}
}

const usersYAML = `dataset: users
schema: users.json
key: [id]
replica: {table: users}
cache: {key: "user:{id}"}
`

func folder(t *testing.T, files map[string]string) *schemas.Datasets {
	t.Helper()
	fsys := fstest.MapFS{"users.json": {Data: []byte(object(`,"name":{"type":"string","maxLength":100}`, ""))}}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := schemas.LoadDatasets(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestDeclarations(t *testing.T) {
	base := folder(t, map[string]string{"users.yaml": usersYAML})
	for name, c := range map[string]struct {
		yaml string
		want []string
	}{
		"nothing": {usersYAML, []string{}},
		"moved": {
			strings.Replace(usersYAML, "table: users", "table: people", 1) + "topic: people\nversion: offset\n",
			[]string{"breaking topic", "breaking version", "breaking replica.table"},
		},
		"key":       {"dataset: users\nschema: users.json\nkey: [id, name]\ncache: {key: \"user:{id}:{name}\"}\n", []string{"breaking key", "safe cache"}},
		"rename":    {strings.Replace(usersYAML, "table: users", "table: users, columns: {display: name}", 1), []string{"breaking replica.columns.name"}},
		"type":      {strings.Replace(usersYAML, "table: users", "table: users, columns: {name: {type: longtext}}", 1), []string{"unknown replica.columns.name"}},
		"reject":    {usersYAML + "unknown_properties: reject\n", []string{"breaking unknown_properties"}},
		"policies":  {usersYAML + "on_delete: keep\non_data_loss: resync\n", []string{"safe on_delete", "safe on_data_loss"}},
		"template":  {strings.Replace(usersYAML, "user:{id}", "u:{id}", 1), []string{"safe cache"}},
		"no cache":  {strings.Replace(usersYAML, "cache: {key: \"user:{id}\"}", "", 1), []string{"breaking cache"}},
		"other one": {strings.Replace(usersYAML, "dataset: users", "dataset: others", 1), []string{"breaking dataset", "safe dataset"}},
	} {
		t.Run(name, func(t *testing.T) {
			newer := folder(t, map[string]string{"users.yaml": c.yaml})
			got := []string{}
			for _, f := range compat.Datasets(base, newer, compat.Config{}).Findings {
				got = append(got, fmt.Sprint(f.Answer, " ", f.Path))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// A dataset that refused undeclared properties cannot have carried a new one, and refuses it until it is rolled out.
func TestRejectingDatasetGrows(t *testing.T) {
	yaml := map[string]string{"users.yaml": usersYAML + "unknown_properties: reject\n"}
	older := folder(t, yaml)
	yaml["users.json"] = object(`,"name":{"type":"string","maxLength":100},"nick":{"type":"string"}`, "")
	got := compat.Datasets(older, folder(t, yaml), compat.Config{Strict: true})
	if got.Answer != compat.Safe || len(got.Findings) != 1 || !strings.Contains(got.Findings[0].Reason, "workers before services") {
		t.Errorf("%+v", got)
	}
}
