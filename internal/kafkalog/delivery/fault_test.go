package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/schemas"
)

// failProduce lets n produce requests fail with err; -1 means all.
func failProduce(c *kfake.Cluster, err *kerr.Error, n int) *kfake.FaultHandle {
	return c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: kafkatest.Topic, Err: err, Count: n})
}

// code makes an error that kfake has no name for, or that it treats in a special way.
func code(n int16) *kerr.Error {
	return &kerr.Error{Code: n, Message: fmt.Sprint("TEST_", n)}
}

// Whatever passes by itself costs nothing but time: the record is in the log once.
func TestProduceOutlasts(t *testing.T) {
	for _, n := range []int16{7, 13, 20, 6, 5, 3, 9, 19, 8, 56, 74, 75, 100, 2, -1, 89} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			err := kerr.ErrorForCode(n)
			var known *kerr.Error
			if !errors.As(err, &known) {
				known = code(n)
			}
			c := kafkatest.Cluster(t, 1)
			p := startProducer(t, c.ListenAddrs(), delivery.Config{})
			if a := sendOne(t, p, "a"); a.err != nil {
				t.Fatal(a.err)
			}
			h := failProduce(c, known, 2)
			a := sendOne(t, p, "b")
			if a.err != nil || a.at.Offset != 1 {
				t.Errorf("got %+v, %v; want offset 1", a.at, a.err)
			}
			if h.Hits() == 0 {
				t.Error("the fault never came")
			}
			if b := sendOne(t, p, "c"); b.err != nil {
				t.Error(b.err)
			}
			wantLog(t, c, "a", "b", "c")
			s := p.Stats()
			if s.Retries == 0 || s.ProducerIDs != 1 || len(s.Troubled) != 0 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

// A producer id that the broker does not accept is replaced.
func TestProduceTakesNewID(t *testing.T) {
	for _, n := range []int16{45, 47, 59, 90} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			c := kafkatest.Cluster(t, 1)
			p := startProducer(t, c.ListenAddrs(), delivery.Config{})
			if a := sendOne(t, p, "a"); a.err != nil {
				t.Fatal(a.err)
			}
			failProduce(c, code(n), 1)
			if a := sendOne(t, p, "b"); a.err != nil || a.at.Offset != 1 {
				t.Errorf("got %+v, %v; want offset 1", a.at, a.err)
			}
			if s := p.Stats(); s.ProducerIDs != 2 {
				t.Errorf("got %d producer ids, want 2", s.ProducerIDs)
			}
			wantLog(t, c, "a", "b")
		})
	}
}

// What only a person can fix fails fast, with what to do.
func TestProduceFailsFast(t *testing.T) {
	for n, says := range map[int16]string{29: "WRITE", 31: "IDEMPOTENT_WRITE", 58: "SASL", 35: "settings", 76: "compression", 44: "settings"} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			c := kafkatest.Cluster(t, 1)
			p := startProducer(t, c.ListenAddrs(), delivery.Config{})
			h := failProduce(c, code(n), -1)
			a := sendOne(t, p, "a")
			if !errors.Is(a.err, delivery.ErrRefused) || errors.Is(a.err, delivery.ErrOutcomeUnknown) || !strings.Contains(a.err.Error(), says) {
				t.Errorf("got %v, want a refusal that says %s", a.err, says)
			}
			if h.Hits() != 1 {
				t.Errorf("got %d tries, want 1", h.Hits())
			}
			h.Remove()
			if a := sendOne(t, p, "b"); a.err != nil {
				t.Error(a.err)
			}
			wantLog(t, c, "b")
		})
	}
}

func TestProduceInitProducerID(t *testing.T) {
	for _, n := range []int16{14, 15, 16, 7} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			c := kafkatest.Cluster(t, 1)
			h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: code(n), Count: 2})
			p := startProducer(t, c.ListenAddrs(), delivery.Config{})
			if a := sendOne(t, p, "a"); a.err != nil || h.Hits() != 2 {
				t.Errorf("got %v after %d faults, want success after 2", a.err, h.Hits())
			}
		})
	}
	t.Run("31", func(t *testing.T) {
		t.Parallel()
		c := kafkatest.Cluster(t, 1)
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: kerr.ClusterAuthorizationFailed, Count: -1})
		p := startProducer(t, c.ListenAddrs(), delivery.Config{})
		if a := sendOne(t, p, "a"); !errors.Is(a.err, delivery.ErrRefused) || !strings.Contains(a.err.Error(), "IDEMPOTENT_WRITE") {
			t.Errorf("got %v, want a refusal that names the right", a.err)
		}
	})
	t.Run("no coordinator", func(t *testing.T) {
		t.Parallel()
		c := kafkatest.Cluster(t, 1)
		c.ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			t.Error("a transaction coordinator was asked for")
			return nil, nil, false
		})
		p := startProducer(t, c.ListenAddrs(), delivery.Config{})
		if a := sendOne(t, p, "a"); a.err != nil {
			t.Error(a.err)
		}
	})
}

func TestProduceMetadataDenied(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: kafkatest.Topic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	p := startProducer(t, c.ListenAddrs(), delivery.Config{})
	err := p.Produce(t.Context(), kafkatest.Topic, schemas.Record{Key: []byte("k")}, nil)
	if !errors.Is(err, delivery.ErrRefused) || !strings.Contains(err.Error(), "DESCRIBE on topic "+kafkatest.Topic) {
		t.Errorf("got %v, want a refusal that names the right", err)
	}
}

// answerProduce lets the next n produce requests be answered by edit instead of the broker.
func answerProduce(c *kfake.Cluster, n int, edit func(*kmsg.ProduceResponse, *kmsg.ProduceResponseTopicPartition)) {
	for range n {
		c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
			r := req.(*kmsg.ProduceRequest)
			resp := r.ResponseKind().(*kmsg.ProduceResponse)
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic = r.Topics[0].Topic
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition = r.Topics[0].Partitions[0].Partition
			edit(resp, &part)
			topic.Partitions = append(topic.Partitions, part)
			resp.Topics = append(resp.Topics, topic)
			return resp, nil, true
		})
	}
}

// The records that the broker names are refused, the others are appended.
func TestProduceRefusedRecords(t *testing.T) {
	for _, n := range []int16{32, 87} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			c := kafkatest.Cluster(t, 1)
			p := startProducer(t, c.ListenAddrs(), delivery.Config{Linger: time.Hour, MaxBatchRecords: 4})
			primeBatches(t, p)
			answerProduce(c, 1, func(_ *kmsg.ProduceResponse, part *kmsg.ProduceResponseTopicPartition) {
				part.ErrorCode = n
				for _, i := range []int32{1, 3} {
					part.ErrorRecords = append(part.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{RelativeOffset: i})
				}
			})
			o := newOutcomes()
			for _, v := range []string{"a", "b", "c", "d"} {
				o.send(t, p, "k", v)
			}
			flush(t, p)
			for _, v := range []string{"b", "d"} {
				if a := o.of(t, v); !errors.Is(a.err, delivery.ErrRefused) {
					t.Errorf("%s: got %v, want a refusal", v, a.err)
				}
			}
			for i, v := range []string{"a", "c"} {
				if a := o.of(t, v); a.err != nil || a.at.Offset != int64(4+i) {
					t.Errorf("%s: got %+v, %v", v, a.at, a.err)
				}
			}
			wantLog(t, c, "p0", "p1", "p2", "p3", "a", "c")
			if s := p.Stats(); s.ProducerIDs != 1 || s.Buffered != 0 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

// primeBatches sends p0 … p3 and leaves the partition in the state in which it waits for full batches of four.
func primeBatches(t *testing.T, p *delivery.Producer) {
	t.Helper()
	o := newOutcomes()
	o.send(t, p, "k", "p0")
	flush(t, p)
	for p.Stats().Batches < 2 {
		for _, v := range []string{"p1", "p2", "p3"} {
			o.send(t, p, "k", v)
		}
		flush(t, p)
	}
}

// A broker that refuses a batch and names no record gets halves until the record is found.
func TestProduceFindsRefusedRecord(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		if !strings.Contains(string(r.Topics[0].Partitions[0].Records), "bad") {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.ProduceResponse)
		resp.Topics = []kmsg.ProduceResponseTopic{{Topic: kafkatest.Topic, Partitions: []kmsg.ProduceResponseTopicPartition{{ErrorCode: 87}}}}
		return resp, nil, true
	})
	p := startProducer(t, c.ListenAddrs(), delivery.Config{})
	o := newOutcomes()
	want := values("v", 40)
	for i, v := range want {
		if i == 27 {
			o.send(t, p, "k", "bad")
		}
		o.send(t, p, "k", v)
	}
	flush(t, p)
	if a := o.of(t, "bad"); !errors.Is(a.err, delivery.ErrRefused) {
		t.Errorf("got %v, want a refusal", a.err)
	}
	wantLog(t, c, want...)
}

func TestProduceSplitsLargeBatches(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	if err := c.CreateTopic("small", 1, map[string]string{"max.message.bytes": "3000"}); err != nil {
		t.Fatal(err)
	}
	p := startProducer(t, c.ListenAddrs(), delivery.Config{})
	o := newOutcomes()
	want := make([]string, 0, 100)
	produce := func(v string) {
		rec := schemas.Record{Key: []byte("k"), Value: []byte(v)}
		if err := p.Produce(t.Context(), "small", rec, func(a delivery.Acked, err error) { o.add(v, a, err) }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		v := fmt.Sprintf("%03d%s", i, strings.Repeat("x", 300))
		want = append(want, v)
		produce(v)
		if i == 50 {
			produce(strings.Repeat("y", 5000))
		}
	}
	flush(t, p)
	if a := o.of(t, strings.Repeat("y", 5000)); !errors.Is(a.err, delivery.ErrTooLarge) || !strings.Contains(a.err.Error(), "max.message.bytes") {
		t.Errorf("got %v, want too large", a.err)
	}
	got := logOf(t, c.ListenAddrs(), "small")[0]
	if strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("got %d records in the log, want the %d small ones in order", len(got), len(want))
	}
	if s := p.Stats(); s.Splits == 0 || s.ProducerIDs != 1 {
		t.Errorf("stats: %+v", s)
	}
}

// A repeat whose offset the broker no longer knows counts as appended, at most at the end of the log.
func TestProduceDuplicateWithoutOffset(t *testing.T) {
	for name, edit := range map[string]func(*kmsg.ProduceResponseTopicPartition){
		"46":        func(p *kmsg.ProduceResponseTopicPartition) { p.ErrorCode = 46 },
		"no offset": func(p *kmsg.ProduceResponseTopicPartition) { p.BaseOffset = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := kafkatest.Cluster(t, 1)
			p := startProducer(t, c.ListenAddrs(), delivery.Config{})
			for _, v := range []string{"a", "b", "c"} {
				if a := sendOne(t, p, v); a.err != nil {
					t.Fatal(a.err)
				}
			}
			answerProduce(c, 1, func(_ *kmsg.ProduceResponse, part *kmsg.ProduceResponseTopicPartition) { edit(part) })
			if a := sendOne(t, p, "seen before"); a.err != nil || a.at.Offset != 2 {
				t.Errorf("got %+v, %v; want offset 2", a.at, a.err)
			}
		})
	}
}

func TestProduceVagueAnswers(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{})
	h := failProduce(c, code(-1), -1)
	if a := sendOne(t, p, "a"); !errors.Is(a.err, delivery.ErrOutcomeUnknown) || h.Hits() != 5 {
		t.Errorf("got %v after %d tries, want an unknown outcome after 5", a.err, h.Hits())
	}
	h.Remove()
	h = failProduce(c, code(2), -1)
	if a := sendOne(t, p, "b"); !errors.Is(a.err, delivery.ErrRefused) || errors.Is(a.err, delivery.ErrOutcomeUnknown) || h.Hits() != 5 {
		t.Errorf("got %v after %d tries, want a refusal after 5", a.err, h.Hits())
	}
	h.Remove()
	if a := sendOne(t, p, "c"); a.err != nil || p.Stats().ProducerIDs != 2 {
		t.Errorf("got %v with %d ids, want success with a second id", a.err, p.Stats().ProducerIDs)
	}
	wantLog(t, c, "c")
}

func TestProduceThrottled(t *testing.T) {
	const throttle = 300 * time.Millisecond
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{})
	answerProduce(c, 1, func(resp *kmsg.ProduceResponse, part *kmsg.ProduceResponseTopicPartition) {
		resp.ThrottleMillis = int32(throttle.Milliseconds())
		part.ErrorCode = 89
	})
	start := time.Now()
	if a := sendOne(t, p, "a"); a.err != nil {
		t.Error(a.err)
	}
	if d := time.Since(start); d < throttle {
		t.Errorf("sent again after %s, want at least %s", d, throttle)
	}
}

func TestProduceDeliveryTimeout(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{DeliveryTimeout: 200 * time.Millisecond, MaxBatchRecords: 1})
	if a := sendOne(t, p, "a"); a.err != nil {
		t.Fatal(a.err)
	}
	h := failProduce(c, kerr.NotEnoughReplicas, -1)
	o := newOutcomes()
	for _, v := range []string{"b", "c"} {
		o.send(t, p, "k", v)
	}
	flush(t, p)
	for _, v := range []string{"b", "c"} {
		a := o.of(t, v)
		if !errors.Is(a.err, delivery.ErrDeliveryTimeout) || errors.Is(a.err, delivery.ErrOutcomeUnknown) || !strings.Contains(a.err.Error(), "Not Enough Replicas") {
			t.Errorf("%s: got %v, want the deadline with its reason, and a known outcome", v, a.err)
		}
	}
	if s := p.Stats(); len(s.Troubled) != 1 || s.Troubled[0].Topic != kafkatest.Topic {
		t.Errorf("stats: %+v", s)
	}
	h.Remove()
	if a := sendOne(t, p, "d"); a.err != nil || p.Stats().ProducerIDs != 1 {
		t.Errorf("got %v with %d ids; a known outcome needs no new id", a.err, p.Stats().ProducerIDs)
	}
	wantLog(t, c, "a", "d")
}

func TestProduceGivesUpUnknown(t *testing.T) {
	var mode atomic.Int32
	c := kafkatest.Cluster(t, 1, tampered(func() cutAt { return cutAt(mode.Load()) }))
	p := startProducer(t, c.ListenAddrs(), delivery.Config{DeliveryTimeout: 300 * time.Millisecond})
	if a := sendOne(t, p, "a"); a.err != nil {
		t.Fatal(a.err)
	}
	mode.Store(int32(cutReply))
	a := sendOne(t, p, "b")
	if !errors.Is(a.err, delivery.ErrDeliveryTimeout) || !errors.Is(a.err, delivery.ErrOutcomeUnknown) {
		t.Errorf("got %v, want an unknown outcome at the deadline", a.err)
	}
	mode.Store(int32(cutNot))
	if a := sendOne(t, p, "c"); a.err != nil || p.Stats().ProducerIDs != 2 {
		t.Errorf("got %v with %d ids, want success with a second id", a.err, p.Stats().ProducerIDs)
	}
	wantLog(t, c, "a", "b", "c") // b was appended, once
}

func TestFlushEndsWithContext(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{})
	failProduce(c, kerr.NotEnoughReplicas, -1)
	o := newOutcomes()
	o.send(t, p, "k", "a")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}
