package admin

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/lint"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/compat"
)

type checkInput struct {
	Dataset string `path:"dataset" maxLength:"64"`
	Body    struct {
		Declaration string          `json:"declaration,omitempty" maxLength:"500000" doc:"YAML; absent: the one in force"`
		Schema      json.RawMessage `json:"schema,omitempty" doc:"JSON Schema; absent: the one in force"`
		Strict      bool            `json:"strict,omitempty" doc:"earlier events may carry any property that the schema in force does not forbid"`
	}
}

type checkOutput struct{ Body api.SchemaCheck }

func (ds *datasets) check(ctx context.Context, in *checkInput) (*checkOutput, error) {
	d, err := ds.answers.dataset(in.Dataset)
	if err != nil {
		return nil, err
	}
	if in.Body.Declaration == "" && len(in.Body.Schema) == 0 {
		return nil, huma.Error422UnprocessableEntity("nothing is proposed: give declaration, schema, or both")
	}
	folder, err := ds.proposed(d, in.Body.Declaration, in.Body.Schema)
	if err != nil {
		return nil, err
	}
	out := &checkOutput{api.SchemaCheck{Findings: []api.SchemaFinding{}}}
	set, err := schemas.LoadDatasets(folder)
	if err != nil {
		out.Body.Findings = refusals(err)
		return out, nil
	}
	next, ok := set.Get(d.Name)
	if !ok {
		out.Body.Findings = []api.SchemaFinding{{
			Level: lint.Error, Path: "dataset", Text: "the declaration is of another dataset than " + d.Name, Fix: "write dataset: " + d.Name + ", or check it against the dataset that it declares",
		}}
		return out, nil
	}
	for _, f := range compat.Datasets(ds.overview.datasets, set, compat.Config{Strict: in.Body.Strict}).Findings {
		if f.Dataset == d.Name {
			out.Body.Findings = append(out.Body.Findings, api.SchemaFinding{Level: string(f.Answer), Path: f.Path, Text: f.Reason, Fix: compatFix(&f)})
		}
	}
	for _, l := range lint.Dataset(next) {
		out.Body.Findings = append(out.Body.Findings, api.SchemaFinding{Level: l.Level, Path: l.Path, Text: l.Text})
	}
	ds.plan(ctx, next, &out.Body)
	rank := []string{lint.Error, string(compat.Breaking), string(compat.Unknown), lint.Advice, string(compat.Safe)}
	slices.SortStableFunc(out.Body.Findings, func(a, b api.SchemaFinding) int {
		return cmp.Compare(slices.Index(rank, a.Level), slices.Index(rank, b.Level))
	})
	out.Body.Compatible = !slices.ContainsFunc(out.Body.Findings, func(f api.SchemaFinding) bool { return slices.Index(rank, f.Level) < 3 })
	return out, nil
}

// plan adds what would be done to the table, and what cannot be.
func (ds *datasets) plan(ctx context.Context, next *schemas.Dataset, out *api.SchemaCheck) {
	ddl, err := tables.Plan(ctx, ds.overview.sql, []*schemas.Dataset{next})
	if err != nil {
		ds.answers.log.Debug("table cannot be looked at for a proposed declaration", "dataset", next.Name, "error", err)
		return
	}
	for _, s := range ddl.Statements {
		out.Statements = append(out.Statements, s.SQL)
	}
	out.Findings = append(out.Findings, tableFindings(ddl.Problems)...)
}

func refusals(err error) []api.SchemaFinding {
	all := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		all = joined.Unwrap()
	}
	var out []api.SchemaFinding
	for _, err := range all {
		f := api.SchemaFinding{Level: lint.Error, Text: err.Error()}
		var field *schemas.FieldError
		if errors.As(err, &field) {
			f.Path, f.Text, f.Fix = field.Field, field.Problem, field.Fix
		}
		out = append(out, f)
	}
	return out
}

// compatFix says what to do about a difference.
func compatFix(f *compat.Finding) string {
	inSchema := f.Path == "" || f.Path[0] == '/'
	switch {
	case f.Answer == compat.Safe:
		return "nothing to do"
	case f.Answer == compat.Unknown && inSchema:
		return "compare the two by hand; a dry run of a replay shows which stored events the new schema refuses"
	case inSchema:
		return "accept what the schema in force accepts; or let every producer write the new form first, then replay the topic as a dry run until nothing is refused"
	default:
		return "keep " + f.Path + " unchanged; or declare a new dataset beside this one, with a topic and a table of its own, and move readers to it"
	}
}

// schemaLine is where a declaration names its schema.
var schemaLine = regexp.MustCompile(`(?m)^schema:\s*["']?([^"'\s#]+)`)

// maxFolderFile bounds each file of the folder of datasets, as loading does.
const maxFolderFile = 1 << 20

// proposed returns the folder of datasets with a declaration and a schema in place of those of d.
func (ds *datasets) proposed(d *schemas.Dataset, declaration string, schema json.RawMessage) (fs.FS, error) {
	files := map[string][]byte{}
	if ds.folder != nil {
		if err := readFolder(ds.folder, files); err != nil {
			return nil, huma.Error409Conflict("the folder of datasets cannot be read: " + err.Error())
		}
	} else if declaration == "" || len(schema) == 0 {
		return nil, huma.Error422UnprocessableEntity("this process has no folder of datasets: give declaration and schema")
	}
	own := cmp.Or(d.File, d.Name+".yaml")
	if declaration != "" {
		files[own] = []byte(declaration)
	}
	if m := schemaLine.FindSubmatch(files[own]); m != nil && len(schema) > 0 {
		files[path.Clean(string(m[1]))] = schema
	}
	return archived(files)
}

func readFolder(folder fs.FS, files map[string][]byte) error {
	return fs.WalkDir(folder, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if ext := path.Ext(name); ext != ".yaml" && ext != ".yml" && ext != ".json" {
			return nil
		}
		if info, err := e.Info(); err != nil || info.Size() > maxFolderFile {
			return err
		}
		files[name], err = fs.ReadFile(folder, name)
		return err
	})
}

// archived returns files as a folder in memory.
func archived(files map[string][]byte) (fs.FS, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, text := range files {
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = f.Write(text)
		}
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("the proposed files cannot be laid out: " + err.Error())
		}
	}
	if err := w.Close(); err != nil {
		return nil, huma.Error422UnprocessableEntity("the proposed files cannot be laid out: " + err.Error())
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("the proposed files cannot be laid out: " + err.Error())
	}
	return r, nil
}
