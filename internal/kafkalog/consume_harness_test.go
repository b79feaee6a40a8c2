package kafkalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
)

// recorder is a Handler that remembers what it was given. Its funcs, if not nil, run first and may refuse.
type recorder struct {
	onTake  func(generation int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error)
	onApply func(ctx context.Context, b *kafkalog.Batch) error
	onEmit  func(ctx context.Context, b *kafkalog.Batch) error

	mu      sync.Mutex
	next    map[kafkalog.Partition]int64    // of the last batch that Apply took
	emitted map[kafkalog.Partition]int64    // of the last batch that Emit took
	values  map[kafkalog.Partition][]string // applied
	emits   map[kafkalog.Partition][]string
	taken   [][]kafkalog.Assigned
	settled map[kafkalog.Partition]int64
	wrong   []string // broken promises of the consumer

	generation context.Context // that Take got last
}

func newRecorder() *recorder {
	return &recorder{
		next: map[kafkalog.Partition]int64{}, emitted: map[kafkalog.Partition]int64{},
		values: map[kafkalog.Partition][]string{}, emits: map[kafkalog.Partition][]string{},
		settled: map[kafkalog.Partition]int64{},
	}
}

func (r *recorder) Take(ctx context.Context, generation int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error) {
	r.mu.Lock()
	r.generation = ctx
	r.mu.Unlock()
	if r.onTake != nil {
		if starts, err := r.onTake(generation, parts); starts != nil || err != nil {
			r.begin(parts, starts)
			return starts, err
		}
	}
	starts := make([]kafkalog.Start, 0, len(parts))
	for _, p := range parts {
		starts = append(starts, kafkalog.Start{Partition: p.Partition, Offset: p.Committed})
	}
	r.begin(parts, starts)
	return starts, nil
}

func (r *recorder) begin(parts []kafkalog.Assigned, starts []kafkalog.Start) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = append(r.taken, parts)
	for _, s := range starts {
		delete(r.next, s.Partition)
		delete(r.emitted, s.Partition)
	}
}

func (r *recorder) Apply(ctx context.Context, b *kafkalog.Batch) (kafkalog.Emission, error) {
	if r.onApply != nil {
		if err := r.onApply(ctx, b); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if next, ok := r.next[b.Partition]; ok && next != b.From {
		r.wrong = append(r.wrong, fmt.Sprintf("apply of %s begins at %d, want %d", b.Partition.Source(), b.From, next))
	}
	r.next[b.Partition] = b.Next
	r.values[b.Partition] = append(r.values[b.Partition], texts(b)...)
	for _, rec := range b.Records {
		if rec.Offset < b.From || rec.Offset >= b.Next {
			r.wrong = append(r.wrong, fmt.Sprintf("offset %d in a batch from %d to %d", rec.Offset, b.From, b.Next))
		}
	}
	return recorded{r, b}, nil
}

// recorded is a batch that the recorder has applied.
type recorded struct {
	r *recorder
	b *kafkalog.Batch
}

func (e recorded) Emit(ctx context.Context) error {
	r, b := e.r, e.b
	if r.onEmit != nil {
		if err := r.onEmit(ctx, b); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next[b.Partition] < b.Next {
		r.wrong = append(r.wrong, fmt.Sprintf("emit of %d before its apply", b.Next))
	}
	if next, ok := r.emitted[b.Partition]; ok && next != b.From {
		r.wrong = append(r.wrong, fmt.Sprintf("emit begins at %d, want %d", b.From, next))
	}
	r.emitted[b.Partition] = b.Next
	r.emits[b.Partition] = append(r.emits[b.Partition], texts(b)...)
	return nil
}

func (r *recorder) Settle(_ context.Context, done map[kafkalog.Partition]int64) (map[kafkalog.Partition]int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, next := range done {
		if next > r.emitted[p] && r.emitted[p] != 0 {
			r.wrong = append(r.wrong, fmt.Sprintf("settle of %d, emitted to %d", next, r.emitted[p]))
		}
		r.settled[p] = next
	}
	return done, nil
}

func texts(b *kafkalog.Batch) []string {
	out := make([]string, 0, len(b.Records))
	for _, rec := range b.Records {
		out = append(out, string(rec.Value))
	}
	return out
}

// applied returns the values that went through Apply, or Emit, of all partitions, sorted.
func (r *recorder) seen(of map[kafkalog.Partition][]string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, vs := range of {
		out = append(out, vs...)
	}
	slices.Sort(out)
	return out
}

func (r *recorder) check(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.wrong {
		t.Error(w)
	}
}

// eventually waits for cond, which returns "" when it holds and else reports what is missing.
func eventually(t *testing.T, cond func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := cond()
		if missing == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", within, missing)
		case <-tick.C:
		}
	}
}

// consume runs a consumer until the test ends or stop is called; stop waits for it.
func consume(t *testing.T, c *kafkalog.Client, cfg kafkalog.ConsumerConfig, h kafkalog.Handler) (*kafkalog.Consumer, func()) {
	t.Helper()
	if cfg.Group == "" {
		cfg.Group = "workers"
	}
	if cfg.CommitInterval == 0 {
		cfg.CommitInterval = 50 * time.Millisecond
	}
	if cfg.FetchWait == 0 {
		cfg.FetchWait = 100 * time.Millisecond
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 100 * time.Millisecond
	}
	con, err := kafkalog.NewConsumer(c, cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- con.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := testenv.Await(t, done); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return con, stop
}

// fake is a kfake cluster, a client of ours and one of franz-go.
func fake(t *testing.T, partitions int32, opts ...kfake.Opt) (*kfake.Cluster, *kafkalog.Client, *kgo.Client) {
	t.Helper()
	cl := fakeCluster(t, partitions, opts...)
	return cl, produceClient(t, cl.ListenAddrs()), kgoClient(t, cl.ListenAddrs())
}

func kgoClient(t *testing.T, brokers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	k, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// write produces n records with values prefix0 … to a partition and returns the values, sorted.
func write(t *testing.T, k *kgo.Client, topic string, partition int32, prefix string, n int) []string {
	t.Helper()
	var recs []*kgo.Record
	var want []string
	for i := range n {
		v := fmt.Sprintf("%s%05d", prefix, i)
		want = append(want, v)
		recs = append(recs, &kgo.Record{Topic: topic, Partition: partition, Key: []byte(v), Value: []byte(v)})
	}
	if err := k.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return want
}

// awaitValues waits until exactly these values, in any order, were emitted.
func awaitValues(t *testing.T, r *recorder, want []string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	eventually(t, func() string {
		got := r.seen(r.emits)
		if slices.Equal(got, want) {
			return ""
		}
		if len(got) > len(want) {
			t.Fatalf("emitted %d values, want %d", len(got), len(want))
		}
		return fmt.Sprintf("emitted %d of %d values", len(got), len(want))
	})
}

func awaitStats(t *testing.T, c *kafkalog.Consumer, what string, ok func(kafkalog.ConsumerStats) bool) {
	t.Helper()
	eventually(t, func() string {
		if st := c.Stats(); !ok(st) {
			return fmt.Sprintf("%s; stats %+v", what, st)
		}
		return ""
	})
}

var errTest = errors.New("test says no")
