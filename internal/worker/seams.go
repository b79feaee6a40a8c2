package worker

import (
	"context"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/invalidation/lane"
)

// Emitter writes lanes. Every method may be called again after an error: its effects are monotone.
type Emitter interface {
	// Emit writes an emission of any size to one lane; start is where this source begins in a root that has no
	// watermark for it yet.
	Emit(ctx context.Context, n int, root string, start int64, e lane.Emission) (lane.Reply, error)
	// Root creates a missing lane or flushes one.
	Root(ctx context.Context, n int, r lane.RootRequest) (lane.Reply, error)
	// State reads a lane's meta hash, with the watermarks of sources and the hashes of datasets.
	State(ctx context.Context, n int, sources, datasets []string) (lane.State, error)
	// Lanes is the number of lanes of the namespace.
	Lanes() int
}

// Foreign deletes keys of other applications.
type Foreign interface {
	// Unlink deletes names, those that exist. It may be called again after an error, and concurrently.
	Unlink(ctx context.Context, names []string) error
}

// TopicLog remembers the identity of topics, so that a recreated topic is noticed, and what position versions are
// computed from. *replica.Topics is one.
type TopicLog interface {
	// Named returns what is noted, by name; topics that were never observed are absent.
	Named(ctx context.Context, names []string) (map[string]replica.Topic, error)
	// Observe notes the topic's id and number of partitions. If the id changed, the winner of the race fences every
	// owner of the old id's sources in the same transaction. pending stays true until Flushed.
	Observe(ctx context.Context, topic, id string, partitions int32) (pending bool, err error)
	// Retired reports whether Observe refuses the id, until an operator accepts it.
	Retired(ctx context.Context, topic, id string) (bool, error)
	// Flushed notes that every lane was flushed with hold since the topic's id changed; it also removes what was kept
	// for the old ids longer than keep ago.
	Flushed(ctx context.Context, topic, id string, keep time.Duration) error
}
