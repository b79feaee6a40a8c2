package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// header returns the headers of a good upsert of key at version, changed by edit.
func headers(key string, version any, edit map[string]string) []kgo.RecordHeader {
	h := map[string]string{
		"ce_specversion": "1.0", "ce_id": "0198a1b2-0000-7000-8000-000000000001", "ce_source": "//e2e/hostile", "ce_type": "io.freshet.row.upsert.v1",
		"ce_subject": "items/" + key, "ce_partitionkey": key, "ce_sequence": fmt.Sprint(version), "content-type": "application/json",
	}
	for k, v := range edit {
		h[k] = v
	}
	var out []kgo.RecordHeader
	for k, v := range h {
		if v != "" {
			out = append(out, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
	}
	return out
}

func good(key string, version int64) []byte {
	return fmt.Appendf(nil, `{"id":%q,"n":%d,"body":"fine"}`, key, version)
}

// bad is a record that must become a dead letter with that reason, or none when reason is empty.
type bad struct {
	name    string
	record  *kgo.Record
	reason  schemas.Reason
	noBytes bool
}

func badRecords(topic string) []bad {
	rec := func(key string, value []byte, h []kgo.RecordHeader) *kgo.Record {
		return &kgo.Record{Topic: topic, Key: []byte(key), Value: value, Headers: h}
	}
	return []bad{
		{"malformed bytes", rec("bad-bytes", []byte{0xff, 0x00, '{'}, headers("bad-bytes", 2, nil)), schemas.ReasonMalformed, false},
		{"no headers", rec("bad-headers", good("bad-headers", 2), nil), schemas.ReasonMalformed, false},
		{"wrong type", rec("bad-type", []byte(`{"id":"bad-type","n":"two","body":"x"}`), headers("bad-type", 2, nil)), schemas.ReasonSchema, false},
		{"required property absent", rec("bad-absent", []byte(`{"id":"bad-absent","n":2}`), headers("bad-absent", 2, nil)), schemas.ReasonSchema, false},
		{"unknown dataset", rec("bad-dataset", good("bad-dataset", 2), headers("bad-dataset", 2, map[string]string{"ce_subject": "users/bad-dataset"})), schemas.ReasonDataset, false},
		{"version 0", rec("bad-zero", good("bad-zero", 0), headers("bad-zero", 0, nil)), schemas.ReasonVersion, false},
		{"version above the limit", rec("bad-high", good("bad-high", 1), headers("bad-high", int64(1)<<53-1, nil)), schemas.ReasonVersion, false},
		{"key contradicts data", rec("bad-key", good("another", 2), headers("bad-key", 2, nil)), schemas.ReasonKey, false},
		{"zstd bomb", rec("bad-bomb", bytes.Repeat([]byte{'a'}, 100<<20), headers("bad-bomb", 2, nil)), schemas.ReasonTooLarge, true},
		{"too large", rec("bad-large", append([]byte(`{"id":"bad-large","n":2,"body":"`), bytes.Repeat([]byte{'x'}, 1_000_001)...), headers("bad-large", 2, nil)), schemas.ReasonTooLarge, true},
	}
}

func TestBadRecordsBecomeLettersAndNeighboursFlow(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic := kafka.CreateTopic(t, 1, "max.message.bytes=8388608")
	w := newWorld(t, testenv.Redis(t), map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	bads := badRecords(topic)

	// Every record exists first, in version 1, and is cached.
	p := w.producer()
	for _, b := range bads {
		key := string(b.record.Key)
		if _, err := p.Publish(t.Context(), schemas.Event{Dataset: "items", Key: key, Op: schemas.Upsert, Version: 1, Data: good(key, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	w.startWorker()
	n := w.node("n")
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		for _, b := range bads {
			if v, err := n.items.Get(ctx, string(b.record.Key)); err != nil || v.N != 1 {
				return fmt.Errorf("%s: version %d, %w", b.name, v.N, err)
			}
			if _, ok := n.items.Peek(string(b.record.Key)); !ok {
				return errors.New(b.name + " is not cached yet")
			}
		}
		return nil
	})

	// zstd packs the bomb into a few KB, so the broker takes it.
	kc := kafka.Client(t, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(512<<20), kgo.BrokerMaxWriteBytes(1<<30), kgo.MaxBufferedBytes(1<<30))
	for i, b := range bads {
		neighbour := fmt.Sprintf("good-%d", i)
		for _, r := range []*kgo.Record{b.record, {Topic: topic, Key: []byte(neighbour), Value: good(neighbour, 5), Headers: headers(neighbour, 5, nil)}} {
			if err := kc.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatalf("%s: %v", b.name, err)
			}
		}
	}
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		var goods int
		if err := w.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM items WHERE id LIKE 'good-%' AND _version = 5").Scan(&goods); err != nil {
			return err
		}
		if letters := w.count("freshet_dead_letter"); goods != len(bads) || letters != len(bads) {
			return fmt.Errorf("%d of %d neighbours applied, %d letters", goods, len(bads), letters)
		}
		return nil
	})
	for i, b := range bads {
		w.checkLetter(t, b, int64(len(bads)+2*i))
	}
	// What was cached of the bad ones was invalidated: read again, it is the row's version 1.
	testenv.Eventually(t, 30*time.Second, func(context.Context) error {
		for _, b := range bads {
			if _, ok := n.items.Peek(string(b.record.Key)); ok && b.record.Key != nil && !b.noBytes {
				return errors.New("still cached: " + b.name)
			}
		}
		return nil
	})
}

func (w *world) checkLetter(t *testing.T, b bad, offset int64) {
	t.Helper()
	var reason string
	var data []byte
	var size int64
	err := w.db.QueryRowContext(t.Context(), "SELECT l.reason, r.data, l.size FROM freshet_dead_letter l LEFT JOIN freshet_dead_record r ON r.source = l.source AND r.off = l.off WHERE l.off = ?", offset).Scan(&reason, &data, &size)
	if err != nil {
		t.Errorf("%s: letter at offset %d: %v", b.name, offset, err)
		return
	}
	if reason != string(b.reason) {
		t.Errorf("%s: reason %q, want %q", b.name, reason, b.reason)
	}
	if b.noBytes != (data == nil) || !b.noBytes && !bytes.Equal(data, b.record.Value) {
		t.Errorf("%s: the letter keeps %d bytes of %d", b.name, len(data), len(b.record.Value))
	}
	if size < int64(len(b.record.Value)) {
		t.Errorf("%s: the letter notes %d bytes of %d", b.name, size, len(b.record.Value))
	}
}

func TestPublishRefusesWithAClearError(t *testing.T) {
	topic := testenv.Kafka(t).Topic(t)
	w := newWorld(t, testenv.Redis(t), map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	long := strings.Repeat("x", 1_000_001)
	lines := []struct{ line, want string }{
		{`{"dataset":"items","version":1,"data":{"id":"a","n":1,"body":"x"}}`, ""},
		{`{"dataset":"items","version":1,"data":`, "line 2: refused: line"},
		{`{"dataset":"items","version":1,"data":{"id":"a","n":"one","body":"x"}}`, "data/n"},
		{`{"dataset":"nope","version":1,"data":{"id":"a"}}`, "dataset: is not declared"},
		{`{"dataset":"items","version":0,"data":{"id":"a","n":1,"body":"x"}}`, "version"},
		{fmt.Sprintf(`{"dataset":"items","version":%d,"data":{"id":"a","n":1,"body":"x"}}`, int64(1)<<53-1), "version"},
		{`{"dataset":"items","version":1,"data":{"id":"a","n":1,"body":"x","note":"` + long + `"}}`, "line 7: refused"},
		{`{"dataset":"items","version":1,"op":"replace","data":{"id":"a","n":1,"body":"x"}}`, "op: is unknown"},
		{`{"dataset":"items","key":"b","op":"delete","version":2}`, ""},
	}
	var in strings.Builder
	published := 0
	for _, l := range lines {
		in.WriteString(l.line + "\n")
		if l.want == "" {
			published++
		}
	}
	out, errOut, code := w.run(in.String(), "publish")
	if code != 1 || !strings.Contains(out, fmt.Sprintf("published %d of %d lines", published, len(lines))) {
		t.Errorf("exit code %d, output %q", code, out)
	}
	for i, l := range lines {
		if l.want != "" && (!strings.Contains(errOut, fmt.Sprintf("line %d: refused", i+1)) || !strings.Contains(errOut, l.want)) {
			t.Errorf("line %d: no refusal that names %q in:\n%.2000s", i+1, l.want, errOut)
		}
	}
	if strings.Contains(errOut, "xxxx") {
		t.Error("a refusal quotes the payload")
	}
}
