package freshet_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// quoted is a text in backticks.
	quoted = regexp.MustCompile("`([^`\n]+)`")
	// identifier is package.Name, package.Type.Method or package.Type.Field.
	identifier = regexp.MustCompile(`^([a-z]+)(\.[A-Za-z]\w*){1,2}$`)
	// filePath is a path in the repository.
	filePath = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)*$`)
	// link is a link of Markdown to a file.
	link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
)

// TestDesignStatesWhatExists verifies what the pages about the inside state: every identifier, path and link exists.
func TestDesignStatesWhatExists(t *testing.T) {
	pkgs, names := declared(t)
	for _, page := range designPages(t) {
		text := readPage(t, page)
		for _, q := range quoted.FindAllStringSubmatch(text, -1) {
			name := q[1]
			switch id := identifier.FindStringSubmatch(name); {
			case id != nil && pkgs[id[1]]:
				if !names[name] {
					t.Errorf("%s: `%s` is not declared", page, name)
				}
			case filePath.MatchString(name) && inRepository(name):
				if _, err := os.Stat(name); err != nil {
					t.Errorf("%s: `%s` does not exist", page, name)
				}
			}
		}
		for _, l := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), l[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, l[1])
			}
		}
	}
}

// TestDesignHasEveryPackage compares the file map with the tree.
func TestDesignHasEveryPackage(t *testing.T) {
	text := readPage(t, "docs/design.md")
	_, text, _ = strings.Cut(text, "## File map\n")
	text, _, _ = strings.Cut(text, "\n## ")
	listed := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		listed[row[1]]++
	}
	have := packages(t)
	for pkg := range have {
		if pkg != "" && listed[pkg] != 1 {
			t.Errorf("package %s is %d times in the file map of docs/design.md; give it one line", pkg, listed[pkg])
		}
	}
	for pkg := range listed {
		if _, ok := have[pkg]; !ok {
			t.Errorf("the file map of docs/design.md has %s, which is not a package", pkg)
		}
	}
}

// TestDesignStatesEachStepOnce keeps the walk of an event a story: no function in it twice.
func TestDesignStatesEachStepOnce(t *testing.T) {
	text := readPage(t, "docs/design.md")
	_, text, ok := strings.Cut(text, "## One event, step by step\n")
	if !ok {
		t.Fatal("docs/design.md has no walk of an event")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	seen := map[string]bool{}
	for _, q := range quoted.FindAllStringSubmatch(text, -1) {
		if identifier.MatchString(q[1]) && seen[q[1]] {
			t.Errorf("`%s` is there twice", q[1])
		}
		seen[q[1]] = true
	}
	if len(seen) < 30 {
		t.Errorf("the walk states %d names only", len(seen))
	}
}

func designPages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/decisions/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d decisions, %v", len(pages), err)
	}
	return append(pages, "docs/design.md", "CONTRIBUTING.md")
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// inRepository reports whether a text is meant as a path: its first folder is one of ours, or it has a file's extension.
func inRepository(name string) bool {
	first, _, deep := strings.Cut(name, "/")
	if deep {
		return slices.Contains([]string{".ci", "admin", "cmd", "consistency", "consumer", "deploy", "docs", "examples", "internal", "invalidation", "migrations", "producer", "registry", "schemas", "tools"}, first)
	}
	return slices.Contains([]string{".go", ".md", ".mod", ".lua", ".sql"}, path.Ext(name))
}

// declared returns the names of all packages and, as package.Name and package.Type.Member, what they declare outside tests.
func declared(t *testing.T) (pkgs, names map[string]bool) {
	t.Helper()
	pkgs, names = map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"node_modules", "testdata", "tools"}, d.Name())) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkgs[f.Name.Name] = true
		for _, decl := range f.Decls {
			note(names, f.Name.Name, decl)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pkgs, names
}

func note(names map[string]bool, pkg string, decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			names[pkg+"."+d.Name.Name] = true
			return
		}
		names[pkg+"."+receiver(d.Recv.List[0].Type)+"."+d.Name.Name] = true
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				names[pkg+"."+s.Name.Name] = true
				noteFields(names, pkg+"."+s.Name.Name, s.Type)
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names[pkg+"."+n.Name] = true
				}
			}
		}
	}
}

func noteFields(names map[string]bool, typ string, x ast.Expr) {
	s, ok := x.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range s.Fields.List {
		for _, n := range f.Names {
			names[typ+"."+n.Name] = true
		}
	}
}

func receiver(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return receiver(x.X)
	case *ast.IndexExpr:
		return receiver(x.X)
	case *ast.Ident:
		return x.Name
	}
	return ""
}
