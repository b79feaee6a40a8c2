package admin

import (
	"strings"
	"testing"
)

// An event that carries its content in base64 shows none of it.
func TestMaskHidesBase64(t *testing.T) {
	m := mask{"email": {}}
	got := string(m.apply([]byte(`{"specversion":"1.0","id":"e1","data_base64":"eyJlbWFpbCI6ImFAYi5jIn0="}`)))
	if strings.Contains(got, "eyJ") || !strings.Contains(got, `"e1"`) {
		t.Error(got)
	}
}
