package worker_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
)

// A topic that was deleted and made again is another source: its offsets begin again, and what the lanes know of the old
// one proves nothing.
func TestTopicMadeAnew(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 30)
	b.putMany("others", 5)
	b.awaitDone("items")
	b.awaitDone("others")
	old, root := b.source("items"), b.root()
	gone := b.hold("items", "k1", 1)
	b.remake("items")
	b.put("items", "k1", 2)
	b.put("items", "new", 1)
	b.awaitRow("items", "k1", 2)
	b.awaitDone("items")
	if b.source("items") == old {
		t.Fatal("the topic has its old id")
	}
	if b.root() == root {
		t.Error("the lane was not flushed")
	}
	if held, err := b.rdb.HGet(t.Context(), b.keys().Meta, "fa").Int64(); err != nil || held == 0 {
		t.Errorf("the flush has no hold: %d, %v", held, err)
	}
	if !gone() {
		t.Error("an entry survived the change of its record")
	}
	b.put("others", "k1", 2)
	b.awaitDone("others")
	awaitReady(t, w)
	if st := w.Stats(); st.TopicsRenewed != 1 {
		t.Errorf("%d topics counted as recreated", st.TopicsRenewed)
	}
	if f := b.fence(old); f < 2 {
		t.Errorf("the old source has fence %d: its zombies may still commit", f)
	}
}

func (b *bed) fence(source string) (fence int64) {
	b.t.Helper()
	if err := b.db.QueryRowContext(b.t.Context(), "SELECT fence FROM freshet_position WHERE source = ?", source).Scan(&fence); err != nil {
		b.t.Fatal(err)
	}
	return fence
}

// split returns a dataset's topic more partitions.
func (b *bed) split(dataset string, partitions int32) {
	b.t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = 10_000
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = b.dataset(dataset).Topic, partitions
	req.Topics = append(req.Topics, topic)
	res, err := req.RequestWith(b.t.Context(), b.producer)
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].ErrorCode)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestAnotherNumberOfPartitionsIsLoud(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.put("items", "k1", 1)
	w := b.start(nil)
	b.awaitDone("items")
	w.stop()
	b.split("items", 3)
	w = b.start(nil)
	awaitStats(t, w, "counted", func(s worker.Stats) bool { return s.TopicsRepartitioned == 1 })
	b.put("items", "k1", 2)
	b.awaitRow("items", "k1", 2)
	awaitReady(t, w) // versions come from the publisher: nothing must be done
}

// MySQL is back from an older backup: its position counts, not what the group committed.
func TestMySQLRestoredToAnOlderState(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 30)
	b.awaitDone("items")
	w.stop()
	b.exec("DELETE FROM items WHERE n = 1 AND id NOT IN ('k0', 'k1', 'k2')")
	b.exec("UPDATE freshet_position SET next_offset = 3 WHERE source = ?", b.source("items"))
	b.start(nil)
	b.awaitDone("items")
	if n := b.count("items"); n != 30 {
		t.Errorf("%d rows, want 30", n)
	}
}

// A fresh replica is filled from the beginning, whatever the group committed for another one.
func TestFreshReplicaOfAnOldGroup(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.putMany("items", 30)
	b.commit("items", 25)
	b.start(nil)
	b.awaitDone("items")
	if n := b.count("items"); n != 30 {
		t.Errorf("%d rows, want 30", n)
	}
}

// Kafka deletes records before the first batch could be written. A restart does not skip them silently.
func TestLossBeforeTheFirstBatch(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.exec("ALTER TABLE items DROP COLUMN n")
	w := b.start(nil)
	b.putMany("items", 10)
	awaitReason(t, w, "dataset items is paused")
	w.stop()
	b.truncate("items", 4)
	w = b.start(nil)
	awaitReason(t, w, "4 records from offset 0 on were deleted")
}

// commit commits for a group without members.
func (b *bed) commit(dataset string, offset int64) {
	b.t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = b.group, -1
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = b.dataset(dataset).Topic
	info, err := b.client.Topic(b.t.Context(), topic.Topic)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := base64.RawURLEncoding.Decode(topic.TopicID[:], []byte(info.ID)); err != nil {
		b.t.Fatal(err)
	}
	part := kmsg.NewOffsetCommitRequestTopicPartition()
	part.Offset = offset
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	testenv.Eventually(b.t, patience, func(ctx context.Context) error {
		res, err := req.RequestWith(ctx, b.producer)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode)
	})
}

func TestForeignGroupIsRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 3)
	b.awaitDone("items")
	w.stop()
	b.put("items", "k0", 2)
	w = b.start(func(c *worker.Config, _ *replica.Config) { c.Group += "-other" })
	awaitReason(t, w, "another consumer group writes this replica database")
	if v := b.version(t.Context(), "items", "k0"); v != 1 {
		t.Errorf("a foreign group wrote version %d", v)
	}
}

// Kafka deleted what MySQL has and the group had not committed: nothing is lost, and no alarm is raised.
func TestKafkaDeletedOnlyWhatMySQLHas(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 30)
	b.awaitDone("items")
	w.stop()
	b.commit("items", 5)
	b.truncate("items", 20)
	w = b.start(nil)
	b.put("items", "k0", 2)
	b.awaitRow("items", "k0", 2)
	b.awaitDone("items")
	awaitReady(t, w)
	if st := w.Stats(); st.DataLosses != 0 {
		t.Errorf("%d losses counted", st.DataLosses)
	}
}

// Retention was shorter than the outage. The partition is stopped, reports what is missing and what to do, the others flow;
// an operator's decision lets it continue, also when the worker that carries it out is replaced half-way.
func TestLossStandsStillUntilSomebodyDecides(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 10)
	b.awaitDone("items")
	w.stop()
	root := b.root()
	for i := range 10 {
		b.put("items", fmt.Sprint("k", i), 2)
	}
	b.truncate("items", 15)
	w = b.start(nil)
	b.putMany("others", 10)
	b.awaitDone("others")
	topic := b.dataset("items").Topic
	awaitReason(t, w, topic+"/0 is stopped", "5 records from offset 10 on were deleted", "freshet partitions restart "+topic+"/0 --at first")
	awaitStats(t, w, "the loss is counted", func(s worker.Stats) bool { return s.DataLosses == 1 })
	if v := b.version(t.Context(), "items", "k9"); v != 1 {
		t.Errorf("version %d was applied over the gap", v)
	}
	if err := w.replica.Restarts.Note(t.Context(), b.source("items"), 15, "test"); err != nil {
		t.Fatal(err)
	}
	b.awaitRow("items", "k9", 2)
	b.awaitDone("items")
	awaitReady(t, w)
	if b.root() == root {
		t.Error("the lane was not flushed: what the lost records would have invalidated is still served")
	}
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		if left, err := w.replica.Restarts.All(ctx); err != nil || len(left) != 0 {
			return fmt.Errorf("the decision is still noted: %v, %w", left, err)
		}
		return nil
	})
}

// The gap itself is committed, also when no record follows it, and a decision taken while no worker runs is kept.
func TestRestartBehindTheLastRecord(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 10)
	b.awaitDone("items")
	w.stop()
	b.put("items", "k0", 2)
	b.truncate("items", 11)
	if err := w.replica.Restarts.Note(t.Context(), b.source("items"), 11, "test"); err == nil {
		t.Fatal("a closed replica takes notes")
	}
	other := b.open()
	if err := other.Restarts.Note(t.Context(), b.source("items"), 11, "test"); err != nil {
		t.Fatal(err)
	}
	w = b.start(nil)
	b.awaitDone("items")
	awaitReady(t, w)
	w.stop()
	w = b.start(nil)
	awaitReady(t, w)
	if st := w.Stats(); st.DataLosses != 0 {
		t.Errorf("%d losses after the decision was carried out", st.DataLosses)
	}
}

func (b *bed) open() *replica.DB {
	b.t.Helper()
	db, err := replica.Open(b.t.Context(), replica.Config{MySQL: mysql.Config{DSN: b.dsn}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = db.Close() })
	return db
}

// The log is shorter than what was read: Kafka lost acknowledged records, and gives their offsets out again.
func TestCutLogIsReadAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 10)
	b.awaitDone("items")
	w.stop()
	b.exec("UPDATE freshet_position SET next_offset = 50 WHERE source = ?", b.source("items"))
	b.commit("items", 50)
	b.rdb.HSet(t.Context(), b.keys().Meta, "wm:"+b.source("items"), 49)
	b.exec("DELETE FROM items WHERE id = 'k5'")
	w = b.start(nil)
	awaitReason(t, w, "the log ends at offset 10, before offset 50", "--at first")
	if err := w.replica.Restarts.Note(t.Context(), b.source("items"), 0, "test"); err != nil {
		t.Fatal(err)
	}
	b.awaitRow("items", "k5", 1)
	gone := b.hold("items", "k6", 1)
	b.put("items", "k6", 2)
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		next, err := b.next(ctx, "items")
		committed, cerr := b.committed(ctx, "items")
		if err = errors.Join(err, cerr); err != nil || next != 11 || committed != 11 {
			return fmt.Errorf("next offset %d, committed %d, want 11; %w", next, committed, err)
		}
		return nil
	})
	if !gone() {
		t.Error("an entry survived the change of its record")
	}
	// Offset 11 is given out for the first time again: its token must not be met before it was emitted.
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		if wm, err := b.rdb.HGet(ctx, b.keys().Meta, "wm:"+b.source("items")).Result(); err != nil || wm != "10" {
			return fmt.Errorf("the lane's watermark is %s, %w; want 10", wm, err)
		}
		return nil
	})
	awaitReady(t, w)
}

// A decision for a partition that is well does nothing, and does not wait for the next loss.
func TestRestartOfAHealthyPartitionIsDropped(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 10)
	b.awaitDone("items")
	if err := w.replica.Restarts.Note(t.Context(), b.source("items"), 3, "test"); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		if left, err := w.replica.Restarts.All(ctx); err != nil || len(left) != 0 {
			return fmt.Errorf("the decision is still noted: %v, %w", left, err)
		}
		return nil
	})
	if next, err := b.next(t.Context(), "items"); err != nil || next != 10 {
		t.Errorf("position %d, %v", next, err)
	}
}

// A worker that died between emission and commit leaves nothing to do; its successor commits for it, also when no event
// ever comes again.
func TestSuccessorCommitsWhatWasDone(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 30)
	b.awaitDone("items")
	w.stop()
	b.forgetCommits("items")
	b.start(nil)
	b.awaitDone("items")
}

// forgetCommits is as if the group, which has no member, had never committed.
func (b *bed) forgetCommits(dataset string) {
	b.t.Helper()
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = b.group
	topic := kmsg.NewOffsetDeleteRequestTopic()
	topic.Topic = b.dataset(dataset).Topic
	topic.Partitions = append(topic.Partitions, kmsg.NewOffsetDeleteRequestTopicPartition())
	req.Topics = append(req.Topics, topic)
	res, err := req.RequestWith(b.t.Context(), b.producer)
	if err == nil {
		err = errors.Join(kerr.ErrorForCode(res.ErrorCode), kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if at, err := b.committed(b.t.Context(), dataset); err != nil || at != -1 {
		b.t.Fatalf("still committed to %d, %v", at, err)
	}
}

// countingTopics counts what is asked of the log of topics.
type countingTopics struct {
	worker.TopicLog

	reads, notes atomic.Int64
}

func (c *countingTopics) Named(ctx context.Context, names []string) (map[string]replica.Topic, error) {
	c.reads.Add(1)
	return c.TopicLog.Named(ctx, names)
}

func (c *countingTopics) Observe(ctx context.Context, topic, id string, partitions int32) (bool, error) {
	c.notes.Add(1)
	return c.TopicLog.Observe(ctx, topic, id, partitions)
}

// Taking partitions reads the notes of all topics at once, and writes those of new topics only.
func TestKnownTopicsCostNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	db, err := replica.Open(t.Context(), replica.Config{MySQL: mysql.Config{DSN: b.dsn}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for i, want := range []struct{ reads, notes int64 }{{3, 2}, {1, 0}} { // a new topic is read once more
		topics := &countingTopics{TopicLog: db.Topics}
		w := b.start(func(c *worker.Config, _ *replica.Config) { c.Topics = topics })
		awaitReady(t, w)
		w.stop()
		if r, n := topics.reads.Load(), topics.notes.Load(); r != want.reads || n != want.notes {
			t.Errorf("start %d: %d reads and %d notes, want %d and %d", i, r, n, want.reads, want.notes)
		}
	}
}
