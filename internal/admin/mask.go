package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/schemas"
)

// masked replaces in content what only the role admin may see.
const masked = "•••"

// mask hides the values of sensitive properties in content; nil hides nothing. Members of JSON are found by their name at any depth and in any case
// of letters, since a record that cannot be applied may have any form.
type mask map[string]struct{}

// maskOf returns what ctx's caller may not see of a dataset's content.
func maskOf(ctx context.Context, d *schemas.Dataset) mask {
	if access.PrincipalOf(ctx).Role.May(access.Admin) {
		return nil
	}
	return sensitive(d)
}

// sensitive returns the names of the properties that a schema marks x-sensitive, wherever in it they are; nil if there are none.
func sensitive(d *schemas.Dataset) mask {
	m := mask{}
	m.collect(d.Schema().Document())
	if len(m) == 0 {
		return nil
	}
	return m
}

func (m mask) collect(node any) {
	switch n := node.(type) {
	case map[string]any:
		props, _ := n["properties"].(map[string]any)
		for name, p := range props {
			if sub, ok := p.(map[string]any); ok && sub["x-sensitive"] == true {
				m[strings.ToLower(name)] = struct{}{}
			}
		}
		for _, sub := range n {
			m.collect(sub)
		}
	case []any:
		for _, sub := range n {
			m.collect(sub)
		}
	}
}

// apply returns content without what is sensitive. Content that is not JSON is hidden as a whole.
func (m mask) apply(content json.RawMessage) json.RawMessage {
	if len(m) == 0 || len(content) == 0 {
		return content
	}
	v, ok := decoded(content)
	if _, isText := v.(string); !ok || isText { // a text is what could not be read as an event, whatever it holds
		return json.RawMessage(`"` + masked + `"`)
	}
	out, err := json.Marshal(m.hide(v))
	if err != nil {
		return json.RawMessage(`"` + masked + `"`)
	}
	return out
}

func decoded(content []byte) (v any, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return nil, false
	}
	_, err := dec.Token()
	return v, err == io.EOF
}

func (m mask) has(name string) bool {
	name = strings.ToLower(name)
	_, ok := m[name]
	return ok || name == "data_base64" // the whole content of a structured event
}

func (m mask) hide(v any) any {
	switch n := v.(type) {
	case map[string]any:
		for name, sub := range n {
			if m.has(name) && sub != nil { // that there is none says nothing
				n[name] = masked
			} else {
				n[name] = m.hide(sub)
			}
		}
	case []any:
		for i := range n {
			n[i] = m.hide(n[i])
		}
	}
	return v
}

// refuseMasked refuses content in which a sensitive property has the mask in place of its value: it was shown to the caller so, and would be stored.
func refuseMasked(d *schemas.Dataset, content []byte) error {
	m := sensitive(d)
	if len(m) == 0 || !bytes.Contains(content, []byte(masked)) {
		return nil
	}
	if v, ok := decoded(content); ok && m.found(v) {
		return huma.Error422UnprocessableEntity("a sensitive property has " + masked + " in place of its value; give the value, or let the role admin do it, which sees it")
	}
	return nil
}

// found reports whether a sensitive property has the mask as its value.
func (m mask) found(v any) bool {
	switch n := v.(type) {
	case map[string]any:
		for name, sub := range n {
			if m.has(name) && sub == masked || m.found(sub) {
				return true
			}
		}
	case []any:
		for _, sub := range n {
			if m.found(sub) {
				return true
			}
		}
	}
	return false
}
