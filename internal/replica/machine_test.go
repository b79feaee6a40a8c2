package replica_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// folded is what a record must be after a set of its changes, in whatever order and however often they came.
type folded struct {
	version int64
	deleted bool
}

// TestMachine applies random changes in random order, repeated, late, by zombies and across owners, some of them such
// as the table refuses, and compares the table with a fold of the changes. A trigger writes down every change of a
// version: none may go back.
func TestMachine(t *testing.T) {
	b := newBed(t, replica.Config{MySQL: mysql.Config{Writers: 2}})
	b.exec(t, "CREATE TABLE moves (n BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL, was BIGINT NOT NULL, became BIGINT NOT NULL)")
	b.exec(t, "CREATE TRIGGER watch AFTER UPDATE ON items FOR EACH ROW INSERT INTO moves (id, was, became) VALUES (NEW.id, OLD._version, NEW._version)")
	gen := int32(1)
	rapid.Check(t, func(r *rapid.T) {
		b.exec(t, "DELETE FROM items")
		b.exec(t, "DELETE FROM freshet_dead_letter")
		m := &machine{t: t, b: b, want: map[int]folded{}, letters: map[string]int64{}}
		for range rapid.IntRange(1, 8).Draw(r, "steps") {
			switch rapid.SampledFrom([]string{"new", "new", "new", "again", "take", "zombie"}).Draw(r, "step") {
			case "new":
				m.apply(m.draw(r))
			case "again":
				if len(m.batches) > 0 {
					batch := *rapid.SampledFrom(m.batches).Draw(r, "batch")
					batch.Fence = b.pos.Fence
					m.apply(&batch)
				}
			case "take":
				gen++
				b.pos = b.take(t, fmt.Sprint("owner", gen), gen)
			case "zombie":
				batch := m.draw(r)
				batch.Fence--
				if _, err := b.Apply(t.Context(), batch); !errors.Is(err, replica.ErrFenced) {
					t.Fatalf("zombie: %v", err)
				}
			}
		}
		m.compare(r)
	})
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM moves WHERE became < was"); n > 0 {
		t.Errorf("%d times a version went back", n)
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM moves WHERE became > was"); n == 0 {
		t.Error("no version ever moved: the trigger sees nothing")
	}
}

type machine struct {
	t       *testing.T
	b       *bed
	batches []*replica.Batch
	want    map[int]folded
	letters map[string]int64 // "id/version" of refused changes
}

const (
	machineKeys     = 6
	machineVersions = 12
)

// draw makes a batch of at most one chain of changes per record. What a change says is a function of record and version.
func (m *machine) draw(r *rapid.T) *replica.Batch {
	batch := m.b.batch()
	for id := 1; id <= machineKeys; id++ {
		versions := rapid.SliceOfNDistinct(rapid.Int64Range(1, machineVersions), 0, 3, rapid.ID[int64]).Draw(r, fmt.Sprint("versions of ", id))
		var newest *replica.Change
		for _, v := range sorted(versions) {
			c := m.change(id, v)
			c.Older = newest
			newest = c
		}
		if newest != nil {
			batch.Changes = append(batch.Changes, newest)
		}
	}
	batch.Next = m.b.off.Load()
	return batch
}

func sorted(versions []int64) []int64 {
	var up []int64
	for v := range int64(machineVersions + 1) {
		for _, x := range versions {
			if x == v {
				up = append(up, v)
			}
		}
	}
	return up
}

func (m *machine) change(id int, v int64) *replica.Change {
	switch {
	case (int64(id)+v)%4 == 0:
		return m.b.gone(m.t, id, v)
	case refused(id, v):
		return bad(m.b.item(m.t, id, v, ""))
	}
	return m.b.item(m.t, id, v, fmt.Sprintf("%d@%d", id, v))
}

func refused(id int, v int64) bool { return (int64(id)+v)%4 != 0 && (int64(id)*v)%5 == 0 }

func (m *machine) apply(batch *replica.Batch) {
	m.t.Helper()
	if _, err := m.b.Apply(m.t.Context(), batch); err != nil {
		m.t.Fatalf("apply: %v", err)
	}
	m.batches = append(m.batches, batch)
	for _, c := range batch.Changes {
		id := int(c.Values[0].(int64))
		for ; c != nil && refused(id, c.Version); c = c.Older {
			m.letters[fmt.Sprint(id, "/", c.Version)] = c.Version
		}
		if c != nil && c.Version > m.want[id].version {
			m.want[id] = folded{c.Version, c.Deleted}
		}
	}
}

func (m *machine) compare(r *rapid.T) {
	for id := 1; id <= machineKeys; id++ {
		want := "none"
		if f := m.want[id]; f.deleted {
			want = fmt.Sprintf("%d:deleted", f.version)
		} else if f.version > 0 {
			want = fmt.Sprintf("%d:%d@%d", f.version, id, f.version)
		}
		if got := m.b.row(m.t, id); got != want {
			r.Fatalf("row %d is %s, want %s", id, got, want)
		}
	}
	seen := map[string]bool{}
	for _, l := range m.b.letters(m.t) {
		id := 0
		if _, err := fmt.Sscan(l.Key, &id); err != nil {
			r.Fatalf("letter's key %q: %v", l.Key, err)
		}
		seen[fmt.Sprint(id, "/", l.Version)] = true
		want := replica.StateOpen
		if l.Version <= m.want[id].version {
			want = replica.StateSuperseded
		}
		if l.State != want || l.Reason != schemas.ReasonRefused {
			r.Fatalf("letter %d of version %d is %s, want %s (the row has %d)", id, l.Version, l.State, want, m.want[id].version)
		}
	}
	for name := range m.letters {
		if !seen[name] {
			r.Fatalf("no letter of %s", name)
		}
	}
}
