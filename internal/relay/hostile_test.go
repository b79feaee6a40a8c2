package relay_test

import (
	"sync"
	"testing"

	"github.com/freshet/freshet/internal/relay"
)

// The server takes 'items ' for 'items', but for LIKE: such a row waits as one of an unknown dataset, and blocks none.
func TestATrailingSpaceBlocksNothing(t *testing.T) {
	b := newBed(t)
	b.enqueue("items ", "a", 1)
	b.enqueue("items", "b", 1)
	r := b.relay()
	if e := b.consume(b.topics["items"])(1)[0]; e.key != "b" {
		t.Errorf("first event: %+v", e)
	}
	b.eventually("the row is reported", func() bool { return r.Stats().Unknown["items "] == 1 })
}

// A transaction that is open, with an id between those that are published, delays nothing.
func TestAnOpenTransactionDelaysNoDeletion(t *testing.T) {
	for name, rows := range map[string]int{"few rows": 3, "many rows": 200} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			for range rows {
				b.enqueue("items", "before", 1)
			}
			tx, err := b.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'open', 'upsert', ?)", itemData("open", 1)); err != nil {
				t.Fatal(err)
			}
			for range rows {
				b.enqueue("items", "after", 1)
			}
			r := b.relay()
			b.drained()
			if s := r.Stats(); s.Terms != 1 {
				t.Errorf("%d terms: the deletion waited", s.Terms)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			b.drained()
		})
	}
}

// The connection leads to another server when rows are to be deleted: those ids may be other rows there. They are published again,
// above all versions.
func TestRowsOfAnotherServerAreNotDeleted(t *testing.T) {
	b := newBed(t)
	first := b.enqueue("items", "a", 1)
	var once sync.Once
	b.relay(func(c *relay.Config) {
		c.Failpoint = func(point string) {
			if point == relay.PointAfterAck {
				once.Do(func() { b.exec("UPDATE freshet_relay SET `server` = 'another'") })
			}
		}
	})
	events := b.consume(b.topics["items"])(2)
	if events[0].version != first || events[1].version <= first+1<<19 || events[1].key != "a" {
		t.Errorf("events: %+v", events)
	}
}
