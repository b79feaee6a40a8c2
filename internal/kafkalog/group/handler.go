package group

import (
	"context"
	"errors"

	"github.com/freshet/freshet/internal/kafkalog"
)

// Errors that a Handler returns, wrapped.
var (
	// ErrPause is what a Handler's Apply returns, wrapped, to pause the batch's partition: what is queued for them
	// is dropped, nothing more is fetched, and after Resume reading continues at the batch's From.
	ErrPause = errors.New("pause the partition")
	// ErrRejoin is what a Handler's Take or Apply returns, wrapped, when a newer owner exists: the generation ends and
	// the member joins again.
	ErrRejoin = errors.New("a newer owner exists")
)

// Assigned is a partition that the group gave to this member.
type Assigned struct {
	Partition kafkalog.Partition
	// Committed is the group's committed offset, -1 without one.
	Committed int64
	// LogStart is the first offset that the broker still has.
	LogStart int64
}

// Start is where reading of an assigned partition begins.
type Start struct {
	Partition kafkalog.Partition
	Offset    int64
}

// Handler does the work of a consumer's partitions. Its methods may be called concurrently for different partitions.
type Handler interface {
	// Take fences the partitions for this generation and reports where each starts. It is asked before any fetch and
	// again, with backoff, until it succeeds; an error that wraps ErrRejoin ends the generation. ctx ends with the
	// generation.
	Take(ctx context.Context, generation int32, parts []Assigned) ([]Start, error)
	// Apply makes a batch durable. It is called in order per partition, one batch at a time, and waits out
	// infrastructure faults itself: it returns nil, an error that wraps ErrPause or ErrRejoin, or ctx's error. Any
	// other error ends the generation. The batch is released when its Emission has run, unless Apply did so.
	Apply(ctx context.Context, b *kafkalog.Batch) (Emission, error)
	// Settle is asked once a second and once at the end with the Next of the newest emitted batch per partition; it
	// returns what may be committed, partitions that may not yet be committed left out.
	Settle(ctx context.Context, done map[kafkalog.Partition]int64) (map[kafkalog.Partition]int64, error)
}

// Emission is what remains to be done for a batch after its Apply.
type Emission interface {
	// Emit is called once, in order per partition, while later batches may be in Apply. The rules of its error are those of
	// Apply's; ErrPause is not allowed.
	Emit(ctx context.Context) error
}
