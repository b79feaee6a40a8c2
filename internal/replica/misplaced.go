package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
)

// A record is in the partition that the producer's partitioner gives for its key, unless the topic got more partitions or
// another client with another partitioner wrote it. A search for a record by its key must then look in all partitions,
// so the first such record of a topic is noted.

// Misplaced is a record that was seen in a partition that the producer would not have chosen.
type Misplaced struct {
	TopicID   string    `json:"topic_id"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Seen      time.Time `json:"seen"`
}

// NoteMisplaced notes such a record; the newest counts.
func (l *Topics) NoteMisplaced(ctx context.Context, topic, topicID string, partition int32, offset int64) error {
	now, err := mysql.Now(ctx, l.pool.DB())
	if err != nil {
		return err
	}
	value, err := json.Marshal(Misplaced{TopicID: topicID, Partition: partition, Offset: offset, Seen: time.UnixMilli(now).UTC()})
	if err != nil {
		return fmt.Errorf("write note of misplaced record: %w", err)
	}
	_, err = l.pool.DB().ExecContext(ctx, meta.SQLSet, []byte(meta.Misplaced+topic), value)
	return mysql.Wrap("note misplaced record of topic", topic, err)
}

// Scattered reports why records of a topic may be in other partitions than their keys say, "" if they are not known to be:
// one was seen, or the topic had another number of partitions when it was first observed.
func (l *Topics) Scattered(ctx context.Context, topic, topicID string, partitions int32) (why string, err error) {
	noted, ok, err := l.Get(ctx, topic)
	if err != nil {
		return "", err
	}
	if ok && noted.ID == topicID && noted.Partitions != partitions {
		return fmt.Sprintf("the topic has %d partitions and had %d", partitions, noted.Partitions), nil
	}
	value, ok, err := meta.Read(ctx, l.pool.DB(), "read note of misplaced record of topic "+topic, meta.Misplaced+topic)
	if err != nil || !ok {
		return "", err
	}
	var p Misplaced
	if err := json.Unmarshal(value, &p); err != nil || p.TopicID != topicID {
		return "", nil //nolint:nilerr // a note that cannot be read is of no topic
	}
	return fmt.Sprintf("the record at offset %d of partition %d is in another partition than the producer's partitioner gives for its key", p.Offset, p.Partition), nil
}
