package relay_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/schemas"
)

// A committed row becomes an event with its id as version; the row is deleted, and the newest stays as the marker.
func TestRowsBecomeEvents(t *testing.T) {
	b := newBed(t)
	first := b.enqueue("items", "a", 1)
	b.exec("INSERT INTO freshet_outbox (dataset, record_key, op, version, traceparent) VALUES ('items', 'b', 'delete', 77, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')")
	b.relay()
	got := map[string]event{}
	for _, e := range b.consume(b.topics["items"])(2) {
		got[e.key] = e
	}
	a, del := got["a"], got["b"]
	if a.version != first || a.data != itemData("a", 1) || a.op != schemas.TypeUpsert || time.Since(a.time) > time.Minute {
		t.Errorf("upsert: %+v", a)
	}
	if del.version != 77 || del.data != `{"id":"b"}` || del.op != schemas.TypeDelete {
		t.Errorf("delete with a version of its own: %+v", del)
	}
	if !strings.HasSuffix(a.id, fmt.Sprintf("-8000-%012x", first)) || a.id[:8] != del.id[:8] {
		t.Errorf("event ids %s and %s", a.id, del.id)
	}
	b.drained()
	if n := b.number("SELECT high FROM freshet_relay"); n != first+1 {
		t.Errorf("high is %d, want %d", n, first+1)
	}
	if n := b.number("SELECT COUNT(*) FROM freshet_outbox WHERE id = ? AND dataset = '' AND data IS NULL", first+1); n != 1 {
		t.Error("no marker")
	}
	next := b.enqueue("items", "c", 1)
	if e := b.consume(b.topics["items"])(3)[2]; e.version != next {
		t.Errorf("third event: %+v; the marker was published?", e)
	}
}

// A transaction that commits late, with a smaller id than those that were published, is found.
func TestLateCommitIsPublished(t *testing.T) {
	b := newBed(t)
	tx, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tx.ExecContext(t.Context(), "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'late', 'upsert', ?)", itemData("late", 1))
	if err != nil {
		t.Fatal(err)
	}
	late, err := res.LastInsertId()
	if err != nil {
		t.Fatal(err)
	}
	early := b.enqueue("items", "early", 1)
	b.relay()
	events := b.consume(b.topics["items"])
	if e := events(1)[0]; e.key != "early" {
		t.Fatalf("first event: %+v", e)
	}
	b.drained()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if e := events(2)[1]; e.key != "late" || e.version != late {
		t.Errorf("second event: %+v", e)
	}
	b.drained()
	if n := b.number("SELECT high FROM freshet_relay"); n != early {
		t.Errorf("high is %d after a late row, want %d", n, early)
	}
}

// A transaction that commits while a pass is under way, with an id that the pass has left behind, is published before the record's
// next change, although the pass could have read that one.
func TestLateCommitKeepsItsPlace(t *testing.T) {
	b := newBed(t)
	tx, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	const insert = "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'x', 'upsert', ?)"
	if _, err := tx.ExecContext(t.Context(), insert, itemData("x", 1)); err != nil {
		t.Fatal(err)
	}
	const many = 17_000 // several batches, more than wait between two stages
	for range many / 1000 {
		b.exec("INSERT INTO freshet_outbox (dataset, record_key, op) VALUES ('items', 'y', 'delete')" + strings.Repeat(", ('items', 'y', 'delete')", 999))
	}
	var batches atomic.Int64
	b.relay(func(c *relay.Config) {
		c.Failpoint = func(point string) {
			if point != relay.PointAfterRead || batches.Add(1) != 1 {
				return
			}
			if err := tx.Commit(); err != nil {
				t.Error(err)
			}
			b.exec(insert, itemData("x", 2))
		}
	})
	var got []string
	for _, e := range b.consume(b.topics["items"])(many + 2) {
		if e.key == "x" {
			got = append(got, e.data)
		}
	}
	if want := []string{itemData("x", 1), itemData("x", 2)}; !slices.Equal(got, want) {
		t.Errorf("events of x in the topic: %q, want %q", got, want)
	}
	b.drained()
}

// One relay publishes, the others stand by, and one of them takes over at once when the first stops.
func TestOneRelayIsActive(t *testing.T) {
	b := newBed(t)
	one := b.relay()
	b.eventually("one is active", func() bool { return one.Stats().Active })
	two := b.relay()
	b.eventually("two stands by", func() bool {
		var s *relay.StandbyError
		return errors.As(two.Stats().Waiting, &s)
	})
	if why := two.NotReady(); len(why) > 0 {
		t.Errorf("a relay that stands by is not ready: %q", why)
	}
	one.stop()
	b.enqueue("items", "a", 1)
	b.consume(b.topics["items"])(1)
	if !two.Stats().Active {
		t.Error("the second relay is not active")
	}
}
