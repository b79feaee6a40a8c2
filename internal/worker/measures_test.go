package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/schemas"
)

// What a worker measures of its work: ages and durations of every event and batch once, rows and refusals by dataset, and no lag at the end.
func TestMeasures(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 50)
	b.poison("items", "broken")
	b.awaitDone("items")
	awaitReady(t, w)
	testenv.Eventually(t, patience, func(context.Context) error {
		m := w.Measures()
		items, others := m.Topics["items"], m.Topics["others"]
		switch {
		case items.Applied.Count != 50 || items.Emitted.Count != 50:
			return fmt.Errorf("%d events are applied and %d emitted of 50", items.Applied.Count, items.Emitted.Count)
		case items.Applied.Sum > items.Emitted.Sum || items.Emitted.Sum > 50*patience.Seconds():
			return fmt.Errorf("ages are %v s when applied and %v s when emitted", items.Applied.Sum, items.Emitted.Sum)
		case items.Apply.Count == 0 || items.Apply.Sum <= 0 || items.Emit.Count == 0 || items.Emit.Sum <= 0:
			return fmt.Errorf("durations: %+v, %+v", items.Apply, items.Emit)
		case items.Rows != 50 || items.Refused[schemas.ReasonMalformed] != 1 || len(items.Refused) != len(schemas.Reasons()):
			return fmt.Errorf("%d rows, refused %v", items.Rows, items.Refused)
		case others.Applied.Count+others.Apply.Count+others.Rows > 0 || len(others.Refused) == 0:
			return fmt.Errorf("of a dataset without events: %+v", others)
		case m.Fetch.Count == 0 || m.Commit.Count == 0:
			return fmt.Errorf("%d fetches, %d commits", m.Fetch.Count, m.Commit.Count)
		case len(m.Lanes) != 1 || m.Lanes[0] < 0 || m.Lanes[0] > patience:
			return fmt.Errorf("lanes answered %v ago", m.Lanes)
		case len(m.Lag) != 2:
			return fmt.Errorf("lag of %d partitions", len(m.Lag))
		}
		for p, lag := range m.Lag {
			if lag != 0 {
				return fmt.Errorf("%s/%d is behind by %v", p.Topic, p.ID, lag)
			}
		}
		return nil
	})
}

// A partition that does not move is behind by more and more time. That counts from when its oldest record came, however long ago the one
// before it was published.
func TestLagGrowsWhileABatchWaits(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(func(cfg *worker.Config, _ *replica.Config) { cfg.PauseAfter = 200 * time.Millisecond })
	d := b.dataset("items")
	rec, err := d.Encode(&schemas.Event{ID: "1", Source: "//test", Dataset: "items", Key: "old", Op: schemas.Upsert, Version: 1, Data: []byte(`{"id":"old"}`)})
	if err != nil {
		t.Fatal(err)
	}
	old := &kgo.Record{Topic: d.Topic, Key: rec.Key, Value: rec.Value, Timestamp: time.Now().Add(-time.Hour)}
	for _, h := range rec.Headers {
		old.Headers = append(old.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	if err := b.producer.ProduceSync(t.Context(), old).FirstErr(); err != nil {
		t.Fatal(err)
	}
	b.awaitDone("items")
	lag := func() time.Duration {
		for p, d := range w.Measures().Lag {
			if p.Topic == old.Topic {
				return d
			}
		}
		return -1
	}
	eventually := func(what string, ok func(time.Duration) bool) {
		t.Helper()
		testenv.Eventually(t, patience, func(context.Context) error {
			if d := lag(); !ok(d) {
				return fmt.Errorf("%s: behind by %v", what, d)
			}
			return nil
		})
	}
	if age := w.Measures().Topics["items"].Applied.Sum; age < time.Hour.Seconds() {
		t.Errorf("an event of an hour ago had the age %v s", age)
	}
	eventually("everything is applied", func(d time.Duration) bool { return d == 0 })
	b.exec("RENAME TABLE items TO away")
	b.put("items", "k", 1)
	awaitReason(t, w, "dataset items is paused")
	first := lag()
	if first <= 0 || first >= time.Hour {
		t.Errorf("behind by %v, a moment after the record came", first)
	}
	eventually("it grows", func(d time.Duration) bool { return d > first })
	b.exec("RENAME TABLE away TO items")
	b.awaitDone("items")
	eventually("everything is applied again", func(d time.Duration) bool { return d == 0 })
}
