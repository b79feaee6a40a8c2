package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// The broker is killed and frozen while records are on their way: every one is in the log, once, in order.
func TestProduceOverBrokerDeaths(t *testing.T) {
	const writers = 4
	ks := testenv.StartKafka(t, testenv.KafkaOptions{})
	ks.CreateTopicNamed(t, kafkatest.Topic, 3)
	p := startProducer(t, ks.Brokers, delivery.Config{MaxBatchRecords: 100, MaxBufferedBytes: 256 << 10})
	var stop atomic.Bool
	var failures atomic.Int64
	var sent, acked [writers]atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				rec := schemas.Record{Key: fmt.Appendf(nil, "writer%d", w), Value: fmt.Appendf(nil, "%d/%06d", w, i)}
				err := p.Produce(t.Context(), kafkatest.Topic, rec, func(_ delivery.Acked, err error) {
					if err == nil {
						acked[w].Add(1)
					} else if failures.Add(1) == 1 {
						t.Errorf("writer %d record %d: %v", w, i, err)
					}
				})
				if err != nil {
					t.Errorf("writer %d record %d: %v", w, i, err)
					return
				}
				sent[w].Add(1)
			}
		})
	}
	defer func() { stop.Store(true); wg.Wait() }()
	// flowing waits until n more records are acknowledged.
	flowing := func(n uint64) {
		goal := p.Stats().Acked + n
		testenv.Eventually(t, 4*kafkatest.Within, func(context.Context) error {
			if s := p.Stats(); s.Acked < goal {
				return fmt.Errorf("%d records acknowledged, want %d; stats %+v", s.Acked, goal, s)
			}
			return nil
		})
	}
	for range 2 {
		flowing(3000)
		ks.Restart(t) // kill -9 and start
	}
	flowing(3000)
	const room = 256 << 10
	ks.Stop(t)
	testenv.Eventually(t, kafkatest.Within, func(context.Context) error {
		if s := p.Stats(); s.BufferedBytes+256*s.Buffered < room*9/10 {
			return errors.New("the buffer is not full")
		}
		return nil
	})
	ks.Cont(t)
	flowing(3000)
	stop.Store(true)
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 4*kafkatest.Within)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	s := p.Stats()
	t.Logf("stats %+v", s)
	if s.Retries == 0 || s.Failed != 0 {
		t.Errorf("got %d retries and %d failures, want some and none", s.Retries, s.Failed)
	}
	next := map[string]int64{}
	for _, log := range logOf(t, ks.Brokers, kafkatest.Topic) {
		for _, v := range log {
			w, num, _ := strings.Cut(v, "/")
			if want := fmt.Sprintf("%06d", next[w]); num != want {
				t.Fatalf("writer %s: got %s, want %s: lost, twice or out of order", w, num, want)
			}
			next[w]++
		}
	}
	for w := range writers {
		if n := next[fmt.Sprint(w)]; n != sent[w].Load() || n != acked[w].Load() {
			t.Errorf("writer %d: %d in the log, %d sent, %d acknowledged", w, n, sent[w].Load(), acked[w].Load())
		}
	}
}

func TestProduceRealCompressions(t *testing.T) {
	ks := testenv.Kafka(t)
	for codec := recordbatch.CompressionNone; codec <= recordbatch.CompressionZstd; codec++ {
		topic := ks.CreateTopic(t, 1)
		p := startProducer(t, ks.Brokers, delivery.Config{Compression: codec})
		want := values("v", 3000)
		for _, v := range want {
			rec := schemas.Record{Key: []byte("k"), Value: []byte(v), Time: 1} // far too old: clamped
			err := p.Produce(t.Context(), topic, rec, func(_ delivery.Acked, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		flush(t, p)
		if got := logOf(t, ks.Brokers, topic)[0]; strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("codec %d: got %d records, want %d in order", codec, len(got), len(want))
		}
	}
}

func TestProduceRealLimits(t *testing.T) {
	ks := testenv.Kafka(t)
	topic := ks.CreateTopic(t, 1, "max.message.bytes=4000")
	p := startProducer(t, ks.Brokers, delivery.Config{})
	o := newOutcomes()
	produce := func(v string) {
		rec := schemas.Record{Key: []byte("k"), Value: []byte(v)}
		if err := p.Produce(t.Context(), topic, rec, func(a delivery.Acked, err error) { o.add(v, a, err) }); err != nil {
			t.Fatal(err)
		}
	}
	want := values(strings.Repeat("x", 200), 100)
	big := strings.Repeat("y", 10_000)
	for i, v := range want {
		produce(v)
		if i == 40 {
			produce(big)
		}
	}
	flush(t, p)
	if a := o.of(t, big); !errors.Is(a.err, delivery.ErrTooLarge) {
		t.Errorf("got %v, want too large", a.err)
	}
	if got := logOf(t, ks.Brokers, topic)[0]; strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("got %d records, want the %d small ones in order", len(got), len(want))
	}
}

func TestProduceRealTopicMadeAnew(t *testing.T) {
	ks := testenv.Kafka(t)
	topic := ks.CreateTopic(t, 1)
	p := startProducer(t, ks.Brokers, delivery.Config{})
	o := newOutcomes()
	produce := func(v string) ack {
		rec := schemas.Record{Key: []byte("k"), Value: []byte(v)}
		if err := p.Produce(t.Context(), topic, rec, func(a delivery.Acked, err error) { o.add(v, a, err) }); err != nil {
			t.Fatal(err)
		}
		flush(t, p)
		return o.of(t, v)
	}
	produce("a")
	old := produce("b")
	ks.DeleteTopic(t, topic)
	ks.CreateTopicNamed(t, topic, 1)
	a := produce("c")
	info, err := kafkatest.Client(t, ks.Brokers).Topic(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if a.err != nil || a.at.Offset != 0 || a.at.Partition.TopicID != info.ID || info.ID == old.at.Partition.TopicID {
		t.Errorf("got %+v, %v; want offset 0 of topic %s", a.at, a.err, info.ID)
	}
}

// BenchmarkProduce counts records through a real broker: 4 partitions, 200-byte values, 2 headers.
func BenchmarkProduce(b *testing.B) {
	ks := testenv.Kafka(b)
	topic := ks.CreateTopic(b, 4)
	client, err := kafkalog.New(kafkalog.Config{Brokers: ks.Brokers})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	p, err := delivery.New(client, delivery.Config{})
	if err != nil {
		b.Fatal(err)
	}
	value := []byte(strings.Repeat("0123456789", 20))
	headers := []schemas.Header{{Key: "ce_id", Value: value[:36]}, {Key: "ce_specversion", Value: []byte("1.0")}}
	keys := make([][]byte, 1000)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key%d", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		rec := schemas.Record{Key: keys[i%len(keys)], Value: value, Headers: headers}
		if err := p.Produce(b.Context(), topic, rec, nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	if s := p.Stats(); s.Acked != uint64(b.N) {
		b.Errorf("got %d records acknowledged, want %d", s.Acked, b.N)
	}
}
