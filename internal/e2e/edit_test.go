package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/testenv"
)

// An event that breaks the schema is fixed by hand: its record ends in the corrected state under the same version, on the
// node too, and a later event of the record wins over the fixed one.
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
		Items []struct{ ID, Key string }
	}](t, w.mustRun("deadletters", "list", "--json", "--client-url", url)).Items {
		ids[l.Key] = l.ID
	}
	lettersLookRight(t, w, url, d.Topic, ids["a"])
	edit := func(stdin string, code int, args ...string) (e api.Edit) {
		t.Helper()
		stdout, stderr, got := w.run(stdin, append(applied(append([]string{"deadletters", "edit"}, args...)), "--json", "--client-url", url)...)
		if got != code {
			t.Fatalf("edit %v: exit code %d, want %d\n%s%s", args, got, code, stdout, stderr)
		}
		if code == 0 {
			e = fromJSON[api.Edit](t, stdout)
		}
		return e
	}
	edit(`{"id":"a","n":"six"}`, 1, ids["a"], "--data", "-")
	edit(`{"id"`, 2, ids["a"], "--data", "-")
	edit(``, 2, "nonsense", "--data", "-")
	if e := edit(`{"id":"a","n":50,"body":"fixed"}`, 0, ids["a"], "--data", "-", "--dry-run"); !e.DryRun || e.Outcome != "published" {
		t.Errorf("dry run: %+v", e)
	}
	e := edit(`{"id":"a","n":50,"body":"fixed"}`, 0, ids["a"], "--data", "-")
	if e.Outcome != "published" || e.Version != 5 {
		t.Errorf("edit: %+v", e)
	}
	w.seen(n.Node, e.Token)
	if v, err := n.items.Get(t.Context(), "a"); err != nil || v.N != 50 || v.Body != "fixed" {
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

// lettersLookRight reads two open letters as a person does, of whom one is of record a.
func lettersLookRight(t *testing.T, w *world, url, topic, a string) {
	t.Helper()
	type items struct{ Items []api.Letter }
	list := func(args ...string) []api.Letter {
		t.Helper()
		return ask[items](w, url, 0, append([]string{"deadletters", "list"}, args...)...).Items
	}
	first := list("--limit", "1", "--dataset", "items", "--reason", "schema", "--since", "1h")
	if len(first) != 1 {
		t.Fatalf("first page: %+v", first)
	}
	if rest := list("--after", first[0].ID); len(rest) != 1 || rest[0].ID == first[0].ID {
		t.Errorf("after %s come %+v", first[0].ID, rest)
	}
	if all := list("--limit", "5000"); len(all) != 2 {
		t.Errorf("all: %+v", all)
	}
	source := strings.Split(first[0].ID, "@")[0]
	place := []string{"--topic", topic, "--partition", source[strings.LastIndex(source, "/")+1:], "--from", strings.Split(strings.Split(first[0].ID, "@")[1], ".")[0]}
	if got := list(append(place, "--limit", "1")...); len(got) != 1 || got[0].ID != first[0].ID {
		t.Errorf("%v: %+v, want %s", place, got, first[0].ID)
	}
	if got := list("--state", "discarded"); len(got) != 0 {
		t.Errorf("discarded: %+v", got)
	}
	if got := ask[struct{ Items []api.LetterGroup }](w, url, 0, "deadletters", "groups").Items; len(got) != 1 || got[0].Count != 2 || got[0].Reason != "schema" {
		t.Errorf("groups: %+v", got)
	}
	if out := w.mustRun("deadletters", "groups", "--client-url", url); !strings.Contains(out, "schema") {
		t.Errorf("groups: %s", out)
	}
	shown := w.mustRun("deadletters", "show", a, "--data", "--client-url", url)
	for _, want := range []string{a, `{"id":"a","n":"five"}`, "replica", "no row", "shared", "header ce_id"} {
		if !strings.Contains(shown, want) {
			t.Errorf("show does not have %q:\n%s", want, shown)
		}
	}
	if out := w.mustRun("deadletters", "show", a, "--client-url", url); strings.Contains(out, "five") || strings.Contains(out, "header") {
		t.Errorf("content without --data:\n%s", out)
	}
}
