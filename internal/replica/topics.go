package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
	"github.com/freshet/freshet/schemas"
)

// ErrRetired is returned for a topic id that another one has replaced. It wraps ErrLate.
var ErrRetired = fmt.Errorf("topic has an id that was replaced by another: %w", ErrLate)

const (
	sqlTopic     = "SELECT topic_id, partitions, epoch, flush_pending FROM freshet_topic WHERE topic = ?"
	sqlTopics    = "SELECT topic, topic_id, partitions, epoch, flush_pending FROM freshet_topic WHERE topic IN (?"
	sqlAddTopic  = "INSERT INTO freshet_topic (topic, topic_id, partitions, epoch) VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE topic = topic"
	sqlNewTopic  = "UPDATE freshet_topic SET topic_id = ?, partitions = ?, epoch = ?, flush_pending = 1 WHERE topic = ?"
	sqlEpochs    = "SELECT topic_id, epoch FROM freshet_topic WHERE topic = ? OR topic >= ? AND topic < ?"
	sqlRetired   = "SELECT COUNT(*) FROM freshet_meta WHERE name = ?"
	sqlRetire    = "INSERT INTO freshet_meta (name, value) VALUES (?, '') ON DUPLICATE KEY UPDATE name = name"
	sqlUnretire  = "DELETE FROM freshet_meta WHERE name = ?"
	sqlFenceOld  = "UPDATE freshet_position SET fence = fence + 1 WHERE source >= ? AND source < ? AND NOT (source >= ? AND source < ?)"
	sqlFlushed   = "UPDATE freshet_topic SET flush_pending = 0 WHERE topic = ? AND topic_id = ?"
	sqlOldSource = "SELECT source FROM freshet_position WHERE source >= ? AND source < ? AND NOT (source >= ? AND source < ?) AND touched_at < " +
		mysql.NowMillis + " - ? ORDER BY source"
)

// Topic is what is remembered of a topic.
type Topic struct {
	// ID is the id of the topic that bears the name now, Partitions the number of its partitions when the id was first
	// seen: a dataset whose versions are offsets cannot follow a change of it.
	ID         string
	Partitions int32
	// Epoch counts how often the id changed.
	Epoch int64
	// FlushPending: the lanes are still to be flushed because the id changed.
	FlushPending bool
}

// Topics remembers the identity of topics, so that a recreated topic is noticed. It is safe for concurrent use.
type Topics struct{ pool *mysql.Pool }

// Get returns what is remembered of a topic; ok is false if it was never observed.
func (l *Topics) Get(ctx context.Context, topic string) (t Topic, ok bool, err error) {
	ok, err = mysql.One(ctx, l.pool.DB(), "read topic "+topic, sqlTopic, []any{[]byte(topic)}, &t.ID, &t.Partitions, &t.Epoch, &t.FlushPending)
	return t, ok, err
}

// Named returns what is remembered of topics, by name. Those that were never observed are absent.
func (l *Topics) Named(ctx context.Context, names []string) (map[string]Topic, error) {
	out := make(map[string]Topic, len(names))
	for chunk := range slices.Chunk(names, keyChunk) {
		text := sqlTopics + strings.Repeat(", ?", len(chunk)-1) + ")"
		err := mysql.Each(ctx, l.pool.DB(), "read topics", text, mysql.Args(chunk), func(scan func(...any) error) error {
			var name string
			var t Topic
			err := scan(&name, &t.ID, &t.Partitions, &t.Epoch, &t.FlushPending)
			out[name] = t
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Observe notes the topic's id and its number of partitions (the latter only when the id is new). If the id changed,
// the first to note it fences, in the same transaction, every owner of the old ids' sources: they must not commit a
// batch that no worker could emit any more. pending stays true until Flushed.
//
// An id that was replaced by another returns ErrRetired: either the caller's view of the cluster is old, or an operator went back
// to an earlier cluster. Only an operator can tell, and accepts the id with Accept.
func (l *Topics) Observe(ctx context.Context, topic, id string, partitions int32) (pending bool, err error) {
	epoch, err := nextEpoch(ctx, l.pool.DB(), topic, id, -1)
	if err != nil {
		return false, err
	}
	if _, err = l.pool.DB().ExecContext(ctx, sqlAddTopic, []byte(topic), []byte(id), partitions, epoch); err != nil {
		return false, mysql.Wrap("note topic", topic, err)
	}
	err = l.pool.Transact(ctx, "observe topic", func(ctx context.Context, w *mysql.Conn) error {
		var t Topic
		err := w.QueryRow(ctx, sqlTopic+" FOR UPDATE", []any{[]byte(topic)}, &t.ID, &t.Partitions, &t.Epoch, &t.FlushPending)
		if err != nil {
			return mysql.Wrap("lock topic", topic, err)
		}
		if t.ID == id {
			pending = t.FlushPending
			return nil
		}
		var retired int64
		if err = w.QueryRow(ctx, sqlRetired, []any{meta.Retired(topic, id)}, &retired); err != nil {
			return mysql.Wrap("read retired ids of topic", topic, err)
		}
		if retired > 0 {
			return ErrRetired
		}
		pending = true
		return replaceTopic(ctx, w, topic, t, id, partitions)
	})
	return pending, err
}

// Retired reports whether the topic's id was replaced by another and was not accepted again.
func (l *Topics) Retired(ctx context.Context, topic, id string) (bool, error) {
	var n int64
	err := l.pool.DB().QueryRowContext(ctx, sqlRetired, meta.Retired(topic, id)).Scan(&n)
	return n > 0, mysql.Wrap("read retired ids of topic", topic, err)
}

// Accept lets a topic's previous id count again, as a new source: the next Observe of it has every lane flushed. accepted is false
// if the id was not retired.
func (l *Topics) Accept(ctx context.Context, topic, id string) (accepted bool, err error) {
	err = l.pool.Transact(ctx, "accept topic", func(ctx context.Context, w *mysql.Conn) error {
		n, err := w.Exec(ctx, sqlUnretire, meta.Retired(topic, id))
		accepted = n > 0
		return mysql.Wrap("accept id of topic", topic, err)
	})
	return accepted, err
}

func replaceTopic(ctx context.Context, w *mysql.Conn, topic string, old Topic, id string, partitions int32) error {
	if _, err := w.Exec(ctx, sqlRetire, meta.Retired(topic, old.ID)); err != nil {
		return mysql.Wrap("retire id of topic", topic, err)
	}
	epoch, err := nextEpoch(ctx, w, topic, id, old.Epoch)
	if err != nil {
		return err
	}
	if _, err := w.Exec(ctx, sqlNewTopic, []byte(id), int64(partitions), epoch, []byte(topic)); err != nil {
		return mysql.Wrap("note topic", topic, err)
	}
	_, err = w.Exec(ctx, sqlFenceOld, otherIDs(topic, id)...)
	return mysql.Wrap("fence sources of topic", topic, err)
}

// nextEpoch returns the epoch of a topic under an id that is not noted for this name. Datasets may come to share a topic, or
// cease to, and their names for it change then; versions of records depend on the epoch, so all names of a Kafka topic have
// the same one: that which another name has for the id, else one more than the greatest so far. It is above that of the name's
// own previous id: a name that is no longer read may still have an id that came back.
func nextEpoch(ctx context.Context, q mysql.Querier, topic, id string, above int64) (epoch int64, err error) {
	kafkaTopic := schemas.KafkaTopic(topic)
	epoch = -1
	known := int64(-1)
	args := []any{[]byte(kafkaTopic), []byte(kafkaTopic + "#"), []byte(kafkaTopic + "$")} // $ comes after #
	err = mysql.Each(ctx, q, "read epochs of topic "+kafkaTopic, sqlEpochs, args, func(scan func(...any) error) error {
		var other string
		var n int64
		err := scan(&other, &n)
		epoch = max(epoch, n)
		if other == id {
			known = max(known, n)
		}
		return err
	})
	if known > above {
		return known, err
	}
	return epoch + 1, err
}

// otherIDs are the bounds of the topic's sources and of those of one id, which the statements leave out. A source is
// topic, id and partition, joined by '/', and '0' is the byte after '/'.
func otherIDs(topic, id string) []any {
	return []any{[]byte(topic + "/"), []byte(topic + "0"), []byte(topic + "/" + id + "/"), []byte(topic + "/" + id + "0")}
}

// Flushed notes that every lane was flushed with hold since the topic got this id, and removes what was kept for sources
// of its previous ids that no batch touched for keep. If the topic has yet another id by now, nothing happens.
func (l *Topics) Flushed(ctx context.Context, topic, id string, keep time.Duration) error {
	err := l.pool.Transact(ctx, "note flush of topic", func(ctx context.Context, w *mysql.Conn) error {
		_, err := w.Exec(ctx, sqlFlushed, []byte(topic), []byte(id))
		return mysql.Wrap("note flush of topic", topic, err)
	})
	if err != nil {
		return err
	}
	t, ok, err := l.Get(ctx, topic)
	if err != nil || !ok || t.ID != id {
		return err
	}
	old, err := mysql.Texts(ctx, l.pool.DB(), "read old sources of topic "+topic, sqlOldSource, append(otherIDs(topic, id), keep.Milliseconds())...)
	if err != nil {
		return err
	}
	for _, source := range old {
		err = l.pool.Transact(ctx, "remove old source", func(ctx context.Context, w *mysql.Conn) error {
			return removeSource(ctx, w, []byte(source))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeSource deletes the position last: as long as it is there, the rest is found again.
func removeSource(ctx context.Context, w *mysql.Conn, source []byte) error {
	for _, text := range []string{
		"DELETE FROM freshet_displaced WHERE source = ?",
		"DELETE FROM freshet_displaced_low WHERE source = ?",
		"DELETE FROM freshet_position_history WHERE source = ?",
		"DELETE FROM freshet_lane WHERE source = ?",
		"DELETE FROM freshet_position WHERE source = ?",
	} {
		if _, err := w.Exec(ctx, text, source); err != nil {
			return mysql.Wrap("remove old source", "", err)
		}
	}
	return nil
}

// A record is in the partition that the producer's partitioner chooses for its key, unless the topic got more partitions or
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
