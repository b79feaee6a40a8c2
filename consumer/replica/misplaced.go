package replica

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

// A record is in the partition that the producer's partitioner gives for its key, unless the topic got more partitions or
// another client with another partitioner wrote it. A search for a record by its key must then look in all partitions,
// so the first such record of a topic is noted.

const metaMisplaced = "misplaced:"

// Misplaced is a record that was seen in a partition that the producer would not have chosen.
type Misplaced struct {
	TopicID   string    `json:"topic_id"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Seen      time.Time `json:"seen"`
}

// NoteMisplaced notes such a record; the newest counts.
func (m *MySQL) NoteMisplaced(ctx context.Context, topic, topicID string, partition int32, offset int64) error {
	var now int64
	if err := m.db.QueryRowContext(ctx, sqlNow).Scan(&now); err != nil {
		return mysql.Wrap("read clock", "", err)
	}
	value, err := json.Marshal(Misplaced{TopicID: topicID, Partition: partition, Offset: offset, Seen: time.UnixMilli(now).UTC()})
	if err != nil {
		return fmt.Errorf("write note of misplaced record: %w", err)
	}
	_, err = m.db.ExecContext(ctx, sqlSetMeta, []byte(metaMisplaced+topic), value, value)
	return mysql.Wrap("note misplaced record of topic", topic, err)
}

// Scattered reports why records of a topic may be in other partitions than their keys say, "" if they are not known to be:
// one was seen, or the topic had another number of partitions when it was first observed.
func (m *MySQL) Scattered(ctx context.Context, topic, topicID string, partitions int32) (why string, err error) {
	noted, ok, err := m.Topic(ctx, topic)
	if err != nil {
		return "", err
	}
	if ok && noted.ID == topicID && noted.Partitions != partitions {
		return fmt.Sprintf("the topic has %d partitions and had %d", partitions, noted.Partitions), nil
	}
	var value []byte
	err = m.db.QueryRowContext(ctx, sqlMetaValue, []byte(metaMisplaced+topic)).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", mysql.Wrap("read note of misplaced record of topic", topic, err)
	}
	var p Misplaced
	if err := json.Unmarshal(value, &p); err != nil || p.TopicID != topicID {
		return "", nil //nolint:nilerr // a note that nobody can read is of no topic
	}
	return fmt.Sprintf("the record at offset %d of partition %d is in another partition than the producer's partitioner gives for its key", p.Offset, p.Partition), nil
}
