package kafkalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
)

// The tests of this file ask a real broker what the stand-in may get wrong.

func realKafka(t *testing.T, partitions int32, config ...string) (ks *testenv.KafkaServer, c *kafkalog.Client, k *kgo.Client, topic string) {
	t.Helper()
	ks = testenv.Kafka(t)
	ks.RequireReal(t)
	return ks, produceClient(t, ks.Brokers), kgoClient(t, ks.Brokers), ks.CreateTopic(t, partitions, config...)
}

func TestRealHandover(t *testing.T) {
	t.Parallel()
	_, c, k, topic := realKafka(t, 4)
	cfg := topics(topic)
	cfg.Group = "g." + topic
	var want []string
	round := func(name string) {
		for p := range int32(4) {
			want = append(want, write(t, k, topic, p, fmt.Sprint(name, p, "-"), 200)...)
		}
	}
	round("one")
	a, b := newRecorder(), newRecorder()
	conA, stopA := consume(t, c, cfg, a)
	awaitStats(t, conA, "one member has it all", func(st kafkalog.ConsumerStats) bool { return len(st.Partitions) == 4 && st.Commits > 0 })
	conB, stopB := consume(t, c, cfg, b)
	half := func(st kafkalog.ConsumerStats) bool { return len(st.Partitions) == 2 }
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

func TestRealTransactionsAndCodecs(t *testing.T) {
	ks, c, k, topic := realKafka(t, 1)
	want := write(t, k, topic, 0, "plain", 10)
	for i, codec := range []kgo.CompressionCodec{kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		txn := kgoClient(t, ks.Brokers, kgo.TransactionalID(fmt.Sprint(topic, i)), kgo.ProducerBatchCompression(codec))
		for _, commit := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
			if err := txn.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			vs := write(t, txn, topic, 0, fmt.Sprint("txn", i, commit), 50)
			if commit {
				want = append(want, vs...)
			}
			if err := txn.EndTransaction(t.Context(), commit); err != nil {
				t.Fatal(err)
			}
		}
	}
	const end = 10 + 4*3*51
	eventually(t, func() string { // the broker writes the markers after it has acknowledged the end of the transaction
		if at, err := c.Offsets(t.Context(), topic); err != nil || at[0].LastStable != end {
			return fmt.Sprintf("last stable offset: got %+v, %v, want %d", at, err, end)
		}
		return ""
	})
	r := kafkalog.NewReader(c, partitionOf(t, c, topic, 0), 0, kafkalog.ReaderConfig{Until: end})
	defer func() { _ = r.Close() }()
	if got := readAll(t, r); !slices.Equal(got, want) {
		t.Errorf("got %d values, want %d", len(got), len(want))
	}
}

func TestRealCompactedTopic(t *testing.T) {
	_, c, k, topic := realKafka(t, 1, "cleanup.policy=compact", "min.cleanable.dirty.ratio=0.001", "segment.ms=100",
		"segment.bytes=1048576", "delete.retention.ms=0", "min.compaction.lag.ms=0")
	var last string
	for i := range 30 {
		last = fmt.Sprint("v", i)
		rec := &kgo.Record{Topic: topic, Key: []byte("same"), Value: []byte(last)}
		if err := k.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	p := partitionOf(t, c, topic, 0)
	// The cleaner works on closed segments only, so a record now and then closes one.
	testenv.Eventually(t, 60*time.Second, func(ctx context.Context) error {
		last += "+"
		if err := k.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte("same"), Value: []byte(last)}).FirstErr(); err != nil {
			return err
		}
		at, err := c.Offsets(ctx, topic)
		if err != nil {
			return err
		}
		r := kafkalog.NewReader(c, p, 0, kafkalog.ReaderConfig{Until: at[0].HighWater})
		defer func() { _ = r.Close() }()
		got := readAll(t, r)
		if got[len(got)-1] != last {
			t.Fatalf("the newest value is %q, want %q", got[len(got)-1], last)
		}
		if r.Next() != at[0].HighWater {
			t.Fatalf("read to %d, want %d", r.Next(), at[0].HighWater)
		}
		if int64(len(got)) >= at[0].HighWater-20 {
			return errors.New("nothing is compacted yet")
		}
		return nil
	})
}

func TestRealLoss(t *testing.T) {
	_, c, k, topic := realKafka(t, 1)
	want := write(t, k, topic, 0, "a", 20)
	truncate(t, k, topic, 0, 8)
	r := newRecorder()
	r.onTake = func(_ int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error) {
		return []kafkalog.Start{{Partition: parts[0].Partition, Offset: 3}}, nil
	}
	losses := make(chan kafkalog.Loss, 1)
	cfg := topics(topic)
	cfg.Group, cfg.OnLoss = "g."+topic, func(l kafkalog.Loss) { losses <- l }
	con, _ := consume(t, c, cfg, r)
	var l kafkalog.Loss
	select {
	case l = <-losses:
	case <-time.After(within):
		t.Fatal("no one learned of the loss")
	}
	if l.Next != 3 || l.First != 8 || l.Last != 20 {
		t.Errorf("got %+v, want 3 of 8 to 20", l)
	}
	con.Restart(l.Partition, l.First)
	awaitValues(t, r, want[8:])
}

func TestRealTopicMadeAnew(t *testing.T) {
	ks, c, k, topic := realKafka(t, 1)
	r := newRecorder()
	r.onTake = func(_ int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return []kafkalog.Start{{Partition: parts[0].Partition, Offset: r.next[parts[0].Partition]}}, nil
	}
	cfg := topics(topic)
	cfg.Group = "g." + topic
	want := write(t, k, topic, 0, "old", 5)
	_, _ = consume(t, c, cfg, r)
	awaitValues(t, r, want)
	ks.DeleteTopic(t, topic)
	ks.CreateTopicNamed(t, topic, 1)
	// More records than the old topic had: offsets alone would not tell the two apart.
	want = append(want, write(t, kgoClient(t, ks.Brokers), topic, 0, "new", 50)...)
	awaitValues(t, r, want)
	r.check(t)
}

func TestRealTopicNamesAreChecked(t *testing.T) {
	_, c, _, topic := realKafka(t, 1)
	if err := c.CreateTopics(t.Context(), []kafkalog.TopicSpec{{Name: topic + "!"}}); err == nil {
		t.Error("want an error for a bad name at once")
	}
	if vs, err := c.CheckVersions(t.Context()); err != nil || len(vs) > 0 {
		t.Errorf("versions: got %v, %v, want no complaint", vs, err)
	}
	if ws, err := c.CheckTopic(t.Context(), topic, 24*time.Hour); err != nil || len(ws) == 0 {
		t.Errorf("a default topic on one broker: got %v, %v, want warnings", ws, err)
	}
}

func TestRealBrokerDies(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a broker")
	}
	t.Parallel()
	testenv.Kafka(t).RequireReal(t)
	ks := testenv.StartKafka(t, testenv.KafkaOptions{})
	topic := ks.CreateTopic(t, 3)
	c := produceClient(t, ks.Brokers)
	r := newRecorder()
	con, _ := consume(t, c, topics(topic), r)
	seen := map[string]bool{}
	var want []string
	for round := range 2 {
		k := kgoClient(t, ks.Brokers)
		for p := range int32(3) {
			want = append(want, write(t, k, topic, p, fmt.Sprint(round, "-", p, "-"), 100)...)
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

func BenchmarkRealRead(b *testing.B) {
	ks := testenv.Kafka(b)
	if !ks.Real {
		b.Skip("needs Apache Kafka")
	}
	c, err := kafkalog.New(kafkalog.Config{Brokers: ks.Brokers})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	const n = 300_000
	topic := ks.CreateTopic(b, 1)
	k := ks.Client(b)
	value := make([]byte, 200)
	for range n {
		k.Produce(b.Context(), &kgo.Record{Topic: topic, Key: []byte("a key of it"), Value: value, Headers: []kgo.RecordHeader{{Key: "ce_id", Value: value[:16]}}}, nil)
	}
	if err := k.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	info, err := c.Topic(b.Context(), topic)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r := kafkalog.NewReader(c, kafkalog.Partition{Topic: topic, TopicID: info.ID}, 0, kafkalog.ReaderConfig{Until: n})
		got := 0
		for got < n {
			batch, err := r.Read(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			got += len(batch.Records)
			batch.Release()
		}
		_ = r.Close()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
