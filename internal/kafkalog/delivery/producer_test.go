package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/schemas"
)

func TestProduceAcknowledges(t *testing.T) {
	for codec := recordbatch.CompressionNone; codec <= recordbatch.CompressionZstd; codec++ {
		t.Run(fmt.Sprint(codec), func(t *testing.T) {
			t.Parallel()
			c := kafkatest.Cluster(t, 1)
			p := startProducer(t, c.ListenAddrs(), delivery.Config{Compression: codec})
			o, want := newOutcomes(), values("v", 2500)
			for _, v := range want {
				o.send(t, p, "k", v)
			}
			flush(t, p)
			info, err := kafkatest.Client(t, c.ListenAddrs()).Topic(t.Context(), kafkatest.Topic)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range want {
				part := kafkalog.Partition{Topic: kafkatest.Topic, TopicID: info.ID}
				if a := o.of(t, v); a.err != nil || a.at.Offset != int64(i) || a.at.Partition != part {
					t.Fatalf("record %d: got %+v, %v; want offset %d of %+v", i, a.at, a.err, i, part)
				}
			}
			wantLog(t, c, want...)
			if s := p.Stats(); s.Acked != 2500 || s.Batches < 3 || s.Buffered != 0 || s.BufferedBytes != 0 || s.ProducerIDs != 1 || s.Failed != 0 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

func TestProduceWholeRecord(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{})
	now := time.Now().UnixMilli()
	times := []int64{now - 1000, 1_000_000_000_000, now + 5*3600_000, 0}
	for _, ms := range times {
		rec := schemas.Record{Key: []byte("k"), Headers: []schemas.Header{{Key: "a", Value: []byte("1")}, {Key: "b"}}, Time: ms}
		if err := p.Produce(t.Context(), kafkatest.Topic, rec, nil); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, p)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(kafkatest.Topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var got []*kgo.Record
	for len(got) < len(times) {
		fs := cl.PollFetches(t.Context())
		if err := fs.Err0(); err != nil {
			t.Fatal(err)
		}
		got = append(got, fs.Records()...)
	}
	for _, r := range got {
		if string(r.Key) != "k" || r.Value != nil || len(r.Headers) != 2 || string(r.Headers[0].Value) != "1" || r.Headers[1].Value != nil {
			t.Errorf("got key %q, value %v, headers %v", r.Key, r.Value, r.Headers)
		}
	}
	skew := delivery.MaxTimeSkew.Milliseconds()
	for i, want := range []int64{now - 1000, now - skew, now + skew, now} {
		if d := got[i].Timestamp.UnixMilli() - want; d < 0 || d > kafkatest.Within.Milliseconds() || (i == 0 && d != 0) {
			t.Errorf("record %d: time is %d ms off", i, d)
		}
	}
}

func TestProduceKeysChoosePartitions(t *testing.T) {
	c := kafkatest.Cluster(t, 7, kfake.NumBrokers(3))
	p := startProducer(t, c.ListenAddrs(), delivery.Config{})
	o := newOutcomes()
	keys := values("key", 200)
	for _, k := range keys {
		o.send(t, p, k, k)
	}
	flush(t, p)
	hasher := kgo.StickyKeyPartitioner(nil).ForTopic(kafkatest.Topic)
	for _, k := range keys {
		want := hasher.Partition(&kgo.Record{Key: []byte(k)}, 7)
		if got := o.of(t, k); got.err != nil || int(got.at.Partition.ID) != want {
			t.Errorf("key %s: got partition %d, %v; want %d", k, got.at.Partition.ID, got.err, want)
		}
	}
}

func TestProduceRefusesAtOnce(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{MaxBufferedBytes: 10_000})
	done := func(delivery.Acked, error) { t.Error("done was called") }
	for name, tc := range map[string]struct {
		topic string
		rec   schemas.Record
		want  error
	}{
		"no key":   {kafkatest.Topic, schemas.Record{Value: []byte("v")}, delivery.ErrRefused},
		"no topic": {"freshet.missing", schemas.Record{Key: []byte("k")}, kafkalog.ErrNoTopic},
		"buffer":   {kafkatest.Topic, schemas.Record{Key: []byte("k"), Value: make([]byte, 10_000)}, delivery.ErrTooLarge},
	} {
		if err := p.Produce(t.Context(), tc.topic, tc.rec, done); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func TestProduceKafkaAway(t *testing.T) {
	p := startProducer(t, []string{"127.0.0.1:1"}, delivery.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := p.Produce(ctx, kafkatest.Topic, schemas.Record{Key: []byte("k")}, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "127.0.0.1:1") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %q, want the deadline and the broker's address on one line", err)
	}
}

func TestProduceBlocksWhenFull(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{MaxBufferedBytes: 5000})
	if a := sendOne(t, p, "first"); a.err != nil {
		t.Fatal(a.err)
	}
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: kafkatest.Topic, Err: kerr.NotEnoughReplicas, Count: -1})
	o := newOutcomes()
	o.send(t, p, "k", strings.Repeat("a", 4000))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	big := schemas.Record{Key: []byte("k"), Value: []byte(strings.Repeat("b", 4000))}
	if err := p.Produce(ctx, kafkatest.Topic, big, func(delivery.Acked, error) { t.Error("done was called") }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a full buffer: got %v, want the deadline", err)
	}
	if s := p.Stats(); s.Buffered != 1 || s.Blocked != 1 {
		t.Errorf("stats: %+v", s)
	}
	h.Remove()
	o.send(t, p, "k", strings.Repeat("c", 4000)) // has to wait until the first is out
	flush(t, p)
	wantLog(t, c, "first", strings.Repeat("a", 4000), strings.Repeat("c", 4000))
}

func TestProduceOneBatchAtATime(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	var under, most, records atomic.Int32
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		var b kmsg.RecordBatch
		if err := b.ReadFrom(req.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records); err != nil {
			t.Error(err)
		}
		most.Store(max(most.Load(), under.Add(1)))
		records.Store(max(records.Load(), b.NumRecords))
		c.SleepControl(func() {}) // lets other requests in, if there are any
		under.Add(-1)
		return nil, nil, false
	})
	p := startProducer(t, c.ListenAddrs(), delivery.Config{MaxBatchRecords: 10, Linger: -1})
	o, want := newOutcomes(), values("v", 300)
	for _, v := range want {
		o.send(t, p, "k", v)
	}
	flush(t, p)
	wantLog(t, c, want...)
	if most.Load() != 1 || records.Load() != 10 {
		t.Errorf("got %d requests at once and at most %d records in one, want 1 and 10", most.Load(), records.Load())
	}
}

func TestProduceManyWriters(t *testing.T) {
	const writers, each = 8, 500
	c := kafkatest.Cluster(t, 5, kfake.NumBrokers(3))
	p := startProducer(t, c.ListenAddrs(), delivery.Config{MaxBufferedBytes: 64 << 10})
	produceInOrder(t, p, writers, each, nil)
	checkOrder(t, logOf(t, c.ListenAddrs(), kafkatest.Topic), writers, each)
}

// produceInOrder lets each writer produce its numbers under its own key, and fails when one is not acknowledged.
func produceInOrder(t *testing.T, p *delivery.Producer, writers, each int, after func(i int)) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				rec := schemas.Record{Key: fmt.Appendf(nil, "writer%d", w), Value: fmt.Appendf(nil, "%d/%06d", w, i)}
				err := p.Produce(t.Context(), kafkatest.Topic, rec, func(_ delivery.Acked, err error) {
					if err != nil {
						t.Errorf("writer %d record %d: %v", w, i, err)
					}
				})
				if err != nil {
					t.Errorf("writer %d record %d: %v", w, i, err)
					return
				}
				if after != nil && w == 0 {
					after(i)
				}
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatalf("Flush: %v; stats %+v", err, p.Stats())
	}
}

func TestProduceCloseReports(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{MaxBatchRecords: 2})
	if a := sendOne(t, p, "first"); a.err != nil {
		t.Fatal(a.err)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: kafkatest.Topic, Err: kerr.NotEnoughReplicas, Count: -1})
	o := newOutcomes()
	for _, v := range values("v", 5) {
		o.send(t, p, "k", v)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var unacked *delivery.UnackedError
	if err := p.Close(ctx); !errors.As(err, &unacked) || unacked.Records != 5 {
		t.Errorf("Close: got %v, want 5 records", err)
	}
	for i, v := range values("v", 5) {
		a := o.of(t, v)
		underWay := i < 2 // the one batch whose request Close may have cut off before its answer
		if !errors.Is(a.err, kafkalog.ErrClosed) || errors.Is(a.err, delivery.ErrOutcomeUnknown) && !underWay {
			t.Errorf("%s: got %v, want closed and, unless it was under way, a known outcome", v, a.err)
		}
	}
	if err := p.Close(t.Context()); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := p.Produce(t.Context(), kafkatest.Topic, schemas.Record{Key: []byte("k")}, nil); !errors.Is(err, kafkalog.ErrClosed) {
		t.Errorf("Produce after Close: %v", err)
	}
}

func TestProduceCloseFlushes(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{Linger: time.Hour})
	o, want := newOutcomes(), values("v", 50)
	for _, v := range want {
		o.send(t, p, "k", v)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLog(t, c, want...)
}

func TestProducerConfigRefused(t *testing.T) {
	for name, cfg := range map[string]delivery.Config{
		"DeliveryTimeout": {DeliveryTimeout: -1}, "MaxBufferedBytes": {MaxBufferedBytes: -1}, "MaxBatchRecords": {MaxBatchRecords: -1},
		"MaxBatchBytes": {MaxBatchBytes: -1}, "MaxIDIdle": {MaxIDIdle: -1}, "Refresh": {Refresh: -1}, "Compression": {Compression: 9},
	} {
		if _, err := delivery.New(nil, cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestProduceLoneRecordsDoNotLinger(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{Linger: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), kafkatest.Within)
	defer cancel()
	for i := range 5 {
		done := make(chan error, 1)
		rec := schemas.Record{Key: []byte("k"), Value: fmt.Append(nil, i)}
		if err := p.Produce(ctx, kafkatest.Topic, rec, func(_ delivery.Acked, err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			t.Fatalf("record %d waits for company", i)
		}
	}
}
