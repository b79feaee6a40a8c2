package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/schemas"
)

// Bodies of requests are read strictly: a member that occurs twice, or that is spelt in another way than the route's, would
// let one reader see another request than the next one. encoding/json takes dry_run and DRY_RUN for the same.

// errBody is the cause of every refusal here.
var errBody = errors.New("the body is refused")

// maxItems is the greatest number of items of an array in a body.
const maxItems = 10_000

// strictJSON is the one format of requests and answers.
func strictJSON() map[string]huma.Format {
	f := huma.DefaultJSONFormat
	f.Unmarshal = func(data []byte, v any) error {
		text := string(data)
		if _, err := schemas.ReadJSON(text); err != nil { // also refuses duplicate members anywhere
			return bodyError("", err)
		}
		if out, ok := v.(*any); ok {
			var err error
			*out, err = shallow(text)
			return err
		}
		if err := checkMembers(text, reflect.TypeOf(v), ""); err != nil {
			return err
		}
		return json.Unmarshal(data, v)
	}
	return map[string]huma.Format{"application/json": f, "json": f}
}

// shallow reads a body for its validation, as encoding/json would, but for what is inside of a member's objects and of an array's
// arrays and objects. No route takes such, except as a record's content, and a tree of it takes many times the memory of its text.
func shallow(text string) (any, error) {
	v, err := schemas.ReadJSON(text)
	if err != nil {
		return nil, bodyError("", err)
	}
	if v.Kind != schemas.JSONObject {
		return items(v)
	}
	out := map[string]any{}
	err = schemas.WalkObject(v.Text, func(name string, v schemas.JSON) error {
		out[name], err = items(v)
		return err
	})
	return out, bodyError("", err)
}

// items reads a scalar, or an array of scalars. Other values keep their type and lose their content.
func items(v schemas.JSON) (any, error) {
	if v.Kind != schemas.JSONArray {
		return scalar(v)
	}
	out := []any{}
	err := schemas.WalkArray(v.Text, func(v schemas.JSON) error {
		if len(out) == maxItems {
			return fmt.Errorf("%w: an array has more than %d items", errBody, maxItems)
		}
		one, err := scalar(v)
		out = append(out, one)
		return err
	})
	return out, bodyError("", err)
}

func scalar(v schemas.JSON) (out any, err error) {
	switch v.Kind {
	case schemas.JSONObject:
		return map[string]any{}, nil
	case schemas.JSONArray:
		return []any{}, nil
	case schemas.JSONString:
		return v.Text, nil
	default:
		err = json.Unmarshal([]byte(v.Text), &out)
		return out, err
	}
}

// checkMembers refuses members that t does not have under exactly this name, and arrays that are too long.
func checkMembers(text string, t reflect.Type, at string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	members := membersOf(t)
	if members == nil {
		return nil
	}
	return bodyError(at, schemas.WalkObject(text, func(name string, v schemas.JSON) error {
		of, known := members[name]
		if !known {
			return fmt.Errorf("%w: %s is not a member; names are case-sensitive", errBody, join(at, name))
		}
		switch {
		case v.Kind == schemas.JSONArray && of.Kind() == reflect.Slice && of.Elem().Kind() != reflect.Uint8:
			_, err := items(v)
			return err
		case v.Kind == schemas.JSONObject:
			return checkMembers(v.Text, of, join(at, name))
		}
		return nil
	}))
}

func bodyError(at string, err error) error {
	if err == nil || errors.Is(err, errBody) {
		return err
	}
	if at == "" {
		at = "it"
	}
	return fmt.Errorf("%w: %s: %w", errBody, at, err)
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// membersOf returns the members of a struct's JSON object; nil for what is none, or reads itself.
func membersOf(t reflect.Type) map[string]reflect.Type {
	if t == nil || t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for name, of := range membersOf(f.Type) {
				out[name] = of
			}
		case name == "-" || !f.IsExported():
		case name == "":
			out[f.Name] = f.Type
		default:
			out[name] = f.Type
		}
	}
	return out
}
