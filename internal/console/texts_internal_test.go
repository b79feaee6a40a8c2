package console

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/console/text"
)

// written finds the English texts of templates and of Go code: those that are an argument of a function that translates.
func written(t *testing.T) map[string]string {
	t.Helper()
	literal := `"((?:[^"\\]|\\.)*)"`
	forms := map[string][]*regexp.Regexp{
		".html": {regexp.MustCompile(`[({ ]t ` + literal), regexp.MustCompile(`tn [^ ]+ ` + literal + ` ` + literal)},
		".go": {
			regexp.MustCompile(`\b[vp]\.text\(` + literal), regexp.MustCompile(`\btitle: ` + literal), regexp.MustCompile(`\badd\(` + literal),
			regexp.MustCompile(`say\([^,]+, ` + literal), regexp.MustCompile(`Text\(prefs\.Language, ` + literal),
		},
	}
	out := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, form := range forms[filepath.Ext(path)] {
			for _, m := range form.FindAllSubmatch(b, -1) {
				for _, raw := range m[1:] {
					key, uerr := strconv.Unquote(`"` + string(raw) + `"`)
					if uerr != nil {
						t.Errorf("%s: %s: %v", path, raw, uerr)
					}
					out[key] = path
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range notices() {
		out[key] = "show.go"
	}
	for _, key := range words() {
		out[key] = "a state that the API names"
	}
	return out
}

// words are what the API says in one word, which templates translate.
func words() []string {
	return []string{
		"open", "superseded", "redriven", "discarded", "running", "paused", "done", "failed", "cancelled", "ready", "silent", "suspect", "unready", "shared", "local",
		"error", "breaking", "unknown", "advice", "safe", "ok", "warn", "bad", "its table refuses rows", "a server does not answer", "stopped until an operator lets it continue",
		"an open transaction of another producer comes first", "no worker has it", "its worker reports nothing", "the topic cannot be read", "being applied",
		"Would be applied", "Are stale: the record is newer", "Are still invalid", "Cannot be applied", "Are not open any more",
	}
}

// Every text of the console is in every language, with the same values in it, and no language has a text that is not used.
func TestTextsAreComplete(t *testing.T) {
	catalog, err := text.Load()
	if err != nil {
		t.Fatal(err)
	}
	used := written(t)
	if len(used) < 200 {
		t.Fatalf("found only %d texts", len(used))
	}
	verb := regexp.MustCompile(`%[a-z]`)
	for _, l := range text.Languages() {
		if l.Tag == text.English {
			continue
		}
		have := catalog.Keys(l.Tag)
		for key, where := range used {
			translated, ok := have[key]
			if !ok {
				t.Errorf("%s lacks %q of %s", l.Tag, key, where)
			}
			if a, b := verb.FindAllString(key, -1), verb.FindAllString(translated, -1); ok && strings.Join(a, "") != strings.Join(b, "") {
				t.Errorf("%s: %q has %v, its translation has %v", l.Tag, key, a, b)
			}
		}
		for key := range have {
			if used[key] == "" {
				t.Errorf("%s has %q, which nothing uses", l.Tag, key)
			}
		}
	}
}
