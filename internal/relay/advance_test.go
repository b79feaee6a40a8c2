package relay_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

// A table that was emptied gives ids again that were published: relays stop until the counter is advanced, and then continue above.
func TestTruncateIsNoticed(t *testing.T) {
	b := newBed(t)
	r := b.relay()
	events := b.consume(b.topics["items"])
	for n := range 5 {
		b.enqueue("items", "a", n)
	}
	events(5)
	b.drained()
	b.exec("TRUNCATE freshet_outbox") // none of what follows is published under an id that another row had
	for n := range 7 {                // also one with the id that the marker had
		b.enqueue("items", "a", 10+n)
	}
	b.eventually("the relay stops", func() bool { return errors.Is(r.Stats().Waiting, relay.ErrMarker) })
	if why := r.NotReady(); len(why) != 1 || !strings.Contains(why[0], "freshet outbox advance") {
		t.Errorf("not ready: %q", why)
	}
	if n := b.number("SELECT COUNT(*) FROM freshet_outbox"); n != 7 {
		t.Fatalf("%d rows are left of 7", n)
	}
	state := func() string {
		return b.text("SELECT CONCAT_WS(',', `high`, `low`, `floor`, `shift`, (SELECT GROUP_CONCAT(id ORDER BY id) FROM freshet_outbox)) FROM freshet_relay")
	}
	before := state()
	tried, err := relay.Advance(t.Context(), b.pool(), 0, false)
	if after := state(); err != nil || before != after {
		t.Errorf("a dry run changes %s to %s, %v", before, after, err)
	}
	floor, err := relay.Advance(t.Context(), b.pool(), 0, true)
	if floor < tried || floor > tried+100 {
		t.Errorf("versions continue above %d, the dry run said %d", floor, tried)
	}
	if err != nil {
		t.Fatal(err)
	}
	all := events(12)
	if len(all) != 12 {
		t.Fatalf("%d events", len(all))
	}
	for i, e := range all[5:] {
		if e.data != itemData("a", 10+i) || e.version <= all[4+i].version || e.version <= 5 || e.version >= floor {
			t.Errorf("event %d: %+v after %d, floor %d", i, e, all[4+i].version, floor)
		}
	}
	b.drained()
	if id := b.enqueue("items", "a", 99); id <= floor {
		t.Errorf("the next id is %d, want above %d", id, floor)
	}
	if e := events(13)[12]; e.version <= floor {
		t.Errorf("version %d, want above %d", e.version, floor)
	}
}

// A table that is emptied between the acknowledgement of rows and their deletion has other rows under the same ids: none is deleted.
func TestTruncateBeforeTheDeletion(t *testing.T) {
	b := newBed(t)
	var once sync.Once
	r := b.relay(func(c *relay.Config) {
		c.Failpoint = func(point string) {
			if point != relay.PointAfterAck || b.number("SELECT high FROM freshet_relay") == 0 {
				return
			}
			once.Do(func() {
				b.exec("TRUNCATE freshet_outbox")
				for n := range 9 {
					b.enqueue("items", "b", n)
				}
			})
		}
	})
	for n := range 3 {
		b.enqueue("items", "a", n)
	}
	b.drained()
	b.exec("INSERT INTO freshet_outbox (dataset, record_key, op) VALUES ('items', 'a', 'delete'), ('items', 'a', 'delete'), ('items', 'a', 'delete')")
	b.eventually("the relay stops", func() bool { return errors.Is(r.Stats().Waiting, relay.ErrMarker) })
	if n := b.number("SELECT COUNT(*) FROM freshet_outbox WHERE dataset = 'items'"); n != 9 {
		t.Errorf("%d rows are left of 9", n)
	}
}

// Rows of open transactions keep their order when the counter is advanced, and those after it are above them.
func TestAdvanceKeepsTheOrderOfOpenTransactions(t *testing.T) {
	b := newBed(t)
	tx, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"x", "y"} {
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', ?, 'upsert', ?)", key, itemData(key, 1)); err != nil {
			t.Fatal(err)
		}
	}
	b.enqueue("items", "x", 0)
	b.relay()
	events := b.consume(b.topics["items"])
	events(1)
	const above = 1 << 40
	for range 2 { // the second time the rows are two numberings old
		if _, err := relay.Advance(t.Context(), b.pool(), above, true); err != nil {
			t.Fatal(err)
		}
	}
	b.enqueue("items", "x", 2)
	events(2)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	b.enqueue("items", "x", 3)
	var versions []int64
	for _, e := range events(5) {
		if e.key == "x" || e.key == "y" {
			versions = append(versions, e.version)
		}
	}
	b.drained()
	var x []int64
	for _, e := range events(5) {
		if e.key == "x" && (e.data == itemData("x", 1) || e.data == itemData("x", 3)) {
			x = append(x, e.version)
		}
	}
	if !slices.IsSorted(x) || x[0] <= above {
		t.Errorf("versions of x: %d, all %d; want the late one first, above %d", x, versions, int64(above))
	}
}

func TestAdvanceRefusesWhatDoesNotFit(t *testing.T) {
	b := newBed(t)
	if _, err := relay.Advance(t.Context(), b.pool(), schemas.MaxVersion-1<<20, true); err == nil || !strings.Contains(err.Error(), "--above") {
		t.Errorf("got %v", err)
	}
	if n := b.number("SELECT COUNT(*) FROM freshet_outbox"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	b.exec("DROP TABLE freshet_outbox_dead")
	if _, err := relay.Advance(t.Context(), b.pool(), 0, true); !errors.Is(err, relay.ErrTables) {
		t.Errorf("without a table: %v", err)
	}
	for _, stmt := range outbox.DDL() {
		b.exec(stmt)
	}
	if _, err := relay.Advance(t.Context(), b.pool(), 0, true); err != nil {
		t.Errorf("with the table again: %v", err)
	}
	b.exec("DROP TABLE freshet_outbox, freshet_outbox_dead, freshet_relay")
	if _, err := relay.Advance(t.Context(), b.pool(), 0, true); !errors.Is(err, relay.ErrTables) || !strings.Contains(err.Error(), "no outbox") {
		t.Errorf("without any table: %v", err)
	}
}
