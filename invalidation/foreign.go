package invalidation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of ForeignConfig.
const (
	// DefaultForeignQueue is how many names may wait for their second pass.
	DefaultForeignQueue = 100_000
	foreignTimeout      = 2 * time.Second
	foreignPipeline     = 500
	foreignPool         = 4
)

// ForeignConfig of a Foreign. The zero value works.
type ForeignConfig struct {
	// Again deletes every key once more that long after the first time, for readers that stored an old value in between:
	// twice the usual lag of their source is right. 0 means not at all.
	Again time.Duration
	// Queue bounds the names that wait for that; more are left to their TTL and counted. 0 means DefaultForeignQueue.
	Queue int
}

// ForeignStats are counts since the Foreign was made.
type ForeignStats struct {
	// First and Second are names deleted in the two passes, Dropped those that the queue had no room for, Failed those whose
	// second pass got no answer.
	First, Second, Dropped, Failed int64
	// Waiting is the number of names in the queue.
	Waiting int
}

// Foreign deletes keys that belong to other applications, when records that they were made from change. The promise is
// weaker than for Freshet's own entries: each key is deleted at least once after each change, and may be filled with an
// old value again by a reader that was on its way. Always give such keys a TTL.
type Foreign struct {
	rdb redis.UniversalClient
	cfg ForeignConfig

	first, second, dropped, failed atomic.Int64

	mu      sync.Mutex // guards what follows
	batches []foreignBatch
	waiting int
	added   chan struct{} // one slot
}

type foreignBatch struct {
	due   time.Time
	names []string
}

// NewForeign prepares a Foreign for the Redis behind rdb, with connections of its own; it does not talk to Redis.
func NewForeign(rdb redis.UniversalClient, cfg ForeignConfig) (*Foreign, error) {
	if err := checkClient(rdb); err != nil {
		return nil, fmt.Errorf("new foreign: %w", err)
	}
	if cfg.Again < 0 || cfg.Queue < 0 {
		return nil, errors.New("new foreign: Again and Queue must not be negative")
	}
	cfg.Queue = cmp.Or(cfg.Queue, DefaultForeignQueue)
	own := dedicated(rdb, clientRole{name: "foreign", timeout: foreignTimeout, retries: 1, pool: foreignPool})
	return &Foreign{rdb: own, cfg: cfg, added: make(chan struct{}, 1)}, nil
}

// Unlink deletes names now, and once more later if the configuration says so and Run runs. After an error some of them
// may be gone; call it again.
func (f *Foreign) Unlink(ctx context.Context, names []string) error {
	if err := f.unlink(ctx, names); err != nil {
		return err
	}
	f.first.Add(int64(len(names)))
	if f.cfg.Again > 0 {
		f.remember(names)
	}
	return nil
}

// unlink sends commands of one key each: in a cluster every key has its own slot, and the client groups them by master.
func (f *Foreign) unlink(ctx context.Context, names []string) error {
	for len(names) > 0 {
		var some []string
		some, names = cut(names, foreignPipeline)
		pipe := f.rdb.Pipeline()
		for _, n := range some {
			pipe.Unlink(ctx, n)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("unlink %d foreign keys: %w", len(some), err)
		}
	}
	return nil
}

func (f *Foreign) remember(names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	room := f.cfg.Queue - f.waiting
	kept, late := cut(names, max(room, 0))
	f.dropped.Add(int64(len(late)))
	if len(kept) == 0 {
		return
	}
	f.batches = append(f.batches, foreignBatch{due: time.Now().Add(f.cfg.Again), names: kept})
	f.waiting += len(kept)
	signal(f.added)
}

// Run does the second passes until ctx ends; what waits then is left to its TTL.
func (f *Foreign) Run(ctx context.Context) error {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		b, wait := f.next()
		if b != nil {
			if err := f.unlink(ctx, b); err != nil {
				f.failed.Add(int64(len(b)))
			} else {
				f.second.Add(int64(len(b)))
			}
			continue
		}
		t.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-f.added:
		case <-t.C:
		}
	}
}

// next returns the names that are due, or how long to wait for some.
func (f *Foreign) next() ([]string, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.batches) == 0 {
		return nil, time.Hour
	}
	b := f.batches[0]
	if wait := time.Until(b.due); wait > 0 {
		return nil, wait
	}
	f.batches = f.batches[1:]
	f.waiting -= len(b.names)
	return b.names, 0
}

// Stats returns the counts so far.
func (f *Foreign) Stats() ForeignStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return ForeignStats{
		First: f.first.Load(), Second: f.second.Load(), Dropped: f.dropped.Load(), Failed: f.failed.Load(), Waiting: f.waiting,
	}
}

// Close closes the connections; calls in flight fail. It may be called twice.
func (f *Foreign) Close() error {
	if err := f.rdb.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close foreign: %w", err)
	}
	return nil
}
