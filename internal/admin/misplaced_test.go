package admin_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// Once a record was seen in an unexpected partition, browsing, inspecting and replaying by key find it.
func TestMisplacedRecordsAreFoundByKey(t *testing.T) {
	r := newRig(t, nil)
	d, _ := r.datasets.Get("items")
	info, err := r.cfg.Kafka.Topic(t.Context(), d.Topic)
	must(t, err)
	rec, err := d.Encode(&schemas.Event{ID: "e1", Source: "//other", Dataset: "items", Key: "k1", Op: schemas.Upsert, Version: 1, Data: []byte(`{"id":"k1","n":1}`)})
	must(t, err)
	wrong := 1 - kafkalog.PartitionOf([]byte("k1"), 2)
	kr := &kgo.Record{Topic: d.Topic, Partition: wrong, Key: rec.Key, Value: rec.Value}
	for _, h := range rec.Headers {
		kr.Headers = append(kr.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	must(t, testenv.Kafka(t).Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner())).ProduceSync(t.Context(), kr).FirstErr())
	must(t, r.cfg.Replica.Topics.NoteMisplaced(t.Context(), d.Topic, info.ID, wrong, kr.Offset))

	if got := r.messages("from=start&key=k1"); len(got) != 1 || got[0].Partition != wrong {
		t.Errorf("browsed: %+v", got)
	}
	var side api.Record
	r.want(200, "viewer", "GET", "/v1/records/items/k1", nil).into(t, &side)
	if len(side.Kafka.Events) != 1 || side.Partition != wrong {
		t.Errorf("inspected: %+v", side)
	}
	r.replayer("w1", nil)
	if got := r.await(r.start(map[string]any{"dry_run": false, "keys": []string{"k1"}}).ID, "done"); got.Total.Applied != 1 || r.rows()["k1"] != 1 {
		t.Errorf("replayed: %+v, rows %v", got.Total, r.rows())
	}
}

// A topic that got more partitions has older events of a record elsewhere than newer ones.
func TestMorePartitionsAreSearchedByKey(t *testing.T) {
	r := newRig(t, nil)
	d, _ := r.datasets.Get("items")
	info, err := r.cfg.Kafka.Topic(t.Context(), d.Topic)
	must(t, err)
	_, err = r.cfg.Replica.Topics.Observe(t.Context(), d.Topic, info.ID, 1) // as a worker saw it before
	must(t, err)
	r.replayer("w1", nil)
	if got := r.await(r.start(map[string]any{"dry_run": false, "keys": []string{"k1"}}).ID, "done"); len(got.Parts) != 2 {
		t.Errorf("%d partitions were read, want 2", len(got.Parts))
	}
}
