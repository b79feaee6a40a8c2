package schemas

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/freshet/freshet/internal/jsontext"
)

const draft2020 = "https://json-schema.org/draft/2020-12/schema"

// schemaDoc is a JSON Schema file that was read and compiled.
type schemaDoc struct {
	root     map[string]any
	compiled *jsonschema.Schema
	props    []Property
}

// readSchema reads the file that the declaration names; nil after a problem.
func (d *declaration) readSchema(root *section, fsys fs.FS) *schemaDoc {
	file := root.text("schema")
	line := d.lines["schema"]
	if file == "" {
		if line == 0 {
			d.fail(root.line, "schema", "is missing", "name the JSON Schema file of the record's full state")
		}
		return nil
	}
	if !fs.ValidPath(file) || file == "." {
		d.fail(line, "schema", "is not a path inside the folder of the datasets", "name a file beside the declaration, such as users.json")
		return nil
	}
	return d.loadSchema(fsys, file, line)
}

// loadSchema reads a schema file; line is where the declaration names it.
func (d *declaration) loadSchema(fsys fs.FS, file string, line int) *schemaDoc {
	text, err := readSmallFile(fsys, file)
	if err != nil {
		d.fail(line, "schema", "cannot be read: "+err.Error(), "")
		return nil
	}
	tree, err := jsontext.ParseTree(string(text))
	if err != nil {
		d.failSchema(file, 0, "", "is not valid JSON: "+err.Error(), "")
		return nil
	}
	doc := &schemaDoc{}
	var isObject bool
	if doc.root, isObject = tree.(map[string]any); !isObject || doc.root["type"] != any("object") {
		d.failSchema(file, 1, "", `does not say "type": "object" at its root`, "a record is a JSON object")
		return nil
	}
	lines := propertyLines(text)
	if draft, ok := doc.root["$schema"]; ok && strings.TrimSuffix(fmt.Sprint(draft), "#") != draft2020 {
		d.failSchema(file, lines["$schema"], "$schema", "is not JSON Schema 2020-12", `write "`+draft2020+`"`)
		return nil
	}
	if doc.compiled, err = compileSchema(fsys, file, doc.root); err != nil {
		d.failSchema(file, 0, "", "does not compile: "+compileProblem(err), "")
		return nil
	}
	var problems []propertyProblem
	doc.props, problems = readProperties(doc.root)
	for _, p := range problems {
		d.failSchema(file, lines["properties/"+p.name], "properties/"+p.name, p.problem, p.fix)
	}
	if len(doc.props) == 0 && len(problems) == 0 {
		d.failSchema(file, 1, "properties", "are missing", "declare the record's properties")
	}
	return doc
}

// failSchema notes a problem of the schema's file rather than the declaration's.
func (d *declaration) failSchema(file string, line int, field, problem, fix string) {
	in := declaration{file: file}
	in.fail(line, field, problem, fix)
	d.errs = append(d.errs, in.errs...)
}

func readSmallFile(fsys fs.FS, file string) ([]byte, error) {
	text, err := fs.ReadFile(fsys, file)
	if err == nil && len(text) > maxFileBytes {
		err = errors.New("it is larger than 1 MiB")
	}
	return text, err
}

// compileProblem keeps the first line of what the compiler says.
func compileProblem(err error) string {
	var se *jsonschema.SchemaValidationError
	if errors.As(err, &se) {
		return strings.ReplaceAll(se.Err.Error(), "\n", " ")
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// compileSchema compiles by JSON Schema 2020-12 with the formats date-time and date asserted; all other formats are
// annotations. References may lead to other files of fsys and nowhere else.
func compileSchema(fsys fs.FS, file string, root map[string]any) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(fileLoader{fsys})
	c.AssertFormat()
	anything := func(any) error { return nil }
	for _, name := range []string{
		"json-pointer", "relative-json-pointer", "uuid", "duration", "period", "ipv4", "ipv6", "hostname", "email", "time",
		"uri", "iri", "uri-reference", "iri-reference", "uri-template", "semver",
	} {
		c.RegisterFormat(&jsonschema.Format{Name: name, Validate: anything})
	}
	c.RegisterFormat(&jsonschema.Format{Name: "date-time", Validate: textFormat("date-time", isDateTime)})
	c.RegisterFormat(&jsonschema.Format{Name: "date", Validate: textFormat("date", isDate)})
	location := fileURL(file)
	if err := c.AddResource(location, root); err != nil {
		return nil, err
	}
	return c.Compile(location)
}

func textFormat(name string, is func(string) bool) func(any) error {
	refused := errors.New("is no " + name)
	return func(v any) error {
		if s, ok := v.(string); ok && !is(s) {
			return refused
		}
		return nil
	}
}

// fileLoader resolves references within the folder of the datasets; the network is never asked.
type fileLoader struct{ fsys fs.FS }

// Load implements jsonschema.URLLoader.
func (l fileLoader) Load(location string) (any, error) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "file" {
		return nil, errors.New("only files beside the schema are read; copy it there")
	}
	text, err := readSmallFile(l.fsys, strings.TrimPrefix(u.Path, "/"))
	if err != nil {
		return nil, err
	}
	return jsontext.ParseTree(string(text))
}

func fileURL(file string) string { return (&url.URL{Scheme: "file", Path: "/" + file}).String() }

// propertyLines finds the lines of the root's members and of the declared properties. JSON is YAML, which knows lines;
// where it is not, errors have no line.
func propertyLines(text []byte) map[string]int {
	lines := map[string]int{}
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
		return lines
	}
	root := doc.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		name, v := root.Content[i], root.Content[i+1]
		lines[name.Value] = name.Line
		if name.Value != "properties" {
			continue
		}
		for j := 0; j+1 < len(v.Content); j += 2 {
			lines["properties/"+v.Content[j].Value] = v.Content[j].Line
		}
	}
	return lines
}
