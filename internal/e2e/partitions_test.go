package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// Kafka deleted records while no worker ran. The operator reads what readiness says, publishes again what is missing, and
// lets the partition continue.
func TestOperatorRestartsAPartition(t *testing.T) {
	t.Parallel()
	kafka := testenv.Kafka(t)
	topic := kafka.CreateTopic(t, 1)
	w := newWorld(t, testenv.Redis(t), map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	p := w.producer()
	publish := func(from, to int64) {
		for v := from; v <= to; v++ {
			key := fmt.Sprint("k", v%5)
			if _, err := p.Publish(t.Context(), schemas.Event{Dataset: "items", Key: key, Op: schemas.Upsert, Version: v, Data: good(key, v)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows := func(version int64) {
		t.Helper()
		testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
			var newest int64
			if err := w.db.QueryRowContext(ctx, "SELECT COALESCE(MAX(_version), 0) FROM items").Scan(&newest); err != nil {
				return err
			}
			if newest != version {
				return fmt.Errorf("newest version %d, want %d", newest, version)
			}
			return nil
		})
	}
	worker := w.startWorker()
	publish(1, 10)
	rows(10)
	worker.Kill(t)
	publish(11, 20)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 10_000
	req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 15}}}}
	res, err := req.RequestWith(t.Context(), kafka.Client(t))
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.startWorker()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{topic}, "is not a partition"},
		{[]string{topic + "/0"}, "say where"},
		{[]string{topic + "/0", "--at", "14"}, "want first, last or an offset from 15 to 20"},
		{[]string{topic + "/7", "--at", "first"}, "has no partition 7"},
	} {
		_, errOut, code := w.run("", append([]string{"partitions", "restart"}, c.args...)...)
		if code != 2 || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: exit code %d, %q; want 2 and %q", c.args, code, errOut, c.want)
		}
	}
	out := w.mustRun("partitions", "restart", topic+"/0", "--at", "first")
	if want := "stands at offset 10 and the log has 15 to 20; if it is stopped, it continues at 15"; !strings.Contains(out, want) {
		t.Errorf("printed %q, want %q", out, want)
	}
	rows(20)
	publish(21, 21)
	rows(21)

	// There is nothing to restart any more, and the command says so instead of promising it.
	testenv.Eventually(t, settleLimit, func(context.Context) error { // the previous worker counts as alive for a while
		_, errOut, code := w.run("", "partitions", "restart", topic+"/0", "--at", "first")
		if code != 1 || !strings.Contains(errOut, "is not stopped") {
			return fmt.Errorf("exit code %d, %q", code, errOut)
		}
		return nil
	})
	w.reaches(0, "SELECT COUNT(*) FROM freshet_meta WHERE name LIKE 'restart:%'")
}
