package group_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/testenv"
)

// recorder is a Handler that remembers what it was given. Its funcs, if not nil, run first and may refuse.
type recorder struct {
	onTake  func(generation int32, parts []group.Assigned) ([]group.Start, error)
	onApply func(ctx context.Context, b *kafkalog.Batch) error
	onEmit  func(ctx context.Context, b *kafkalog.Batch) error

	mu      sync.Mutex
	next    map[kafkalog.Partition]int64    // of the last batch that Apply took
	emitted map[kafkalog.Partition]int64    // of the last batch that Emit took
	values  map[kafkalog.Partition][]string // applied
	emits   map[kafkalog.Partition][]string
	taken   [][]group.Assigned
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

func (r *recorder) Take(ctx context.Context, generation int32, parts []group.Assigned) ([]group.Start, error) {
	r.mu.Lock()
	r.generation = ctx
	r.mu.Unlock()
	if r.onTake != nil {
		if starts, err := r.onTake(generation, parts); starts != nil || err != nil {
			r.begin(parts, starts)
			return starts, err
		}
	}
	starts := make([]group.Start, 0, len(parts))
	for _, p := range parts {
		starts = append(starts, group.Start{Partition: p.Partition, Offset: p.Committed})
	}
	r.begin(parts, starts)
	return starts, nil
}

func (r *recorder) begin(parts []group.Assigned, starts []group.Start) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = append(r.taken, parts)
	for _, s := range starts {
		delete(r.next, s.Partition)
		delete(r.emitted, s.Partition)
	}
}

func (r *recorder) Apply(ctx context.Context, b *kafkalog.Batch) (group.Emission, error) {
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
	r.values[b.Partition] = append(r.values[b.Partition], kafkatest.Values(b)...)
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
	r.emits[b.Partition] = append(r.emits[b.Partition], kafkatest.Values(b)...)
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
	ctx, cancel := context.WithTimeout(t.Context(), kafkatest.Within)
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
			t.Fatalf("not within %s: %s", kafkatest.Within, missing)
		case <-tick.C:
		}
	}
}

// consume runs a consumer until the test ends or stop is called; stop waits for it.
func consume(t *testing.T, c *kafkalog.Client, cfg group.Config, h group.Handler) (*group.Consumer, func()) {
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
	con, err := group.New(c, cfg, h)
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

func awaitStats(t *testing.T, c *group.Consumer, what string, ok func(group.Stats) bool) {
	t.Helper()
	eventually(t, func() string {
		if st := c.Stats(); !ok(st) {
			return fmt.Sprintf("%s; stats %+v", what, st)
		}
		return ""
	})
}

var errTest = errors.New("test says no")
