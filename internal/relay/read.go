package relay

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	// firstLimit is the number of rows of a first batch; the size of its rows decides on the next.
	firstLimit = 500
	maxRows    = 4000
	// aimBytes is the size of the data that batches aim at, maxBytes the size at which one ends.
	aimBytes = 4 << 20
	maxBytes = 8 << 20
)

// query is the statement that reads rows of some datasets. The server takes 'users' and 'users ' for equal, but for LIKE.
func query(names []string) string {
	return "SELECT id, dataset, record_key, op, IF(LENGTH(data) > " + strconv.Itoa(schemas.MaxRecordBytes) + ", NULL, data), COALESCE(LENGTH(data), 0)," +
		" version, traceparent, tracestate, CAST(UNIX_TIMESTAMP(created_at) * 1000 AS SIGNED)" +
		" FROM freshet_outbox WHERE id > ? AND dataset IN ('" + strings.Join(names, "','") + "') AND dataset NOT LIKE '% ' ORDER BY id LIMIT ?" // names of datasets have no quotes
}

// read sends the outbox's rows, batch by batch in the order of their ids, as they are at one moment: out of one statement if it
// has them all, else out of one snapshot. more: there may be more rows.
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
	text := query(names)
	after, err := t.scan.from(ctx, t.conn)
	if err != nil {
		return false, err
	}
	began := time.Now()
	rows, full, err := t.readRows(ctx, text, after, min(t.limit, firstLimit))
	if err != nil {
		return false, err
	}
	if !full || t.conn == nil {
		if !full {
			t.scan.scanned(after, time.Since(began))
		}
		keep = t.conn != nil
		if len(rows) == 0 {
			return false, nil
		}
		if err := t.verify(ctx, t.pool.DB()); err != nil {
			return false, err
		}
		select {
		case out <- newBatch(rows):
			return full, nil
		case <-ctx.Done():
			return full, context.Cause(ctx)
		}
	}
	for _, s := range []string{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"} {
		if _, err := t.conn.ExecOnce(ctx, s); err != nil {
			return false, mysql.Wrap("begin to read the outbox", "", err)
		}
	}
	if err := t.verify(ctx, t.conn); err != nil {
		return false, err
	}
	more, err = t.snapshot(ctx, text, after, out)
	if err == nil && t.conn != nil {
		err = t.conn.Rollback(ctx)
		keep = err == nil
	}
	return more, err
}

// verify proves that rows that were read are of the counter that is known, and that the lease is still this relay's: where the
// table was emptied, ids begin again.
func (t *term) verify(ctx context.Context, q mysql.Querier) error {
	st, err := readState(ctx, q)
	switch {
	case err != nil:
		return err
	case st.fence != t.state.fence:
		return errFenced
	case st.lost():
		return ErrMarker
	}
	return nil
}

// snapshot reads batches until there are no more rows or the snapshot gets old.
func (t *term) snapshot(ctx context.Context, text string, after int64, out chan<- *batch) (more bool, err error) {
	began := time.Now()
	for {
		rows, full, err := t.readRows(ctx, text, after, t.limit)
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
func (t *term) readRows(ctx context.Context, text string, after int64, limit int) (list []row, full bool, err error) {
	asked, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := t.conn.QueryContext(asked, text, after, limit)
	if err != nil {
		return nil, false, mysql.Wrap("read the outbox", "", err)
	}
	cut := false
	defer func() {
		if cut {
			cancel() // the driver closes the connection, so that the rest of the result is not read
		}
		_ = rows.Close() // rows.Err reports what is wrong
		if cut {
			t.closeConn()
		}
	}()
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
			cut = true
			break
		}
	}
	if len(list) > 0 {
		t.limit = min(max(len(list)*aimBytes/max(size, 1), 1), maxRows)
	}
	if cut {
		return list, true, nil
	}
	return list, len(list) == limit, mysql.Wrap("read the outbox", "", rows.Err())
}
