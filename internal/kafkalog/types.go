package kafkalog

import (
	"context"
	"errors"
	"time"

	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/schemas"
)

// Errors that callers decide by.
var (
	// ErrNoTopic: the topic does not exist (and is never made by asking).
	ErrNoTopic = errors.New("topic does not exist")
	// ErrNoTopicIDs: the brokers are older than 2.8 and have no topic ids.
	ErrNoTopicIDs = errors.New("brokers without topic ids are not supported: use Apache Kafka 2.8 or newer")
	// ErrOutcomeUnknown: a produce request was given up on without an answer; the record may be in the log or not.
	// Sending the same event again is safe.
	ErrOutcomeUnknown = errors.New("outcome of the produce request is unknown")
	// ErrTooLarge: the broker refuses a record for its size.
	ErrTooLarge = errors.New("record is too large")
	// ErrRefused: the broker refused a record permanently (authorization, invalid record or timestamp).
	ErrRefused = errors.New("broker refused the record")
	// ErrDenied is returned, wrapped in a text that names the right, when this client may not do what was asked for.
	ErrDenied = errors.New("access denied")
	// ErrCorrupt is recordbatch's, for those who read with this package.
	ErrCorrupt = recordbatch.ErrCorrupt
	// ErrClosed: the producer or client is closed.
	ErrClosed = errors.New("closed")
	// ErrPause is what a Handler's Apply returns, wrapped, to pause the batch's partition: what is queued for them
	// is dropped, nothing more is fetched, and after Resume reading continues at the batch's From.
	ErrPause = errors.New("pause the partition")
	// ErrRejoin is what a Handler's Take or Apply returns, wrapped, when a newer owner exists: the generation ends and
	// the member joins again.
	ErrRejoin = errors.New("a newer owner exists")
)

// Partition is one partition of one topic, under the topic's id: a recreated topic is another partition.
type Partition struct {
	Topic   string
	TopicID string // base64url without padding
	ID      int32
}

// Source is the partition's name in MySQL, in lanes and in tokens.
func (p Partition) Source() string { return schemas.SourceName(p.Topic, p.TopicID, p.ID) }

// Batch is a run of one partition. Its records are stored in [From, Next); Next moves also when there are none (compaction,
// transaction markers, aborted records), so From of a batch is Next of the one before.
type Batch struct {
	Partition Partition
	From      int64
	Next      int64
	// Records are in offset order. Keys, values and headers are slices of shared buffers until Release.
	Records []schemas.Record
	// HighWater is the last stable offset as of the fetch, LogStart the first offset that the broker still has.
	HighWater, LogStart int64

	release func()
}

// Cut leaves the records from the n-th on, and the offsets behind them, to a later batch. A handler may call it in Apply
// when it can do no more than that; what it left is fetched again. n is above 0 and below the number of records.
func (b *Batch) Cut(n int) {
	b.Next = b.Records[n].Offset
	b.Records = b.Records[:n]
}

// Release returns the batch's bytes to the fetch budget; its records must not be used afterwards. A handler may call it
// as soon as it needs the records no more; the consumer calls it after Emit, a reader's user when done.
func (b *Batch) Release() {
	if b.release != nil {
		b.release()
		b.release = nil
	}
}

// Assigned is a partition that the group gave to this member.
type Assigned struct {
	Partition Partition
	// Committed is the group's committed offset, -1 without one.
	Committed int64
	// LogStart is the first offset that the broker still has.
	LogStart int64
}

// Start is where reading of an assigned partition begins.
type Start struct {
	Partition Partition
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
	Apply(ctx context.Context, b *Batch) (Emission, error)
	// Settle is asked once a second and once at the end with the Next of the newest emitted batch per partition; it
	// gives what may be committed, partitions that may not yet be committed left out.
	Settle(ctx context.Context, done map[Partition]int64) (map[Partition]int64, error)
}

// Emission is what remains to be done for a batch after its Apply.
type Emission interface {
	// Emit is called once, in order per partition, while later batches may be in Apply. The rules of its error are those of
	// Apply's; ErrPause is not allowed.
	Emit(ctx context.Context) error
}

// Loss is a range of records that the broker no longer has, or never had under this history.
type Loss struct {
	Partition Partition
	// Next is the offset that was wanted. The broker has [First, Last).
	Next, First, Last int64
}

// TopicSpec declares a topic to be created.
type TopicSpec struct {
	Name              string
	Partitions        int               // 0 means 1
	ReplicationFactor int               // 0 means the broker's default
	Config            map[string]string // broker-side settings, such as cleanup.policy
}

// TopicInfo is what the cluster says of a topic.
type TopicInfo struct {
	Name       string
	ID         string // base64url without padding
	Partitions int32
}

// Acked is where a record was appended.
type Acked struct {
	Partition Partition
	// Offset is the record's offset; when the broker only said "already there", an upper bound of it.
	Offset int64
}

// Defaults, all documented at the config fields that use them.
const (
	DefaultSessionTimeout = 10 * time.Second
	DefaultHeartbeat      = time.Second
	DefaultFetchWait      = 300 * time.Millisecond
	DefaultBudget         = 32 << 20
	DefaultMaxRecords     = 4000
	DefaultMaxBatchBytes  = 4 << 20
	DefaultWriters        = 3
	DefaultCommitInterval = time.Second
	DefaultWatchInterval  = 30 * time.Second
)
