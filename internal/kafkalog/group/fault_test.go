package group_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/testenv"
)

func TestLossIsLoud(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 2)
	kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 50)
	want := kafkatest.Write(t, k, kafkatest.Topic, 1, "b", 50)
	kafkatest.Truncate(t, k, kafkatest.Topic, 0, 20)
	r := newRecorder()
	r.onTake = func(_ int32, parts []group.Assigned) ([]group.Start, error) {
		return []group.Start{{Partition: parts[0].Partition, Offset: 5}, {Partition: parts[1].Partition, Offset: 0}}, nil
	}
	losses := make(chan kafkalog.Loss, 10)
	cfg := topics(kafkatest.Topic)
	cfg.OnLoss = func(l kafkalog.Loss) { losses <- l }
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, want) // the other partition flows
	loss := testenv.Await(t, losses)
	if loss.Next != 5 || loss.First != 20 || loss.Last != 50 || loss.Partition.ID != 0 {
		t.Errorf("loss: got %+v, want offset 5 of 20 to 50", loss)
	}
	awaitStats(t, con, "the partition is lost", func(st group.Stats) bool { return st.Partitions[0].Lost && st.Losses == 1 })
	var le *kafkalog.LossError
	if st := con.Stats(); !errors.As(st.Partitions[0].LastError, &le) || st.Partitions[1].Lost {
		t.Errorf("stats: got %+v, want a LossError for partition 0 only", st.Partitions)
	}
	if !con.Restart(loss.Partition, loss.First) {
		t.Fatal("Restart reports that the partition is not assigned")
	}
	eventually(t, func() string {
		if got := len(r.seen(r.emits)); got != 50+30 {
			return fmt.Sprintf("%d of 80 values", got)
		}
		return ""
	})
	r.check(t)
}

func TestOffsetBeyondTheEndIsLoss(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 1)
	kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
	r := newRecorder()
	r.onTake = func(_ int32, parts []group.Assigned) ([]group.Start, error) {
		return []group.Start{{Partition: parts[0].Partition, Offset: 100}}, nil
	}
	con, _ := consume(t, c, topics(kafkatest.Topic), r)
	awaitStats(t, con, "the partition is lost", func(st group.Stats) bool {
		return len(st.Partitions) == 1 && st.Partitions[0].Lost
	})
}

func TestFetchErrorsPass(t *testing.T) {
	t.Parallel()
	for _, code := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition, kerr.LeaderNotAvailable, kerr.FencedLeaderEpoch,
		kerr.UnknownLeaderEpoch, kerr.KafkaStorageError, kerr.UnknownServerError, kerr.CorruptMessage, kerr.OffsetOutOfRange,
	} {
		t.Run(code.Message, func(t *testing.T) {
			cl, c, k := kafkatest.Fake(t, 1)
			want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
			var times atomic.Int64
			cl.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cl.KeepControl()
				if times.Add(1) > 2 {
					return nil, nil, false
				}
				return kafkatest.FetchError(req.(*kmsg.FetchRequest), code), nil, true
			})
			r := newRecorder()
			con, _ := consume(t, c, topics(kafkatest.Topic), r)
			awaitValues(t, r, want)
			if st := con.Stats(); st.Losses != 0 || st.Sessions != 1 {
				t.Errorf("losses %d, sessions %d; want 0 and 1", st.Losses, st.Sessions)
			}
		})
	}
}

func TestFetchConnectionsMayBreak(t *testing.T) {
	cl, c, k := kafkatest.Fake(t, 1)
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
	var times atomic.Int64
	cl.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		if times.Add(1) > 3 {
			return nil, nil, false
		}
		return nil, errTest, true
	})
	r := newRecorder()
	_, _ = consume(t, c, topics(kafkatest.Topic), r)
	awaitValues(t, r, want)
	r.check(t)
}

// A batch that stays bad stops its partition at its offset, and the other partition flows.
func TestCorruptBatchStops(t *testing.T) {
	t.Parallel()
	cl, c, k := kafkatest.Fake(t, 2)
	kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
	other := kafkatest.Write(t, k, kafkatest.Topic, 1, "b", 5)
	kafkatest.Write(t, k, kafkatest.Topic, 0, "bad", 5)
	cl.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		res := kafkatest.FetchError(req.(*kmsg.FetchRequest), &kerr.Error{})
		for i := range res.Topics[0].Partitions {
			if p := &res.Topics[0].Partitions[i]; p.Partition == 0 {
				p.HighWatermark, p.LastStableOffset, p.LogStartOffset = 10, 10, 0
				p.RecordBatches = make([]byte, 61)
				p.RecordBatches[7], p.RecordBatches[11], p.RecordBatches[16] = 5, 49, 2
				return res, nil, true
			}
		}
		return nil, nil, false
	})
	r := newRecorder()
	r.onTake = func(_ int32, parts []group.Assigned) ([]group.Start, error) {
		return []group.Start{{Partition: parts[0].Partition, Offset: 5}, {Partition: parts[1].Partition}}, nil
	}
	con, _ := consume(t, c, topics(kafkatest.Topic), r)
	awaitStats(t, con, "the partition is stopped", func(st group.Stats) bool {
		return len(st.Partitions) == 2 && st.Partitions[0].Stopped && errors.Is(st.Partitions[0].LastError, kafkalog.ErrCorrupt)
	})
	awaitValues(t, r, other)
}

func TestRecreatedTopicRejoins(t *testing.T) {
	cl, c, k := kafkatest.Fake(t, 1)
	r := newRecorder()
	r.onTake = func(_ int32, parts []group.Assigned) ([]group.Start, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return []group.Start{{Partition: parts[0].Partition, Offset: r.next[parts[0].Partition]}}, nil
	}
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "old", 5)
	_, _ = consume(t, c, topics(kafkatest.Topic), r)
	awaitValues(t, r, want)
	before, err := c.Topic(t.Context(), kafkatest.Topic)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTopics(t.Context(), []string{kafkatest.Topic}); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopics(t.Context(), []kafkalog.TopicSpec{{Name: kafkatest.Topic}}); err != nil {
		t.Fatal(err)
	}
	want = append(want, kafkatest.Write(t, kafkatest.Franz(t, cl.ListenAddrs()), kafkatest.Topic, 0, "new", 3)...)
	awaitValues(t, r, want)
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.taken[len(r.taken)-1][0].Partition
	if last.TopicID == before.ID || len(r.values[last]) != 3 {
		t.Errorf("new records came under topic id %s, the old one was %s", last.TopicID, before.ID)
	}
}

func TestPausedPartitionIsOvertaken(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 1)
	r := newRecorder()
	cfg := topics(kafkatest.Topic)
	cfg.WatchInterval = 50 * time.Millisecond
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 10))
	con.Pause(kafkatest.Topic)
	awaitStats(t, con, "the partition is paused", func(st group.Stats) bool {
		return len(st.Partitions) == 1 && st.Partitions[0].Paused
	})
	kafkatest.Write(t, k, kafkatest.Topic, 0, "b", 10)
	awaitStats(t, con, "the lag of a paused partition is known", func(st group.Stats) bool {
		return st.Partitions[0].LastStable == 20 && !st.Partitions[0].Lost
	})
	kafkatest.Truncate(t, k, kafkatest.Topic, 0, 15)
	awaitStats(t, con, "the partition is lost", func(st group.Stats) bool { return st.Partitions[0].Lost && st.Losses == 1 })
}

// A topic id that changes while nothing is wrong with fetching must be noticed as well.
func TestWatchComparesTopicIDs(t *testing.T) {
	cl, c, k := kafkatest.Fake(t, 1)
	r := newRecorder()
	cfg := topics(kafkatest.Topic)
	cfg.WatchInterval = 50 * time.Millisecond
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 3))
	var turned atomic.Bool
	cl.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		mr := req.(*kmsg.MetadataRequest)
		if turned.Load() || mr.Version != 12 || len(mr.Topics) != 1 {
			return nil, nil, false
		}
		turned.Store(true)
		res := req.ResponseKind().(*kmsg.MetadataResponse)
		host, port, _ := net.SplitHostPort(cl.ListenAddrs()[0])
		b := kmsg.NewMetadataResponseBroker()
		b.Host = host
		n, _ := strconv.Atoi(port)
		b.Port = int32(n)
		topic := kmsg.NewMetadataResponseTopic()
		name := kafkatest.Topic
		topic.Topic, topic.TopicID = &name, [16]byte{1, 2, 3}
		p := kmsg.NewMetadataResponseTopicPartition()
		topic.Partitions = append(topic.Partitions, p)
		res.Brokers, res.Topics = append(res.Brokers, b), append(res.Topics, topic)
		return res, nil, true
	})
	awaitStats(t, con, "another session", func(st group.Stats) bool { return st.Sessions >= 2 && st.Assigned })
}
