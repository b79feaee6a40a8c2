package freshet_test

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// goBlock is a fenced block of Go.
var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// errorCheck is what fragments leave out. Fields are separated by one space.
var errorCheck = regexp.MustCompile(`if err != nil \{ return [^}]*(\{ \} [^}]*)?\} ; `)

// TestReadmeFragmentsAreTextOfExamples finds each Go fragment of the READMEs in a file that is compiled and run: in an Example or
// below examples. Comments may differ, and error checks may be missing.
func TestReadmeFragmentsAreTextOfExamples(t *testing.T) {
	var sources []string
	for _, name := range exampleFiles(t) {
		sources = append(sources, tokensOf(t, name))
	}
	var english []string
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		blocks := goBlock.FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no Go fragment", name)
		}
		for i, b := range blocks {
			fragment := tokens(t, name, []byte(b[1]))
			switch {
			case name == "README.md":
				english = append(english, fragment)
			case i >= len(english) || fragment != english[i]:
				t.Errorf("%s: fragment %d is not that of README.md", name, i+1)
			}
			found := false
			for _, s := range sources {
				found = found || strings.Contains(s, fragment)
			}
			if !found {
				t.Errorf("%s: this is not the text of an example:\n%s", name, b[1])
			}
		}
	}
}

// exampleFiles lists the files of examples.
func exampleFiles(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		name = filepath.ToSlash(name)
		example := strings.HasPrefix(d.Name(), "example") && strings.HasSuffix(name, "_test.go")
		if example || strings.HasPrefix(name, "examples/") && strings.HasSuffix(name, ".go") {
			out = append(out, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tokensOf(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return tokens(t, name, text)
}

// tokens returns the code's tokens, each followed by a space, without comments and error checks.
func tokens(t *testing.T, name string, code []byte) string {
	t.Helper()
	set := token.NewFileSet()
	var s scanner.Scanner
	s.Init(set.AddFile(name, -1, len(code)), code, func(pos token.Position, msg string) { t.Errorf("%s: %s", pos, msg) }, 0)
	var b strings.Builder
	for {
		_, tok, lit := s.Scan()
		if tok == token.EOF {
			return errorCheck.ReplaceAllString(b.String(), "")
		}
		switch {
		case tok == token.SEMICOLON:
			b.WriteString("; ")
		case lit != "":
			b.WriteString(lit + " ")
		default:
			b.WriteString(tok.String() + " ")
		}
	}
}
