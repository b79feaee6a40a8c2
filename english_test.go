package freshet_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// plainEnglish are phrases that the project does not use, with what it writes instead.
var plainEnglish = []struct{ phrase, write string }{
	{`says whether`, "reports whether"},
	{`mends?|mended|mending`, "fix"},
	{`made anew|anew`, "recreated, again"},
	{`sets? (?:\w+ ){0,4}aside|stands? aside`, "paused"},
	{`stands? still|stood still|standing still`, "is stopped"},
	{`hears? of|heard of|tells? of`, "receives, reports, logs"},
	{`whoever|somebody|nobody`, "the owner, the caller, an operator, no process"},
	{`in silence|without a word`, "silently"},
	{`on wish`, "optionally"},
	{`takes no part in`, "is independent of"},
	{`for good|for ever`, "permanently, until restarted"},
	{`goes on|go on|went on|going on`, "continues"},
	{`holds? up|held up|holds? back|held back`, "blocks, delays"},
	{`the way of a change`, "the path of a change"},
	{`(?:is|are|was|were) told`, "is notified, is asked"},
	{`lies in|stands in`, "is stored in, is listed in"},
	{`of before|formerly`, "the previous, on the old version"},
	{`and gives (?:the|its|a|an|what)`, "and returns"},
	{`(?:which|that|it) is no (?:a|an|[b-df-hj-km-np-rt-z]\w+ of)`, "is not a"},
}

// named are values of tests and a name of net/http.
var named = regexp.MustCompile(`["'=]nobody|NoBody`)

// Text that people read has the words that the field uses.
func TestPlainEnglish(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "*.go", "*.md", "*.lua", "*.sql", "Makefile", "*.yml", "*.yaml").Output()
	if err != nil {
		t.Skipf("the list of files needs git: %v", err)
	}
	for _, name := range strings.Fields(string(out)) {
		if name == "english_test.go" || name == "README.zh-CN.md" || name == "CHANGELOG.md" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			continue // deleted, not yet committed
		}
		for _, p := range plainEnglish {
			re := regexp.MustCompile(`(?i)\b(?:` + p.phrase + `)\b`)
			for i, line := range strings.Split(string(text), "\n") {
				line = named.ReplaceAllString(line, "")
				if m := re.FindString(line); m != "" {
					t.Errorf("%s:%d: %q; write %s", name, i+1, m, p.write)
				}
			}
		}
	}
}
