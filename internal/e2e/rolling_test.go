package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// withFolder is the same world for programs that were given another dataset folder. Nothing is migrated.
func (w *world) withFolder(files map[string]string) *world {
	w.t.Helper()
	newer := *w
	newer.dir = w.t.TempDir()
	newer.workers = 100
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(newer.dir, name), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	set, err := schemas.LoadDatasets(os.DirFS(newer.dir))
	if err != nil {
		w.t.Fatal(err)
	}
	newer.datasets = set
	return &newer
}

// metric reads one of a worker's metrics.
func metric(ctx context.Context, worker *testenv.Process, name string) (string, error) {
	text, err := healthPage(ctx, worker, "/metrics")
	if err != nil {
		return "", err
	}
	v := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
	if v == nil {
		return "", fmt.Errorf("there is no metric %s", name)
	}
	return v[1], nil
}

// withNick is an event that has the new property.
func withNick(dataset, key string, version int64) schemas.Event {
	data, _ := json.Marshal(map[string]any{"id": key, "n": version, "body": "x", "nick": "nick of " + key})
	return schemas.Event{Dataset: dataset, Key: key, Op: schemas.Upsert, Version: version, Data: data}
}

// TestNewPropertyRollsOut: services, the table and the workers learn of a new optional property one after the other, in
// the worst order, and nothing is refused, lost or stopped but what the declaration asks to refuse.
func TestNewPropertyRollsOut(t *testing.T) {
	kafka := testenv.Kafka(t)
	items, calm := kafka.Topic(t), kafka.Topic(t)
	files := map[string]string{
		"items.yaml": fmt.Sprintf(itemDataset, items), "calm.yaml": fmt.Sprintf(calmDataset, calm) + "unknown_properties: reject\n",
		"items.json": itemSchema,
	}
	w := newWorld(t, testenv.Redis(t), files)
	files["items.json"] = strings.Replace(itemSchema, `"properties": {`, `"properties": {"nick": {"type": "string", "maxLength": 40},`, 1)
	newer := w.withFolder(files)
	if out := w.mustRun("schema", "compat", w.dir, newer.dir); !strings.Contains(out, "roll out workers before services") {
		t.Errorf("compat does not say what to mind:\n%s", out)
	}
	old := w.startWorker()
	p := newer.producer()

	// Services first: what ignores is counted and applied without the property, what rejects becomes a letter.
	publish(t, p, withNick("items", "early", 1), withNick("calm", "early", 1))
	w.reaches(1, "SELECT COUNT(*) FROM items WHERE id = 'early'")
	w.reaches(1, "SELECT COUNT(*) FROM freshet_dead_letter WHERE dataset = 'calm' AND reason = 'schema' AND state = 'open'")
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		if got, err := metric(ctx, old, "freshet_unknown_properties_total"); err != nil || got != "1" {
			return fmt.Errorf("%s unknown properties, %w", got, err)
		}
		return nil
	})

	// A new worker before the table reports what is to be done. Its datasets wait; others would flow.
	tooSoon := newer.startWorker()
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		log, err := os.ReadFile(tooSoon.LogFile())
		if err == nil && !strings.Contains(string(log), "table items lacks the column nick; run freshet migrate datasets") {
			err = fmt.Errorf("the log does not name the column and the fix")
		}
		return err
	})
	tooSoon.Kill(t)
	const columns = "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND column_name = 'nick'"
	out := newer.mustRun("migrate", "datasets", "--dry-run")
	for _, table := range []string{"items", "calm"} {
		if want := "ALTER TABLE `" + table + "` ADD COLUMN `nick` VARCHAR(40)"; !strings.Contains(out, want) {
			t.Errorf("dry run lacks %s:\n%s", want, out)
		}
	}
	if n, err := w.number(t.Context(), columns); err != nil || n != 0 {
		t.Errorf("the dry run made %d columns, %v", n, err)
	}
	// What is about to be done is printed before it is done, also when the server then refuses it.
	reader := *newer
	const name = "cannot_alter"
	reader.env = append(slices.Clone(newer.env), "FRESHET_MYSQL__DSN="+w.userDSN(name))
	for _, host := range []string{"localhost", "%"} {
		w.exec(fmt.Sprintf("REVOKE ALTER ON %s.* FROM '%s'@'%s'", w.database(), name, host))
	}
	if out, errOut, code := reader.run("", "migrate", "datasets"); code != 1 || !strings.Contains(out, "ADD COLUMN `nick`") || !strings.Contains(errOut, "1142") {
		t.Errorf("without the right to ALTER: exit code %d\n%s%s", code, out, errOut)
	}
	newer.mustRun("migrate", "datasets")
	w.reaches(2, columns+" AND is_nullable = 'YES'")

	// The old worker continues with a table that has grown, but an event with the new property waits for a worker that knows it:
	// without it, the row would be a state that never existed.
	var events []schemas.Event
	for i := range 64 {
		events = append(events, withNick("items", fmt.Sprint("k", i), 1))
	}
	publish(t, p, withNick("items", "migrated", 1))
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		text, err := ready(ctx, old)
		if err == nil && (!strings.Contains(text, "items") || !strings.Contains(text, "nick")) {
			err = fmt.Errorf("readiness of the old worker says %q", text)
		}
		return err
	})
	fresh := newer.startWorker()
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		text, err := ready(ctx, fresh)
		if err == nil && !strings.Contains(text, `"status":"ok"`) {
			err = fmt.Errorf("readiness says %q", text)
		}
		return err
	})
	publish(t, p, events...)
	old.Kill(t)
	w.reaches(65, "SELECT COUNT(*) FROM items WHERE BINARY nick = BINARY CONCAT('nick of ', id) AND _version = 1")
	for i := range events {
		events[i].Version = 2
		events[i].Data = withNick("items", events[i].Key, 2).Data
	}
	publish(t, p, events...)
	w.reaches(64, "SELECT COUNT(*) FROM items WHERE BINARY nick = BINARY CONCAT('nick of ', id) AND _version = 2")
	w.reaches(1, "SELECT COUNT(*) FROM items WHERE id = 'early' AND nick IS NULL") // until it changes again

	if r := newer.redrive("--dataset", "calm"); r.Counts["applied"] != 1 {
		t.Errorf("redriven: %v", r.Counts)
	}
	w.reaches(1, "SELECT COUNT(*) FROM calm WHERE nick = 'nick of early'")
	if out := newer.mustRun("migrate", "datasets"); !strings.Contains(out, "nothing to do") {
		t.Errorf("not settled:\n%s", out)
	}
}

// TestChangedTemplateRollsOut: another cache template is guarded by the hash in the database. A worker that has the other one
// neither writes nor caches, all serve the truth meanwhile, and in the end every copy is right.
func TestChangedTemplateRollsOut(t *testing.T) {
	topic := testenv.Kafka(t).Topic(t)
	files := map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema}
	w := newWorld(t, testenv.Redis(t), files)
	files["items.yaml"] = strings.Replace(files["items.yaml"], "item:{id}", "thing:{id}", 1)
	newer := w.withFolder(files)
	if out := w.mustRun("schema", "compat", w.dir, newer.dir); !strings.Contains(out, "older workers pause") {
		t.Errorf("compat does not say what happens:\n%s", out)
	}
	p := w.producer()
	oldWorker, oldNode := w.startWorker(), w.node("old")
	model := map[string]state{}
	var keys []string
	change := func(version int64) (tok schemas.Token) {
		t.Helper()
		for _, key := range keys {
			body := fmt.Sprintf("%s at %d", key, version)
			tok = tok.Merge(publish(t, p, upsert("items", key, version, body)))
			model[key] = state{version: version, body: body}
		}
		return tok
	}
	for i := range 40 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	change(1)
	w.agrees(oldNode, true)
	w.serves(oldNode, model)
	newNode := newer.node("new")
	newer.agrees(newNode, false)
	newer.serves(newNode, model) // past the caches

	newer.mustRun("migrate", "datasets")
	change(2)
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		text, err := ready(ctx, oldWorker)
		if err == nil && !strings.Contains(text, "dataset items is paused: dataset items: its cache section is not the one") {
			err = fmt.Errorf("readiness says %q", text)
		}
		return err
	})
	w.reaches(0, "SELECT COUNT(*) FROM items WHERE _version = 2")
	for _, n := range []*node{oldNode, newNode} { // the truth is still what it was
		for key := range model {
			if v, err := n.items.Get(t.Context(), key); err != nil || v.N != 1 {
				t.Fatalf("before anybody writes: version %d, %v", v.N, err)
			}
		}
	}

	// Side by side the new worker takes the partitions that it gets; the others follow when the old one is gone.
	newer.startWorker()
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		if n, err := w.number(ctx, "SELECT COUNT(*) FROM items WHERE _version = 2"); err != nil || n == 0 {
			return fmt.Errorf("%d rows, %w", n, err)
		}
		return nil
	})
	oldWorker.Kill(t)
	w.reaches(len(keys), "SELECT COUNT(*) FROM items WHERE _version = 2")
	newer.agrees(newNode, true)
	w.agrees(oldNode, false)
	for version := int64(3); version < 6; version++ {
		tok := change(version)
		for _, n := range []*node{oldNode, newNode} {
			w.seen(n.Node, tok)
			newer.serves(n, model)
		}
	}
	// The last old node goes; all agree.
	oldNode.Close()
	last := newer.node("last")
	newer.agrees(last, true)
	newer.serves(last, model)
	newer.serves(newNode, model)
	newer.cachesEqual(t, []*node{newNode, last}, model)
	if n := w.count("freshet_dead_letter"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// agrees waits until a node's cache section is, or is not, the one of the lanes.
func (w *world) agrees(n *node, want bool) {
	w.t.Helper()
	testenv.Eventually(w.t, settleLimit, func(context.Context) error {
		if d := n.Stats().Disagreeing; (len(d) == 0) != want {
			return fmt.Errorf("disagreeing %v, want agreement %v", d, want)
		}
		return nil
	})
}

// serves waits until a node returns the newest value of every record.
func (w *world) serves(n *node, model map[string]state) {
	w.t.Helper()
	testenv.Eventually(w.t, settleLimit, func(ctx context.Context) error {
		for key, want := range model {
			if v, err := n.items.Get(ctx, key); err != nil || v.N != want.version || v.Body != want.body {
				return fmt.Errorf("%s at version %d, want %d, %w", key, v.N, want.version, err)
			}
		}
		return nil
	})
}

// TestCacheSectionDoesNotGoInSilence: a folder without a cache section that the database knows is refused, by name and with
// what to do, until someone reports that it may go.
func TestCacheSectionDoesNotGoInSilence(t *testing.T) {
	topic := testenv.Kafka(t).Topic(t)
	files := map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema}
	w := newWorld(t, testenv.Redis(t), files)
	files["items.yaml"], _, _ = strings.Cut(files["items.yaml"], "cache:")
	bare := w.withFolder(files)
	out, _, code := bare.run("", "migrate", "datasets")
	if code != 1 || !strings.Contains(out, "PROBLEM dataset items: its cache section is gone") || !strings.Contains(out, "--drop-cache items") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out = bare.mustRun("migrate", "datasets", "--drop-cache", "items"); !strings.Contains(out, "items: its cache section is gone; its hash is noted") {
		t.Errorf("it does not say what it did:\n%s", out)
	}
	if out = bare.mustRun("migrate", "datasets"); !strings.Contains(out, "nothing to do") {
		t.Errorf("not settled:\n%s", out)
	}
}

// TestPropertyIsDroppedBesideOthers: a property can be taken out by the command that registers another one.
func TestPropertyIsDroppedBesideOthers(t *testing.T) {
	topic := testenv.Kafka(t).Topic(t)
	files := map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema}
	w := newWorld(t, testenv.Redis(t), files)
	files["items.json"] = strings.ReplaceAll(itemSchema, `"n"`, `"m"`)
	if files["items.json"] == itemSchema {
		t.Fatal("the schema has no property n")
	}
	next := w.withFolder(files)
	next.mustRun("migrate", "datasets", "--drop-property", "items.n")
	if out := next.mustRun("migrate", "datasets"); !strings.Contains(out, "nothing to do") {
		t.Errorf("not settled:\n%s", out)
	}
	var note string
	if err := w.db.QueryRowContext(t.Context(), "SELECT value FROM freshet_meta WHERE name = 'schema:items'").Scan(&note); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(note, `"retired":["n"]`) || !strings.Contains(note, `"m":"m"`) {
		t.Errorf("the note is %s", note)
	}
}
