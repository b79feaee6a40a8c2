package kafkalog_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
)

func topics(names ...string) kafkalog.ConsumerConfig { return kafkalog.ConsumerConfig{Topics: names} }

func TestConsumeEveryCodec(t *testing.T) {
	cl, c, _ := fake(t, 5)
	var want []string
	for i, codec := range []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	} {
		k := kgoClient(t, cl.ListenAddrs(), kgo.ProducerBatchCompression(codec))
		want = append(want, write(t, k, produceTopic, int32(i), fmt.Sprint("c", i, "-"), 500)...)
	}
	r := newRecorder()
	con, stop := consume(t, c, kafkalog.ConsumerConfig{Topics: []string{produceTopic}, MaxRecords: 70}, r)
	awaitValues(t, r, want)
	awaitStats(t, con, "everything is committed", func(st kafkalog.ConsumerStats) bool {
		for _, p := range st.Partitions {
			if p.Committed != 500 || p.HighWater != 500 {
				return false
			}
		}
		return st.Assigned && len(st.Partitions) == 5
	})
	awaitStats(t, con, "all bytes are returned", func(st kafkalog.ConsumerStats) bool {
		held := 0
		for _, p := range st.Partitions {
			held += p.HeldBytes
		}
		return held == 0
	})
	stop()
	r.check(t)
	got, err := c.CommittedOffsets(t.Context(), "workers", []string{produceTopic})
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(5) {
		if got[produceTopic][p] != 500 {
			t.Errorf("committed of partition %d: got %d, want 500", p, got[produceTopic][p])
		}
	}
}

func TestConsumeMergesSmallFetches(t *testing.T) {
	_, c, k := fake(t, 1)
	r := newRecorder()
	gate := make(chan struct{})
	var first atomic.Bool
	var batches atomic.Int64
	r.onApply = func(ctx context.Context, _ *kafkalog.Batch) error {
		batches.Add(1)
		if !first.Swap(true) {
			select {
			case <-gate:
			case <-ctx.Done():
			}
		}
		return nil
	}
	want := write(t, k, produceTopic, 0, "a", 1)
	con, _ := consume(t, c, topics(produceTopic), r)
	eventually(t, func() string {
		if !first.Load() {
			return "the first batch is applied"
		}
		return ""
	})
	for i := range 20 {
		want = append(want, write(t, k, produceTopic, 0, fmt.Sprint("b", i, "-"), 3)...)
	}
	awaitStats(t, con, "all is fetched", func(st kafkalog.ConsumerStats) bool { return st.Partitions[0].Fetched == 61 })
	close(gate)
	awaitValues(t, r, want)
	if n := batches.Load(); n > 3 {
		t.Errorf("20 small fetches became %d batches, want them merged", n-1)
	}
	r.check(t)
}

func TestConsumeTransactions(t *testing.T) {
	cl, c, k := fake(t, 1)
	want := write(t, k, produceTopic, 0, "plain", 3)
	txn := kgoClient(t, cl.ListenAddrs(), kgo.TransactionalID("writer"))
	for i := range 6 {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		vs := write(t, txn, produceTopic, 0, fmt.Sprint("txn", i, "-"), 10)
		commit := kgo.TransactionEndTry(i%2 == 0)
		if commit {
			want = append(want, vs...)
		}
		if err := txn.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	r := newRecorder()
	con, _ := consume(t, c, topics(produceTopic), r)
	awaitValues(t, r, want)
	awaitStats(t, con, "markers at the end move the offset", func(st kafkalog.ConsumerStats) bool {
		return st.Partitions[0].Committed == 3+6*11
	})
	r.check(t)
}

func TestConsumeHandover(t *testing.T) {
	_, c, k := fake(t, 6)
	var want []string
	for p := range int32(6) {
		want = append(want, write(t, k, produceTopic, p, fmt.Sprint("one", p, "-"), 50)...)
	}
	a, b := newRecorder(), newRecorder()
	conA, stopA := consume(t, c, topics(produceTopic), a)
	awaitStats(t, conA, "one member owns all", func(st kafkalog.ConsumerStats) bool {
		done := int64(0)
		for _, p := range st.Partitions {
			done += p.Committed
		}
		return done == 300
	})
	conB, _ := consume(t, c, topics(produceTopic), b)
	half := func(st kafkalog.ConsumerStats) bool { return len(st.Partitions) == 3 }
	awaitStats(t, conA, "the first member keeps half", half)
	awaitStats(t, conB, "the second member owns half", half)
	for p := range int32(6) {
		want = append(want, write(t, k, produceTopic, p, fmt.Sprint("two", p, "-"), 50)...)
	}
	both := func(n int) {
		t.Helper()
		eventually(t, func() string {
			if got := len(a.seen(a.emits)) + len(b.seen(b.emits)); got != n {
				return fmt.Sprintf("%d of %d values emitted", got, n)
			}
			return ""
		})
	}
	both(len(want))
	stopA()
	awaitStats(t, conB, "the second member owns all", func(st kafkalog.ConsumerStats) bool { return len(st.Partitions) == 6 })
	for p := range int32(6) {
		want = append(want, write(t, k, produceTopic, p, fmt.Sprint("three", p, "-"), 50)...)
	}
	both(len(want)) // orderly handovers deliver nothing twice
	a.check(t)
	b.check(t)
}

func TestConsumePauseAndResume(t *testing.T) {
	_, c, k := fake(t, 2)
	r := newRecorder()
	con, _ := consume(t, c, topics(produceTopic), r)
	want := write(t, k, produceTopic, 0, "a", 10)
	awaitValues(t, r, want)
	con.Pause(produceTopic)
	awaitStats(t, con, "both partitions are paused", func(st kafkalog.ConsumerStats) bool {
		return len(st.Partitions) == 2 && st.Partitions[0].Paused && st.Partitions[1].Paused
	})
	want = append(want, write(t, k, produceTopic, 0, "b", 10)...)
	want = append(want, write(t, k, produceTopic, 1, "c", 10)...)
	con.Resume(produceTopic)
	awaitValues(t, r, want)
	r.check(t)
}

func TestApplyMayPause(t *testing.T) {
	_, c, k := fake(t, 1)
	r := newRecorder()
	var broken atomic.Bool
	broken.Store(true)
	r.onApply = func(_ context.Context, b *kafkalog.Batch) error {
		if b.Next > 5 && broken.Load() {
			return fmt.Errorf("apply: %w", kafkalog.ErrPause)
		}
		return nil
	}
	want := write(t, k, produceTopic, 0, "a", 20)
	con, _ := consume(t, c, kafkalog.ConsumerConfig{Topics: []string{produceTopic}, MaxRecords: 5}, r)
	awaitStats(t, con, "the partition is paused behind its first batch", func(st kafkalog.ConsumerStats) bool {
		return len(st.Partitions) == 1 && st.Partitions[0].Paused && st.Partitions[0].Committed == 5 && st.Partitions[0].HeldBytes == 0
	})
	if st := con.Stats(); !errors.Is(st.Partitions[0].LastError, kafkalog.ErrPause) {
		t.Errorf("last error: got %v, want ErrPause", st.Partitions[0].LastError)
	}
	broken.Store(false)
	con.Resume(produceTopic)
	awaitValues(t, r, want)
	r.check(t)
}

// What Apply cuts off a batch comes again, and is emitted and committed once.
func TestApplyMayCut(t *testing.T) {
	_, c, k := fake(t, 1)
	r := newRecorder()
	r.onApply = func(_ context.Context, b *kafkalog.Batch) error {
		if n := len(b.Records); n > 2 {
			b.Cut(2)
		}
		return nil
	}
	want := write(t, k, produceTopic, 0, "a", 20)
	con, _ := consume(t, c, kafkalog.ConsumerConfig{Topics: []string{produceTopic}}, r)
	awaitValues(t, r, want)
	awaitStats(t, con, "all is committed", func(st kafkalog.ConsumerStats) bool {
		return len(st.Partitions) == 1 && st.Partitions[0].Committed == 20 && st.Partitions[0].HeldBytes == 0
	})
	r.check(t)
}

func TestApplyMayRejoin(t *testing.T) {
	for _, refusal := range []error{kafkalog.ErrRejoin, errTest} {
		t.Run(refusal.Error(), func(t *testing.T) {
			_, c, k := fake(t, 1)
			r := newRecorder()
			var tries atomic.Int64
			r.onApply = func(context.Context, *kafkalog.Batch) error {
				if tries.Add(1) == 1 {
					return fmt.Errorf("apply: %w", refusal)
				}
				return nil
			}
			want := write(t, k, produceTopic, 0, "a", 5)
			con, _ := consume(t, c, topics(produceTopic), r)
			awaitValues(t, r, want)
			if st := con.Stats(); st.Sessions != 2 {
				t.Errorf("sessions: got %d, want 2", st.Sessions)
			}
		})
	}
}

func TestTakeIsAskedAgain(t *testing.T) {
	_, c, k := fake(t, 1)
	want := write(t, k, produceTopic, 0, "a", 5)
	r := newRecorder()
	var tries atomic.Int64
	r.onTake = func(_ int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error) {
		if tries.Add(1) < 3 {
			return nil, errTest
		}
		return []kafkalog.Start{{Partition: parts[0].Partition, Offset: 2}}, nil
	}
	_, _ = consume(t, c, topics(produceTopic), r)
	awaitValues(t, r, want[2:])
	if len(r.taken) < 3 || r.taken[0][0].Committed != -1 || r.taken[0][0].LogStart != 0 {
		t.Errorf("asked %d times, first with %+v", len(r.taken), r.taken[0])
	}
}

func TestRunningBatchDrains(t *testing.T) {
	_, c, k := fake(t, 1)
	r := newRecorder()
	started, gate := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	r.onApply = func(ctx context.Context, _ *kafkalog.Batch) error {
		if once.Swap(true) {
			return nil
		}
		close(started)
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	want := write(t, k, produceTopic, 0, "a", 5)
	_, stop := consume(t, c, topics(produceTopic), r)
	testenv.Await(t, started)
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	<-r.generation.Done() // what Take got lives as long as the generation
	select {
	case <-stopped:
		t.Fatal("Run ended with a batch in Apply")
	default:
	}
	close(gate)
	testenv.Await(t, stopped)
	awaitValues(t, r, want)
	got, err := c.CommittedOffsets(t.Context(), "workers", []string{produceTopic})
	if err != nil || got[produceTopic][0] != 5 {
		t.Errorf("committed: got %v, %v, want 5: the drained batch is committed", got, err)
	}
}

func TestDrainBudgetIsBounded(t *testing.T) {
	t.Parallel()
	_, c, k := fake(t, 1)
	r := newRecorder()
	started := make(chan struct{})
	var once atomic.Bool
	r.onApply = func(ctx context.Context, _ *kafkalog.Batch) error {
		if !once.Swap(true) {
			close(started)
		}
		<-ctx.Done()
		return ctx.Err()
	}
	write(t, k, produceTopic, 0, "a", 5)
	_, stop := consume(t, c, kafkalog.ConsumerConfig{Topics: []string{produceTopic}, SessionTimeout: 6 * time.Second}, r)
	testenv.Await(t, started)
	at := time.Now()
	stop()
	if d := time.Since(at); d < 2*time.Second || d > 5*time.Second {
		t.Errorf("a batch that does not end held the shutdown for %s, want 0.4 of the session timeout", d)
	}
	if got := r.seen(r.emits); len(got) != 0 {
		t.Errorf("emitted %d values of a cancelled batch", len(got))
	}
}

func TestEmitRunsBehindApply(t *testing.T) {
	_, c, k := fake(t, 1)
	r := newRecorder()
	gate := make(chan struct{})
	r.onEmit = func(ctx context.Context, _ *kafkalog.Batch) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	want := write(t, k, produceTopic, 0, "a", 100)
	con, _ := consume(t, c, kafkalog.ConsumerConfig{Topics: []string{produceTopic}, MaxRecords: 10}, r)
	awaitStats(t, con, "a few batches are applied while the first one waits for Emit", func(st kafkalog.ConsumerStats) bool {
		return len(st.Partitions) == 1 && st.Partitions[0].Applied == 30
	})
	if st := con.Stats(); st.Partitions[0].Emitted != 0 || st.Partitions[0].Committed != -1 {
		t.Errorf("emitted %d, committed %d before any Emit ended", st.Partitions[0].Emitted, st.Partitions[0].Committed)
	}
	close(gate)
	awaitValues(t, r, want)
	r.check(t)
}

func TestMissingTopicDoesNotStopTheOthers(t *testing.T) {
	_, c, k := fake(t, 1)
	r := newRecorder()
	want := write(t, k, produceTopic, 0, "a", 5)
	con, _ := consume(t, c, topics(produceTopic, "nobody"), r)
	awaitValues(t, r, want)
	if st := con.Stats(); len(st.Missing) != 1 || st.Missing[0] != "nobody" {
		t.Errorf("missing: got %v, want none", st.Missing)
	}
	if _, err := c.Topic(t.Context(), "nobody"); !errors.Is(err, kafkalog.ErrNoTopic) {
		t.Errorf("Topic: got %v, want ErrNoTopic", err)
	}
}

func TestMemoryIsBoundedWhileApplyWaits(t *testing.T) {
	_, c, k := fake(t, 2)
	r := newRecorder()
	gate := make(chan struct{})
	r.onApply = func(ctx context.Context, _ *kafkalog.Batch) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	value := make([]byte, 100_000)
	for range 100 {
		rec := &kgo.Record{Topic: produceTopic, Value: value}
		if err := k.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := topics(produceTopic)
	cfg.Budget, cfg.MaxBatchBytes = 1<<20, 200_000
	con, _ := consume(t, c, cfg, r)
	awaitStats(t, con, "the queue is full", func(st kafkalog.ConsumerStats) bool {
		return len(st.Partitions) == 2 && st.Partitions[0].HeldBytes >= 1<<19
	})
	for range 3 { // several fetch waits of the other partition later
		write(t, k, produceTopic, 1, "x", 1)
		awaitStats(t, con, "the other partition is fetched", func(st kafkalog.ConsumerStats) bool {
			return st.Partitions[1].Fetched == st.Partitions[1].HighWater
		})
	}
	if st := con.Stats(); st.Partitions[0].HeldBytes > 2<<20 || st.Sessions != 1 {
		t.Errorf("held %d bytes of a budget of 1 MiB, %d sessions", st.Partitions[0].HeldBytes, st.Sessions)
	}
	close(gate)
	eventually(t, func() string {
		if got := len(r.seen(r.emits)); got != 103 {
			return fmt.Sprintf("%d of 103 values", got)
		}
		return ""
	})
	r.check(t)
}

func TestLeadersMove(t *testing.T) {
	cl, c, k := fake(t, 4, kfake.NumBrokers(3))
	r := newRecorder()
	con, _ := consume(t, c, topics(produceTopic), r)
	var want []string
	for i := range 10 {
		for p := range int32(4) {
			if err := cl.MoveTopicPartition(produceTopic, p, (p+int32(i))%3); err != nil {
				t.Fatal(err)
			}
			want = append(want, write(t, k, produceTopic, p, fmt.Sprint(i, "-", p, "-"), 20)...)
		}
	}
	awaitValues(t, r, want)
	if st := con.Stats(); st.Losses != 0 {
		t.Errorf("losses: got %d, want 0", st.Losses)
	}
	r.check(t)
}
