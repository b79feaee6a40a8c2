package freshet_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestLogFieldsAreListed compares the keys of log lines in the source with the table in docs/logs.md, both ways.
func TestLogFieldsAreListed(t *testing.T) {
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(readPage(t, "docs/logs.md"), -1) {
		if listed[row[1]] {
			t.Errorf("docs/logs.md lists %s twice", row[1])
		}
		listed[row[1]] = true
	}
	used := map[string]bool{"time": true, "level": true, "msg": true, "suppressed": true} // of slog, and of the limit of repeated lines
	for _, k := range logKeys(t) {
		used[k.name] = true
		switch {
		case k.name == "":
			t.Errorf("%s: the key of a log line is not a constant text", k.at)
		case !listed[k.name]:
			t.Errorf("%s: the field %s is not in docs/logs.md; use one that is, or add it", k.at, k.name)
		}
	}
	for name := range listed {
		if !used[name] {
			t.Errorf("docs/logs.md lists %s, which no line has", name)
		}
	}
	if len(used) < 30 {
		t.Fatalf("found %d keys only: the walk is broken", len(used))
	}
}

// logKey is a key of a log line; its name is empty where it is not a literal.
type logKey struct{ name, at string }

// skippedArgs is how many arguments of a call come before the keys.
var skippedArgs = map[string]int{
	"With": 0, "Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "Log": 3,
}

// aLogger matches the names that loggers have here.
var aLogger = regexp.MustCompile(`(?i)log(ger)?$`)

// logKeys lists the keys of all log lines of the product: not those of examples, of the demo and of benchmarks.
func logKeys(t *testing.T) (keys []logKey) {
	t.Helper()
	skip := []string{"examples", "tools", "testdata", "internal/testenv", "cmd/freshet-dev", "cmd/freshet/internal/bench"}
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains(skip, filepath.ToSlash(name))) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				keys = append(keys, keysOf(files, call)...)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// keysOf lists the keys in the arguments of a call, if it is one of a logger.
func keysOf(files *token.FileSet, call *ast.CallExpr) (keys []logKey) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	skip, known := skippedArgs[method.Sel.Name]
	if !known || !aLogger.MatchString(lastName(method.X)) {
		return nil
	}
	for i := skip; i < len(call.Args); i += 2 {
		key := logKey{at: files.Position(call.Args[i].Pos()).String()}
		if lit, ok := call.Args[i].(*ast.BasicLit); ok {
			key.name, _ = strconv.Unquote(lit.Value)
		}
		keys = append(keys, key)
	}
	return keys
}

// lastName is the last name of x.y.log or x.logger().
func lastName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	case *ast.CallExpr:
		if s, ok := x.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "With" {
			return lastName(s.X)
		}
		return lastName(x.Fun)
	}
	return ""
}
