package console

import (
	"encoding/json"
	"strings"
	"testing"
)

// shape writes a tree in one line.
func shape(b *branch) string {
	if b.Items == nil {
		return b.Name + "=" + b.Text
	}
	var parts []string
	for _, i := range b.Items {
		parts = append(parts, shape(i))
	}
	return b.Name + b.Text + "(" + strings.Join(parts, " ") + ")"
}

func TestTree(t *testing.T) {
	for text, want := range map[string]string{
		`{"b":1.50,"a":[true,null,{"x":"<i>"}]}`: `{2}(b=1.50 a[3](0=true 1=null 2{1}(x="\u003ci\u003e")))`,
		`"text"`:                                 `="text"`, `{}`: `={0}`, `9007199254740993`: `=9007199254740993`, `no json`: `=no json`, `{"a":`: `={"a":`,
	} {
		if got := shape(tree(json.RawMessage(text))); got != want {
			t.Errorf("%s grows to %s, want %s", text, got, want)
		}
	}
	many := tree(json.RawMessage("[" + strings.Repeat("1,", 2000) + "1]"))
	if n := len(many.Items); n != mostBranches || many.Items[n-1].Text != "…" {
		t.Errorf("a large tree has %d branches, the last is %q", n, many.Items[n-1].Text)
	}
}
