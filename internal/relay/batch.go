package relay

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/freshet/freshet/schemas"
)

// row is a row of the outbox.
type row struct {
	id         int64
	dataset    *schemas.Dataset
	key        string
	op         string
	data       []byte // nil also where it is above the limit of a record
	size       int    // of data in the table
	version    sql.Null[uint64]
	trace      sql.NullString
	traceState sql.NullString
	created    int64 // Unix ms

	// What became of it, guarded by the batch's mutex until it is taken.
	sent, answered bool
	err            error
	refused        string // why it can never be published
}

// batch is a number of rows that are published, and deleted, together.
type batch struct {
	rows []row
	done chan struct{} // closed when all rows that were sent have an outcome

	mu      sync.Mutex // guards what follows, and the outcomes of rows
	open    int        // records without outcome, and one for the publisher
	settled []*row     // rows with an outcome that were not taken yet
}

func newBatch(rows []row) *batch { return &batch{rows: rows, done: make(chan struct{}), open: 1} }

// send counts a row as sent.
func (b *batch) send(x *row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x.sent = true
	b.open++
}

// answer notes the outcome of a row that was sent.
func (b *batch) answer(x *row, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x.answered, x.err = true, err
	b.settled = append(b.settled, x)
	b.close()
}

// refuse notes that a row can never be published.
func (b *batch) refuse(x *row, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x.refused = why
	b.settled = append(b.settled, x)
}

// finish notes that no more rows are sent.
func (b *batch) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.close()
}

// close counts one outcome. b.mu is held.
func (b *batch) close() {
	if b.open--; b.open == 0 {
		close(b.done)
	}
}

// take returns the rows that got an outcome since the last call.
func (b *batch) take() []*row {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := b.settled
	b.settled = nil
	return rows
}

// waiting returns the datasets of records without outcome.
func (b *batch) waiting() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := map[string]bool{}
	if b.open == 0 {
		return names
	}
	for i := range b.rows {
		if x := &b.rows[i]; x.sent && !x.answered {
			names[x.dataset.Name] = true
		}
	}
	return names
}

// await waits until the batch is done, at most for a while. It does not wait for datasets that are stuck.
func (b *batch) await(ctx context.Context, limit time.Duration, stuck func(dataset string) bool) error {
	select {
	case <-b.done:
		return nil
	default:
	}
	free := false
	for name := range b.waiting() {
		free = free || !stuck(name)
	}
	if !free {
		return nil
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-b.done:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
