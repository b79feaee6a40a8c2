package worker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/schemas"
)

// While the lanes are away a topic that was recreated cannot begin: they must be flushed for it first. Only that topic
// waits, whether the worker saw the old one go or was started in the middle of it.
func TestTopicMadeAnewWhileLanesAreAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		restarted bool
	}{{"running worker", false}, {"worker that starts", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rs := testenv.StartRedis(t, testenv.RedisOptions{})
			b := newBed(t, servers{redis: rs})
			set := b.mixed()
			edit := func(cc *worker.Config, _ *replica.Config) { cc.Datasets, cc.Consumer.Writers = set, 1 }
			w := b.start(edit)
			b.putMany("items", 30)
			b.awaitDone("items")
			old, root := b.source("items"), b.root()
			rs.Stop(t)
			if c.restarted {
				w.stop()
			}
			b.remake("items")
			if c.restarted {
				w = b.start(edit)
			}
			awaitReason(t, w, "flush", b.dataset("items").Topic, "recreated")
			b.put("items", "k1", 2)
			awaitReason(t, w, "dataset items is paused", "recreated")
			for v := range int64(3) {
				b.put("others", "k", v+1)
				b.awaitRow("others", "k", v+1)
			}
			if v := b.version(t.Context(), "items", "k1"); v != 1 {
				t.Errorf("items k1 has version %d: the new topic was begun before the lanes were flushed for it", v)
			}
			rs.Cont(t)
			b.awaitRow("items", "k1", 2)
			b.awaitDone("items")
			awaitReady(t, w)
			if b.source("items") == old || b.root() == root {
				t.Error("the topic has its old id, or the lane was not flushed")
			}
			if held, err := b.rdb.HGet(t.Context(), b.keys().Meta, "fa").Int64(); err != nil || held == 0 {
				t.Errorf("the flush has no hold: %d, %v", held, err)
			}
			var pending bool
			err := b.db.QueryRowContext(t.Context(), "SELECT flush_pending FROM freshet_topic WHERE topic = ?", b.dataset("items").Topic).Scan(&pending)
			if err != nil || pending {
				t.Errorf("the flush is still pending: %v, %v", pending, err)
			}
		})
	}
}

// mixed declares items with a cache section, and others without, and migrates to that.
func (b *bed) mixed() *schemas.Datasets {
	b.t.Helper()
	set := b.bare()
	if ddl, err := tables.Migrate(b.t.Context(), b.db, set.All(), false, "others"); err != nil || len(ddl.Problems) > 0 {
		b.t.Fatalf("migrate datasets: %v, %v", err, ddl)
	}
	return set
}

// bare declares items with a cache section, and others without.
func (b *bed) bare() *schemas.Datasets {
	b.t.Helper()
	fsys := fstest.MapFS{"s.json": {Data: []byte(itemSchema)}}
	for name, cache := range map[string]string{"items": "cache: {key: \"items:{id}\"}\n", "others": ""} {
		fsys[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "dataset: %s\ntopic: %s\nschema: s.json\nkey: [id]\nreplica: {table: %s}\n%s",
			name, b.dataset(name).Topic, name, cache)}
	}
	set, err := schemas.LoadDatasets(fsys)
	if err != nil {
		b.t.Fatal(err)
	}
	return set
}

// remake deletes a dataset's topic and makes it again.
func (b *bed) remake(dataset string) {
	b.t.Helper()
	topic := b.dataset(dataset).Topic
	b.kafka.DeleteTopic(b.t, topic)
	testenv.Eventually(b.t, patience, func(context.Context) error {
		if _, err := b.client.Topic(b.t.Context(), topic); err == nil {
			return errors.New("the topic is still there")
		}
		return nil
	})
	b.kafka.CreateTopicNamed(b.t, topic, 1)
	b.producer = b.kafka.Client(b.t, kgo.RecordPartitioner(kgo.ManualPartitioner())) // the first one knows the old topic's id
}
