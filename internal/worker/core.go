package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/group"
)

// core is what all parts of a worker share: its configuration, its partitions, and where they report.
type core struct {
	cfg    Config
	log    *slog.Logger
	counts *counters
	faults *faults
	// consumer is set by New, once it is made; out appends to Kafka and is set by Run.
	consumer *group.Consumer
	out      *delivery.Producer
	kick     chan struct{} // one slot: check the lanes now
	slabs    slabs
	births   births
	measured measured

	mu    sync.Mutex
	parts map[kafkalog.Partition]*partition // of the current generation
}

func newCore(cfg Config) *core {
	log := cfg.Logger.With("component", "worker")
	return &core{
		cfg: cfg, log: log, counts: &counters{started: time.Now()}, faults: &faults{log: log, byWhat: map[string]fault{}},
		kick: make(chan struct{}, 1), parts: map[kafkalog.Partition]*partition{},
		measured: measuresOf(&cfg),
	}
}

// now is the time since the worker was made, on the monotonic clock.
func (c *core) now() time.Duration { return time.Since(c.counts.started) }

// checkNow lets the watch check the lanes at once.
func (c *core) checkNow() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// assign replaces the partitions by those of a new generation.
func (c *core) assign(parts map[kafkalog.Partition]*partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parts = parts
}

// partition returns an assigned partition, nil if it is not assigned.
func (c *core) partition(id kafkalog.Partition) *partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parts[id]
}

// partitions returns those of the current generation, and none when it has ended: what may be another worker's by now is
// not repaired, flushed or purged.
func (c *core) partitions() []*partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*partition, 0, len(c.parts))
	for _, p := range c.parts {
		if !p.ended() {
			out = append(out, p)
		}
	}
	return out
}

// purge removes displaced names and notes of positions that no repair can need any more.
func (c *core) purge(ctx context.Context) {
	if c.cfg.LaneLog == nil {
		return
	}
	for _, p := range c.partitions() {
		below := p.reached.Load()
		if p.cached() {
			if err := p.lock.acquire(ctx); err != nil {
				return
			}
			below = p.settled
			p.lock.release()
		}
		if below <= 0 {
			continue
		}
		if err := c.cfg.LaneLog.Purge(ctx, p.source, below, c.cfg.KeepDisplaced); err != nil && ctx.Err() == nil {
			c.log.Warn("purge of displaced names is put off", "topic", p.id.Topic, "partition", p.id.ID, "error", err)
		}
	}
}
