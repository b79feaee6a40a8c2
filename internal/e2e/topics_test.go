package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// A topic that the broker compacts away under our feet, and one that a transactional producer writes with aborts in
// between: nothing that counts is lost, and nothing that was aborted is applied.

func TestCompactedTopic(t *testing.T) {
	kafka := testenv.Kafka(t)
	kafka.RequireReal(t)
	topic := kafka.CreateTopic(t, 2, "cleanup.policy=compact", "segment.ms=500", "segment.bytes=1048576",
		"min.cleanable.dirty.ratio=0.01", "min.compaction.lag.ms=0", "max.compaction.lag.ms=1000", "file.delete.delay.ms=100")
	w := newWorld(t, testenv.Redis(t), map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	p := w.producer()
	model := map[string]state{}
	publish := func(from, to int64) {
		for v := from; v <= to; v++ {
			var evs []schemas.Event
			for k := range 50 {
				key := fmt.Sprintf("k%02d", k)
				body := fmt.Sprintf("%d of %s %s", v, key, strings.Repeat("y", 500))
				data, _ := json.Marshal(item{ID: key, N: v, Body: body})
				evs = append(evs, schemas.Event{Dataset: "items", Key: key, Op: schemas.Upsert, Version: v, Data: data})
				model[key] = state{version: v, body: body}
			}
			if _, err := p.Publish(t.Context(), evs...); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(1, 60)
	// The active segment is never cleaned: records must continue coming until the cleaner has been through.
	v := int64(60)
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		v++
		publish(v, v)
		return compacted(ctx, kafka, t, topic, int(v)*50)
	})
	w.startWorker()
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error { return w.replicaEquals(ctx, model) })
	if n := w.count("freshet_dead_letter"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// compacted returns nil once the topic holds clearly fewer records than were published.
func compacted(ctx context.Context, kafka *testenv.KafkaServer, t *testing.T, topic string, published int) error {
	c := kafka.Client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	held := 0
	last := map[int32]int64{}
	ends := map[int32]int64{}
	for len(last) < 2 || last[0] < ends[0]-1 || last[1] < ends[1]-1 {
		fs := c.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return err
		}
		fs.EachPartition(func(p kgo.FetchTopicPartition) { ends[p.Partition] = p.HighWatermark })
		fs.EachRecord(func(r *kgo.Record) {
			held++
			last[r.Partition] = r.Offset
		})
	}
	if held > published*3/4 {
		return fmt.Errorf("the topic still holds %d of %d records", held, published)
	}
	return nil
}

func TestTransactionalTopic(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic := kafka.CreateTopic(t, 2)
	w := newWorld(t, testenv.Redis(t), map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	w.startWorker()
	c := kafka.Client(t, kgo.TransactionalID(w.ns), kgo.DefaultProduceTopic(topic))
	model := map[string]state{}
	for round := int64(1); round <= 30; round++ {
		abort := round%3 == 0
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var recs []*kgo.Record
		for k := range 20 {
			key := fmt.Sprintf("k%02d", k)
			body := "kept"
			if abort {
				body = "aborted"
			} else {
				model[key] = state{version: round, body: body}
			}
			data, _ := json.Marshal(item{ID: key, N: round, Body: body})
			recs = append(recs, &kgo.Record{Key: []byte(key), Value: data, Headers: headers(key, round, nil)})
		}
		if err := c.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := c.EndTransaction(t.Context(), kgo.TransactionEndTry(!abort)); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		if err := w.replicaEquals(ctx, model); err != nil {
			return err
		}
		var aborted int
		if err := w.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM items WHERE body = 'aborted'").Scan(&aborted); err != nil {
			return err
		}
		if aborted != 0 {
			return errors.New("an aborted record was applied")
		}
		return nil
	})
}
