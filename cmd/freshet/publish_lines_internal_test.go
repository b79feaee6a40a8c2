package main

import (
	"os"
	"strings"
	"testing"

	"github.com/freshet/freshet/schemas"
)

// The key of a line that has none is made of its data, whatever type it has.
func TestLineWithoutKey(t *testing.T) {
	set, err := schemas.LoadDatasets(os.DirFS("../../examples/shop/datasets"))
	if err != nil {
		t.Fatal(err)
	}
	p := &publisher{datasets: set}
	for _, tc := range []struct{ name, text, key, refusal string }{
		{"integer", `{"dataset":"users","data":{"id":42}}`, "42", ""},
		{"string", `{"dataset":"products","data":{"sku":"a/1"}}`, "a/1", ""},
		{"two parts", `{"dataset":"orders","data":{"shop":"ch","number":1001}}`, "ch,1001", ""},
		{"given", `{"dataset":"users","key":"7"}`, "7", ""},
		{"fraction", `{"dataset":"users","data":{"id":4.5}}`, "", "key: "},
		{"text for a number", `{"dataset":"users","data":{"id":"42"}}`, "", "give id as the schema has it"},
		{"absent", `{"dataset":"users","data":{}}`, "", "data/id: is absent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ev, err := p.parse([]byte(tc.text), "")
			if tc.refusal == "" && (err != nil || ev.Key != tc.key) {
				t.Errorf("key %q, %v; want %q", ev.Key, err, tc.key)
			}
			if tc.refusal != "" && (err == nil || !strings.Contains(err.Error(), tc.refusal)) {
				t.Errorf("got %v, want %q", err, tc.refusal)
			}
		})
	}
}
