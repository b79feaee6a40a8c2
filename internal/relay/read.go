package relay

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	// firstLimit is the number of rows of a first batch; the size of its rows decides on the next.
	firstLimit = 200
	maxRows    = 4000
	// aimBytes is the size of the data that batches aim at, maxBytes the size at which one ends.
	aimBytes = 4 << 20
	maxBytes = 8 << 20
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

	// What became of it. The callback of the producer writes err before the batch is done.
	sent    bool
	err     error
	refused string // why it can never be published
}

// batch is a number of rows that are deleted together.
type batch struct {
	rows    []row
	pending atomic.Int64
	done    chan struct{} // closed when all rows that were sent have an outcome
}

func newBatch(rows []row) *batch {
	b := &batch{rows: rows, done: make(chan struct{})}
	b.pending.Store(1) // the publisher's own
	return b
}

// outcome counts one record, or the publisher, as done.
func (b *batch) outcome() {
	if b.pending.Add(-1) == 0 {
		close(b.done)
	}
}

// read sends the outbox's rows, batch by batch in the order of their ids, out of one snapshot. more: there may be more rows.
func (t *term) read(ctx context.Context, out chan<- *batch) (more bool, err error) {
	names := t.active()
	if len(names) == 0 {
		return false, nil
	}
	if t.conn == nil {
		if t.conn, err = t.pool.Connect(ctx); err != nil {
			return false, err
		}
	}
	keep := false
	defer func() {
		if !keep || ctx.Err() != nil {
			t.closeConn()
		}
	}()
	in := " AND dataset IN ('" + strings.Join(names, "','") + "')" // names of datasets have no quotes
	found := 0
	some, err := mysql.One(ctx, t.conn, "look for rows of the outbox", "SELECT 1 FROM freshet_outbox WHERE id > 0"+in+" LIMIT 1", nil, &found)
	if err != nil || !some {
		keep = err == nil
		return false, err
	}
	for _, s := range []string{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"} {
		if _, err := t.conn.ExecOnce(ctx, s); err != nil {
			return false, mysql.Wrap("begin to read the outbox", "", err)
		}
	}
	st, err := readState(ctx, t.conn)
	switch {
	case err != nil:
		return false, err
	case st.fence != t.state.fence:
		return false, errFenced
	case st.lost():
		return false, ErrMarker
	}
	more, err = t.snapshot(ctx, in, out)
	if err == nil && t.conn != nil {
		err = t.conn.Rollback(ctx)
		keep = err == nil
	}
	return more, err
}

// snapshot reads batches until there are no more rows or the snapshot gets old.
func (t *term) snapshot(ctx context.Context, in string, out chan<- *batch) (more bool, err error) {
	text := "SELECT id, dataset, record_key, op, IF(LENGTH(data) > " + strconv.Itoa(schemas.MaxRecordBytes) + ", NULL, data), COALESCE(LENGTH(data), 0)," +
		" version, traceparent, tracestate, CAST(UNIX_TIMESTAMP(created_at) * 1000 AS SIGNED)" +
		" FROM freshet_outbox WHERE id > ?" + in + " ORDER BY id LIMIT ?"
	began := time.Now()
	for after := int64(0); ; {
		rows, full, err := t.readRows(ctx, text, after)
		if err != nil || len(rows) == 0 {
			return false, err
		}
		after = rows[len(rows)-1].id
		old := time.NewTimer(passLimit - time.Since(began))
		select {
		case out <- newBatch(rows):
			old.Stop()
		case <-old.C:
			// Kafka is slower: the snapshot ends, the batch waits.
			t.closeConn()
			select {
			case out <- newBatch(rows):
				return true, nil
			case <-ctx.Done():
				return true, context.Cause(ctx)
			}
		case <-ctx.Done():
			old.Stop()
			return true, context.Cause(ctx)
		}
		if !full {
			return false, nil
		}
		if t.conn == nil || time.Since(began) > passLimit {
			return true, nil
		}
	}
}

// readRows reads the next rows. full: there are probably more. A result that gets too large is cut by closing the connection.
func (t *term) readRows(ctx context.Context, text string, after int64) (list []row, full bool, err error) {
	limit := t.limit
	rows, err := t.conn.QueryContext(ctx, text, after, limit)
	if err != nil {
		return nil, false, mysql.Wrap("read the outbox", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err reports what is wrong
	list = make([]row, 0, limit)
	size := 0
	for rows.Next() {
		var x row
		var name sql.RawBytes
		if err := rows.Scan(&x.id, &name, &x.key, &x.op, &x.data, &x.size, &x.version, &x.trace, &x.traceState, &x.created); err != nil {
			return nil, false, mysql.Wrap("read the outbox", "", err)
		}
		if x.id < t.state.numbers.low {
			t.r.below.Store(true)
			return nil, false, fmt.Errorf("%w: a row has an id below %d, and the counter is advanced again", errFenced, t.state.numbers.low)
		}
		if x.dataset, err = t.dataset(name); err != nil {
			return nil, false, err
		}
		list = append(list, x)
		if size += len(x.data) + len(x.key); size >= maxBytes && len(list) < limit {
			full = true
			t.closeConn() // the rest of the result is not read
			break
		}
	}
	t.limit = min(max(len(list)*aimBytes/max(size, 1), 1), maxRows)
	if full {
		return list, true, nil
	}
	return list, len(list) == limit, mysql.Wrap("read the outbox", "", rows.Err())
}
