package worker_test

import (
	"testing"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/worker"
)

// Going back to an earlier cluster brings a topic id that another one had replaced. Only that dataset waits, with a reason, until an
// operator accepts the id; then it is read on.
func TestFormerTopicIDWaitsForTheOperator(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(nil)
	b.put("items", "k1", 1)
	b.awaitDone("items")
	w.stop()
	info, err := b.client.Topic(t.Context(), b.dataset("items").Topic)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := replica.Open(t.Context(), replica.Config{MySQL: mysql.Config{DSN: b.dsn}})
	if err != nil {
		t.Fatal(err)
	}
	defer rep.Close()
	const other = "AAAAAAAAAAAAAAAAAAAAAA" // a stay on another cluster notes its id
	if _, err := rep.Topics.Observe(t.Context(), info.Name, other, 1); err != nil {
		t.Fatal(err)
	}
	if err := rep.Topics.Flushed(t.Context(), info.Name, other, time.Hour); err != nil {
		t.Fatal(err)
	}
	w = b.start(func(c *worker.Config, _ *replica.Config) { c.ProbeInterval = 200 * time.Millisecond })
	b.put("items", "k1", 2)
	b.put("others", "k1", 1)
	b.awaitRow("others", "k1", 1)
	awaitReason(t, w, "dataset items is paused", "freshet partitions accept "+info.Name)
	if v := b.version(t.Context(), "items", "k1"); v != 1 {
		t.Errorf("version %d of a topic that waits, want 1", v)
	}
	if ok, err := rep.Topics.Accept(t.Context(), info.Name, info.ID); err != nil || !ok {
		t.Fatalf("accept: %v, %v", ok, err)
	}
	b.awaitRow("items", "k1", 2)
	b.awaitDone("items")
	awaitReady(t, w)
	if ok, err := rep.Topics.Accept(t.Context(), info.Name, info.ID); err != nil || ok {
		t.Errorf("accept once more: %v, %v, want nothing to accept", ok, err)
	}
}
