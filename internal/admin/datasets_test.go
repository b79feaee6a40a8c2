package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/schemas"
)

// withFolder gives the API the folder of the rig's datasets.
func withFolder(t *testing.T) func(*admin.Config) {
	return func(c *admin.Config) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "items.json"), itemSchema)
		write(t, filepath.Join(dir, "items.yaml"), fmt.Sprintf(itemDataset, c.Datasets.All()[0].Topic))
		c.Folder = os.DirFS(dir)
		c.Outbox = func(context.Context) (api.Outbox, error) { return api.Outbox{Relay: "r1", Rows: 7, Oldest: 2}, nil }
	}
}

// A dataset is shown with its declaration, columns, table and source.
func TestShowDataset(t *testing.T) {
	r := newRig(t, withFolder(t))
	r.publish(1, 1)
	var d api.DatasetDetail
	r.want(http.StatusOK, "viewer", http.MethodGet, "/v1/datasets/items", nil).into(t, &d)
	if d.Name != "items" || !strings.Contains(d.Declaration, "dataset: items") || !strings.Contains(string(d.Schema), `"maxLength":64`) || !strings.Contains(d.DDL, "CREATE TABLE") {
		t.Errorf("%+v", d)
	}
	want := []api.Property{{Name: "id", Column: "id", Kind: "string", MaxLength: 64, Key: true}, {Name: "n", Column: "n", Kind: "integer"}}
	if !slices.Equal(d.Properties, want) || d.Cache == nil || d.Cache.Key != "item:{id}" || d.Policies.OnStorm != "pause" {
		t.Errorf("properties %+v, cache %+v, policies %+v", d.Properties, d.Cache, d.Policies)
	}
	if d.Source.Outbox == nil || d.Source.Outbox.Rows != 7 || d.Source.Newest == nil {
		t.Errorf("source %+v", d.Source)
	}
	for _, f := range d.Findings {
		if f.Level == "error" {
			t.Errorf("finding %+v", f)
		}
	}
	_, err := r.db.Exec("DROP TABLE items")
	must(t, err)
	r.want(http.StatusOK, "viewer", http.MethodGet, "/v1/datasets/items", nil).into(t, &d)
	if len(d.Findings) == 0 || d.Findings[0].Level != "error" || d.Findings[0].Fix == "" {
		t.Errorf("without its table: %+v", d.Findings)
	}
	r.want(http.StatusNotFound, "viewer", http.MethodGet, "/v1/datasets/none", nil)
}

// What a person pastes is compared with what is in force; each finding has a fix, and nothing is changed.
func TestCheckDataset(t *testing.T) {
	r := newRig(t, withFolder(t))
	topic := r.topic()
	check := func(body map[string]any) (c api.SchemaCheck) {
		t.Helper()
		r.want(http.StatusOK, "viewer", http.MethodPost, "/v1/datasets/items/check", body).into(t, &c)
		for _, f := range c.Findings {
			if f.Text == "" || f.Fix == "" && (f.Level == "breaking" || f.Level == "unknown") {
				t.Errorf("finding %+v", f)
			}
		}
		return c
	}
	schema := func(properties string) map[string]any {
		return map[string]any{"type": "object", "required": []string{"id"}, "properties": map[string]any{
			"id": map[string]any{"type": "string", "maxLength": 64}, "n": map[string]any{"type": properties}, "more": map[string]any{"type": "string", "maxLength": 9},
		}}
	}
	if c := check(map[string]any{"schema": schema("integer")}); !c.Compatible || len(c.Statements) == 0 || !strings.Contains(strings.Join(c.Statements, " "), "`more`") {
		t.Errorf("a new property: %+v", c)
	}
	if c := check(map[string]any{"schema": schema("string")}); c.Compatible || c.Findings[0].Level == "safe" {
		t.Errorf("another type: %+v", c)
	}
	yaml := fmt.Sprintf(itemDataset, topic)
	if c := check(map[string]any{"declaration": strings.ReplaceAll(yaml, "item:{id}", "thing:{id}")}); len(c.Findings) == 0 || !slices.ContainsFunc(c.Findings, func(f api.SchemaFinding) bool { return strings.HasPrefix(f.Path, "cache") }) {
		t.Errorf("another cache key: %+v", c)
	}
	if c := check(map[string]any{"declaration": strings.ReplaceAll(yaml, "table: items", "table: others")}); c.Compatible || c.Findings[0].Path != "replica.table" || c.Findings[0].Level != "breaking" {
		t.Errorf("another table: %+v", c)
	}
	if c := check(map[string]any{"declaration": strings.ReplaceAll(yaml, "key: [id]", "kee: [id]")}); c.Compatible || c.Findings[0].Level != "error" || len(c.Statements) > 0 {
		t.Errorf("a word that does not exist: %+v", c)
	}
	if c := check(map[string]any{"declaration": strings.ReplaceAll(yaml, "dataset: items", "dataset: others")}); c.Compatible || c.Findings[0].Path != "dataset" {
		t.Errorf("another dataset: %+v", c)
	}
	if c := check(map[string]any{"declaration": strings.ReplaceAll(yaml, "items.json", "new.json"), "schema": schema("integer")}); !c.Compatible {
		t.Errorf("both, under another name: %+v", c)
	}
	r.want(http.StatusUnprocessableEntity, "viewer", http.MethodPost, "/v1/datasets/items/check", "{}")
	var rows int
	must(t, r.db.QueryRow("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND column_name = 'more'").Scan(&rows))
	if rows != 0 {
		t.Error("a check changed the table")
	}
}

// Without a folder both texts are needed.
func TestCheckWithoutAFolder(t *testing.T) {
	r := newRig(t, nil)
	r.want(http.StatusUnprocessableEntity, "viewer", http.MethodPost, "/v1/datasets/items/check", map[string]any{"declaration": "dataset: items"})
	var c api.SchemaCheck
	r.want(http.StatusOK, "viewer", http.MethodPost, "/v1/datasets/items/check", `{"declaration":"dataset: items\ntopic: `+schemas.KafkaTopic(r.topic())+`\nschema: s.json\nkey: [id]\nreplica: {table: items}\ncache: {key: \"item:{id}\"}\n","schema":`+itemSchema+`}`).into(t, &c)
	if !c.Compatible {
		t.Errorf("%+v", c)
	}
}
