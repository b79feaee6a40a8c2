package kafkalog

import (
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
	// ErrDenied is returned, wrapped in a text that names the right, when this client may not do what was asked for.
	ErrDenied = errors.New("access denied")
	// ErrCorrupt is recordbatch's, for those who read with this package.
	ErrCorrupt = recordbatch.ErrCorrupt
	// ErrClosed: the producer or client is closed.
	ErrClosed = errors.New("closed")
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
	// LastStable is the last stable offset as of the fetch, LogStart the first offset that the broker still has.
	LastStable, LogStart int64

	// Freed, if not nil, is called by the first Release.
	Freed func()
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
	if b.Freed != nil {
		b.Freed()
		b.Freed = nil
	}
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

// Defaults of a Reader, and of consumers that read as it does.
const (
	DefaultFetchWait     = 300 * time.Millisecond
	DefaultMaxRecords    = 4000
	DefaultMaxBatchBytes = 4 << 20
)
