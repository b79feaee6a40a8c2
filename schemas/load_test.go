package schemas_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/schemas"
)

// folder makes a folder of datasets from file name → text.
func folder(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// load returns the one dataset of these files.
func load(t testing.TB, declaration, schema string) *schemas.Dataset {
	t.Helper()
	set, err := schemas.LoadDatasets(folder(map[string]string{"d.yaml": declaration, "s.json": schema}))
	if err != nil {
		t.Fatal(err)
	}
	return set.All()[0]
}

const (
	minimalYAML = "dataset: users\nschema: s.json\nkey: [id]\n"
	wideSchema  = `{
  "type": "object",
  "required": ["id"],
  "properties": {
    "id": {"type": "integer"},
    "name": {"type": ["string", "null"], "maxLength": 100},
    "bio": {"type": "string"},
    "email": {"type": "string", "maxLength": 254},
    "org_id": {"type": "integer", "minimum": 0, "maximum": 18446744073709551615},
    "ratio": {"type": "number"},
    "price": {"type": "string", "x-decimal": "10,2"},
    "seen": {"type": "string", "format": "date-time"},
    "born": {"type": ["null", "string"], "format": "date"},
    "active": {"type": "boolean"},
    "tags": {"type": "array"},
    "extra": {"type": ["object", "array", "null"]}
  }
}`
)

func TestLoadDefaults(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	if d.Name != "users" || d.Topic != "freshet.users" || d.Format != schemas.FormatCloudEvents || d.File != "d.yaml" {
		t.Errorf("got %q %q %q %q", d.Name, d.Topic, d.Format, d.File)
	}
	if d.Version != (schemas.VersionRule{Kind: schemas.VersionEvent}) || d.RejectUnknown || d.KeepOnDelete || d.ResyncOnDataLoss {
		t.Errorf("defaults: %+v", d)
	}
	if d.Cache != nil || d.CacheHash() != "" || len(d.Unbuilt()) != 0 {
		t.Errorf("no cache section: %+v %q %v", d.Cache, d.CacheHash(), d.Unbuilt())
	}
	col := func(p schemas.Property) schemas.Column {
		return schemas.Column{Name: p.Name, Property: p, Key: p.Name == "id"}
	}
	want := &schemas.Replica{Table: "users", KeyColumns: 1, Columns: []schemas.Column{
		col(schemas.Property{Name: "id", Kind: schemas.KindInteger}),
		col(schemas.Property{Name: "active", Kind: schemas.KindBoolean}),
		col(schemas.Property{Name: "bio", Kind: schemas.KindString}),
		col(schemas.Property{Name: "born", Kind: schemas.KindDate}),
		col(schemas.Property{Name: "email", Kind: schemas.KindString, MaxLength: 254}),
		col(schemas.Property{Name: "extra", Kind: schemas.KindJSON}),
		col(schemas.Property{Name: "name", Kind: schemas.KindString, MaxLength: 100}),
		col(schemas.Property{Name: "org_id", Kind: schemas.KindInteger, Unsigned: true}),
		col(schemas.Property{Name: "price", Kind: schemas.KindDecimal, Precision: 10, Scale: 2}),
		col(schemas.Property{Name: "ratio", Kind: schemas.KindNumber}),
		col(schemas.Property{Name: "seen", Kind: schemas.KindDateTime}),
		col(schemas.Property{Name: "tags", Kind: schemas.KindJSON}),
	}}
	if diff := cmp.Diff(want, d.Replica); diff != "" {
		t.Error(diff)
	}
}

func TestLoadEverything(t *testing.T) {
	d := load(t, `dataset: org-users
topic: legacy.users
format: debezium
schema: s.json
key: [org_id, id]
version: {column: rev}
unknown_properties: reject
on_delete: keep
on_data_loss: resync
replica:
  table: users
  columns: {display_name: name, rev: ratio2}
cache:
  key: "user:{org_id}:{id}"
  derived: ["user:email:{email}"]
  tags: ["org:{org_id}"]
  external: ["legacy:user:{id}"]
`, strings.Replace(wideSchema, `"ratio":`, `"ratio2": {"type": "integer"}, "ratio":`, 1))
	if !d.RejectUnknown || !d.KeepOnDelete || !d.ResyncOnDataLoss || d.Format != schemas.FormatDebezium {
		t.Errorf("got %+v", d)
	}
	if want := (schemas.VersionRule{Kind: schemas.VersionColumn, Column: "rev"}); d.Version != want {
		t.Errorf("version %+v, want %+v", d.Version, want)
	}
	want := &schemas.CacheRules{
		Key: "user:{org_id}:{id}", Derived: []string{"user:email:{email}"}, Tags: []string{"org:{org_id}"},
		External: []string{"legacy:user:{id}"},
	}
	if diff := cmp.Diff(want, d.Cache); diff != "" {
		t.Error(diff)
	}
	r := d.Replica
	if r.KeyColumns != 2 || r.Columns[0].Name != "org_id" || r.Columns[1].Name != "id" || !r.Columns[1].Key || r.Columns[2].Key {
		t.Errorf("key columns: %+v", r)
	}
	fields := make([]string, 0, 6)
	for _, u := range d.Unbuilt() {
		field, _, _ := strings.Cut(u, ":")
		fields = append(fields, field)
	}
	if diff := cmp.Diff([]string{"on_data_loss"}, fields); diff != "" {
		t.Error(diff)
	}
}

func TestLoadVersionDefaultFollowsFormat(t *testing.T) {
	for _, format := range []string{"debezium", "debezium-flat", "canal", "maxwell"} {
		d := load(t, minimalYAML+"format: "+format+"\ncdc: {table: shop.users"+map[string]string{"debezium-flat": ", deletes: tombstone"}[format]+"}\n", wideSchema)
		if d.Version.Kind != schemas.VersionOffset {
			t.Errorf("%s: version %q, want offset", format, d.Version.Kind)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		yaml, schema string
		want         []string // all must occur
	}{
		"unknown field":        {minimalYAML + "registry: x\n", "", []string{"d.yaml:4: registry: is an unknown field", "known are dataset, topic"}},
		"unknown nested field": {minimalYAML + "cache:\n  key: \"u:{id}\"\n  ttl: 5\n", "", []string{"d.yaml:6: cache.ttl: is an unknown field"}},
		"twice":                {minimalYAML + "key: [id]\n", "", []string{"d.yaml:4: key: is given twice"}},
		"no yaml":              {"a: [", "", []string{"d.yaml: is not valid YAML"}},
		"list":                 {"- a\n", "", []string{"d.yaml:1: is not a mapping"}},
		"empty":                {"", "", []string{"d.yaml: is empty"}},
		"only a comment":       {"# nothing\n", "", []string{"d.yaml: is empty"}},
		"two documents":        {minimalYAML + "---\na: b\n", "", []string{"more than one document"}},
		"alias":                {"dataset: &a users\ntopic: *a\nschema: s.json\nkey: [id]\n", "", []string{"d.yaml:2: topic: is an alias"}},
		"no name":              {"schema: s.json\nkey: [id]\n", "", []string{"dataset: is missing"}},
		"bad name":             {"dataset: Users\nschema: s.json\nkey: [id]\n", "", []string{"d.yaml:1: dataset: is missing or no name"}},
		"name is a number":     {"dataset: 12\nschema: s.json\nkey: [id]\n", "", []string{"d.yaml:1: dataset: is not a text"}},
		"bad topic":            {minimalYAML + "topic: a/b\n", "", []string{"d.yaml:4: topic: is not a name that Kafka accepts"}},
		"reserved topic":       {minimalYAML + "topic: freshet.invalidations.shop\n", "", []string{"d.yaml:4: topic: is reserved"}},
		"format":               {minimalYAML + "format: avro\n", "", []string{"d.yaml:4: format: is none of cloudevents, debezium"}},
		"policy":               {minimalYAML + "on_delete: drop\n", "", []string{"d.yaml:4: on_delete: is none of clear, keep"}},
		"version":              {minimalYAML + "version: newest\n", "", []string{"d.yaml:4: version: is not a known rule; write event, offset"}},
		"version of cdc":       {minimalYAML + "format: canal\nversion: event\n", "", []string{"d.yaml:5: version: is event"}},
		"version column":       {minimalYAML + "version: {column: nope}\n", "", []string{"d.yaml:4: version: states a column that the replica does not have"}},
		"version no integer":   {minimalYAML + "version: {column: name}\n", "", []string{"d.yaml:4: version: states a column that is not an integer"}},
		"no key":               {"dataset: u\nschema: s.json\n", "", []string{"key: is missing; write key: [id]"}},
		"empty key":            {"dataset: u\nschema: s.json\nkey: []\n", "", []string{"d.yaml:3: key: is empty"}},
		"key is not a list":    {"dataset: u\nschema: s.json\nkey: id\n", "", []string{"d.yaml:3: key: is not a list"}},
		"key twice":            {"dataset: u\nschema: s.json\nkey: [id, id]\n", "", []string{"d.yaml:3: key: names id twice"}},
		"key unknown":          {"dataset: u\nschema: s.json\nkey: [uid]\n", "", []string{"d.yaml:3: key: names uid, which the schema does not declare"}},
		"key of floats":        {"dataset: u\nschema: s.json\nkey: [ratio]\n", "", []string{"d.yaml:3: key: names ratio, which is not a plain string"}},
		"key of dates":         {"dataset: u\nschema: s.json\nkey: [born]\n", "", []string{"d.yaml:3: key: names born, which is not a plain string"}},
		"unbounded key":        {"dataset: u\nschema: s.json\nkey: [bio]\n", "", []string{"d.yaml:3: key: names bio, a string without maxLength"}},
		"key too wide":         {"dataset: u\nschema: s.json\nkey: [a, b]\n", `{"type":"object","properties":{"a":{"type":"string","maxLength":400},"b":{"type":"string","maxLength":369}}}`, []string{"d.yaml:3: key: may be 769 characters long"}},
		"bad table":            {minimalYAML + "replica: {table: \"a`b\"}\n", "", []string{"d.yaml:4: replica.table: is not a plain SQL identifier"}},
		"own table":            {minimalYAML + "replica: {table: freshet_meta}\n", "", []string{"replica.table: begins with freshet_"}},
		"bad column":           {minimalYAML + "replica: {columns: {\"a b\": name}}\n", "", []string{"d.yaml:4: column \"a b\": is not a plain SQL identifier"}},
		"own column":           {minimalYAML + "replica: {columns: {_Version: name}}\n", "", []string{"column _Version: is one of Freshet's own columns"}},
		"column twice":         {minimalYAML + "replica: {columns: {Email: name}}\n", "", []string{"column Email: is filled by email and name"}},
		"property twice":       {minimalYAML + "replica: {columns: {a: name, b: name}}\n", "", []string{"replica.columns.b: maps name a second time"}},
		"column of nothing":    {minimalYAML + "replica: {columns: {a: nope}}\n", "", []string{"replica.columns.a: maps nope, which the schema does not declare"}},
		"hostile property":     {minimalYAML, `{"type":"object","properties":{"id":{"type":"integer"},"a;b":{"type":"string"}}}`, []string{`column "a;b": is not a plain SQL identifier`}},
		"no cache key":         {minimalYAML + "cache: {tags: [\"t:{id}\"]}\n", "", []string{"cache.key: is missing"}},
		"template":             {minimalYAML + "cache: {key: \"u:{id\"}\n", "", []string{"d.yaml:4: cache.key: has a bad template: a placeholder is {property}"}},
		"template no name":     {minimalYAML + "cache: {key: \"{id}\"}\n", "", []string{"a template begins with fixed text"}},
		"template constant":    {minimalYAML + "cache: {key: \"users\"}\n", "", []string{"a template without a placeholder"}},
		"template space":       {minimalYAML + "cache: {key: \"u r:{id}\"}\n", "", []string{"holds no space"}},
		"template brace":       {minimalYAML + "cache: {key: \"u}:{id}\"}\n", "", []string{"control character or brace"}},
		"template unknown":     {minimalYAML + "cache: {key: \"u:{uid}\"}\n", "", []string{"uses {uid}, which the schema does not declare"}},
		"template date":        {minimalYAML + "cache: {key: \"u:{id}\", tags: [\"b:{born}\"]}\n", "", []string{"cache.tags: uses {born}, which is not a plain string"}},
		"key template":         {minimalYAML + "cache: {key: \"u:{email}\"}\n", "", []string{"cache.key: uses {email}, which is not part of the key"}},
		"key template partial": {"dataset: u\nschema: s.json\nkey: [id, org_id]\ncache: {key: \"u:{id}\"}\n", "", []string{"cache.key: lacks {org_id}"}},
		"ambiguous template":   {"dataset: u\nschema: s.json\nkey: [id, org_id]\ncache: {key: \"u:{id}-{org_id}\"}\n", "", []string{"two placeholders need a colon between them"}},
		"derived clash":        {minimalYAML + "cache: {key: \"u:{id}\", derived: [\"u:{email}\"]}\n", "", []string{"cache.derived: has u:{email}, which could give the same name as u:{id}"}},
		"no schema":            {"dataset: u\nkey: [id]\n", "", []string{"schema: is missing"}},
		"schema outside":       {"dataset: u\nschema: ../s.json\nkey: [id]\n", "", []string{"d.yaml:2: schema: is not a path inside the folder"}},
		"schema away":          {"dataset: u\nschema: t.json\nkey: [id]\n", "", []string{"d.yaml:2: schema: cannot be read"}},
		"schema no json":       {minimalYAML, `{"type":`, []string{"s.json: is not valid JSON"}},
		"schema twice":         {minimalYAML, `{"type":"object","type":"object"}`, []string{"s.json: is not valid JSON: a property name occurs twice"}},
		"schema no object":     {minimalYAML, `{"properties":{"id":{"type":"integer"}}}`, []string{`s.json:1: does not say "type": "object"`}},
		"schema old draft":     {minimalYAML, `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"id":{"type":"integer"}}}`, []string{"$schema: is not JSON Schema 2020-12"}},
		"schema invalid":       {minimalYAML, `{"type":"object","required":"id","properties":{"id":{"type":"integer"}}}`, []string{"s.json: does not compile"}},
		"schema network":       {minimalYAML, `{"type":"object","properties":{"id":{"type":"integer"},"a":{"type":"object","$ref":"https://example.org/a.json"}}}`, []string{"s.json: does not compile", "only files beside the schema are read"}},
		"schema empty":         {minimalYAML, `{"type":"object"}`, []string{"s.json:1: properties: are missing"}},
		"bad pattern":          {minimalYAML, `{"type":"object","properties":{"id":{"type":"integer"},"a":{"type":"string","pattern":"("}}}`, []string{"s.json: does not compile"}},
		"no type":              {minimalYAML, "{\"type\":\"object\",\"properties\":{\n\"id\":{\"type\":\"integer\"},\n\"a\":{\"enum\":[1]}}}", []string{"s.json:3: properties/a: has no type"}},
		"two types":            {minimalYAML, "{\"type\":\"object\",\"properties\":{\n\"id\":{\"type\":[\"integer\",\"string\"]}}}", []string{"s.json:2: properties/id: has several types"}},
		"null type":            {minimalYAML, `{"type":"object","properties":{"id":{"type":"null"}}}`, []string{"properties/id: can only be null"}},
		"true schema":          {minimalYAML, `{"type":"object","properties":{"id":true}}`, []string{"properties/id: has no type"}},
		"bad decimal":          {minimalYAML, `{"type":"object","properties":{"id":{"type":"integer"},"a":{"type":"string","x-decimal":"5,6"}}}`, []string{"properties/a: has an x-decimal that is not a DECIMAL(p,s)"}},
		"no length":            {minimalYAML, `{"type":"object","properties":{"id":{"type":"string","maxLength":0}}}`, []string{"properties/id: has a maxLength below 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			schema := tc.schema
			if schema == "" {
				schema = wideSchema
			}
			_, err := schemas.LoadDatasets(folder(map[string]string{"d.yaml": tc.yaml, "s.json": schema}))
			if !errors.Is(err, schemas.ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			}
		})
	}
}

func TestLoadCollectsAllProblems(t *testing.T) {
	_, err := schemas.LoadDatasets(folder(map[string]string{
		"a.yaml": "dataset: A\nschema: s.json\nkey: [nope]\nfoo: 1\n",
		"b.yml":  "dataset: b\ntopic: \"?\"\nschema: s.json\nkey: [id]\n",
		"s.json": `{"type":"object","properties":{"id":{"type":"integer"},"x":{}}}`,
	}))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"a.yaml:1: dataset", "a.yaml:3: key: names nope", "a.yaml:4: foo", "b.yml:2: topic", "s.json:1: properties/x",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from\n%v", want, err)
		}
	}
}

func TestLoadRefusesClashes(t *testing.T) {
	second := func(cache string) string {
		return "dataset: b\nschema: s.json\nkey: [id]\ncache: {key: \"" + cache + "\"}\n"
	}
	first := "dataset: a\nschema: s.json\nkey: [id]\ncache: {key: \"user:{id}\"}\n"
	for name, tc := range map[string]struct{ b, want string }{
		"fine":        {second("users:{id}"), ""},
		"longer":      {second("user:x:{id}"), ""},
		"name":        {strings.Replace(second("b:{id}"), "dataset: b", "dataset: a", 1), "b.yaml:1: dataset: has the same name as in a.yaml"},
		"topic":       {second("b:{id}") + "topic: freshet.a\n", "b.yaml:5: topic: is also the topic of a.yaml"},
		"table":       {second("b:{id}") + "replica: {table: A}\n", "b.yaml:5: replica.table: is also the table of a.yaml"},
		"template":    {strings.Replace(second("user:{name}"), "[id]", "[name]", 1), "template user:{name} could give the same name as user:{id}"},
		"prefix":      {second("user:v{id}"), "could give the same name"},
		"suffix":      {second("user:{id}x"), "could give the same name"},
		"derived too": {strings.Replace(second("b:{id}"), "}\n", ", derived: [\"user:{email}\"]}\n", 1), "template user:{email} could give"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := schemas.LoadDatasets(folder(map[string]string{"a.yaml": first, "b.yaml": tc.b, "s.json": wideSchema}))
			if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestDatasetsLookup(t *testing.T) {
	set, err := schemas.LoadDatasets(folder(map[string]string{
		"z.yaml": "dataset: a\nschema: s.json\nkey: [id]\n", "y.yml": "dataset: b\ntopic: t\nschema: s.json\nkey: [id]\n",
		"s.json": wideSchema, "notes.txt": "not a dataset", "sub/c.yaml": "ignored: yes",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if set.Len() != 2 || set.All()[0].Name != "a" || set.All()[1].Name != "b" {
		t.Fatalf("got %v", set.All())
	}
	if d, ok := set.Get("b"); !ok || d.Topic != "t" {
		t.Errorf("Get: %v %v", d, ok)
	}
	if d, ok := set.ByTopic("freshet.a"); !ok || d.Name != "a" {
		t.Errorf("ByTopic: %v %v", d, ok)
	}
	if _, ok := set.Get("c"); ok {
		t.Error("Get finds what is not there")
	}
	cached, err := schemas.LoadDatasets(folder(map[string]string{
		"a.yaml": "dataset: a\nschema: s.json\nkey: [id]\n", "b.yaml": "dataset: b\nschema: s.json\nkey: [id]\ncache: {key: \"b:{id}\"}\n", "s.json": wideSchema,
	}))
	if err != nil || !cached.Cached() || set.Cached() {
		t.Errorf("Cached with a cache section and without: %v", err)
	}
	if _, err := schemas.LoadDatasets(folder(nil)); !errors.Is(err, schemas.ErrInvalid) {
		t.Errorf("empty folder: %v", err)
	}
}

func TestCacheHashFollowsNames(t *testing.T) {
	yaml := func(cache string) string { return minimalYAML + "cache: " + cache + "\n" }
	base := load(t, yaml(`{key: "u:{id}"}`), wideSchema).CacheHash()
	same := load(t, yaml(`{key: "u:{id}"}`)+"on_delete: keep\n", strings.Replace(wideSchema, "254", "200", 1)).CacheHash()
	if base == "" || base != same {
		t.Errorf("hash %q and %q: other sections changed it", base, same)
	}
	for _, cache := range []string{`{key: "v:{id}"}`, `{key: "u:{id}", tags: ["t:{org_id}"]}`, `{key: "u:{id}", derived: ["e:{email}"]}`, `{key: "u:{id}", common: "all:u"}`} {
		if h := load(t, yaml(cache), wideSchema).CacheHash(); h == base {
			t.Errorf("%s: same hash as another section", cache)
		}
	}
}

func TestCommonTagIsPlain(t *testing.T) {
	for tag, want := range map[string]bool{"all:users": true, "t:{org_id}": false, "a b": false, "a\\nb": false, strings.Repeat("x", 257): false} {
		yaml := minimalYAML + "replica: {table: u}\ncache: {key: \"u:{id}\", common: \"" + tag + "\"}\n"
		_, err := schemas.LoadDatasets(folder(map[string]string{"d.yaml": yaml, "s.json": wideSchema}))
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "cache.common") {
			t.Errorf("tag %q: %v", tag, err)
		}
	}
}

// The previous name of cache.external is still read, with a warning, and has the same cache hash.
func TestExternalKeysUnderTheirPreviousName(t *testing.T) {
	t.Parallel()
	read := func(cache string) (*schemas.Datasets, error) {
		return schemas.LoadDatasets(folder(map[string]string{"users.yaml": minimalYAML + "cache:\n  key: \"user:{id}\"\n" + cache, "s.json": wideSchema}))
	}
	now, err := read("  external: [\"legacy:{id}\"]\n")
	if err != nil || len(now.Warnings()) != 0 {
		t.Fatal(err, now.Warnings())
	}
	before, err := read("  foreign: [\"legacy:{id}\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	if w := before.Warnings(); len(w) != 1 || !strings.Contains(w[0], "cache.foreign") || !strings.Contains(w[0], "cache.external") {
		t.Errorf("warnings %q, want one that has both names", w)
	}
	a, b := now.All()[0], before.All()[0]
	if a.CacheHash() != b.CacheHash() || !slices.Equal(a.Cache.External, b.Cache.External) {
		t.Errorf("the names differ: %v with hash %s, %v with hash %s", a.Cache.External, a.CacheHash(), b.Cache.External, b.CacheHash())
	}
	if _, err := read("  external: [\"a:{id}\"]\n  foreign: [\"b:{id}\"]\n"); err == nil || !strings.Contains(err.Error(), "keep external alone") {
		t.Errorf("both: error %v", err)
	}
}
