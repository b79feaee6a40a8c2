package schemas_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/schemas"
)

// agreeSchema uses every keyword that Freshet checks by itself.
const agreeSchema = `{"type":"object","required":["id","ghost"],"additionalProperties":true,%s
"properties":{
  "id": {"type":"string","minLength":1,"maxLength":3},
  "n": {"type":"integer","minimum":-5,"maximum":9007199254740993},
  "x": {"type":["number","null"],"exclusiveMinimum":-0.5,"exclusiveMaximum":1e3,"title":"X"},
  "e": {"type":["string","null","boolean"],"enum":["a","","true",null,true]},
  "c": {"type":"string","const":"é"},
  "p": {"type":"string","pattern":"^a+$","maxLength":5},
  "d": {"type":"string","format":"date"},
  "t": {"type":["string","null"],"format":"date-time"},
  "u": {"type":"string","format":"uuid"},
  "m": {"type":"integer","multipleOf":3},
  "o": {"type":["object","array"],"properties":{"q":{"type":"integer"}},"items":{"type":"integer"},"maxProperties":2},
  "j": {"type":"array"},
  "b": {"type":"boolean"},
  "l": {"type":"string","minLength":2,"maxLength":3},
  "s": {"type":"string","x-decimal":"4,2"}
}}`

// agreement holds one schema in three forms: checked in one pass, checked by jsonschema as a whole (a keyword that says
// nothing sends it there), and bare.
type agreement struct {
	fast, slow *schemas.Dataset
	oracle     *jsonschema.Schema
}

func newAgreement(t testing.TB) agreement {
	t.Helper()
	// "e" has several types, which no column takes; the oracle's schema need not be loadable.
	strip := strings.NewReplacer(`["string","null","boolean"]`, `["string","null"]`, `,true]`, `]`)
	fast := strip.Replace(fmt.Sprintf(agreeSchema, ""))
	slow := strip.Replace(fmt.Sprintf(agreeSchema, `"minProperties":0,`))
	tree, err := jsonschema.UnmarshalJSON(strings.NewReader(fast))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:///s.json", tree); err != nil {
		t.Fatal(err)
	}
	oracle, err := c.Compile("mem:///s.json")
	if err != nil {
		t.Fatal(err)
	}
	yaml := "dataset: d\nschema: s.json\nkey: [id]\n"
	return agreement{load(t, yaml, fast), load(t, yaml, slow), oracle}
}

// check fails the test when the ways differ. unique: no name occurs twice; encoding/json takes the last of two, so that
// the oracle would judge another document.
func (a agreement) check(t interface{ Fatalf(string, ...any) }, data []byte, unique bool) (accepted bool) {
	check := func(d *schemas.Dataset) (schemas.Row, error) {
		ev := schemas.Event{Dataset: "d", Key: "k", Op: schemas.Upsert, Version: 1, Data: data}
		row, err := d.Check(&ev)
		// jsonschema returns any of several errors.
		if verdict := d.Verify(&ev); (verdict == nil) != (err == nil) || d == a.fast && fmt.Sprint(verdict) != fmt.Sprint(err) {
			t.Fatalf("Check: %v\nVerify: %v\ndata: %q", err, verdict, data)
		}
		return row, err
	}
	fastRow, fastErr := check(a.fast)
	slowRow, slowErr := check(a.slow)
	if (fastErr == nil) != (slowErr == nil) || fmt.Sprint(fastRow) != fmt.Sprint(slowRow) {
		t.Fatalf("one pass: %v %v\njsonschema: %v %v\ndata: %q", fastRow, fastErr, slowRow, slowErr, data)
	}
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if fastErr == nil && err != nil {
		t.Fatalf("accepted what encoding/json refuses: %v: %q", err, data)
	}
	// Without assertion of formats the oracle accepts a little more, and it knows neither columns nor keys.
	if fastErr == nil && a.oracle.Validate(tree) != nil {
		t.Fatalf("accepted what jsonschema refuses: %q", data)
	}
	if err == nil && unique && strings.Contains(fmt.Sprint(fastErr), "breaks the schema's") &&
		!strings.HasSuffix(fastErr.Error(), "format") && a.oracle.Validate(tree) == nil {
		t.Fatalf("refused what jsonschema accepts (%v): %q", fastErr, data)
	}
	return fastErr == nil
}

// edgeValues lie near the edges of agreeSchema.
func edgeValues() []string {
	return []string{
		`null`, `true`, `false`, `0`, `-0`, `1`, `-5`, `-6`, `3`, `4`, `1.0`, `3e0`, `1.5`, `1e3`, `999.9999`, `-0.5`, `-0.49999999999999999999`,
		`9007199254740993`, `9007199254740994`, `9007199254740993.0`, `9223372036854775808`, `1e400`, `1e-400`, `""`, `"a"`, `"k"`,
		`"aaaaa"`, `"aaaaaa"`, `"ab"`, `"é"`, `"\u00e9"`, `"e\u0301"`, `"éé"`, `"ééé"`, `"éééé"`, `"true"`, `"1.50"`, `"100.00"`, `"1.5e1"`,
		`"2024-02-29"`, `"2023-02-29"`, `"0000-01-01"`, `"2026-01-02T03:04:05Z"`, `"2026-01-02T23:59:60Z"`, `"2026-01-02T03:04:60Z"`, `"0000-12-31T23:59:59Z"`, `"9999-12-31T23:59:59-01:00"`,
		`"2026-01-02t03:04:05.1+23:59"`, `"2026-01-02T03:04:05"`, `"2026-1-2T03:04:05Z"`, `{}`, `[]`, `{"q":1}`, `{"q":"1"}`, `[1, 2]`,
		`["a"]`, `{"a":1,"b":2,"c":3}`, `{ "q" : 1 }`,
	}
}

func edgeNames() []string {
	return []string{"n", "x", "e", "c", "p", "d", "t", "u", "m", "o", "j", "b", "s", "l", "more"}
}

// drawData draws documents of several such values.
func drawData() *rapid.Generator[string] {
	names, values := edgeNames(), edgeValues()
	return rapid.Custom(func(t *rapid.T) string {
		chosen := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 4, rapid.ID[string]).Draw(t, "names")
		if rapid.IntRange(0, 9).Draw(t, "complete") > 0 {
			chosen = append(chosen, "ghost")
		}
		members := []string{`"\u0069d":"k"`}
		if rapid.IntRange(0, 9).Draw(t, "key") == 0 {
			members[0] = `"id":` + rapid.SampledFrom(values).Draw(t, "value of id")
		}
		for _, name := range chosen {
			members = append(members, `"`+name+`":`+rapid.SampledFrom(values).Draw(t, "value of "+name))
		}
		return "{" + strings.Join(members, rapid.SampledFrom([]string{",", " , "}).Draw(t, "comma")) + "}"
	})
}

// TestOnePassAgreesOnEachValue tries every value at every property.
func TestOnePassAgreesOnEachValue(t *testing.T) {
	a := newAgreement(t)
	for _, name := range edgeNames() {
		accepted := 0
		for _, v := range edgeValues() {
			if a.check(t, []byte(`{"id":"k","ghost":1,"`+name+`":`+v+`}`), true) {
				accepted++
			}
		}
		if accepted == 0 || (accepted == len(edgeValues()) && name != "more") {
			t.Errorf("%s: %d values accepted: the values show nothing", name, accepted)
		}
	}
}

// TestOnePassAgreesWithJSONSchema: the compiled check and jsonschema accept and refuse the same documents.
func TestOnePassAgreesWithJSONSchema(t *testing.T) {
	a := newAgreement(t)
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		if a.check(t, []byte(drawData().Draw(t, "data")), true) {
			accepted++
		} else {
			refused++
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted, %d refused: the drawing shows nothing", accepted, refused)
	}
}

func FuzzCheck(f *testing.F) {
	a := newAgreement(f)
	for _, s := range []string{
		`{"id":"k","ghost":null}`, `{"id":"k","ghost":1,"n":-5,"x":1e2,"e":null,"c":"é","p":"aaa","d":"2024-02-29","b":true}`,
		`{"id":"k","ghost":1,"t":"2026-01-02T03:04:05.123456789+01:00","m":9,"o":{"q":1},"j":[{"a":[]}],"s":"-1.5"}`,
		`{"id":"k","ghost":1,"o":[1,2,"x"]}`, `{"id":"k","id":"k"}`, `{"id":"\ud83d\ude00"}`, `[`, ``, `{"id":"k","ghost":1e401}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { a.check(t, data, false) })
}
