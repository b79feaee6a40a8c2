package replica

import (
	"context"
	"errors"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
)

// A replay, a second backfill or a topic that is read again from its beginning brings changes that the rows have already, as new
// or newer. Each would cost the database as much as one that it takes. So after a batch most of whose changes may have lost,
// the next batch of the source reads its rows before it writes, and sends only what they lack.
//
// A change that is not sent is one that the guarded upsert would leave without effect at this place. The read locks its row until
// the commit, as that upsert would, so no other session can change, delete or expire the row in between; the table cannot be
// replaced or emptied either. What a table refuses is left to the upsert: where the read fails, everything is sent.

const (
	// repeatsFrom is the least number of changes in a batch for which a read before the write is worth its round trip.
	repeatsFrom = 50
	// repeatsRest is the exponent of the greatest number of batches without a guess.
	repeatsRest = 10
)

// expectation is what the batches of a source have taught about its next one.
type expectation struct {
	repeats bool
	// wrong counts the guesses that were wrong since one was right, and rest the batches until the next one: a source whose
	// statements each contain a late change, but no repetition, must not pay for a read in each batch.
	wrong, rest uint
}

// repeats is what a run reads before it writes, and learns from it.
type repeats struct {
	expected bool
	// held is the number of changes that the rows had already.
	held int
	// beaten is the number of changes in statements in which at least one lost.
	beaten int
}

func (m *DB) expectsRepeats(b *Batch) bool {
	if len(b.Changes) < repeatsFrom {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.repeating[b.Source].repeats
}

// expect learns from a batch that was committed.
func (m *DB) expect(b *Batch, r *repeats) {
	if len(b.Changes) < repeatsFrom {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, most := m.repeating[b.Source], len(b.Changes)/2
	switch {
	case r.expected && r.held > most:
		e = expectation{repeats: true}
	case r.expected:
		e = expectation{wrong: min(e.wrong+1, repeatsRest)}
		e.rest = 1 << e.wrong
	case e.rest > 0:
		e.rest--
	default:
		e.repeats = r.beaten > most
	}
	m.repeating[b.Source] = e
}

// divide returns the changes that must be sent and those that their rows have, in key order. It reads rows only as long as most of
// them have what the changes say.
func (r *run) divide(ctx context.Context, t *table, rows []*Change) (send, held []*Change, err error) {
	if !r.expected {
		return rows, nil, nil
	}
	for from := 0; from < len(rows); {
		n := t.stepOver(len(rows) - from)
		some := rows[from:min(from+n, len(rows))]
		found, err := r.compare(ctx, t, some, n, t.lockSQL, locksRows)
		switch {
		case err != nil && endsBatch(ctx, err):
			return nil, nil, err
		case err != nil:
			return append(send, rows[from:]...), held, nil //nolint:nilerr // the upsert meets the same, or nothing
		}
		from += len(some)
		if found.count <= len(some)/2 {
			return append(send, rows[from-len(some):]...), held, nil
		}
		r.judged(found)
		r.held += found.count
		for i, c := range some {
			if found.held[i] {
				held = append(held, c)
			} else {
				send = append(send, c)
			}
		}
	}
	return send, held, nil
}

// endsBatch reports whether nothing may be sent in a transaction after an error. Not so where the server refuses a statement on
// a table that is not as declared, or where a row holds what no event can bring.
func endsBatch(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	switch mysql.Classify(err) {
	case mysql.ClassDataset, mysql.ClassPoison, mysql.ClassUnknown:
		return false
	case mysql.ClassInfrastructure, mysql.ClassConflict, mysql.ClassConnection:
	}
	return !errors.Is(err, errColumn)
}

// stepOver is the size of the statement for n rows, or for the first of them: the least that has room for all, or the greatest.
func (t *table) stepOver(n int) int {
	size := t.ladder[0]
	for _, step := range t.ladder {
		if step >= n {
			size = step
		}
	}
	return size
}

// lockSQL is compareSQL with the locks, in their order, that an upsert of the rows would take.
func (t *table) lockSQL(rows int) string {
	return t.compareSQL(rows) + " ORDER BY " + strings.Join(t.keyNames(), ", ") + lockPrimary
}
