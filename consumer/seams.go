package consumer

import (
	"context"
	"time"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/invalidation/lane"
)

// Replica is the database that the worker writes. Methods may be called concurrently for different sources. Errors other
// than replica's sentinels and *replica.DatasetError are infrastructure faults: nothing is known to be written, and the
// same call may be made again.
type Replica interface {
	// Take makes owner the only one whose batches count for these sources. It waits for a running batch of the previous
	// owner. Errors: replica.ErrLate, replica.ErrForeignGroup.
	Take(ctx context.Context, group, owner string, generation int32, claims []replica.Claim) ([]replica.Position, error)
	// Apply writes one batch in one transaction, idempotently. Errors: replica.ErrFenced, *replica.DatasetError.
	Apply(ctx context.Context, b *replica.Batch) (replica.Result, error)
	// PositionsOf returns fence and position of each source; those without a row are absent. A locked read is the primary's.
	PositionsOf(ctx context.Context, sources []string, locked bool) ([]replica.Position, error)
	// Displaced reads, with a statement of its own after Apply's commit, the displaced names of the offsets from … to.
	Displaced(ctx context.Context, source string, from, to int64) ([]replica.Name, error)
}

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

// LaneLog is what the worker must remember about lanes beyond Redis' memory; it lives in MySQL beside the replica.
type LaneLog interface {
	// Start returns the first offset that source emits into that root of the lane. If nothing is noted yet, propose is
	// noted durably and returned.
	Start(ctx context.Context, source string, n int, root string, propose int64) (int64, error)
	// Window returns the first offset of source that was committed to MySQL within the last d, never more than next.
	Window(ctx context.Context, source string, d time.Duration, next int64) (int64, error)
	// Low returns the highest offset of source whose displaced names may be gone, -1 if none.
	Low(ctx context.Context, source string) (int64, error)
	// Purge removes displaced names and history of source below offset that are older than keep, and raises Low with
	// them.
	Purge(ctx context.Context, source string, below int64, keep time.Duration) error
}

// TopicLog remembers the identity of topics, so that a recreated topic is noticed, and what versions that are positions
// are made of. It lives in MySQL.
type TopicLog interface {
	// Topics reads what is noted, by name; topics that were never observed are absent.
	Topics(ctx context.Context, names []string) (map[string]replica.Topic, error)
	// Observe notes the topic's id and number of partitions. If the id changed, the winner of the race fences every
	// owner of the old id's sources in the same transaction. pending stays true until Flushed.
	Observe(ctx context.Context, topic, id string, partitions int32) (pending bool, err error)
	// Retired reports whether Observe refuses the id, until an operator accepts it.
	Retired(ctx context.Context, topic, id string) (bool, error)
	// Flushed notes that every lane was flushed with hold since the topic's id changed; it also removes what was kept
	// for the old ids longer than keep ago.
	Flushed(ctx context.Context, topic, id string, keep time.Duration) error
}

// HashLog reads the hashes of the datasets' cache sections as `freshet migrate datasets` noted them. A worker copies
// them to the lanes only where it agrees with them.
type HashLog interface {
	// Hashes returns dataset → hash; datasets that were never noted, or have no cache section, are absent.
	Hashes(ctx context.Context) (map[string]string, error)
	// HashChanged reports whether one of them was changed within the time before now, by the database's clock.
	HashChanged(ctx context.Context, within time.Duration) (bool, error)
}

// PauseLog keeps the pauses that hold for all workers and outlive them. It lives in MySQL.
type PauseLog interface {
	// Pause notes a dataset's pause, or returns the one that is noted already.
	Pause(ctx context.Context, dataset, who, why string) (replica.Pause, error)
	// Pauses returns the pauses in force, by dataset.
	Pauses(ctx context.Context) (map[string]replica.Pause, error)
	// IgnoresStorms reports whether an operator resumed the dataset so that storms do not pause it for some time.
	IgnoresStorms(ctx context.Context, dataset string) (bool, error)
}

// RestartLog keeps decisions where stopped partitions continue. It lives in MySQL.
type RestartLog interface {
	// Restarts returns the decisions in force, by source.
	Restarts(ctx context.Context) (map[string]replica.Restart, error)
	// Rewind sets a position back. Errors: replica.ErrFenced.
	Rewind(ctx context.Context, source string, fence, at int64) error
	// RestartDone removes a decision that was carried out.
	RestartDone(ctx context.Context, source string) error
}

// MisplacedLog remembers that records of a topic are in other partitions than their keys say. It lives in MySQL.
type MisplacedLog interface {
	NoteMisplaced(ctx context.Context, topic, topicID string, partition int32, offset int64) error
}

// BindingLog keeps what namespace and group the database belongs to. It lives in MySQL.
type BindingLog interface {
	// Bind makes the database belong to the namespace, unless it belongs to one already. Errors:
	// replica.ErrForeignNamespace, replica.ErrForeignGroup.
	Bind(ctx context.Context, namespace, group string) (replica.Binding, error)
}

// Outbox holds what writers of replica rows made stale, noted in the transactions of their rows. It lives in MySQL.
type Outbox interface {
	// Outgoing returns a namespace's rows that are older than age by the database's clock, oldest first, at most limit.
	Outgoing(ctx context.Context, namespace string, age time.Duration, limit int) ([]replica.Outgoing, error)
	// RemoveOutgoing removes rows that were published; those that are gone already do not matter.
	RemoveOutgoing(ctx context.Context, ids []int64) error
}
