package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// calmDataset is a neighbour of items.
const calmDataset = `dataset: calm
topic: %s
schema: items.json
key: [id]
replica:
  table: calm
`

// tame makes the table refuse bodies that begin with wild, which the schema allows.
const tame = "ALTER TABLE items ADD CONSTRAINT tame CHECK (body NOT LIKE 'wild%')"

func upsert(dataset, key string, version int64, body string) schemas.Event {
	data, _ := json.Marshal(item{ID: key, N: version, Body: body})
	return schemas.Event{Dataset: dataset, Key: key, Op: schemas.Upsert, Version: version, Data: data}
}

func publish(t *testing.T, p *producer.Producer, events ...schemas.Event) schemas.Token {
	t.Helper()
	tok, err := p.Publish(t.Context(), events...)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func (w *world) exec(text string, args ...any) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), text, args...); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
}

// number is a query's one number.
func (w *world) number(ctx context.Context, query string, args ...any) (n int, err error) {
	err = w.db.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}

// reaches waits until a query returns want.
func (w *world) reaches(want int, query string, args ...any) {
	w.t.Helper()
	testenv.Eventually(w.t, max(settleLimit, w.patience), func(ctx context.Context) error {
		n, err := w.number(ctx, query, args...)
		if err == nil && n != want {
			err = fmt.Errorf("%s: %d, want %d", query, n, want)
		}
		return err
	})
}

// redriven is what freshet deadletters redrive --json says.
type redriven struct {
	Counts map[string]int `json:"outcomes"`
	Token  schemas.Token  `json:"token"`
}

func (w *world) redrive(args ...string) (r redriven) {
	w.t.Helper()
	return ask[redriven](w, w.api(), 0, applied(append([]string{"deadletters", "redrive"}, args...))...)
}

// applied adds --apply, without which nothing is changed, unless a dry run is wanted.
func applied(args []string) []string {
	if slices.Contains(args, "--dry-run") {
		return args
	}
	return append(args, "--apply")
}

// TestPoisonAmongManyIsRedriven: one event of a hundred is refused by the table, on records of their own. Each becomes a
// letter, all others are applied, and once the table is fixed a redrive applies them and tells the nodes.
func TestPoisonAmongManyIsRedriven(t *testing.T) {
	all := times(20_000, 100_000)
	poison := all / 100
	topic := testenv.Kafka(t).Topic(t)
	w := newWorld(t, testenv.Redis(t), map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	w.exec(tame)
	p := w.producer()
	w.startWorker()
	n := w.node("n")

	const cached, overtaken = "k0", "k100"
	publish(t, p, upsert("items", cached, 1, "before"))
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		if v, err := n.items.Get(ctx, cached); err != nil || v.N != 1 {
			return fmt.Errorf("version %d, %w", v.N, err)
		}
		return nil
	})

	began := time.Now()
	var events []schemas.Event
	for i := range all {
		body := "tame"
		if i%100 == 0 {
			body = "wild"
		}
		if events = append(events, upsert("items", fmt.Sprint("k", i), 2, body)); len(events) == 1000 {
			publish(t, p, events...)
			events = events[:0]
		}
	}
	publish(t, p, events...)
	w.reaches(all-poison, "SELECT COUNT(*) FROM items WHERE _version = 2")
	w.reaches(poison, "SELECT COUNT(*) FROM freshet_dead_letter WHERE state = 'open' AND reason = 'refused'")
	t.Logf("%d events with %d refused in %v", all, poison, time.Since(began).Round(time.Millisecond))
	if letters := w.count("freshet_dead_letter"); letters != poison {
		t.Errorf("%d letters, want %d", letters, poison)
	}
	if out := w.mustRun("datasets", "list", "--json", "--client-url", w.api()); strings.Contains(out, `"pause":`) {
		t.Errorf("letters that are spread are no storm: %s", out)
	}

	// A newer event supersedes a letter by itself; the letter is then no redrive's business.
	publish(t, p, upsert("items", overtaken, 3, "newer"))
	w.reaches(1, "SELECT COUNT(*) FROM freshet_dead_letter WHERE state = 'superseded' AND record_key = ?", overtaken)
	if v, err := n.items.Get(t.Context(), cached); err != nil || v.N != 1 {
		t.Fatalf("before the redrive the node has version %d, %v", v.N, err)
	}

	if r := w.redrive("--dataset", "items", "--dry-run"); r.Counts["applied"] != poison-1 || len(r.Counts) != 1 {
		t.Errorf("dry run: %v", r.Counts)
	}
	if r := w.redrive("--key", "k200"); r.Counts["invalid"] != 1 || len(r.Counts) != 1 {
		t.Errorf("redriven into the same table: %v", r.Counts)
	}
	w.exec("ALTER TABLE items DROP CONSTRAINT tame")
	r := w.redrive("--all")
	if r.Counts["applied"] != poison-1 || len(r.Counts) != 1 {
		t.Errorf("redriven: %v, want %d applied", r.Counts, poison-1)
	}
	w.seen(n.Node, r.Token)
	if v, err := n.items.Get(t.Context(), cached); err != nil || v.N != 2 {
		t.Errorf("after the redrive the node has version %d, want 2 (%v)", v.N, err)
	}
	w.reaches(all-1, "SELECT COUNT(*) FROM items WHERE _version = 2")
	w.reaches(1, "SELECT COUNT(*) FROM items WHERE id = ? AND _version = 3 AND body = 'newer'", overtaken)
	w.reaches(poison-1, "SELECT COUNT(*) FROM freshet_dead_letter WHERE state = 'redriven' AND attempts >= 1")
	if left := w.count("freshet_invalidation_outbox"); left != 0 {
		t.Errorf("%d rows are left in the outbox", left)
	}
	if r := w.redrive("--all"); len(r.Counts) != 0 {
		t.Errorf("redriven once more: %v", r.Counts)
	}
	if got := w.number1("SELECT COUNT(*) FROM freshet_audit WHERE action = 'redrive-deadletters' AND outcome = 200"); got != 4 {
		t.Errorf("audit has %d ends of redrives, want 4", got)
	}
}

// ready asks a worker whether it is ready, and why not.
func ready(ctx context.Context, worker *testenv.Process) (string, error) {
	return healthPage(ctx, worker, "/readyz")
}

// healthPage reads a page of a worker's health listener.
func healthPage(ctx context.Context, worker *testenv.Process, page string) (string, error) {
	log, err := os.ReadFile(worker.LogFile())
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`address=(127\.0\.0\.1:\d+)`).FindSubmatch(log)
	if m == nil {
		return "", errors.New("the worker does not listen yet")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(m[1])+page, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func (w *world) saysPaused(worker *testenv.Process, want bool) {
	w.t.Helper()
	testenv.Eventually(w.t, settleLimit, func(ctx context.Context) error {
		text, err := ready(ctx, worker)
		if err == nil && strings.Contains(text, "dataset items is paused since") != want {
			err = fmt.Errorf("readiness says %q", text)
		}
		return err
	})
}

func TestStormPausesItsDatasetAlone(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic, calm := kafka.Topic(t), kafka.Topic(t)
	w := newWorld(t, testenv.Redis(t), map[string]string{
		"items.yaml": fmt.Sprintf(itemDataset, topic), "calm.yaml": fmt.Sprintf(calmDataset, calm), "items.json": itemSchema,
	})
	w.exec(tame)
	p := w.producer()
	first := w.startWorker()
	var events []schemas.Event
	for i := range 600 {
		events = append(events, upsert("items", fmt.Sprint("k", i), 1, "wild"), upsert("calm", fmt.Sprint("k", i), 1, "calm"))
	}
	publish(t, p, events...)
	w.reaches(600, "SELECT COUNT(*) FROM calm")
	w.reaches(1, "SELECT COUNT(*) FROM freshet_meta WHERE name = 'pause:items'")
	w.saysPaused(first, true)

	// What is published into the pause waits; a worker that starts meanwhile keeps the pause, and the neighbour flows.
	publish(t, p, upsert("items", "good", 1, "tame"), upsert("calm", "second", 1, "calm"))
	w.reaches(1, "SELECT COUNT(*) FROM calm WHERE id = 'second'")
	// In good order, so that the next one gets the partitions before it had time to look around.
	if err := first.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, first.Done())
	second := w.startWorker()
	w.saysPaused(second, true)
	publish(t, p, upsert("calm", "third", 1, "calm"))
	w.reaches(1, "SELECT COUNT(*) FROM calm WHERE id = 'third'")
	if n, err := w.number(t.Context(), "SELECT COUNT(*) FROM items WHERE id = 'good'"); err != nil || n != 0 {
		t.Errorf("the paused dataset was read (%d rows, %v)", n, err)
	}
	if out := w.mustRun("datasets", "list", "--client-url", w.api()); !strings.Contains(out, "dead letters within 10s") {
		t.Errorf("the list does not say why:\n%s", out)
	}

	w.exec("ALTER TABLE items DROP CONSTRAINT tame")
	w.mustRun("datasets", "resume", "items", "--client-url", w.api())
	w.reaches(1, "SELECT COUNT(*) FROM items WHERE id = 'good'")
	w.saysPaused(second, false)
	open, err := w.number(t.Context(), "SELECT COUNT(*) FROM freshet_dead_letter WHERE state = 'open'")
	if err != nil || open < 200 {
		t.Errorf("%d letters, %v", open, err)
	}
	if r := w.redrive("--dataset", "items", "--since", "1h"); r.Counts["applied"] != open {
		t.Errorf("redriven: %v, want %d", r.Counts, open)
	}
	w.reaches(601, "SELECT COUNT(*) FROM items")
}

// TestResumeThatStays: a topic that is filled for the first time may hold more bad events than a storm. An operator, or the
// declaration, lets them come.
func TestResumeThatStays(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic, calm := kafka.Topic(t), kafka.Topic(t)
	w := newWorld(t, testenv.Redis(t), map[string]string{
		"items.yaml": fmt.Sprintf(itemDataset, topic), "calm.yaml": fmt.Sprintf(calmDataset, calm) + "on_storm: flow\n", "items.json": itemSchema,
	})
	w.exec(tame)
	w.exec("ALTER TABLE calm ADD CONSTRAINT tame_too CHECK (body <> 'wild')")
	p := w.producer()
	worker := w.startWorker()
	wild := func(from, to int, datasets ...string) (events []schemas.Event) {
		for i := from; i < to; i++ {
			for _, d := range datasets {
				events = append(events, upsert(d, fmt.Sprint("k", i), 1, "wild"))
			}
		}
		return events
	}
	publish(t, p, wild(0, 1200, "items", "calm")...)
	w.reaches(1200, "SELECT COUNT(*) FROM freshet_dead_letter WHERE dataset = 'calm'")
	w.reaches(1, "SELECT COUNT(*) FROM freshet_meta WHERE name = 'pause:items'")
	w.saysPaused(worker, true)
	w.mustRun("datasets", "resume", "items", "--ignore-storms", "1h", "--client-url", w.api())
	publish(t, p, wild(1200, 2400, "items")...)
	w.reaches(2400, "SELECT COUNT(*) FROM freshet_dead_letter WHERE dataset = 'items'")
	w.reaches(0, "SELECT COUNT(*) FROM freshet_meta WHERE name LIKE 'pause:%'")
	w.saysPaused(worker, false)
}

func TestDatasetIsPausedByHand(t *testing.T) {
	topic := testenv.Kafka(t).Topic(t)
	w := newWorld(t, testenv.Redis(t), map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	p := w.producer()
	worker := w.startWorker()
	publish(t, p, upsert("items", "a", 1, "x"))
	w.reaches(1, "SELECT COUNT(*) FROM items WHERE id = 'a'")
	w.mustRun("datasets", "pause", "items", "--reason", "maintenance", "--client-url", w.api())
	w.saysPaused(worker, true)
	publish(t, p, upsert("items", "b", 1, "x"))
	if out := w.mustRun("datasets", "list", "--client-url", w.api()); !strings.Contains(out, "by local: maintenance") {
		t.Errorf("list:\n%s", out)
	}
	if n, err := w.number(t.Context(), "SELECT COUNT(*) FROM items WHERE id = 'b'"); err != nil || n != 0 {
		t.Errorf("the paused dataset was read (%d rows, %v)", n, err)
	}
	w.mustRun("datasets", "resume", "items", "--client-url", w.api())
	w.reaches(1, "SELECT COUNT(*) FROM items WHERE id = 'b'")
	for _, args := range [][]string{
		{"datasets", "pause", "items"},
		{"datasets", "pause"},
		{"deadletters", "redrive"},
		{"deadletters", "discard"},
		{"deadletters", "list", "--state", "opened"},
		{"deadletters", "list", "--reason", "refusd"},
	} {
		if _, _, code := w.run("", args...); code != 2 {
			t.Errorf("freshet %v: exit code %d, want 2", args, code)
		}
	}
}
