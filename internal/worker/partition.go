package worker

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// partition is one assigned partition. Emission, repair and settling share its lock.
type partition struct {
	id      kafkalog.Partition
	source  string
	dataset *schemas.Dataset
	// partitions is the topic's number of partitions.
	partitions int32
	decoder    *cdc.Decoder
	// unfit is why nothing of this partition can be applied; nil in all but one case.
	unfit error
	// unnamed: an event had properties that the schema does not have.
	unnamed atomic.Bool
	// retired: unfit, until an operator accepts the topic's id.
	retired bool
	// restarted: an operator's decision where to continue was carried out. Only the watch uses it.
	restarted bool
	// generation is the group's, which took this partition under fence.
	generation int32
	fence      int64
	// reached is the position that the database is known to have had: where it was taken, or the end of a committed batch.
	reached atomic.Int64
	// over is closed when the generation that gave this partition ends: batches under way finish, nothing new is begun.
	over     chan struct{}
	measures *measures
	// newest is the time of the newest applied record since the partition was last known to have nothing left to apply, Unix ms, 0 for
	// none; caughtUp is when that was, on the worker's clock.
	newest, caughtUp atomic.Int64
	// fresh is the next_offset that was taken: what lies at or above it was never committed to MySQL before.
	fresh int64
	// renewal is the flush that must come before all else; nil in all but one case.
	renewal *renewal
	// ready is closed once every lane was checked for the first time; no transaction begins before.
	ready     chan struct{}
	readyOnce sync.Once

	copies  copies
	copying atomic.Bool // a goroutine copies them

	lock ctxMutex // guards all that follows
	// emitted is the end of the contiguous prefix whose emission returned.
	emitted int64
	// oldest is the first offset that Kafka may still give.
	oldest int64
	// settled is the offset that was last given to be committed.
	settled int64
	lanes   []laneState
}

// cached reports whether the partition's records are emitted to the lanes.
func (p *partition) cached() bool { return p.dataset == nil || p.dataset.Cache != nil }

// laneState is what one partition knows of one lane.
type laneState struct {
	root  string
	start int64 // first offset of this source in that root
	acked int64 // highest offset that the lane acknowledged to this owner
}

// ctxMutex is a mutex whose wait ends with a context.
type ctxMutex chan struct{}

func (l ctxMutex) acquire(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l ctxMutex) release() { <-l }

// ended reports whether the generation that gave this partition is over.
func (p *partition) ended() bool { return closed(p.over) }

// whileOwned returns a context that ends with ctx or with the generation of these partitions.
func whileOwned(ctx context.Context, parts []*partition) (owned context.Context, stop func()) {
	owned, cancel := context.WithCancel(ctx)
	if len(parts) == 0 {
		return owned, cancel
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-parts[0].over: // all are of one generation
			cancel()
		case <-owned.Done():
		}
	})
	return owned, func() {
		cancel()
		wg.Wait()
	}
}
