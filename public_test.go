package freshet_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// hidden are the modules whose types no exported name may need: which ones Freshet uses is its own affair.
var hidden = []string{"github.com/segmentio/kafka-go"}

// public reports whether other modules can import a package of ours and are meant to.
func public(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return pkg != "" && first != "cmd" && first != "examples" && !slices.Contains(strings.Split(pkg, "/"), "internal")
}

func publicPackages(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(packages(t))), func(pkg string) bool { return !public(pkg) })
}

// Another module can name every type that an exported name of a public package needs.
func TestPublicPackagesNeedNoHiddenTypes(t *testing.T) {
	var paths []string
	for _, pkg := range publicPackages(t) {
		paths = append(paths, module+"/"+pkg)
	}
	load := compiled(t, paths)
	var all []*types.Package
	for _, p := range paths {
		pkg, err := load.Import(p)
		if err != nil {
			t.Fatalf("load %s: %v", p, err)
		}
		all = append(all, pkg)
	}
	if len(all) < 10 {
		t.Fatalf("%d public packages only: the search is broken", len(all))
	}
	for _, problem := range unusable(all) {
		t.Error(problem)
	}
}

// Each kind of place where a type can be needed is looked at.
func TestPublicPackagesAreSearchedEverywhere(t *testing.T) {
	sources := map[string]string{
		"/internal/deep": `package deep
			type T struct{ N int }
			type Aliased struct{ Part Part; Deeper map[string]T }
			type Part int
			func (Part) Method(T) {}
			type Embedded struct{ Promoted T }
			func (*Embedded) Promoting() T { return T{} }`,
		"/face": `package face
			import "github.com/freshet/freshet/internal/deep"
			type own struct{ N int }
			type Fine struct{ hidden deep.T; N *int; Self []*Fine }
			func (f *Fine) unexported(deep.T) {}
			func Result() own { return own{} }
			type Aliased = deep.Aliased
			type Struct struct{ Field []deep.T }
			func (*Struct) Method(f func(*deep.T)) {}
			type Embeds struct{ deep.Embedded }
			type Interface interface{ Get() chan deep.T }
			type Generic[V interface{ *deep.T }] struct{}
			type Instance struct{ Of Box[deep.T] }
			type Box[V any] struct{ V V }
			var Var [2]deep.T
			func Func(own) (deep.T, error) { return deep.T{}, nil }
			const Const deep.Part = 1`,
	}
	load := &checked{t: t, sources: sources, done: map[string]*types.Package{}}
	face, err := load.Import(module + "/face")
	if err != nil {
		t.Fatal(err)
	}
	got := unusable([]*types.Package{face})
	for _, want := range []string{
		"face.Aliased.Part: ", "face.Aliased.Deeper: ", "face.Struct.Field: ", "face.Struct.Method: ", "face.Embeds.Promoted: ",
		"face.Embeds.Promoting: ", "face.Interface.Get: ", "face.Generic: ", "face.Instance.Of: ", "face.Var: ", "face.Func: needs internal/deep.T", "face.Func: needs face.own",
		"face.Const: needs internal/deep.Part",
	} {
		i := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, want) })
		if i < 0 {
			t.Errorf("nothing is found at %s", want)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "face.Embeds.Embedded: ") }) // the embedded type itself
	if len(got) > 0 {
		t.Errorf("found what is not a problem: %q", got)
	}
}

// compiled returns an importer of packages as the compiler wrote them.
func compiled(t *testing.T, paths []string) types.Importer {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}, paths...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		p, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		files[p] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(p string) (io.ReadCloser, error) { return os.Open(files[p]) })
}

// checked is an importer of packages in memory.
type checked struct {
	t       *testing.T
	sources map[string]string // by path below the module
	done    map[string]*types.Package
}

// Import implements types.Importer.
func (c *checked) Import(p string) (*types.Package, error) {
	if pkg := c.done[p]; pkg != nil {
		return pkg, nil
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, p, c.sources[strings.TrimPrefix(p, module)], 0)
	if err != nil {
		return nil, err
	}
	pkg, err := (&types.Config{Importer: c}).Check(p, set, []*ast.File{f}, nil)
	c.done[p] = pkg
	return pkg, err
}

// unusable lists the exported names of public packages that need a type which another module cannot name.
func unusable(pkgs []*types.Package) []string {
	a := &api{aliased: map[*types.TypeName]bool{}, found: map[string]bool{}}
	for _, pkg := range pkgs {
		for obj := range exported(pkg) {
			if alias, ok := obj.(*types.TypeName); ok && alias.IsAlias() {
				if n, ok := types.Unalias(alias.Type()).(*types.Named); ok {
					a.aliased[n.Obj()] = true
				}
			}
		}
	}
	for _, pkg := range pkgs {
		for obj := range exported(pkg) {
			a.object(short(pkg)+"."+obj.Name(), obj)
		}
	}
	return slices.Sorted(maps.Keys(a.found))
}

func exported(pkg *types.Package) func(yield func(types.Object) bool) {
	return func(yield func(types.Object) bool) {
		for _, name := range pkg.Scope().Names() {
			if token.IsExported(name) && !yield(pkg.Scope().Lookup(name)) {
				return
			}
		}
	}
}

// short is a package's path below the module, or its whole path.
func short(pkg *types.Package) string { return strings.TrimPrefix(pkg.Path(), module+"/") }

// api walks through what other modules see.
type api struct {
	aliased map[*types.TypeName]bool // types of ours that a public package has under a name of its own
	found   map[string]bool
}

// object looks at an exported name at a place such as producer.Config.
func (a *api) object(at string, obj types.Object) {
	name, isType := obj.(*types.TypeName)
	if !isType {
		a.needs(at, obj.Type(), false)
		return
	}
	t := types.Unalias(name.Type())
	named, ok := t.(*types.Named)
	if !ok {
		a.needs(at, t, false)
		return
	}
	for i := range named.TypeParams().Len() {
		a.needs(at, named.TypeParams().At(i).Constraint(), false)
	}
	if named.Obj().Pkg() != nil && strings.HasPrefix(named.Obj().Pkg().Path(), module) {
		a.members(at, named)
	}
}

// members looks at the fields and methods of a type, promoted ones too.
func (a *api) members(at string, named *types.Named) {
	if s, ok := named.Underlying().(*types.Struct); ok {
		a.fields(at, s, map[*types.Struct]bool{})
	} else {
		a.needs(at, named.Underlying(), false)
	}
	methods := types.NewMethodSet(types.NewPointer(named))
	for i := range methods.Len() {
		if m := methods.At(i).Obj(); m.Exported() {
			a.needs(at+"."+m.Name(), m.Type(), false)
		}
	}
}

func (a *api) fields(at string, s *types.Struct, seen map[*types.Struct]bool) {
	if seen[s] {
		return
	}
	seen[s] = true
	for f := range s.Fields() {
		if f.Exported() {
			a.needs(at+"."+f.Name(), f.Type(), true)
		}
		if !f.Embedded() {
			continue
		}
		t := f.Type()
		if p, ok := t.(*types.Pointer); ok {
			t = p.Elem()
		}
		if inner, ok := t.Underlying().(*types.Struct); ok && f.Pkg() != nil {
			a.fields(at, inner, seen)
		}
	}
}

// needs looks at a type that a place mentions. given: the other module has to make a value of it, as for a parameter.
func (a *api) needs(at string, t types.Type, given bool) {
	switch t := t.(type) {
	case *types.Alias:
		a.needs(at, types.Unalias(t), given)
	case *types.Named:
		a.named(at, t, given)
	case *types.Pointer:
		a.needs(at, t.Elem(), given)
	case *types.Slice:
		a.needs(at, t.Elem(), given)
	case *types.Array:
		a.needs(at, t.Elem(), given)
	case *types.Chan:
		a.needs(at, t.Elem(), given)
	case *types.Map:
		a.needs(at, t.Key(), given)
		a.needs(at, t.Elem(), given)
	case *types.Signature:
		for v := range t.Params().Variables() {
			a.needs(at, v.Type(), true)
		}
		for v := range t.Results().Variables() {
			a.needs(at, v.Type(), given)
		}
		for i := range t.TypeParams().Len() {
			a.needs(at, t.TypeParams().At(i).Constraint(), false)
		}
	case *types.Struct:
		a.fields(at, t, map[*types.Struct]bool{})
	case *types.Interface:
		a.iface(at, t, given)
	case *types.Union:
		for i := range t.Len() {
			a.needs(at, t.Term(i).Type(), given)
		}
	}
}

func (a *api) iface(at string, t *types.Interface, given bool) {
	for i := range t.NumExplicitMethods() {
		if m := t.ExplicitMethod(i); m.Exported() {
			a.needs(at+"."+m.Name(), m.Type(), false)
		}
	}
	for i := range t.NumEmbeddeds() {
		a.needs(at, t.EmbeddedType(i), given)
	}
}

func (a *api) named(at string, t *types.Named, given bool) {
	for i := range t.TypeArgs().Len() {
		a.needs(at, t.TypeArgs().At(i), given)
	}
	pkg := t.Obj().Pkg()
	if pkg == nil {
		return // error, comparable
	}
	rest, ours := strings.CutPrefix(pkg.Path(), module+"/")
	foreign := slices.ContainsFunc(hidden, func(h string) bool { return pkg.Path() == h || strings.HasPrefix(pkg.Path(), h+"/") })
	secret := ours && !a.aliased[t.Obj()] && (!public(rest) || given && !t.Obj().Exported())
	if foreign || secret {
		a.found[fmt.Sprintf("%s: needs %s.%s, which another module cannot name; give it a name in a public package, or unexport what needs it", at, short(pkg), t.Obj().Name())] = true
	}
}
