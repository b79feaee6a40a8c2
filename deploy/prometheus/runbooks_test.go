package prometheus_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each finding of doctor has its line, once, and no line is left over.
func TestEachFindingHasALine(t *testing.T) {
	files, err := filepath.Glob("../../cmd/freshet/doctor*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	found := map[string]bool{}
	for _, name := range files {
		for _, m := range regexp.MustCompile(`(?:\.(?:bad|note)\(|\bfinding :?= )"([a-z-]+)"`).FindAllStringSubmatch(read(t, name), -1) {
			found[m[1]] = true
		}
		if calls, literal := regexp.MustCompile(`\bd\.(?:bad|note)\(`), regexp.MustCompile(`\bd\.(?:bad|note)\((?:"|finding,)`); len(calls.FindAllString(read(t, name), -1)) != len(literal.FindAllString(read(t, name), -1)) {
			t.Errorf("%s: the name of a finding is not a literal", name)
		}
	}
	if len(found) < 50 {
		t.Fatalf("found %d findings only", len(found))
	}
	_, table, _ := strings.Cut(read(t, "../../docs/runbooks.md"), "## Findings of doctor\n")
	lines := map[string]int{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(table, -1) {
		lines[m[1]]++
		if !found[m[1]] {
			t.Errorf("docs/runbooks.md has %s, which doctor does not find", m[1])
		}
	}
	for name := range found {
		if lines[name] != 1 {
			t.Errorf("docs/runbooks.md has %d lines of %s; give it one", lines[name], name)
		}
	}
}

// A runbook is short, and its links lead somewhere.
func TestRunbooksAreShort(t *testing.T) {
	page := read(t, "../../docs/runbooks.md")
	for _, section := range strings.Split(page, "\n### ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		body, _, _ = strings.Cut(body, "\n## ")
		if n := strings.Count(strings.TrimSpace(body), "\n") + 1; n < 4 || n > 10 {
			t.Errorf("the runbook of %s has %d lines", title, n)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([\w.-]*)#([\w-]+)\)`).FindAllStringSubmatch(page, -1) {
		text := page
		if m[1] != "" {
			text = read(t, filepath.Join("../../docs", m[1]))
		}
		if !anchors(text)[m[2]] {
			t.Errorf("the link to %s#%s leads nowhere", m[1], m[2])
		}
	}
}

// anchors returns those that GitHub gives the headings of a page.
func anchors(page string) map[string]bool {
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(name, " ", "-")] = true
	}
	return out
}
