package kafkalog_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
)

func TestLossIsLoud(t *testing.T) {
	_, c, k := fake(t, 2)
	write(t, k, produceTopic, 0, "a", 50)
	want := write(t, k, produceTopic, 1, "b", 50)
	truncate(t, k, produceTopic, 0, 20)
	r := newRecorder()
	r.onTake = func(_ int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error) {
		return []kafkalog.Start{{Partition: parts[0].Partition, Offset: 5}, {Partition: parts[1].Partition, Offset: 0}}, nil
	}
	losses := make(chan kafkalog.Loss, 10)
	cfg := topics(produceTopic)
	cfg.OnLoss = func(l kafkalog.Loss) { losses <- l }
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, want) // the other partition flows
	loss := testenv.Await(t, losses)
	if loss.Next != 5 || loss.First != 20 || loss.Last != 50 || loss.Partition.ID != 0 {
		t.Errorf("loss: got %+v, want offset 5 of 20 to 50", loss)
	}
	awaitStats(t, con, "the partition is lost", func(st kafkalog.ConsumerStats) bool { return st.Partitions[0].Lost && st.Losses == 1 })
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

func truncate(t *testing.T, k *kgo.Client, topic string, partition int32, before int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 5000
	req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: before}}}}
	res, err := req.RequestWith(t.Context(), k)
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestOffsetBeyondTheEndIsLoss(t *testing.T) {
	_, c, k := fake(t, 1)
	write(t, k, produceTopic, 0, "a", 5)
	r := newRecorder()
	r.onTake = func(_ int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error) {
		return []kafkalog.Start{{Partition: parts[0].Partition, Offset: 100}}, nil
	}
	con, _ := consume(t, c, topics(produceTopic), r)
	awaitStats(t, con, "the partition is lost", func(st kafkalog.ConsumerStats) bool {
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
			cl, c, k := fake(t, 1)
			want := write(t, k, produceTopic, 0, "a", 5)
			var times atomic.Int64
			cl.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cl.KeepControl()
				if times.Add(1) > 2 {
					return nil, nil, false
				}
				return fetchError(req.(*kmsg.FetchRequest), code), nil, true
			})
			r := newRecorder()
			con, _ := consume(t, c, topics(produceTopic), r)
			awaitValues(t, r, want)
			if st := con.Stats(); st.Losses != 0 || st.Sessions != 1 {
				t.Errorf("losses %d, sessions %d; want 0 and 1", st.Losses, st.Sessions)
			}
		})
	}
}

func fetchError(req *kmsg.FetchRequest, code *kerr.Error) *kmsg.FetchResponse {
	res := req.ResponseKind().(*kmsg.FetchResponse)
	for _, rt := range req.Topics {
		t := kmsg.NewFetchResponseTopic()
		t.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.ErrorCode, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = rp.Partition, code.Code, -1, -1, -1
			t.Partitions = append(t.Partitions, p)
		}
		res.Topics = append(res.Topics, t)
	}
	return res
}

func TestFetchConnectionsMayBreak(t *testing.T) {
	cl, c, k := fake(t, 1)
	want := write(t, k, produceTopic, 0, "a", 5)
	var times atomic.Int64
	cl.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		if times.Add(1) > 3 {
			return nil, nil, false
		}
		return nil, errTest, true
	})
	r := newRecorder()
	_, _ = consume(t, c, topics(produceTopic), r)
	awaitValues(t, r, want)
	r.check(t)
}

// A batch that stays bad stops its partition at its offset, and the other partition flows.
func TestCorruptBatchStops(t *testing.T) {
	t.Parallel()
	cl, c, k := fake(t, 2)
	write(t, k, produceTopic, 0, "a", 5)
	other := write(t, k, produceTopic, 1, "b", 5)
	write(t, k, produceTopic, 0, "bad", 5)
	cl.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		res := fetchError(req.(*kmsg.FetchRequest), &kerr.Error{})
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
	r.onTake = func(_ int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error) {
		return []kafkalog.Start{{Partition: parts[0].Partition, Offset: 5}, {Partition: parts[1].Partition}}, nil
	}
	con, _ := consume(t, c, topics(produceTopic), r)
	awaitStats(t, con, "the partition is stopped", func(st kafkalog.ConsumerStats) bool {
		return len(st.Partitions) == 2 && st.Partitions[0].Stopped && errors.Is(st.Partitions[0].LastError, kafkalog.ErrCorrupt)
	})
	awaitValues(t, r, other)
}

func TestRecreatedTopicRejoins(t *testing.T) {
	cl, c, k := fake(t, 1)
	r := newRecorder()
	r.onTake = func(_ int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return []kafkalog.Start{{Partition: parts[0].Partition, Offset: r.next[parts[0].Partition]}}, nil
	}
	want := write(t, k, produceTopic, 0, "old", 5)
	_, _ = consume(t, c, topics(produceTopic), r)
	awaitValues(t, r, want)
	before, err := c.Topic(t.Context(), produceTopic)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTopics(t.Context(), []string{produceTopic}); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopics(t.Context(), []kafkalog.TopicSpec{{Name: produceTopic}}); err != nil {
		t.Fatal(err)
	}
	want = append(want, write(t, kgoClient(t, cl.ListenAddrs()), produceTopic, 0, "new", 3)...)
	awaitValues(t, r, want)
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.taken[len(r.taken)-1][0].Partition
	if last.TopicID == before.ID || len(r.values[last]) != 3 {
		t.Errorf("new records came under topic id %s, the old one was %s", last.TopicID, before.ID)
	}
}

func TestPausedPartitionIsOvertaken(t *testing.T) {
	_, c, k := fake(t, 1)
	r := newRecorder()
	cfg := topics(produceTopic)
	cfg.WatchInterval = 50 * time.Millisecond
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, write(t, k, produceTopic, 0, "a", 10))
	con.Pause(produceTopic)
	awaitStats(t, con, "the partition is paused", func(st kafkalog.ConsumerStats) bool {
		return len(st.Partitions) == 1 && st.Partitions[0].Paused
	})
	write(t, k, produceTopic, 0, "b", 10)
	awaitStats(t, con, "the lag of a paused partition is known", func(st kafkalog.ConsumerStats) bool {
		return st.Partitions[0].HighWater == 20 && !st.Partitions[0].Lost
	})
	truncate(t, k, produceTopic, 0, 15)
	awaitStats(t, con, "the partition is lost", func(st kafkalog.ConsumerStats) bool { return st.Partitions[0].Lost && st.Losses == 1 })
}

// A topic id that changes while nothing is wrong with fetching must be noticed as well.
func TestWatchComparesTopicIDs(t *testing.T) {
	cl, c, k := fake(t, 1)
	r := newRecorder()
	cfg := topics(produceTopic)
	cfg.WatchInterval = 50 * time.Millisecond
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, write(t, k, produceTopic, 0, "a", 3))
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
		name := produceTopic
		topic.Topic, topic.TopicID = &name, [16]byte{1, 2, 3}
		p := kmsg.NewMetadataResponseTopicPartition()
		topic.Partitions = append(topic.Partitions, p)
		res.Brokers, res.Topics = append(res.Brokers, b), append(res.Topics, topic)
		return res, nil, true
	})
	awaitStats(t, con, "another session", func(st kafkalog.ConsumerStats) bool { return st.Sessions >= 2 && st.Assigned })
}
