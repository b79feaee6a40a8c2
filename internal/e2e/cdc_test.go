package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/cdctest"
	"github.com/freshet/freshet/internal/testenv"
)

// What Debezium, Canal and Maxwell really wrote, through Kafka and the worker into the database: the replica ends as the
// captured table did.

// captures is where the recorded records lie.
func captures() string { return filepath.Join("..", "..", "schemas", "cdc", "testdata") }

// replayed is one captured table on its way.
type replayed struct {
	cdctest.Case
	topic   string
	records []cdctest.Captured
	want    *cdctest.Table
	// repeated: another table's entry has the records of the topic, too.
	repeated bool
}

func TestCapturesReplayed(t *testing.T) {
	for name, delivery := range map[string]func([]cdctest.Captured) []cdctest.Captured{
		"once":                       func(r []cdctest.Captured) []cdctest.Captured { return r },
		"twice and half once more":   cdctest.Twice,
		"once, read again from half": nil,
	} {
		t.Run(name, func(t *testing.T) {
			again := delivery == nil
			if again {
				delivery = func(r []cdctest.Captured) []cdctest.Captured { return r }
			}
			replay(t, delivery, again, false)
		})
	}
	t.Run("tables of one capture in one topic", func(t *testing.T) {
		replay(t, func(r []cdctest.Captured) []cdctest.Captured { return r }, false, true)
	})
}

// replay carries every capture through a topic of its own, or where shared, the tables of one capture through one topic.
func replay(t *testing.T, delivery func([]cdctest.Captured) []cdctest.Captured, again, shared bool) {
	kafka := testenv.Kafka(t)
	files := map[string]string{}
	cases := cdctest.Cases()
	all := make([]replayed, len(cases))
	topics := map[string]string{} // by capture
	for i, c := range cases {
		r := &all[i]
		capture := fmt.Sprint(c.Files, c.Partitions, strings.TrimSuffix(c.Name, c.Table))
		if r.Case, r.topic = c, topics[capture]; shared && r.topic != "" {
			r.repeated = true
		} else {
			r.topic = kafka.CreateTopic(t, c.Partitions, "retention.ms=-1") // the captures are older than what Kafka keeps by default
			topics[capture] = r.topic
		}
		folder, err := c.Folder(captures(), r.topic)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(files, folder)
		records, err := cdctest.Read(captures(), c.Files...)
		if err != nil {
			t.Fatal(err)
		}
		r.records = delivery(records)
		if r.want, err = c.Final(captures()); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, testenv.Redis(t), files)
	total := produceCaptured(t, kafka, all)
	worker := w.startWorker()
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error { return w.replayedEquals(ctx, all) })
	if again {
		if err := worker.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		testenv.Await(t, worker.Done())
		if _, err := w.db.ExecContext(t.Context(), "UPDATE freshet_position SET next_offset = next_offset DIV 2"); err != nil {
			t.Fatal(err)
		}
		w.startWorker()
		testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
			var next int
			if err := w.db.QueryRowContext(ctx, "SELECT SUM(next_offset) FROM freshet_position WHERE next_offset > 0").Scan(&next); err != nil {
				return err
			}
			if next != total {
				return fmt.Errorf("%d of %d records are read again", next, total)
			}
			return w.replayedEquals(ctx, all)
		})
	}
	t.Logf("%d records of %d captured tables", total, len(all))
}

func produceCaptured(t *testing.T, kafka *testenv.KafkaServer, all []replayed) (total int) {
	t.Helper()
	c := kafka.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var list []*kgo.Record
	for i := range all {
		if all[i].repeated {
			continue
		}
		for _, r := range all[i].records {
			rec := &kgo.Record{Topic: all[i].topic, Partition: r.Partition, Key: r.Record.Key, Value: r.Record.Value, Timestamp: time.UnixMilli(r.Record.Time)}
			for _, h := range r.Record.Headers {
				rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
			}
			list = append(list, rec)
		}
	}
	if err := c.ProduceSync(t.Context(), list...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// replayedEquals compares every table. Where one topic has several partitions, a row whose key was given up stays, with an
// open letter about its deletion.
func (w *world) replayedEquals(ctx context.Context, all []replayed) error {
	for i := range all {
		r := &all[i]
		rows, err := w.rowsAsText(ctx, r.ReplicaTable())
		if err != nil {
			return err
		}
		letters, err := w.lettersOf(ctx, "c-"+r.Name)
		if err != nil {
			return err
		}
		for _, key := range letters {
			if _, ok := r.want.Rows[key]; !ok && r.Partitions > 1 {
				delete(rows, key)
			} else if r.Partitions == 1 {
				return fmt.Errorf("%s: a letter about %s", r.Name, key)
			}
		}
		if len(letters) == 0 && r.Partitions > 1 && r.Table != "outbox" {
			return fmt.Errorf("%s: no letter about a key that was given up", r.Name)
		}
		if lines := r.want.Compare(rows); len(lines) > 0 {
			return fmt.Errorf("%s: %d differences: %s", r.Name, len(lines), lines[0])
		}
	}
	return nil
}

func (w *world) lettersOf(ctx context.Context, dataset string) (keys []string, err error) {
	rows, err := w.db.QueryContext(ctx, "SELECT COALESCE(record_key, '') FROM freshet_dead_letter WHERE dataset = ? AND state = 'open'", dataset)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

// rowsAsText reads the live rows by their keys.
func (w *world) rowsAsText(ctx context.Context, table string) (map[string]map[string]*string, error) {
	rows, err := w.db.QueryContext(ctx, "SELECT * FROM "+table+" WHERE _deleted = 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]*string{}
	for rows.Next() {
		values := make([]*string, len(columns))
		dest := make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		row := map[string]*string{}
		for i, c := range columns {
			row[c] = values[i]
		}
		key := row["id"]
		if key == nil {
			both := *row["order_id"] + "," + *row["line_no"]
			key = &both
		}
		out[*key] = row
	}
	return out, rows.Err()
}

const lineYAML = `dataset: lines
topic: %s
schema: lines.json
key: [id]
format: debezium
replica: {table: lines_t}
cache: {key: "line:{id}"}
`

const lineSchema = `{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "n": {"type": ["integer", "null"]}}}`

// changed is a change event of Debezium.
func changed(topic, op string, id, n int) *kgo.Record {
	rec := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, `{"id":%d}`, id), Value: fmt.Appendf(nil, `{"op":%q,"before":null,"after":{"id":%d,"n":%d}}`, op, id, n)}
	if op == "t" {
		rec.Key, rec.Value = nil, []byte(`{"op":"t","before":null,"after":null}`)
	}
	return rec
}

// A table that was emptied stops its dataset, and only that; a topic that was recreated begins above the old one.
func TestTruncateAndNewTopic(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic, items := kafka.CreateTopic(t, 1), kafka.CreateTopic(t, 1)
	w := newWorld(t, testenv.Redis(t), map[string]string{
		"lines.yaml": fmt.Sprintf(lineYAML, topic), "lines.json": lineSchema, "items.yaml": fmt.Sprintf(itemDataset, items), "items.json": itemSchema,
	})
	c := kafka.Client(t)
	write := func(recs ...*kgo.Record) {
		t.Helper()
		if err := c.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write(changed(topic, "c", 1, 5))
	worker := w.startWorker()
	w.lineIs(t, 1, 5, 1)
	write(changed(topic, "t", 0, 0), changed(topic, "c", 2, 6))
	logged(t, worker, "was emptied or dropped")
	write(&kgo.Record{Topic: items, Key: []byte("a"), Value: good("a", 3), Headers: headers("a", 3, nil)})
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		if n := w.count("items"); n != 1 {
			return fmt.Errorf("%d items beside a paused dataset", n)
		}
		return nil
	})
	if n := w.count("lines_t"); n != 1 {
		t.Errorf("%d rows: what follows the truncate was applied", n)
	}
	if n := w.count("freshet_dead_letter"); n != 0 {
		t.Errorf("%d letters", n)
	}
	kafka.DeleteTopic(t, topic)
	kafka.CreateTopicNamed(t, topic, 1)
	c = kafka.Client(t) // the other one still believes in the old topic's id
	write(changed(topic, "c", 1, 7))
	w.lineIs(t, 1, 7, 1<<40+1)
}

// The positions of different partitions do not compare: a dataset whose topic gets more of them stops.
func TestMorePartitionsPause(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic := kafka.CreateTopic(t, 1)
	w := newWorld(t, testenv.Redis(t), map[string]string{"lines.yaml": fmt.Sprintf(lineYAML, topic), "lines.json": lineSchema})
	c := kafka.Client(t)
	if err := c.ProduceSync(t.Context(), changed(topic, "c", 1, 5)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	worker := w.startWorker()
	w.lineIs(t, 1, 5, 1)
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = 10_000
	grown := kmsg.NewCreatePartitionsRequestTopic()
	grown.Topic, grown.Count = topic, 2
	req.Topics = append(req.Topics, grown)
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		res, err := req.RequestWith(ctx, c)
		if err == nil && res.Topics[0].ErrorCode != 0 {
			err = fmt.Errorf("create partitions: error %d", res.Topics[0].ErrorCode)
		}
		return err
	})
	late := changed(topic, "c", 1, 6)
	late.Partition = 1
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		c := kafka.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner())) // an older one may not know of the partition
		return c.ProduceSync(ctx, late).FirstErr()
	})
	logged(t, worker, "has 2 partitions instead of 1")
	w.lineIs(t, 1, 5, 1)
}

func (w *world) lineIs(t *testing.T, id, n int, version int64) {
	t.Helper()
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		var gotN int
		var gotVersion int64
		err := w.db.QueryRowContext(ctx, "SELECT n, _version FROM lines_t WHERE id = ?", id).Scan(&gotN, &gotVersion)
		if err == nil && (gotN != n || gotVersion != version) {
			err = fmt.Errorf("row has %d at version %d, want %d at %d", gotN, gotVersion, n, version)
		}
		return err
	})
}

// logged waits until the process has said something.
func logged(t *testing.T, p *testenv.Process, text string) {
	t.Helper()
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		log, err := os.ReadFile(p.LogFile())
		if err == nil && !bytes.Contains(log, []byte(text)) {
			err = fmt.Errorf("the worker's log does not say %q", strings.TrimSpace(text))
		}
		return err
	})
}
