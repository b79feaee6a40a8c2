package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/schemas"
)

// Bodies of requests are read strictly: a member that occurs twice, or that is spelt in another way than the route's, would
// let one reader see another request than the next one. encoding/json takes dry_run and DRY_RUN for the same.

// errBody is the cause of every refusal here.
var errBody = errors.New("the body is refused")

// strictJSON is the one format of requests and answers.
func strictJSON() map[string]huma.Format {
	f := huma.DefaultJSONFormat
	f.Unmarshal = func(data []byte, v any) error {
		if err := checkBody(string(data), reflect.TypeOf(v), ""); err != nil {
			return err
		}
		return json.Unmarshal(data, v)
	}
	return map[string]huma.Format{"application/json": f, "json": f}
}

// checkBody refuses duplicate members anywhere in text, and members that t does not have under exactly this name.
func checkBody(text string, t reflect.Type, at string) error {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	v, err := schemas.ReadJSON(text)
	if err != nil {
		return bodyError(at, err)
	}
	switch v.Kind {
	case schemas.JSONObject:
		members := membersOf(t)
		err = schemas.WalkObject(v.Text, func(name string, v schemas.JSON) error {
			of, known := members[name]
			if members != nil && !known {
				return fmt.Errorf("%w: %s is no member of it; names are case-sensitive", errBody, join(at, name))
			}
			return checkInner(v, of, join(at, name))
		})
	case schemas.JSONArray:
		var of reflect.Type
		if t != nil && t.Kind() == reflect.Slice {
			of = t.Elem()
		}
		err = schemas.WalkArray(v.Text, func(v schemas.JSON) error { return checkInner(v, of, at) })
	default:
	}
	return bodyError(at, err)
}

func checkInner(v schemas.JSON, t reflect.Type, at string) error {
	if v.Kind != schemas.JSONObject && v.Kind != schemas.JSONArray {
		return nil
	}
	return checkBody(v.Text, t, at)
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

// membersOf gives the members of a struct's JSON object; nil for what is none, or reads itself.
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

// unclean reports whether the mux would redirect a path to another one: with // or a dot segment it is another route, or
// another record, than the caller wrote, and the redirection encodes it once more.
func unclean(r *http.Request) bool {
	p := r.URL.EscapedPath()
	clean := path.Clean("/" + strings.TrimPrefix(p, "/"))
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return p != "" && p != clean
}

// repeated gives a query parameter that is there twice, which would leave it open which one counts.
func repeated(r *http.Request) string {
	for name, values := range r.URL.Query() {
		if len(values) > 1 {
			return name
		}
	}
	return ""
}
