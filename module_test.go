package freshet_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A program of another module, in testdata/service, uses every public package and is built without the network.
func TestAnotherModuleUsesEachPublicPackage(t *testing.T) {
	const program = "testdata/service/main.go"
	f, err := parser.ParseFile(token.NewFileSet(), program, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, imp := range f.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if ours, ok := strings.CutPrefix(p, module+"/"); ok {
			used = append(used, ours)
		}
	}
	for _, pkg := range publicPackages(t) {
		if !slices.Contains(used, pkg) {
			t.Errorf("%s does not use package %s: add how another module uses it, or move the package below internal", program, pkg)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  fmt.Sprintf("module example.com/service\n\ngo %s\n\nrequire %s v0.0.0\n\nreplace %[2]s => %s\n", goVersion(t), module, here),
		"go.sum":  readPage(t, "go.sum"),
		"main.go": readPage(t, program),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "vet", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go vet in another module: %v\n%s", err, out)
	}
}

// goVersion is the version of Go that the module states.
func goVersion(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(readPage(t, "go.mod")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "go "); ok {
			return v
		}
	}
	t.Fatal("go.mod states no version of Go")
	return ""
}
