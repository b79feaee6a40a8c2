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
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/testenv"
)

func TestRealTransactionsAndCodecs(t *testing.T) {
	ks, c, k, topic := kafkatest.Real(t, 1)
	want := kafkatest.Write(t, k, topic, 0, "plain", 10)
	for i, codec := range []kgo.CompressionCodec{kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		txn := kafkatest.Franz(t, ks.Brokers, kgo.TransactionalID(fmt.Sprint(topic, i)), kgo.ProducerBatchCompression(codec))
		for _, commit := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
			if err := txn.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			vs := kafkatest.Write(t, txn, topic, 0, fmt.Sprint("txn", i, commit), 50)
			if commit {
				want = append(want, vs...)
			}
			if err := txn.EndTransaction(t.Context(), commit); err != nil {
				t.Fatal(err)
			}
		}
	}
	const end = 10 + 4*3*51
	testenv.Eventually(t, kafkatest.Within, func(ctx context.Context) error { // the broker writes the markers after it has acknowledged the end of the transaction
		if at, err := c.Offsets(ctx, topic); err != nil || at[0].LastStable != end {
			return fmt.Errorf("last stable offset: got %+v, %w, want %d", at, err, end)
		}
		return nil
	})
	r := kafkalog.NewReader(c, partitionOf(t, c, topic, 0), 0, kafkalog.ReaderConfig{Until: end})
	defer func() { _ = r.Close() }()
	if got := readAll(t, r); !slices.Equal(got, want) {
		t.Errorf("got %d values, want %d", len(got), len(want))
	}
}

func TestRealCompactedTopic(t *testing.T) {
	_, c, k, topic := kafkatest.Real(t, 1, "cleanup.policy=compact", "min.cleanable.dirty.ratio=0.001", "segment.ms=100",
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

func TestRealTopicNamesAreChecked(t *testing.T) {
	_, c, _, topic := kafkatest.Real(t, 1)
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
