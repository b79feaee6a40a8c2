package group_test

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
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/testenv"
)

func topics(names ...string) group.Config { return group.Config{Topics: names} }

func TestConsumeEveryCodec(t *testing.T) {
	cl, c, _ := kafkatest.Fake(t, 5)
	var want []string
	for i, codec := range []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	} {
		k := kafkatest.Franz(t, cl.ListenAddrs(), kgo.ProducerBatchCompression(codec))
		want = append(want, kafkatest.Write(t, k, kafkatest.Topic, int32(i), fmt.Sprint("c", i, "-"), 500)...)
	}
	r := newRecorder()
	con, stop := consume(t, c, group.Config{Topics: []string{kafkatest.Topic}, MaxRecords: 70}, r)
	awaitValues(t, r, want)
	awaitStats(t, con, "everything is committed", func(st group.Stats) bool {
		for _, p := range st.Partitions {
			if p.Committed != 500 || p.LastStable != 500 {
				return false
			}
		}
		return st.Assigned && len(st.Partitions) == 5
	})
	awaitStats(t, con, "all bytes are returned", func(st group.Stats) bool {
		held := 0
		for _, p := range st.Partitions {
			held += p.HeldBytes
		}
		return held == 0
	})
	stop()
	r.check(t)
	got, err := c.CommittedOffsets(t.Context(), "workers", []string{kafkatest.Topic})
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(5) {
		if got[kafkatest.Topic][p] != 500 {
			t.Errorf("committed of partition %d: got %d, want 500", p, got[kafkatest.Topic][p])
		}
	}
}

func TestConsumeMergesSmallFetches(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 1)
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
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 1)
	con, _ := consume(t, c, topics(kafkatest.Topic), r)
	eventually(t, func() string {
		if !first.Load() {
			return "the first batch is applied"
		}
		return ""
	})
	for i := range 20 {
		want = append(want, kafkatest.Write(t, k, kafkatest.Topic, 0, fmt.Sprint("b", i, "-"), 3)...)
	}
	awaitStats(t, con, "all is fetched", func(st group.Stats) bool { return st.Partitions[0].Fetched == 61 })
	close(gate)
	awaitValues(t, r, want)
	if n := batches.Load(); n > 3 {
		t.Errorf("20 small fetches became %d batches, want them merged", n-1)
	}
	r.check(t)
}

func TestConsumeTransactions(t *testing.T) {
	cl, c, k := kafkatest.Fake(t, 1)
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "plain", 3)
	txn := kafkatest.Franz(t, cl.ListenAddrs(), kgo.TransactionalID("writer"))
	for i := range 6 {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		vs := kafkatest.Write(t, txn, kafkatest.Topic, 0, fmt.Sprint("txn", i, "-"), 10)
		commit := kgo.TransactionEndTry(i%2 == 0)
		if commit {
			want = append(want, vs...)
		}
		if err := txn.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	r := newRecorder()
	con, _ := consume(t, c, topics(kafkatest.Topic), r)
	awaitValues(t, r, want)
	awaitStats(t, con, "markers at the end move the offset", func(st group.Stats) bool {
		return st.Partitions[0].Committed == 3+6*11
	})
	r.check(t)
}

func TestConsumeHandover(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 6)
	var want []string
	for p := range int32(6) {
		want = append(want, kafkatest.Write(t, k, kafkatest.Topic, p, fmt.Sprint("one", p, "-"), 50)...)
	}
	a, b := newRecorder(), newRecorder()
	conA, stopA := consume(t, c, topics(kafkatest.Topic), a)
	awaitStats(t, conA, "one member owns all", func(st group.Stats) bool {
		done := int64(0)
		for _, p := range st.Partitions {
			done += p.Committed
		}
		return done == 300
	})
	conB, _ := consume(t, c, topics(kafkatest.Topic), b)
	half := func(st group.Stats) bool { return len(st.Partitions) == 3 }
	awaitStats(t, conA, "the first member keeps half", half)
	awaitStats(t, conB, "the second member owns half", half)
	for p := range int32(6) {
		want = append(want, kafkatest.Write(t, k, kafkatest.Topic, p, fmt.Sprint("two", p, "-"), 50)...)
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
	awaitStats(t, conB, "the second member owns all", func(st group.Stats) bool { return len(st.Partitions) == 6 })
	for p := range int32(6) {
		want = append(want, kafkatest.Write(t, k, kafkatest.Topic, p, fmt.Sprint("three", p, "-"), 50)...)
	}
	both(len(want)) // orderly handovers deliver nothing twice
	a.check(t)
	b.check(t)
}

func TestConsumePauseAndResume(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 2)
	r := newRecorder()
	con, _ := consume(t, c, topics(kafkatest.Topic), r)
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 10)
	awaitValues(t, r, want)
	con.Pause(kafkatest.Topic)
	awaitStats(t, con, "both partitions are paused", func(st group.Stats) bool {
		return len(st.Partitions) == 2 && st.Partitions[0].Paused && st.Partitions[1].Paused
	})
	want = append(want, kafkatest.Write(t, k, kafkatest.Topic, 0, "b", 10)...)
	want = append(want, kafkatest.Write(t, k, kafkatest.Topic, 1, "c", 10)...)
	con.Resume(kafkatest.Topic)
	awaitValues(t, r, want)
	r.check(t)
}

func TestApplyMayPause(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 1)
	r := newRecorder()
	var broken atomic.Bool
	broken.Store(true)
	r.onApply = func(_ context.Context, b *kafkalog.Batch) error {
		if b.Next > 5 && broken.Load() {
			return fmt.Errorf("apply: %w", group.ErrPause)
		}
		return nil
	}
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 20)
	con, _ := consume(t, c, group.Config{Topics: []string{kafkatest.Topic}, MaxRecords: 5}, r)
	awaitStats(t, con, "the partition is paused behind its first batch", func(st group.Stats) bool {
		return len(st.Partitions) == 1 && st.Partitions[0].Paused && st.Partitions[0].Committed == 5 && st.Partitions[0].HeldBytes == 0
	})
	if st := con.Stats(); !errors.Is(st.Partitions[0].LastError, group.ErrPause) {
		t.Errorf("last error: got %v, want ErrPause", st.Partitions[0].LastError)
	}
	broken.Store(false)
	con.Resume(kafkatest.Topic)
	awaitValues(t, r, want)
	r.check(t)
}

// What Apply cuts off a batch comes again, and is emitted and committed once.
func TestApplyMayCut(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 1)
	r := newRecorder()
	r.onApply = func(_ context.Context, b *kafkalog.Batch) error {
		if n := len(b.Records); n > 2 {
			b.Cut(2)
		}
		return nil
	}
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 20)
	con, _ := consume(t, c, group.Config{Topics: []string{kafkatest.Topic}}, r)
	awaitValues(t, r, want)
	awaitStats(t, con, "all is committed", func(st group.Stats) bool {
		return len(st.Partitions) == 1 && st.Partitions[0].Committed == 20 && st.Partitions[0].HeldBytes == 0
	})
	r.check(t)
}

func TestApplyMayRejoin(t *testing.T) {
	for _, refusal := range []error{group.ErrRejoin, errTest} {
		t.Run(refusal.Error(), func(t *testing.T) {
			_, c, k := kafkatest.Fake(t, 1)
			r := newRecorder()
			var tries atomic.Int64
			r.onApply = func(context.Context, *kafkalog.Batch) error {
				if tries.Add(1) == 1 {
					return fmt.Errorf("apply: %w", refusal)
				}
				return nil
			}
			want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
			con, _ := consume(t, c, topics(kafkatest.Topic), r)
			awaitValues(t, r, want)
			if st := con.Stats(); st.Sessions != 2 {
				t.Errorf("sessions: got %d, want 2", st.Sessions)
			}
		})
	}
}

func TestTakeIsAskedAgain(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 1)
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
	r := newRecorder()
	var tries atomic.Int64
	r.onTake = func(_ int32, parts []group.Assigned) ([]group.Start, error) {
		if tries.Add(1) < 3 {
			return nil, errTest
		}
		return []group.Start{{Partition: parts[0].Partition, Offset: 2}}, nil
	}
	_, _ = consume(t, c, topics(kafkatest.Topic), r)
	awaitValues(t, r, want[2:])
	if len(r.taken) < 3 || r.taken[0][0].Committed != -1 || r.taken[0][0].LogStart != 0 {
		t.Errorf("asked %d times, first with %+v", len(r.taken), r.taken[0])
	}
}

func TestRunningBatchDrains(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 1)
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
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
	_, stop := consume(t, c, topics(kafkatest.Topic), r)
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
	got, err := c.CommittedOffsets(t.Context(), "workers", []string{kafkatest.Topic})
	if err != nil || got[kafkatest.Topic][0] != 5 {
		t.Errorf("committed: got %v, %v, want 5: the drained batch is committed", got, err)
	}
}

func TestDrainBudgetIsBounded(t *testing.T) {
	t.Parallel()
	_, c, k := kafkatest.Fake(t, 1)
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
	kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
	_, stop := consume(t, c, group.Config{Topics: []string{kafkatest.Topic}, SessionTimeout: 6 * time.Second}, r)
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
	_, c, k := kafkatest.Fake(t, 1)
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
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 100)
	con, _ := consume(t, c, group.Config{Topics: []string{kafkatest.Topic}, MaxRecords: 10}, r)
	awaitStats(t, con, "a few batches are applied while the first one waits for Emit", func(st group.Stats) bool {
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
	_, c, k := kafkatest.Fake(t, 1)
	r := newRecorder()
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
	con, _ := consume(t, c, topics(kafkatest.Topic, "nobody"), r)
	awaitValues(t, r, want)
	if st := con.Stats(); len(st.Missing) != 1 || st.Missing[0] != "nobody" {
		t.Errorf("missing: got %v, want none", st.Missing)
	}
	if _, err := c.Topic(t.Context(), "nobody"); !errors.Is(err, kafkalog.ErrNoTopic) {
		t.Errorf("Topic: got %v, want ErrNoTopic", err)
	}
}

func TestMemoryIsBoundedWhileApplyWaits(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 2)
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
		rec := &kgo.Record{Topic: kafkatest.Topic, Value: value}
		if err := k.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := topics(kafkatest.Topic)
	cfg.Budget, cfg.MaxBatchBytes = 1<<20, 200_000
	con, _ := consume(t, c, cfg, r)
	awaitStats(t, con, "the queue is full", func(st group.Stats) bool {
		return len(st.Partitions) == 2 && st.Partitions[0].HeldBytes >= 1<<19
	})
	for range 3 { // several fetch waits of the other partition later
		kafkatest.Write(t, k, kafkatest.Topic, 1, "x", 1)
		awaitStats(t, con, "the other partition is fetched", func(st group.Stats) bool {
			return st.Partitions[1].Fetched == st.Partitions[1].LastStable
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
	cl, c, k := kafkatest.Fake(t, 4, kfake.NumBrokers(3))
	r := newRecorder()
	con, _ := consume(t, c, topics(kafkatest.Topic), r)
	var want []string
	for i := range 10 {
		for p := range int32(4) {
			if err := cl.MoveTopicPartition(kafkatest.Topic, p, (p+int32(i))%3); err != nil {
				t.Fatal(err)
			}
			want = append(want, kafkatest.Write(t, k, kafkatest.Topic, p, fmt.Sprint(i, "-", p, "-"), 20)...)
		}
	}
	awaitValues(t, r, want)
	if st := con.Stats(); st.Losses != 0 {
		t.Errorf("losses: got %d, want 0", st.Losses)
	}
	r.check(t)
}
