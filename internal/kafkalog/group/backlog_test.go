package group_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
)

// counting is a Handler that counts records. Apply of the stuck partition waits for gate.
type counting struct {
	gate    chan struct{}
	records atomic.Int64
	done    atomic.Int64 // those of the other partitions
}

const stuck = 0

func (c *counting) Take(_ context.Context, _ int32, parts []group.Assigned) ([]group.Start, error) {
	starts := make([]group.Start, len(parts))
	for i, p := range parts {
		starts[i] = group.Start{Partition: p.Partition, Offset: p.LogStart}
	}
	return starts, nil
}

func (c *counting) Apply(ctx context.Context, b *kafkalog.Batch) (group.Emission, error) {
	if b.Partition.ID == stuck {
		select {
		case <-c.gate:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	c.records.Add(int64(len(b.Records)))
	if b.Partition.ID != stuck {
		c.done.Add(int64(len(b.Records)))
	}
	b.Release() // as the worker does: emission needs no records
	return c, nil
}

func (c *counting) Emit(context.Context) error { return nil }

func (c *counting) Settle(_ context.Context, done map[kafkalog.Partition]int64) (map[kafkalog.Partition]int64, error) {
	return done, nil
}

// A backlog many times the budget is read while one partition is stopped: neither what is counted nor what is really
// alive in memory grows with the backlog, or with what other partitions got in the same reply.
func TestRealBacklogStaysInTheBudget(t *testing.T) {
	backlog := 160 << 20
	if os.Getenv("FRESHET_FAULTS") == "full" {
		backlog = 1 << 30
	}
	for name, codec := range map[string]kgo.CompressionCodec{"plain": kgo.NoCompression(), "zstd": kgo.ZstdCompression()} {
		t.Run(name, func(t *testing.T) { readBacklog(t, backlog, codec) })
	}
}

func readBacklog(t *testing.T, backlog int, codec kgo.CompressionCodec) {
	const partitions, size, budget = 8, 10_000, group.DefaultBudget
	ks, c, _, topic := kafkatest.Real(t, partitions)
	each := backlog / size / partitions
	produceBacklog(t, kafkatest.Franz(t, ks.Brokers, kgo.ProducerBatchCompression(codec)), topic, each, partitions, make([]byte, size))
	before := liveHeap()
	h := &counting{gate: make(chan struct{})}
	cfg := topics(topic)
	cfg.Group, cfg.Budget, cfg.MaxBatchBytes = "g."+topic, budget, budget/partitions
	began := time.Now()
	con, _ := consume(t, c, cfg, h)
	most := 0
	awaitStats(t, con, "the others are read to their ends", func(st group.Stats) bool {
		sum := 0
		for _, p := range st.Partitions {
			sum += p.HeldBytes
		}
		most = max(most, sum)
		return h.done.Load() == int64(each*(partitions-1))
	})
	grown := liveHeap() - before
	t.Logf("%d MiB in %v: at most %d KiB counted, %d KiB alive beside a partition that is stopped, of a budget of %d KiB",
		backlog>>20, time.Since(began).Round(time.Millisecond), most>>10, grown>>10, budget>>10)
	// A partition with room is asked for half a share more; what unfolds does so in the hands of the writers.
	if limit := budget + budget/2 + group.DefaultWriters*cfg.MaxBatchBytes; most > limit {
		t.Errorf("%d bytes were counted, want at most %d", most, limit)
	}
	// Its share and half a share more, and the buffer of the connection.
	if grown > budget*3/4 {
		t.Errorf("%d bytes are alive, though one partition of %d holds its share of %d alone", grown, partitions, budget)
	}
	close(h.gate)
	eventually(t, func() string {
		if got := h.records.Load(); got != int64(each*partitions) {
			return fmt.Sprintf("%d of %d records", got, each*partitions)
		}
		return ""
	})
}

func produceBacklog(t *testing.T, k *kgo.Client, topic string, each, partitions int, value []byte) {
	t.Helper()
	for range each {
		for p := range int32(partitions) {
			k.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: p, Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Errorf("produce: %v", err)
				}
			})
		}
	}
	if err := k.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.Close()
}

// liveHeap is what a collection leaves.
func liveHeap() int {
	runtime.GC()
	runtime.GC() // what pools held is let go of by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
