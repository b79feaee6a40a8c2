package relay

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/tracecontext"
)

const (
	// fewRows are deleted one by one.
	fewRows = 20
	// maxKeys bounds the keys of one DELETE.
	maxKeys = 1000
	// sqlDeleteRows looks each key up, whatever the server believes of the table's size.
	sqlDeleteRows = "DELETE o FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) k STRAIGHT_JOIN freshet_outbox o ON o.id = k.id"
)

// settleTimeout is how long the rows of one dataset delay those of others.
const settleTimeout = 3 * time.Second

// settle waits for the outcome of a batch and deletes its rows that have one. It returns their number. Rows without one stay under
// way, and keep the rows of their datasets in the outbox, until sweep finds their outcome.
func (t *term) settle(ctx context.Context, b *batch) (int, error) {
	if err := b.await(ctx, settleTimeout, t.obstacles.stuck); err != nil {
		return 0, err
	}
	t.r.cfg.Failpoint(PointAfterAck)
	for name := range b.waiting() {
		t.obstacles.stick(name)
	}
	t.stragglers = append(t.stragglers, b)
	return t.sweep(ctx)
}

// sweep deletes what has an outcome of all batches under way.
func (t *term) sweep(ctx context.Context) (int, error) {
	n := 0
	waiting := map[string]bool{}
	rest := t.stragglers[:0]
	for _, b := range t.stragglers {
		names := b.waiting() // before what is taken: an outcome that comes in between is found by the next sweep
		done, err := t.conclude(ctx, b.take())
		if err != nil {
			return n, err
		}
		n += done
		maps.Copy(waiting, names)
		if len(names) > 0 {
			rest = append(rest, b)
		}
	}
	clear(t.stragglers[len(rest):])
	t.stragglers = rest
	t.obstacles.unstick(func(name string) bool { return waiting[name] })
	return n, nil
}

// conclude deletes rows that Kafka has or never will have. It returns their number.
func (t *term) conclude(ctx context.Context, rows []*row) (int, error) {
	var done, refused []*row
	for _, x := range rows {
		switch {
		case x.err == nil && x.refused == "":
			t.obstacles.passed(x.dataset.Name)
		case x.err == nil:
			refused = append(refused, x)
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case delivery.RefusesRecord(x.err):
			x.refused = x.err.Error()
			refused = append(refused, x)
		default:
			t.obstacles.add(x.dataset.Name, x.err)
			continue
		}
		done = append(done, x)
	}
	if len(done) == 0 {
		return 0, nil
	}
	slices.SortFunc(done, func(a, b *row) int { return cmp.Compare(a.id, b.id) })
	if err := t.remove(ctx, done, refused); err != nil {
		return 0, err
	}
	top := done[len(done)-1].id
	t.state.high = max(t.state.high, top)
	t.r.high.Store(max(t.r.high.Load(), top))
	t.r.counts.published.Add(uint64(len(done) - len(refused)))
	t.r.counts.refused.Add(uint64(len(refused)))
	t.r.counts.deleted.Add(uint64(len(done)))
	for _, x := range refused {
		log := t.r.log
		if id := tracecontext.ID(x.trace.String); id != "" {
			log = log.With("trace_id", id)
		}
		log.ErrorContext(ctx, "outbox row moved to freshet_outbox_dead", "row_id", x.id, "dataset", x.dataset.Name, "reason", x.refused)
	}
	return len(done), nil
}

// remove deletes rows in one transaction, if the lease is still this relay's and the connection leads to the server that they were
// read from: after a failover, other rows may have their ids. The one with the greatest id that was ever
// published stays as the marker.
func (t *term) remove(ctx context.Context, done, refused []*row) error {
	top := done[len(done)-1].id
	return t.pool.Transact(ctx, "delete published rows", func(ctx context.Context, c *mysql.Conn) error {
		high := t.state.high // of the marker; no one else moves it while the fence is ours
		n, err := c.Exec(ctx, "UPDATE freshet_relay SET `high` = ? WHERE `one` = 1 AND `fence` = ? AND `server` = "+identity(t.pool.Dialect()), max(high, top), t.state.fence)
		if err == nil && n == 0 {
			err = errFenced
		}
		if err != nil {
			return err
		}
		for _, x := range refused {
			if err := bury(ctx, c, x); err != nil {
				return err
			}
		}
		if again, err := moveMarker(ctx, c, high, top); again || err != nil {
			return err
		}
		if err := deleteRows(ctx, c, done, max(high, top)); err != nil {
			return err
		}
		t.r.cfg.Failpoint(PointBeforeCommit)
		return nil
	})
}

// moveMarker replaces the marker high by the row top if that is greater. Before a row is deleted it verifies that the marker is
// there: if the table was emptied, the same ids are other rows now. done: the transaction was committed before, without an answer.
func moveMarker(ctx context.Context, c *mysql.Conn, high, top int64) (done bool, err error) {
	if top <= high {
		found, err := isMarker(ctx, c, high)
		if err == nil && !found {
			err = ErrMarker
		}
		return false, err
	}
	if high > 0 {
		n, err := c.Exec(ctx, "DELETE FROM freshet_outbox WHERE id = ? AND dataset = ''", high)
		if err != nil {
			return false, err
		}
		if n == 0 {
			found, err := isMarker(ctx, c, top)
			if err == nil && !found {
				err = ErrMarker
			}
			return true, err
		}
	}
	n, err := c.Exec(ctx, "UPDATE freshet_outbox SET dataset = '', record_key = '', data = NULL, version = NULL, traceparent = NULL, tracestate = NULL WHERE id = ?", top)
	if err == nil && n == 0 {
		err = ErrMarker
	}
	return false, err
}

// isMarker looks for the marker, which keeps it until the transaction ends.
func isMarker(ctx context.Context, c *mysql.Conn, id int64) (bool, error) {
	return mysql.One(ctx, c, "check the marker", "SELECT id FROM freshet_outbox WHERE id = ? AND dataset = '' LOCK IN SHARE MODE", []any{id}, &id)
}

// bury copies a row that can never be published. A row that is the marker already was copied before, by a transaction whose answer
// was lost.
func bury(ctx context.Context, c *mysql.Conn, x *row) error {
	const columns = "id, dataset, record_key, op, data, version, traceparent, tracestate, created_at"
	_, err := c.Exec(ctx, "REPLACE INTO freshet_outbox_dead ("+columns+", reason) SELECT "+columns+", ? FROM freshet_outbox WHERE id = ? AND dataset <> ''", mysql.Cut(x.refused, 255), x.id)
	if err != nil {
		return fmt.Errorf("move row to freshet_outbox_dead: %w", err)
	}
	return nil
}

// deleteRows deletes rows but the one that is the marker, each by its own key: a range, or a scan that the server prefers to many
// keys of a small table, would wait for rows of transactions that are open.
func deleteRows(ctx context.Context, c *mysql.Conn, rows []*row, marker int64) error {
	ids := make([]string, 0, len(rows))
	for _, x := range rows {
		if x.id != marker {
			ids = append(ids, strconv.FormatInt(x.id, 10))
		}
	}
	if len(ids) <= fewRows {
		for _, id := range ids {
			if _, err := c.Exec(ctx, "DELETE FROM freshet_outbox WHERE id = ?", id); err != nil {
				return err
			}
		}
		return nil
	}
	for some := range slices.Chunk(ids, maxKeys) {
		if _, err := c.Exec(ctx, sqlDeleteRows, "["+strings.Join(some, ",")+"]"); err != nil {
			return err
		}
	}
	return nil
}
