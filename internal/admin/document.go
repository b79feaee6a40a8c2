package admin

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/internal/admin/gate"
)

// describe completes the OpenAPI document with what the routes have in common: where the API is, its problems, and members that may be null.
func describe(doc *huma.OpenAPI) {
	doc.Servers = []*huma.Server{{URL: "/", Description: "the admin API's own address"}}
	doc.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	problem := doc.Components.Schemas.Map()["ErrorModel"]
	problem.Properties["request_id"] = &huma.Schema{Type: huma.TypeString, Description: "the request's X-Request-Id, which the log has too"}
	problem.Properties["code"] = &huma.Schema{Type: huma.TypeString, Enum: codes(), Description: "what kind of problem it is; it does not change between releases"}
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			if other := op.Responses["default"]; other != nil {
				op.Responses["4XX"], op.Responses["5XX"] = other, other
				delete(op.Responses, "default")
			}
			if op.RequestBody != nil {
				for _, content := range op.RequestBody.Content {
					allowNull(doc, content.Schema)
				}
			}
		}
	}
}

func codes() []any {
	var out []any
	for _, c := range gate.Codes() {
		out = append(out, c)
	}
	return out
}

// allowNull says of each optional member of a body that null means the same as leaving it out.
func allowNull(doc *huma.OpenAPI, s *huma.Schema) {
	if s == nil {
		return
	}
	if s.Ref != "" {
		s = doc.Components.Schemas.SchemaFromRef(s.Ref)
	}
	required := map[string]bool{}
	for _, name := range s.Required {
		required[name] = true
	}
	for name, p := range s.Properties {
		if p.Type != "" && p.Ref == "" && !required[name] {
			p.Nullable = true
		}
	}
}

// refuseEmpty refuses a query parameter without a value where none can be meant: as a number, a time, or one of some words. The framework would
// take it for one that was left out.
func refuseEmpty(hapi huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		u := ctx.URL()
		query := u.Query()
		for _, p := range ctx.Operation().Parameters {
			if p.In != "query" || p.Schema == nil || p.Schema.Type == huma.TypeString && p.Schema.Format == "" && len(p.Schema.Enum) == 0 {
				continue
			}
			if values, given := query[p.Name]; given && strings.Join(values, "") == "" {
				_ = huma.WriteErr(hapi, ctx, http.StatusUnprocessableEntity, "the query parameter "+p.Name+" is empty; give it a value, or leave it out")
				return
			}
		}
		next(ctx)
	}
}
