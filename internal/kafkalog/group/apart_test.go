package group_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
)

// A topic that the member may not describe any more is left out when partitions are handed out next; the others flow.
func TestForbiddenTopicDoesNotStopTheOthers(t *testing.T) {
	const other = "other"
	cl, c, k := kafkatest.Fake(t, 1, kfake.SeedTopics(1, other))
	r := newRecorder()
	want := slices.Concat(kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5), kafkatest.Write(t, k, other, 0, "b", 5))
	var once sync.Once
	r.onApply = func(_ context.Context, b *kafkalog.Batch) (err error) {
		if string(b.Records[0].Value) == "c00000" {
			once.Do(func() {
				cl.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: other, Err: kerr.TopicAuthorizationFailed, Count: -1})
				err = group.ErrRejoin
			})
		}
		return err
	}
	cfg := topics(kafkatest.Topic, other)
	cfg.WatchInterval = 50 * time.Millisecond
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, want)
	awaitValues(t, r, append(want, kafkatest.Write(t, k, kafkatest.Topic, 0, "c", 5)...))
	awaitStats(t, con, "the topic is missing", func(st group.Stats) bool { return slices.Equal(st.Missing, []string{other}) })
	r.check(t)
}

// One topic whose batches all wait in Apply leaves a writer to the others.
func TestWaitingTopicLeavesAWriter(t *testing.T) {
	const other = "other"
	_, c, k := kafkatest.Fake(t, 4, kfake.SeedTopics(1, other))
	r := newRecorder()
	stuck := make(chan struct{})
	var waiting atomic.Int64
	r.onApply = func(ctx context.Context, b *kafkalog.Batch) error {
		if b.Partition.Topic == kafkatest.Topic {
			waiting.Add(1)
			select {
			case <-stuck:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	cfg := topics(kafkatest.Topic, other)
	cfg.Writers = 3
	consume(t, c, cfg, r)
	var late []string
	for p := range int32(4) {
		late = append(late, kafkatest.Write(t, k, kafkatest.Topic, p, string('a'+p), 1)...)
	}
	eventually(t, func() string {
		if waiting.Load() < 2 {
			return "two partitions wait in Apply"
		}
		return ""
	})
	want := kafkatest.Write(t, k, other, 0, "o", 1)
	awaitValues(t, r, want)
	want = append(want, kafkatest.Write(t, k, other, 0, "p", 1)...)
	awaitValues(t, r, want)
	close(stuck)
	awaitValues(t, r, append(want, late...))
	r.check(t)
}
