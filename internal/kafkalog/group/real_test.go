package group_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/testenv"
)

func TestRealHandover(t *testing.T) {
	t.Parallel()
	_, c, k, topic := kafkatest.Real(t, 4)
	cfg := topics(topic)
	cfg.Group = "g." + topic
	var want []string
	round := func(name string) {
		for p := range int32(4) {
			want = append(want, kafkatest.Write(t, k, topic, p, fmt.Sprint(name, p, "-"), 200)...)
		}
	}
	round("one")
	a, b := newRecorder(), newRecorder()
	conA, stopA := consume(t, c, cfg, a)
	awaitStats(t, conA, "one member has it all", func(st group.Stats) bool { return len(st.Partitions) == 4 && st.Commits > 0 })
	conB, stopB := consume(t, c, cfg, b)
	half := func(st group.Stats) bool { return len(st.Partitions) == 2 }
	awaitStats(t, conA, "the first member keeps half", half)
	awaitStats(t, conB, "the second member owns half", half)
	round("two")
	all := func() {
		t.Helper()
		eventually(t, func() string {
			if got := len(a.seen(a.emits)) + len(b.seen(b.emits)); got != len(want) {
				return fmt.Sprintf("%d of %d values", got, len(want))
			}
			return ""
		})
	}
	all()
	stopA()
	round("three")
	all() // nothing twice: what was drained was committed
	stopB()
	got := append(a.seen(a.emits), b.seen(b.emits)...)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Error("the values are not those that were written")
	}
	a.check(t)
	b.check(t)
	at, err := c.CommittedOffsets(t.Context(), cfg.Group, []string{topic})
	if err != nil || at[topic][0] != 600 || at[topic][3] != 600 {
		t.Errorf("committed: got %v, %v, want 600 each", at, err)
	}
}

func TestRealLoss(t *testing.T) {
	_, c, k, topic := kafkatest.Real(t, 1)
	want := kafkatest.Write(t, k, topic, 0, "a", 20)
	kafkatest.Truncate(t, k, topic, 0, 8)
	r := newRecorder()
	r.onTake = func(_ int32, parts []group.Assigned) ([]group.Start, error) {
		return []group.Start{{Partition: parts[0].Partition, Offset: 3}}, nil
	}
	losses := make(chan kafkalog.Loss, 1)
	cfg := topics(topic)
	cfg.Group, cfg.OnLoss = "g."+topic, func(l kafkalog.Loss) { losses <- l }
	con, _ := consume(t, c, cfg, r)
	var l kafkalog.Loss
	select {
	case l = <-losses:
	case <-time.After(kafkatest.Within):
		t.Fatal("no one learned of the loss")
	}
	if l.Next != 3 || l.First != 8 || l.Last != 20 {
		t.Errorf("got %+v, want 3 of 8 to 20", l)
	}
	con.Restart(l.Partition, l.First)
	awaitValues(t, r, want[8:])
}

func TestRealTopicMadeAnew(t *testing.T) {
	ks, c, k, topic := kafkatest.Real(t, 1)
	r := newRecorder()
	r.onTake = func(_ int32, parts []group.Assigned) ([]group.Start, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return []group.Start{{Partition: parts[0].Partition, Offset: r.next[parts[0].Partition]}}, nil
	}
	cfg := topics(topic)
	cfg.Group = "g." + topic
	want := kafkatest.Write(t, k, topic, 0, "old", 5)
	_, _ = consume(t, c, cfg, r)
	awaitValues(t, r, want)
	ks.DeleteTopic(t, topic)
	ks.CreateTopicNamed(t, topic, 1)
	// More records than the old topic had: offsets alone would not tell the two apart.
	want = append(want, kafkatest.Write(t, kafkatest.Franz(t, ks.Brokers), topic, 0, "new", 50)...)
	awaitValues(t, r, want)
	r.check(t)
}

func TestRealBrokerDies(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a broker")
	}
	t.Parallel()
	testenv.Kafka(t).RequireReal(t)
	ks := testenv.StartKafka(t, testenv.KafkaOptions{})
	topic := ks.CreateTopic(t, 3)
	c := kafkatest.Client(t, ks.Brokers)
	r := newRecorder()
	con, _ := consume(t, c, topics(topic), r)
	seen := map[string]bool{}
	var want []string
	for round := range 2 {
		k := kafkatest.Franz(t, ks.Brokers)
		for p := range int32(3) {
			want = append(want, kafkatest.Write(t, k, topic, p, fmt.Sprint(round, "-", p, "-"), 100)...)
		}
		testenv.Eventually(t, time.Minute, func(context.Context) error {
			// A batch whose commit died with the broker comes again.
			for _, v := range r.seen(r.emits) {
				seen[v] = true
			}
			for _, v := range want {
				if !seen[v] {
					return fmt.Errorf("%d of %d values", len(seen), len(want))
				}
			}
			return nil
		})
		if round == 0 {
			ks.Kill(t)
			ks.Restart(t)
		}
	}
	if st := con.Stats(); st.Losses != 0 {
		t.Errorf("losses: got %d, want 0", st.Losses)
	}
	r.check(t)
}
