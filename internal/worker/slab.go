package worker

import (
	"sync"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// slab is the memory of a batch's events, used again by later batches: one allocation for each kind instead of one for each
// event.
type slab struct {
	rows    [][1]cdc.Row
	changes []replica.Change
	cells   []any
	columns int
}

// slabs are those that no batch uses.
type slabs struct{ pool sync.Pool }

// get returns a slab for a batch of n records.
func (p *slabs) get(d *schemas.Dataset, n int) *slab {
	s, ok := p.pool.Get().(*slab)
	if !ok {
		s = &slab{}
	}
	s.columns = len(d.Replica.Columns)
	if cap(s.rows) < n {
		s.rows, s.changes = make([][1]cdc.Row, 0, n), make([]replica.Change, 0, n)
	}
	if cap(s.cells) < n*s.columns {
		s.cells = make([]any, 0, n*s.columns)
	}
	return s
}

// put takes a slab back once nothing uses what it gave.
func (p *slabs) put(s *slab) {
	clear(s.rows)
	clear(s.changes)
	clear(s.cells)
	s.rows, s.changes, s.cells = s.rows[:0], s.changes[:0], s.cells[:0]
	p.pool.Put(s)
}

// row returns memory for a record's row.
func (s *slab) row() *[1]cdc.Row {
	if len(s.rows) == cap(s.rows) {
		return new([1]cdc.Row) // no batch has more records than get was called for
	}
	s.rows = s.rows[:len(s.rows)+1]
	return &s.rows[len(s.rows)-1]
}

// change returns memory for a change; a record may have several.
func (s *slab) change() *replica.Change {
	if len(s.changes) == cap(s.changes) {
		return &replica.Change{}
	}
	s.changes = s.changes[:len(s.changes)+1]
	return &s.changes[len(s.changes)-1]
}

// values returns memory for the values of a change.
func (s *slab) values() []any {
	n := len(s.cells)
	if n+s.columns > cap(s.cells) {
		return make([]any, s.columns)
	}
	s.cells = s.cells[:n+s.columns]
	return s.cells[n : n+s.columns : n+s.columns]
}
