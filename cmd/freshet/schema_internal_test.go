package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/lint"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/compat"
)

// dataset makes a folder of one dataset whose schema has these properties beside its id.
func dataset(t *testing.T, properties, more string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"items.yaml": "dataset: items\nschema: items.json\nkey: [id]\n" + more,
		"items.json": `{"type":"object","required":["id"],"properties":{"id":{"type":"string","maxLength":20,"pattern":"^[a-z]+$"}` + properties + `}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSchemaCompatAnswersByItsExitCode(t *testing.T) {
	older := dataset(t, "", "")
	grown := dataset(t, `,"name":{"type":"string","maxLength":10}`, "")
	other := dataset(t, `,"name":{"type":"string","maxLength":10,"pattern":"^a"}`, "")
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		answer compat.Answer
	}{
		{"folders", []string{older, grown}, exitDone, compat.Safe},
		{"strict", []string{older, grown, "--strict"}, exitFailed, compat.Breaking},
		{"backwards", []string{grown, older}, exitFailed, compat.Breaking},
		{"files", []string{filepath.Join(older, "items.json"), filepath.Join(grown, "items.json")}, exitDone, compat.Safe},
		{"pattern", []string{grown, other}, exitFailed, compat.Breaking},
		{"unknown", []string{other, dataset(t, `,"name":{"type":"string","maxLength":10,"pattern":"^b"}`, "")}, exitFailed, compat.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errOut, code := freshet(t, nil, append([]string{"schema", "compat", "--json"}, c.args...)...)
			var r compat.Report
			if err := json.Unmarshal([]byte(out), &r); err != nil || code != c.code || r.Answer != c.answer || len(r.Findings) == 0 {
				t.Errorf("exit code %d, %v, %+v, %s; want %d and %s", code, err, r, errOut, c.code, c.answer)
			}
			out, _, _ = freshet(t, nil, append([]string{"schema", "compat"}, c.args...)...)
			if !strings.Contains(out, "/properties/name") || !strings.HasSuffix(out, "answer: "+string(c.answer)+"\n") {
				t.Errorf("text:\n%s", out)
			}
		})
	}
	for _, wrong := range [][]string{
		{older},
		{older, filepath.Join(grown, "items.json")},
		{older, filepath.Join(grown, "none")},
		{filepath.Join(older, "items.yaml"), filepath.Join(grown, "items.yaml")},
	} {
		if _, errOut, code := freshet(t, nil, append([]string{"schema", "compat"}, wrong...)...); code != exitUsage {
			t.Errorf("exit code %d for %d arguments: %s", code, len(wrong), errOut)
		}
	}
}

func TestSchemaLint(t *testing.T) {
	wide := ""
	for _, name := range strings.Fields("a b c d e f g h i j k l m n o p q") {
		wide += `,"` + name + `":{"type":"string","maxLength":1000}`
	}
	for name, c := range map[string]struct {
		dir  string
		code int
		want []string // level, path, a word
	}{
		"nothing":   {dataset(t, `,"n":{"type":"integer"}`, ""), exitDone, nil},
		"two wrong": {dataset(t, "", "surprise: 1\nkeys: 2\n"), exitFailed, []string{"error", "items.yaml:4: surprise", "", "error", "items.yaml:5: keys", ""}},
		"too wide":  {dataset(t, wide, ""), exitFailed, []string{"error", "replica.table", "68"}},
		"nearly":    {dataset(t, wide[:len(wide)*14/17], ""), exitDone, []string{"advice", "replica.table", "of at most 65535"}},
		"words": {
			dataset(t, `,"t":{"type":"string"},"l":{"type":"array","items":{"format":"uri","maxlength":3}},"n":{"type":"integer","default":1}`, ""), exitDone,
			[]string{
				"advice", "/properties/t", "MEDIUMTEXT", "advice", "/properties/l/items/format", "pattern",
				"advice", "/properties/l/items/maxlength", "misspelt", "advice", "/properties/n/default", "NULL",
			},
		},
		"own type":  {dataset(t, `,"t":{"type":"string","enum":["a","b"]}`, "replica: {table: items, columns: {t: {type: \"enum('a','b')\"}}}\n"), exitDone, nil},
		"not built": {dataset(t, "", "on_data_loss: resync\n"), exitFailed, []string{"error", "", "not built"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, code := freshet(t, nil, "schema", "lint", c.dir, "--json")
			var lines []lint.Line
			if err := json.Unmarshal([]byte(out), &lines); err != nil {
				t.Fatalf("%v: %s %s", err, out, errOut)
			}
			ok := code == c.code && len(lines)*3 == len(c.want)
			for i := 0; ok && i < len(lines); i++ {
				l := lines[i]
				ok = l.Level == c.want[3*i] && strings.Contains(l.Path+l.Text, c.want[3*i+1]) && strings.Contains(l.Text, c.want[3*i+2])
			}
			if !ok {
				t.Errorf("exit code %d, %+v; want %d, %q", code, lines, c.code, c.want)
			}
		})
	}
	loose := dataset(t, "", "")
	text := `{"type":"object","required":["id","gone"],"patternProperties":{"^x":{}},"additionalProperties":true,"properties":{"id":{"type":"string","maxLength":600}}}`
	if err := os.WriteFile(filepath.Join(loose, "items.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, code := freshet(t, []string{"FRESHET_DATASETS=" + loose}, "schema", "lint")
	for _, want := range []string{"give it a pattern", "longer than 512 bytes", "/required", "/patternProperties", "/additionalProperties"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if code != exitDone {
		t.Errorf("advice alone: exit code %d", code)
	}
}

func TestSchemaDDL(t *testing.T) {
	environ := []string{"FRESHET_DATASETS=" + dataset(t, `,"n":{"type":"integer"}`, "")}
	out, errOut, code := freshet(t, environ, "schema", "ddl", "items", "--dialect", "mariadb")
	for _, want := range []string{"CREATE TABLE `items`", "nopad_bin", ";\n\nCREATE OR REPLACE VIEW `items_live`"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q in\n%s%s", code, want, out, errOut)
		}
	}
	out, _, _ = freshet(t, environ, "schema", "ddl", "items", "--view=false", "--json")
	var r ddlReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Statements) != 1 || r.Dialect != "mysql" || !strings.Contains(r.Statements[0], "0900_bin") {
		t.Errorf("%v: %s", err, out)
	}
	for _, wrong := range [][]string{{"items", "--dialect", "oracle"}, {"none"}, {}} {
		if _, _, code := freshet(t, environ, append([]string{"schema", "ddl"}, wrong...)...); code != exitUsage {
			t.Errorf("%q: exit code %d", wrong, code)
		}
	}
}

func TestSchemaHashIsTheCacheSections(t *testing.T) {
	dir := dataset(t, `,"name":{"type":"string","maxLength":10}`, "replica: {table: items}\ncache: {key: \"item:{id}\", derived: [\"item:by:{name}\"]}\n")
	all, err := schemas.LoadDatasets(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := all.Get("items")
	items := sectionHash{"items", want.CacheHash(), "item:{id}", map[string]map[string]string{"item:{id}": {"id": "string"}, "item:by:{name}": {"name": "string"}}}
	for _, args := range [][]string{{"schema", "hash"}, {"schema", "hash", "items"}} {
		out, errOut, code := freshet(t, nil, append(args, "--json", "--datasets", dir)...)
		var got []sectionHash
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitDone || len(got) != 1 || !reflect.DeepEqual(got[0], items) {
			t.Errorf("%v: exit code %d, %v, %+v, %s", args, code, err, got, errOut)
		}
	}
	if _, errOut, code := freshet(t, nil, "schema", "hash", "items", "--datasets", dataset(t, "", "replica: {table: items}\n")); code != exitUsage || !strings.Contains(errOut, "no cache section") {
		t.Errorf("dataset without a section: exit code %d, %s", code, errOut)
	}
}
