package relay_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/internal/testenv"
)

// A missing topic keeps the rows of its dataset in the outbox, in order, and no others.
func TestMissingTopicBlocksItsDatasetOnly(t *testing.T) {
	b := newBed(t)
	r := b.relay()
	items := b.consume(b.topics["items"])
	for n := range 10 {
		b.enqueue("others", "o", n)
		b.enqueue("items", "i", n)
	}
	items(10)
	b.eventually("the dataset is reported", func() bool {
		why := strings.Join(r.Degraded(), "\n")
		return strings.Contains(why, "dataset others wait") && strings.Contains(why, "topic does not exist")
	})
	b.enqueue("items", "i", 10)
	items(11)
	if n := b.number("SELECT COUNT(*) FROM freshet_outbox WHERE dataset = 'others'"); n != 10 {
		t.Errorf("%d rows of the blocked dataset are left of 10", n)
	}
	b.kafka.CreateTopicNamed(t, b.topics["others"], 1)
	for n, e := range b.consume(b.topics["others"])(10) {
		if e.data != itemData("o", n) {
			t.Fatalf("event %d: %+v", n, e)
		}
	}
	b.drained()
	b.enqueue("others", "o", 10)
	b.drained()
	if why := append(r.NotReady(), r.Degraded()...); len(why) > 0 {
		t.Errorf("not ready: %q", why)
	}
}

// A topic that vanishes while its records are sent delays them, and no others.
func TestDeletedTopicBlocksItsDatasetOnly(t *testing.T) {
	b := newBed(t)
	b.kafka.CreateTopicNamed(t, b.topics["others"], 1)
	r := b.relay()
	items := b.consume(b.topics["items"])
	b.enqueue("others", "o", 0)
	b.drained()
	b.kafka.DeleteTopic(t, b.topics["others"])
	b.enqueue("others", "o", 1)
	b.enqueue("items", "i", 1)
	items(1)
	b.eventually("the dataset is reported", func() bool { return strings.Contains(strings.Join(r.Degraded(), "\n"), "dataset others wait") })
	for n := range 20 {
		b.enqueue("others", "o", 2+n)
		b.enqueue("items", "i", 2+n)
	}
	items(21)
	b.eventually("the rows of items are deleted", func() bool { return b.number("SELECT COUNT(*) FROM freshet_outbox WHERE dataset = 'items'") == 0 })
	b.kafka.CreateTopicNamed(t, b.topics["others"], 1)
	for n, e := range b.consume(b.topics["others"])(21) {
		if e.data != itemData("o", 1+n) {
			t.Fatalf("event %d: %+v", n, e)
		}
	}
	b.drained()
}

// Between the acknowledgement and the deletion, another process takes the lease: the old relay deletes nothing, and the rows are
// published again as the same events.
func TestLeaseIsLostBeforeTheDeletion(t *testing.T) {
	b := newBed(t)
	id := b.enqueue("items", "a", 1)
	var once sync.Once
	rows := int64(-1)
	r := b.relay(func(c *relay.Config) {
		c.Failpoint = func(point string) {
			if point == relay.PointAfterAck {
				once.Do(func() {
					b.exec("UPDATE freshet_relay SET fence = fence + 1, owner = 'another', until = 0")
				})
			}
			if point == relay.PointBeforeCommit && rows < 0 {
				rows = b.number("SELECT COUNT(*) FROM freshet_outbox WHERE id = ? AND dataset = 'items'", id)
			}
		}
	})
	events := b.consume(b.topics["items"])(2)
	if events[0].version != id || events[0].id != events[1].id || events[0].version != events[1].version || events[0].data != events[1].data {
		t.Errorf("the repeated event differs: %+v, %+v", events[0], events[1])
	}
	b.drained()
	if rows != 1 {
		t.Errorf("%d rows were there when they were deleted, want 1: the relay without the lease deleted it", rows)
	}
	b.eventually("the second term deleted the row", func() bool { s := r.Stats(); return s.Terms == 2 && s.Deleted == 1 })
}

// A server with another increment, or one that is read-only, is waited for; one with another identity makes the versions continue
// above all that were published.
func TestServersThatAreNotFit(t *testing.T) {
	my := testenv.StartMySQL(t, testenv.MySQLOptions{})
	b := newBedOn(t, testenv.Kafka(t), my)
	events := b.consume(b.topics["items"])
	r := b.relay()
	last := b.enqueue("items", "a", 0)
	events(1)
	b.drained()
	n := 1
	for setting, want := range map[string]error{"auto_increment_increment = 2": relay.ErrIncrement, "read_only = 1": relay.ErrReadOnly} {
		name, _, _ := strings.Cut(setting, " ")
		b.exec("SET GLOBAL " + setting)
		b.eventually("the relay stops: "+setting, func() bool { return errors.Is(r.Stats().Waiting, want) })
		if st, err := relay.ReadStatus(t.Context(), b.pool()); err != nil || len(st.Problems) != 1 || st.Problems[0] != want.Error() {
			t.Errorf("status with %s: %+v, %v", setting, st, err)
		}
		b.exec("SET GLOBAL " + name + " = " + map[bool]string{true: "0", false: "1"}[name == "read_only"])
		last = b.enqueue("items", "a", n)
		n++
		events(n)
	}
	b.drained()
	r.stop()
	b.exec("UPDATE freshet_relay SET server = 'the primary of yesterday'")
	old := b.number("SELECT high FROM freshet_relay")
	// The server that took over has rows of a service, one of which may have a published id.
	b.enqueue("items", "a", n)
	r = b.relay()
	all := events(n + 1)
	if e := all[n]; e.version <= old || e.version <= last || e.data != itemData("a", n) {
		t.Errorf("after the failover: %+v, want a version above %d", e, old)
	}
	b.drained()
	if s := r.Stats(); s.Advances != 1 {
		t.Errorf("%d advances", s.Advances)
	}
	if id := b.enqueue("items", "a", n+1); id <= all[n].version {
		t.Errorf("the next id is %d, below version %d", id, all[n].version)
	}
	if e := events(n + 2)[n+1]; e.version <= all[n].version {
		t.Errorf("version %d after %d", e.version, all[n].version)
	}
}

// While Kafka is away, writers are not affected and rows wait; the relay is not ready. What is sent then comes in order.
func TestKafkaIsAway(t *testing.T) {
	ks := testenv.StartKafka(t, testenv.KafkaOptions{})
	b := newBedOn(t, ks, testenv.MySQL(t))
	r := b.relay()
	b.enqueue("items", "a", 0)
	b.drained()
	ks.Kill(t)
	for n := range 50 {
		b.enqueue("items", "a", 1+n)
	}
	b.eventually("the relay is not ready", func() bool { return len(r.NotReady())+len(r.Degraded()) > 0 })
	for n := range 50 {
		b.enqueue("items", "a", 51+n)
	}
	if n := b.number("SELECT COUNT(*) FROM freshet_outbox WHERE dataset <> ''"); n != 100 {
		t.Errorf("%d rows wait, want 100", n)
	}
	ks.Restart(t)
	b.drained()
	for n, e := range b.consume(b.topics["items"])(101) {
		if e.data != itemData("a", n) {
			t.Fatalf("event %d: %+v", n, e)
		}
	}
	b.eventually("the relay is ready again", func() bool { return len(r.NotReady())+len(r.Degraded()) == 0 })
}

// A database that is away is waited for, and a relay that was suspended for longer than its lease does not delete.
func TestDatabaseIsAway(t *testing.T) {
	my := testenv.StartMySQL(t, testenv.MySQLOptions{})
	b := newBedOn(t, testenv.Kafka(t), my)
	r := b.relay()
	b.enqueue("items", "a", 0)
	b.drained()
	my.Kill(t)
	b.eventually("the relay notices", func() bool { return r.Stats().Waiting != nil && len(r.NotReady()) > 0 })
	my.Restart(t)
	testenv.Eventually(t, within, b.db.PingContext)
	b.enqueue("items", "a", 1)
	b.drained()
	if events := b.consume(b.topics["items"])(2); events[1].data != itemData("a", 1) {
		t.Errorf("events: %+v", events)
	}
	began := r.Stats().Terms
	my.Stop(t)
	b.eventually("the lease ends", func() bool { return !r.Stats().Active })
	my.Cont(t)
	b.enqueue("items", "a", 2)
	b.drained()
	if s := r.Stats(); s.Terms <= began || time.Since(s.Since) < 0 {
		t.Errorf("stats %+v", s)
	}
}
