package group_test

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/testenv"
)

// Two streams of one topic: each delivers every record, one continues while the other is paused, and each has committed
// offsets of its own that survive a restart.
func TestStreamsOfATopicAreApart(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic := kafka.CreateTopic(t, 2)
	c, k := kafkatest.Client(t, kafka.Brokers), kafkatest.Franz(t, kafka.Brokers)
	users, orders := topic+"#users", topic+"#orders"
	cfg := group.Config{Topics: []string{users, orders}, Group: topic + "-g"}
	r := newRecorder()
	con, stop := consume(t, c, cfg, r)
	twice := func(values []string) []string { return slices.Concat(values, values) }
	first := append(kafkatest.Write(t, k, topic, 0, "a", 50), kafkatest.Write(t, k, topic, 1, "b", 50)...)
	awaitValues(t, r, twice(first))

	con.Pause(users)
	awaitStats(t, con, "the streams of one dataset are paused", func(st group.Stats) bool {
		paused := 0
		for _, p := range st.Partitions {
			if p.Paused != (p.Partition.Topic == users) {
				return false
			}
			paused++
		}
		return paused == 4
	})
	second := kafkatest.Write(t, k, topic, 0, "c", 30)
	awaitValues(t, r, slices.Concat(twice(first), second))
	awaitStats(t, con, "what flowed is committed", func(st group.Stats) bool {
		for _, p := range st.Partitions {
			want := map[string]int64{orders: 80, users: 50}[p.Partition.Topic]
			if p.Partition.ID == 0 && p.Committed != want {
				return false
			}
		}
		return true
	})
	stop()
	r.check(t)
	got, err := c.CommittedOffsets(t.Context(), cfg.Group, []string{users, orders})
	if err != nil || got[users][0] != 50 || got[orders][0] != 80 || got[users][1] != 50 || got[orders][1] != 50 {
		t.Fatalf("committed offsets are %v, %v", got, err)
	}

	again := newRecorder()
	consume(t, c, cfg, again)
	awaitValues(t, again, second) // users alone lacks them
	for p := range again.values {
		if len(again.seen(map[kafkalog.Partition][]string{p: again.values[p]})) > 0 && p.Topic != users {
			t.Errorf("%s is delivered again", p.Source())
		}
	}
	again.check(t)
}

// Streams that are as far share one reply: the broker is asked for a record once.
func TestStreamsShareReplies(t *testing.T) {
	cl, c, k := kafkatest.Fake(t, 1)
	var asked atomic.Int64
	cl.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		for _, topic := range req.(*kmsg.FetchRequest).Topics {
			for _, p := range topic.Partitions {
				if p.FetchOffset == 0 {
					asked.Add(1)
				}
			}
		}
		return nil, nil, false
	})
	var names, want []string
	values := kafkatest.Write(t, k, kafkatest.Topic, 0, "x", 10)
	for _, d := range []string{"a", "b", "c", "d", "e"} {
		names = append(names, kafkatest.Topic+"#"+d)
		want = append(want, values...)
	}
	r := newRecorder()
	consume(t, c, group.Config{Topics: names}, r)
	awaitValues(t, r, want)
	r.check(t)
	if n := asked.Load(); n != 1 {
		t.Errorf("the broker is asked %d times for the first record, want once", n)
	}
}
