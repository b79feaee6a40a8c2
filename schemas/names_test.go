package schemas_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/schemas"
)

const namesYAML = `dataset: users
schema: s.json
key: [id]
cache:
  key: "user:{id}"
  derived: ["user:email:{email}", "user:in:{org_id}:{active}"]
  tags: ["org:{org_id}"]
  external: ["legacy:{id}:{email}"]
`

const namesSchema = `{"type": "object", "properties": {
  "id": {"type": "integer"}, "email": {"type": ["string", "null"], "maxLength": 2000},
  "org_id": {"type": "integer"}, "active": {"type": "boolean"}}}`

func check(t *testing.T, d *schemas.Dataset, ev schemas.Event) schemas.Row {
	t.Helper()
	row, err := d.Check(&ev)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func TestNames(t *testing.T) {
	d := load(t, namesYAML, namesSchema)
	if !d.HasNames() || len(d.Unbuilt()) != 0 {
		t.Errorf("HasNames %t, Unbuilt %v", d.HasNames(), d.Unbuilt())
	}
	upsert := func(data string) schemas.Event {
		return schemas.Event{Dataset: "users", Key: "42", Op: schemas.Upsert, Version: 1, Data: []byte(data)}
	}
	long := strings.Repeat("x", 600)
	for name, tc := range map[string]struct {
		ev   schemas.Event
		want schemas.Names
	}{
		"all": {upsert(`{"id":42,"email":"a:{b}@x y","org_id":7.0,"active":true}`), schemas.Names{
			Derived: []string{"user:email:a%3A%7Bb%7D@x%20y", "user:in:7:true"}, Tags: []string{"org:7"}, Foreign: []string{"legacy:42:a:{b}@x y"},
		}},
		"null and absent": {upsert(`{"id":42,"email":null,"active":false}`), schemas.Names{}},
		"empty text":      {upsert(`{"id":42,"email":""}`), schemas.Names{Derived: []string{"user:email:"}, Foreign: []string{"legacy:42:"}}},
		"delete":          {schemas.Event{Dataset: "users", Key: "42", Op: schemas.Delete, Version: 1}, schemas.Names{}},
		"too long for a foreign key": {upsert(`{"id":42,"email":"` + long + `"}`), schemas.Names{
			Derived: []string{"hashed"}, Oversize: 1,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.Names(check(t, d, tc.ev).Values)
			if name == "too long for a foreign key" { // the hash is not written down here: only that it is one, of bounded length
				if len(got.Derived) != 1 || !strings.HasPrefix(got.Derived[0], "user:email:%.") || len(got.Derived[0]) > schemas.MaxNameBytes {
					t.Errorf("long name: %q", got.Derived)
				}
				tc.want.Derived = got.Derived
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A lookup's name is the name that the record's own values give.
func TestDerivedNameAgreesWithNames(t *testing.T) {
	d := load(t, namesYAML, namesSchema)
	byEmail, err := d.Derived("user:email:{email}")
	if err != nil {
		t.Fatal(err)
	}
	byOrg, err := d.Derived("user:in:{org_id}:{active}")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		email := rapid.StringMatching(`[ -~é%:{}]{1,30}`).Draw(t, "email")
		org, active := rapid.Int64().Draw(t, "org"), rapid.Bool().Draw(t, "active")
		values := make([]any, len(d.Replica.Columns))
		for i, c := range d.Replica.Columns {
			switch c.Name {
			case "email":
				values[i] = email
			case "org_id":
				values[i] = org
			case "active":
				values[i] = map[bool]int64{true: 1}[active]
			}
		}
		n := d.Names(values)
		name, err := byEmail.Name(email)
		if err != nil || name != n.Derived[0] {
			t.Fatalf("by email: %q, %v, want %q", name, err, n.Derived[0])
		}
		key, err := byOrg.FormatKey(org, active)
		if err != nil {
			t.Fatal(err)
		}
		if name, err = byOrg.Name(key); err != nil || name != n.Derived[1] {
			t.Fatalf("by org: %q, %v, want %q", name, err, n.Derived[1])
		}
		back, err := byOrg.ParseKey(key)
		if err != nil || back[0] != org || back[1] != map[bool]int64{true: 1}[active] {
			t.Fatalf("ParseKey gave %v, %v", back, err)
		}
		tag, err := d.Tag("org:{org_id}", org)
		if err != nil || tag != n.Tags[0] {
			t.Fatalf("tag %q, %v, want %q", tag, err, n.Tags[0])
		}
	})
}

func TestDerivedRefuses(t *testing.T) {
	d := load(t, namesYAML, namesSchema)
	if _, err := d.Derived("user:{id}"); !errors.Is(err, schemas.ErrInvalid) {
		t.Errorf("the record's own template: %v", err)
	}
	if _, err := d.Tag("org:{id}", 1); !errors.Is(err, schemas.ErrInvalid) {
		t.Errorf("unknown tag: %v", err)
	}
	if _, err := d.Tag("org:{org_id}", "x"); !errors.Is(err, schemas.ErrInvalid) {
		t.Errorf("tag of a wrong type: %v", err)
	}
	if tag, err := d.Tag("org:{org_id}", nil); err != nil || tag != "" {
		t.Errorf("tag of nothing: %q, %v", tag, err)
	}
	v, err := d.Derived("user:in:{org_id}:{active}")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", "7", "7,true,1", "x,true", "7,yes", "07,true"} {
		if name, err := v.Name(key); !errors.Is(err, schemas.ErrInvalid) {
			t.Errorf("key %q: %q, %v", key, name, err)
		}
	}
}

func TestNameColumns(t *testing.T) {
	d := load(t, namesYAML, namesSchema)
	var names []string
	for _, i := range d.NameColumns() {
		names = append(names, d.Replica.Columns[i].Name)
	}
	if diff := cmp.Diff([]string{"active", "email", "org_id"}, names); diff != "" {
		t.Error(diff)
	}
	if d := load(t, minimalYAML, wideSchema); d.HasNames() || d.NameColumns() != nil {
		t.Error("names without templates")
	}
}
