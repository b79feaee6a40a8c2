package grants

import "testing"

func TestPatternOfATemplate(t *testing.T) {
	for template, want := range map[string]string{
		"page:{id}": "page:*", "a[b]*:{x}:{y}?": `a\[b\]\*:*:*\?`, `w\{x}`: `w\\*`,
	} {
		if got := pattern(template); got != want {
			t.Errorf("%s: %s, want %s", template, got, want)
		}
	}
}
