package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/testenv"
)

const sharedYAML = `dataset: %[1]s
topic: %[2]s
schema: %[1]s.json
key: [id]
format: maxwell
cdc: {table: shop.%[1]s}
replica: {table: %[1]s_t}
cache: {key: "%[1]s:{id}"}
`

const sharedSchema = `{"type": "object", "required": ["id", "n"], "properties": {"id": {"type": "integer"}, "n": {"type": "integer"}}}`

// shared returns the folder of datasets that share a topic.
func shared(topic string, names ...string) map[string]string {
	files := map[string]string{}
	for _, name := range names {
		files[name+".yaml"], files[name+".json"] = fmt.Sprintf(sharedYAML, name, topic), sharedSchema
	}
	return files
}

// mirrored is an event of Maxwell.
func mirrored(topic, table string, id int, n string) *kgo.Record {
	return &kgo.Record{Topic: topic, Value: fmt.Appendf(nil,
		`{"database":"shop","table":%q,"type":"insert","ts":1700000000,"xid":1,"commit":true,"data":{"id":%d,"n":%s}}`, table, id, n)}
}

// A second dataset comes to a topic that one had alone. Then one is paused, and has a bad event, and the other does not
// notice: pauses, lag and dead letters are the dataset's.
func TestDatasetsShareATopic(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic := kafka.CreateTopic(t, 1)
	w := newWorld(t, testenv.Redis(t), shared(topic, "users"))
	c := kafka.Client(t)
	write := func(recs ...*kgo.Record) {
		t.Helper()
		if err := c.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write(mirrored(topic, "users", 1, "1"), mirrored(topic, "orders", 1, "1"), mirrored(topic, "users", 1, "2"))
	alone := w.startWorker()
	w.reaches(1, "SELECT COUNT(*) FROM users_t WHERE n = 2 AND _version = 3")
	if err := alone.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, alone.Done())

	both := w.withFolder(shared(topic, "users", "orders"))
	both.mustRun("migrate", "datasets")
	worker := both.startWorker()
	w.reaches(1, "SELECT COUNT(*) FROM orders_t WHERE n = 1 AND _version = 2")
	w.reaches(1, "SELECT COUNT(*) FROM users_t WHERE n = 2 AND _version = 3")
	url := both.api()
	both.mustRun("datasets", "pause", "orders", "--reason", "maintenance", "--client-url", url)
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		text, err := ready(ctx, worker)
		if err == nil && !strings.Contains(text, "dataset orders is paused since") {
			err = fmt.Errorf("readiness says %q", text)
		}
		return err
	})
	write(mirrored(topic, "orders", 2, "5"), mirrored(topic, "users", 2, "6"), mirrored(topic, "orders", 3, `"no number"`))
	w.reaches(1, "SELECT COUNT(*) FROM users_t WHERE id = 2 AND n = 6")
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		lag := map[string]api.Partition{}
		for _, p := range ask[struct{ Items []api.Partition }](both, url, 0, "lag").Items {
			lag[p.Dataset] = p
		}
		if u, o := lag["users"], lag["orders"]; u.Records != 0 || u.Paused || o.Records != 3 || !o.Paused || o.Topic != topic+"#orders" {
			return fmt.Errorf("lag of users %+v, of orders %+v", u, o)
		}
		return nil
	})
	if n := w.count("orders_t"); n != 1 {
		t.Errorf("the paused dataset has %d rows, want 1", n)
	}
	both.mustRun("datasets", "resume", "orders", "--client-url", url)
	w.reaches(1, "SELECT COUNT(*) FROM orders_t WHERE id = 2 AND n = 5")
	w.reaches(1, "SELECT COUNT(*) FROM freshet_dead_letter WHERE dataset = 'orders' AND state = 'open'")
	if n, err := w.number(t.Context(), "SELECT COUNT(*) FROM freshet_dead_letter WHERE dataset <> 'orders'"); err != nil || n != 0 {
		t.Errorf("%d dead letters of another dataset, %v", n, err)
	}
	if out := both.mustRun("deadletters", "list", "--client-url", url); !strings.Contains(out, "orders") || strings.Contains(out, "users") {
		t.Errorf("dead letters:\n%s", out)
	}
	both.mustRun("replay", "start", "orders", "--apply", "--client-url", url)
	w.reaches(1, "SELECT COUNT(*) FROM freshet_replay WHERE state = 'done'")
}

// A dataset comes in the place of another one that read the topic alone: it begins where the topic does, not where that one was.
func TestADatasetThatReplacesAnotherReadsTheWholeTopic(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic := kafka.CreateTopic(t, 1)
	w := newWorld(t, testenv.Redis(t), shared(topic, "users"))
	c := kafka.Client(t)
	recs := []*kgo.Record{mirrored(topic, "orders", 1, "1"), mirrored(topic, "users", 1, "2")}
	if err := c.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	first := w.startWorker()
	w.reaches(1, "SELECT COUNT(*) FROM users_t WHERE n = 2")
	if err := first.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, first.Done())

	second := w.withFolder(shared(topic, "orders"))
	second.mustRun("migrate", "datasets")
	second.startWorker()
	w.reaches(1, "SELECT COUNT(*) FROM orders_t WHERE n = 1")

	if _, errOut, code := second.run("", "partitions", "restart", topic+"/0", "--at", "first"); code != 2 || !strings.Contains(errOut, "TOPIC#DATASET") {
		t.Errorf("a restart of what no worker reads: exit code %d, %s", code, errOut)
	}
	out := second.mustRun("datasets", "list", "--client-url", second.api())
	if !strings.Contains(out, topic+"#orders") {
		t.Errorf("datasets:\n%s", out)
	}
}
