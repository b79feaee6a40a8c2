package e2e_test

import (
	"encoding/json"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/admin"
	"github.com/freshet/freshet/internal/testenv"
)

// An event that breaks the schema is mended by hand: its record ends in the corrected state under the same version, on the
// node too, and a later event of the record wins over the mended one.
func TestLetterIsEditedByCommand(t *testing.T) {
	w := itemWorld(t)
	_, url := w.serve("w1")
	n := w.node("n1")
	d, _ := w.datasets.Get("items")
	kc := testenv.Kafka(t).Client(t)
	bad := func(key string) {
		t.Helper()
		if err := kc.ProduceSync(t.Context(), &kgo.Record{Topic: d.Topic, Key: []byte(key), Value: []byte(`{"id":"` + key + `","n":"five"}`), Headers: headers(key, 5, nil)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	bad("a")
	bad("b")
	w.reaches(2, "SELECT COUNT(*) FROM freshet_dead_letter WHERE state = 'open' AND reason = 'schema' AND version = 5")
	ids := map[string]string{}
	for _, l := range fromJSON[struct {
		Letters []struct{ ID, Key string }
	}](t, w.mustRun("deadletters", "list", "--json")).Letters {
		ids[l.Key] = l.ID
	}
	edit := func(stdin string, code int, args ...string) (e admin.Edit) {
		t.Helper()
		stdout, stderr, got := w.run(stdin, append(append([]string{"deadletters", "edit"}, args...), "--json", "--client-url", url)...)
		if got != code {
			t.Fatalf("edit %v: exit code %d, want %d\n%s%s", args, got, code, stdout, stderr)
		}
		if code == 0 {
			e = fromJSON[admin.Edit](t, stdout)
		}
		return e
	}
	edit(`{"id":"a","n":"six"}`, 1, ids["a"], "--data", "-")
	edit(`{"id"`, 2, ids["a"], "--data", "-")
	edit(``, 2, "nonsense", "--data", "-")
	if e := edit(`{"id":"a","n":50,"body":"mended"}`, 0, ids["a"], "--data", "-", "--dry-run"); !e.DryRun || e.Outcome != "published" {
		t.Errorf("dry run: %+v", e)
	}
	e := edit(`{"id":"a","n":50,"body":"mended"}`, 0, ids["a"], "--data", "-")
	if e.Outcome != "published" || e.Version != 5 {
		t.Errorf("edit: %+v", e)
	}
	w.seen(n.Node, e.Token)
	if v, err := n.items.Get(t.Context(), "a"); err != nil || v.N != 50 || v.Body != "mended" {
		t.Errorf("the node reads %+v, %v", v, err)
	}
	w.reaches(1, "SELECT COUNT(*) FROM freshet_dead_letter WHERE state = 'redriven' AND successor = ?", e.EventID)
	edit(`{"id":"a","n":51}`, 1, ids["a"], "--data", "-")

	w.seen(n.Node, publish(t, w.producer(), upsert("items", "b", 6, "later")))
	if e := edit(`{"id":"b","n":50}`, 1, ids["b"], "--data", "-"); e.Outcome != "" {
		t.Errorf("a letter that was superseded was edited: %+v", e)
	}
	w.reaches(1, "SELECT COUNT(*) FROM items WHERE id = 'b' AND _version = 6")
}

func fromJSON[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return v
}
