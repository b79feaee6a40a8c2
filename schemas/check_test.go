package schemas_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/schemas"
)

// upsert is an event that fits users datasets.
func upsert(key, data string) *schemas.Event {
	return &schemas.Event{Dataset: "users", Key: key, Op: schemas.Upsert, Version: 7, Data: []byte(data)}
}

func TestCheckMakesRows(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	for name, tc := range map[string]struct {
		data string
		want map[string]any
	}{
		"key alone": {`{"id":42}`, nil},
		"everything": {
			`{"id":42,"name":"Zoë \"Z\" 😀","bio":"","email":"a@x","org_id":18446744073709551615,"ratio":1.5e3,` +
				`"price":"-12345678.90","seen":"2026-01-02T03:04:05.1234567+02:00","born":"2024-02-29","active":true,` +
				`"tags":[1, "a b" ,{"x" : null}],"extra":{ }}`,
			map[string]any{
				"name": `Zoë "Z" 😀`, "bio": "", "email": "a@x", "org_id": uint64(18446744073709551615), "ratio": 1500.0,
				"price": "-12345678.90", "seen": "2026-01-02 01:04:05.123456", "born": "2024-02-29", "active": int64(1),
				"tags": `[1,"a b",{"x":null}]`, "extra": "{}",
			},
		},
		"nulls":             {`{"id":42,"name":null,"born":null,"extra":null}`, nil},
		"false":             {`{"id":42,"active":false}`, map[string]any{"active": int64(0)}},
		"integer as float":  {`{"id":4.2e1,"org_id":1.0}`, map[string]any{"org_id": uint64(1)}},
		"minus zero":        {`{"id":42,"org_id":-0}`, map[string]any{"org_id": uint64(0)}},
		"exact big integer": {`{"id":42,"org_id":9007199254740993}`, map[string]any{"org_id": uint64(9007199254740993)}},
		"json keeps digits": {`{"id":42,"tags":[9007199254740993,1.10]}`, map[string]any{"tags": "[9007199254740993,1.10]"}},
		"json keeps quotes": {`{"id":42,"tags":[ "a \" , b" ]}`, map[string]any{"tags": `["a \" , b"]`}},
		"nested space":      {`{"id":42,"extra":{"a":[ 1, 2 ],"b":{ "c":1}}}`, map[string]any{"extra": `{"a":[1,2],"b":{"c":1}}`}},
		"space around":      {" \n{ \"id\" : 42 , \"tags\" : [1]\t}\r\n", map[string]any{"tags": "[1]"}},
		"midnight":          {`{"id":42,"seen":"2026-01-01T00:30:00+01:00"}`, map[string]any{"seen": "2025-12-31 23:30:00.000000"}},
		"leap second":       {`{"id":42,"seen":"2016-12-31T23:59:60Z"}`, map[string]any{"seen": "2017-01-01 00:00:00.000000"}},
		"leap elsewhere":    {`{"id":42,"seen":"2016-12-31T18:59:60-05:00"}`, map[string]any{"seen": "2017-01-01 00:00:00.000000"}},
		"small letters":     {`{"id":42,"seen":"2026-01-02t03:04:05z"}`, map[string]any{"seen": "2026-01-02 03:04:05.000000"}},
		"decimal zero":      {`{"id":42,"price":"0.5"}`, map[string]any{"price": "0.5"}},
		"escaped name":      {`{"\u0069d":42}`, nil},
		"surrogate pair":    {`{"id":42,"name":"\ud83d\ude00"}`, map[string]any{"name": "😀"}},
		"unknown":           {`{"id":42,"nope":[{"a":1}],"more":1}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			row, err := d.Check(upsert("42", tc.data))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]any{}
			for i, v := range row.Values {
				if v != nil {
					got[d.Replica.Columns[i].Name] = v
				}
			}
			want := map[string]any{"id": int64(42)}
			for k, v := range tc.want {
				want[k] = v
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			unknown := 0
			if name == "unknown" {
				unknown = 2
			}
			if row.UnknownProperties != unknown {
				t.Errorf("got %d unknown properties, want %d", row.UnknownProperties, unknown)
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	d := load(t, minimalYAML, strings.Replace(wideSchema, `"tags": {"type": "array"}`,
		`"tags": {"type": "array", "items": {"type": "string"}}, "code": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2}`, 1))
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for name, tc := range map[string]struct {
		data   string
		reason schemas.Reason
		field  string
	}{
		"empty":           {``, schemas.ReasonMalformed, "data"},
		"no json":         {`{"id":42`, schemas.ReasonMalformed, "data"},
		"trailing":        {`{"id":42} x`, schemas.ReasonMalformed, "data"},
		"trailing comma":  {`{"id":42,}`, schemas.ReasonMalformed, "data"},
		"leading zero":    {`{"id":042}`, schemas.ReasonMalformed, "data"},
		"two names":       {`{"id":42,"id":42}`, schemas.ReasonMalformed, "data"},
		"two unknown":     {`{"id":42,"x":1,"x":1}`, schemas.ReasonMalformed, "data"},
		"two escaped":     {`{"id":42,"i\u0064":42}`, schemas.ReasonMalformed, "data"},
		"two nested":      {`{"id":42,"extra":{"a":1,"a":2}}`, schemas.ReasonMalformed, "data"},
		"deep":            {`{"id":42,"extra":` + deep + `}`, schemas.ReasonMalformed, "data"},
		"bad utf8":        {"{\"id\":42,\"name\":\"\xff\"}", schemas.ReasonMalformed, "data"},
		"lone surrogate":  {`{"id":42,"name":"\ud800"}`, schemas.ReasonMalformed, "data"},
		"control":         {"{\"id\":42,\"name\":\"a\nb\"}", schemas.ReasonMalformed, "data"},
		"bad escape":      {`{"id":42,"name":"\x"}`, schemas.ReasonMalformed, "data"},
		"huge exponent":   {`{"id":42,"ratio":1e999999999}`, schemas.ReasonMalformed, "data"},
		"array":           {`[1]`, schemas.ReasonSchema, "data"},
		"null":            {`null`, schemas.ReasonSchema, "data"},
		"no key":          {`{"name":"a"}`, schemas.ReasonSchema, "data/id"},
		"other key":       {`{"id":43}`, schemas.ReasonKey, "data/id"},
		"key type":        {`{"id":"42"}`, schemas.ReasonSchema, "data/id"},
		"type":            {`{"id":42,"active":1}`, schemas.ReasonSchema, "data/active"},
		"null refused":    {`{"id":42,"bio":null}`, schemas.ReasonSchema, "data/bio"},
		"maxLength":       {`{"id":42,"name":"` + strings.Repeat("ä", 101) + `"}`, schemas.ReasonSchema, "data/name"},
		"minLength":       {`{"id":42,"code":"a"}`, schemas.ReasonSchema, "data/code"},
		"pattern":         {`{"id":42,"code":"A1"}`, schemas.ReasonSchema, "data/code"},
		"minimum":         {`{"id":42,"org_id":-1}`, schemas.ReasonSchema, "data/org_id"},
		"fraction":        {`{"id":42,"org_id":1.5}`, schemas.ReasonSchema, "data/org_id"},
		"too big":         {`{"id":42,"org_id":18446744073709551616}`, schemas.ReasonSchema, "data/org_id"},
		"beyond bigint":   {`{"id":9223372036854775808}`, schemas.ReasonSchema, "data/id"},
		"beyond double":   {`{"id":42,"ratio":1e400}`, schemas.ReasonSchema, "data/ratio"},
		"date-time":       {`{"id":42,"seen":"2026-01-02 03:04:05Z"}`, schemas.ReasonSchema, "data/seen"},
		"date":            {`{"id":42,"born":"2023-02-29"}`, schemas.ReasonSchema, "data/born"},
		"year zero":       {`{"id":42,"born":"0000-01-01"}`, schemas.ReasonSchema, "data/born"},
		"before year one": {`{"id":42,"seen":"0001-01-01T00:00:00+01:00"}`, schemas.ReasonSchema, "data/seen"},
		"leap second":     {`{"id":42,"seen":"2016-12-31T22:59:60Z"}`, schemas.ReasonSchema, "data/seen"},
		"decimal digits":  {`{"id":42,"price":"123456789.00"}`, schemas.ReasonSchema, "data/price"},
		"decimal scale":   {`{"id":42,"price":"1.001"}`, schemas.ReasonSchema, "data/price"},
		"decimal form":    {`{"id":42,"price":"1e3"}`, schemas.ReasonSchema, "data/price"},
		"items":           {`{"id":42,"tags":["a",1]}`, schemas.ReasonSchema, "data/tags/1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.Check(upsert("42", tc.data))
			var fe *schemas.FieldError
			if !errors.As(err, &fe) || !errors.Is(err, schemas.ErrInvalid) {
				t.Fatalf("got %v, want a FieldError", err)
			}
			if fe.Reason != tc.reason || fe.Field != tc.field {
				t.Errorf("got %s at %s (%v), want %s at %s", fe.Reason, fe.Field, err, tc.reason, tc.field)
			}
		})
	}
}

func TestCheckAttributes(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	long := strings.Repeat("x", 1025)
	for name, tc := range map[string]struct {
		change func(*schemas.Event)
		reason schemas.Reason // empty: accepted
	}{
		"fine":            {func(*schemas.Event) {}, ""},
		"least version":   {func(e *schemas.Event) { e.Version = schemas.MinVersion }, ""},
		"most version":    {func(e *schemas.Event) { e.Version = schemas.MaxVersion }, ""},
		"no version":      {func(e *schemas.Event) { e.Version = 0 }, schemas.ReasonVersion},
		"high version":    {func(e *schemas.Event) { e.Version = schemas.MaxVersion + 1 }, schemas.ReasonVersion},
		"dataset":         {func(e *schemas.Event) { e.Dataset = "orders" }, schemas.ReasonDataset},
		"op":              {func(e *schemas.Event) { e.Op = 0 }, schemas.ReasonMalformed},
		"no key":          {func(e *schemas.Event) { e.Key = "" }, schemas.ReasonKey},
		"long key":        {func(e *schemas.Event) { e.Key = strings.Repeat("1", 513) }, schemas.ReasonKey},
		"bad key":         {func(e *schemas.Event) { e.Key = "\xff" }, schemas.ReasonKey},
		"uncanonical key": {func(e *schemas.Event) { e.Key = "042" }, schemas.ReasonKey},
		"own type":        {func(e *schemas.Event) { e.Type = "org.example.renamed" }, ""},
		"type and op":     {func(e *schemas.Event) { e.Type = schemas.TypeDelete }, schemas.ReasonMalformed},
		"long id":         {func(e *schemas.Event) { e.ID = long }, schemas.ReasonMalformed},
		"bad source":      {func(e *schemas.Event) { e.Source = "a\nb" }, schemas.ReasonMalformed},
		"bad trace":       {func(e *schemas.Event) { e.TraceState = "ä\xff" }, schemas.ReasonMalformed},
		"good trace":      {func(e *schemas.Event) { e.TraceState = "ä=1" }, ""},
		"far time":        {func(e *schemas.Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, schemas.ReasonMalformed},
		"too large":       {func(e *schemas.Event) { e.Data = make([]byte, schemas.MaxRecordBytes) }, schemas.ReasonTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			ev := upsert("42", `{"id":42}`)
			tc.change(ev)
			_, err := d.Check(ev)
			if (err == nil) != (tc.reason == "") || (err != nil && schemas.ReasonOf(err) != tc.reason) {
				t.Fatalf("got %v, want reason %q", err, tc.reason)
			}
		})
	}
}

func TestCheckUnknownProperties(t *testing.T) {
	reject := load(t, minimalYAML+"unknown_properties: reject\n", wideSchema)
	closed := load(t, minimalYAML, strings.Replace(wideSchema, `"required"`, `"additionalProperties": false, "required"`, 1))
	for name, d := range map[string]*schemas.Dataset{"reject": reject, "closed": closed} {
		_, err := d.Check(upsert("42", `{"id":42,"emial":"x"}`))
		if schemas.ReasonOf(err) != schemas.ReasonSchema || !strings.Contains(err.Error(), "data/emial: is not a property") {
			t.Errorf("%s: got %v", name, err)
		}
		// A name that is not an identifier may be someone's data.
		_, err = d.Check(upsert("42", `{"id":42,"ada@example.org":1}`))
		if err == nil || strings.Contains(err.Error(), "ada") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCheckDelete(t *testing.T) {
	d := load(t, "dataset: users\nschema: s.json\nkey: [org_id, email]\n", wideSchema)
	const key = "18446744073709551615,a%2Cb"
	for name, tc := range map[string]struct {
		data   string
		reason schemas.Reason
	}{
		"no data":       {``, ""},
		"key":           {`{"org_id":18446744073709551615,"email":"a,b"}`, ""},
		"old row":       {`{"org_id":18446744073709551615,"email":"a,b","name":5,"zzz":{}}`, ""},
		"other key":     {`{"org_id":1,"email":"a,b"}`, schemas.ReasonKey},
		"part of a key": {`{"email":"a,b"}`, schemas.ReasonKey},
		"key of a type": {`{"org_id":"1","email":"a,b"}`, schemas.ReasonKey},
		"broken":        {`{"org_id"`, schemas.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			ev := &schemas.Event{Dataset: "users", Key: key, Op: schemas.Delete, Version: 1, Data: []byte(tc.data)}
			row, err := d.Check(ev)
			if (err == nil) != (tc.reason == "") || (err != nil && schemas.ReasonOf(err) != tc.reason) {
				t.Fatalf("got %v, want reason %q", err, tc.reason)
			}
			if err != nil {
				return
			}
			want := make([]any, len(d.Replica.Columns))
			want[0], want[1] = uint64(18446744073709551615), "a,b"
			if diff := cmp.Diff(want, row.Values); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrorsHoldNoValues(t *testing.T) {
	const marker = "S3CRET"
	d := load(t, minimalYAML, strings.Replace(wideSchema, `"properties": {`,
		`"minProperties": 1, "properties": { "deep": {"type": "object", "additionalProperties": {"type": "integer"}},`, 1))
	for _, data := range []string{
		`{"id":"` + marker + `"}`, `{"id":42,"active":"` + marker + `"}`, `{"id":42,"seen":"` + marker + `"}`,
		`{"id":42,"price":"` + marker + `"}`, `{"id":42,"deep":{"` + marker + `!":"` + marker + `"}}`,
		`{"id":42,"` + marker + `":` + marker + `}`, `{"id":42,"name":"` + strings.Repeat(marker, 30) + `"}`,
	} {
		_, err := d.Check(upsert("42", data))
		if err == nil {
			t.Errorf("%s: accepted", data)
		} else if strings.Contains(err.Error(), marker) {
			t.Errorf("value in %q", err)
		}
	}
	ev := upsert(marker, `{"id":42}`)
	if _, err := d.Check(ev); err == nil || strings.Contains(err.Error(), marker) {
		t.Errorf("key in %v", err)
	}
}

func TestNestedFormats(t *testing.T) {
	d := load(t, minimalYAML, `{"type":"object","properties":{"id":{"type":"integer"},"list":{"type":"array","items":{
		"type":"object","properties":{"day":{"type":"string","format":"date"},"at":{"type":"string","format":"date-time"},
		"mail":{"type":"string","format":"email"}}}}}}`)
	for data, want := range map[string]string{
		`{"id":42,"list":[{"day":"2026-01-02","at":"2026-01-02T03:04:05Z","mail":"an annotation only"}]}`: "",
		`{"id":42,"list":[{},{"day":"2026-02-30"}]}`:                                                      "data/list/1/day: breaks the schema's format",
		`{"id":42,"list":[{"at":"2026-01-02"}]}`:                                                          "data/list/0/at: breaks the schema's format",
	} {
		_, err := d.Check(upsert("42", data))
		if (err == nil) != (want == "") || (err != nil && err.Error() != want) {
			t.Errorf("%s: got %v, want %q", data, err, want)
		}
	}
}

func TestSchemasMayReferToEachOther(t *testing.T) {
	set, err := schemas.LoadDatasets(folder(map[string]string{
		"d.yaml": minimalYAML, "common/money.json": `{"type":"object","required":["amount"],"properties":{"amount":{"type":"integer"}}}`,
		"s.json": `{"type":"object","properties":{"id":{"type":"integer"},"price":{"type":"object","$ref":"common/money.json"},
			"size":{"type":"integer","$ref":"#/$defs/small"}},"$defs":{"small":{"maximum":9}}}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string]string{
		`{"id":42,"price":{"amount":5},"size":9}`: "",
		`{"id":42,"price":{}}`:                    "data/price: breaks the schema's required",
		`{"id":42,"size":10}`:                     "data/size: breaks the schema's maximum",
	} {
		_, err := set.All()[0].Check(upsert("42", data))
		if (err == nil) != (want == "") || (err != nil && err.Error() != want) {
			t.Errorf("%s: got %v, want %q", data, err, want)
		}
	}
}
