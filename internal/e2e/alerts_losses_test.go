package e2e_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/schemas"
)

// lossesFire takes a worker out of service, and takes from Kafka and MySQL what they had: the alerts for that clear once an operator did
// what their runbooks say.
func lossesFire(t *testing.T) {
	t.Parallel()
	w := newWatched(t, "FRESHET_DRAIN_DELAY=1h")
	w.traffic()
	w.awaitHealth()

	w.startSlowReplay()
	signalled(t, w.worker, syscall.SIGTERM)
	w.firing("FreshetNotReady")
	w.worker.Kill(t)
	lost := w.loseRecords()
	w.startWorker()
	w.firing("FreshetDataLost", "FreshetPartitionStuck", "FreshetJobFailed")
	w.mustRun("partitions", "restart", lost, "--at", "last")
	w.awaitHealth()

	w.traffic()
	w.exec("UPDATE freshet_position SET next_offset = next_offset - 1 WHERE next_offset > 0")
	w.traffic()
	w.firing("FreshetDatabaseWentBack")
	w.awaitHealth()

	d, _ := w.datasets.Get("items")
	w.kafka.DeleteTopic(t, d.Topic)
	w.sourceExec(`INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'o', 'upsert', '{"id":"o","n":1,"body":"b"}')`)
	w.firing("FreshetTopicMissing", "FreshetOutboxBlocked")
	w.mustRun("migrate", "datasets", "--partitions", "4", "--cleanup", "delete")
	w.awaitHealth()
	w.traffic()
	w.leave()
}

// startSlowReplay starts a replay that takes minutes, of records that loseRecords deletes.
func (w *watched) startSlowReplay() {
	w.t.Helper()
	var all []schemas.Event
	for range 300 {
		w.version++
		all = append(all, upsert("items", "a", w.version, "x"))
	}
	publish(w.t, w.pub, all...)
	w.mustRun("replay", "start", "items", "--apply", "--rate", "1", "--client-url", w.adminAddr)
	w.reaches(1, "SELECT COUNT(*) FROM freshet_replay WHERE state = 'running' AND owner <> ''")
}

// loseRecords publishes an event, and deletes it before a worker reads it. It returns the event's partition.
func (w *watched) loseRecords() string {
	t := w.t
	t.Helper()
	w.version++
	d, _ := w.datasets.Get("items")
	var n int32
	for source := range publish(t, w.pub, upsert("items", "a", w.version, "x")).Offsets() {
		if _, err := fmt.Sscan(source[strings.LastIndex(source, "/")+1:], &n); err != nil {
			t.Fatalf("the source %s: %v", source, err)
		}
	}
	const all = -1
	kafkatest.Truncate(t, w.kafka.Client(t), d.Topic, n, all)
	return fmt.Sprintf("%s/%d", d.Topic, n)
}
