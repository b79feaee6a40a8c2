package worker_test

import (
	"fmt"
	"testing"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/worker"
)

// Records that another client put into another partition are counted, and noted for those who look for records by key.
func TestMisplacedRecordsAreNoted(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.split("items", 3)
	w := b.start(nil)
	scattered := func() string {
		t.Helper()
		info, err := b.client.Topic(t.Context(), b.dataset("items").Topic)
		if err != nil {
			t.Fatal(err)
		}
		why, err := b.open().Topics.Scattered(t.Context(), info.Name, info.ID, info.Partitions)
		if err != nil {
			t.Fatal(err)
		}
		return why
	}
	for i := range 10 {
		key := fmt.Sprint("k", i)
		b.putAt(kafkalog.PartitionOf([]byte(key), 3), "items", key, 1)
	}
	for i := range 10 {
		b.awaitRow("items", fmt.Sprint("k", i), 1)
	}
	if st := w.Stats().Datasets["items"]; st.Misplaced != 0 || scattered() != "" {
		t.Errorf("of records in their partitions: %+v, %q", st, scattered())
	}
	b.putAt((kafkalog.PartitionOf([]byte("k1"), 3)+1)%3, "items", "k1", 2)
	b.awaitRow("items", "k1", 2)
	awaitStats(t, w, "counted", func(s worker.Stats) bool { return s.Datasets["items"].Misplaced == 1 })
	if scattered() == "" {
		t.Error("it is not noted")
	}
	b.remake("items")
	if why := scattered(); why != "" {
		t.Errorf("the note is taken for one of a new topic: %s", why)
	}
}
