package kafkalog_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
)

// A topic that the member may not describe any more is left out when partitions are handed out next; the others flow.
func TestForbiddenTopicDoesNotStopTheOthers(t *testing.T) {
	const other = "other"
	cl, c, k := fake(t, 1, kfake.SeedTopics(1, other))
	r := newRecorder()
	want := slices.Concat(write(t, k, produceTopic, 0, "a", 5), write(t, k, other, 0, "b", 5))
	var once sync.Once
	r.onApply = func(_ context.Context, b *kafkalog.Batch) (err error) {
		if string(b.Records[0].Value) == "c00000" {
			once.Do(func() {
				cl.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: other, Err: kerr.TopicAuthorizationFailed, Count: -1})
				err = kafkalog.ErrRejoin
			})
		}
		return err
	}
	cfg := topics(produceTopic, other)
	cfg.WatchInterval = 50 * time.Millisecond
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, want)
	awaitValues(t, r, append(want, write(t, k, produceTopic, 0, "c", 5)...))
	awaitStats(t, con, "the topic is missing", func(st kafkalog.ConsumerStats) bool { return slices.Equal(st.Missing, []string{other}) })
	r.check(t)
}
