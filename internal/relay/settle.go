package relay

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
)

// maxRanges bounds the terms of one DELETE.
const maxRanges = 500

// settle waits for the outcome of a batch and deletes its rows that are settled. It returns their number.
func (t *term) settle(ctx context.Context, b *batch) (int, error) {
	select {
	case <-b.done:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	t.r.cfg.Failpoint(PointAfterAck)
	var done, refused []*row
	for i := range b.rows {
		x := &b.rows[i]
		if x.err != nil {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			t.failed(x, x.err)
		}
		switch {
		case !x.settled():
			continue
		case x.refused != "":
			refused = append(refused, x)
		default:
			t.unblock(x.dataset.Name)
		}
		done = append(done, x)
	}
	if len(done) == 0 {
		return 0, nil
	}
	if err := t.remove(ctx, done, refused); err != nil {
		return 0, err
	}
	top := done[len(done)-1].id
	t.r.high.Store(max(t.r.high.Load(), top))
	t.r.counts.published.Add(uint64(len(done) - len(refused)))
	t.r.counts.refused.Add(uint64(len(refused)))
	t.r.counts.deleted.Add(uint64(len(done)))
	for _, x := range refused {
		t.r.log.Error("outbox row moved to freshet_outbox_dead", "id", x.id, "dataset", x.dataset.Name, "reason", x.refused)
	}
	return len(done), nil
}

// remove deletes rows in one transaction, if the lease is still this relay's. The one with the greatest id that was ever
// published stays as the marker.
func (t *term) remove(ctx context.Context, done, refused []*row) error {
	top := done[len(done)-1].id
	return t.pool.Transact(ctx, "delete published rows", func(ctx context.Context, c *mysql.Conn) error {
		var high int64
		found, err := mysql.One(ctx, c, "check the lease", "SELECT `high` FROM freshet_relay WHERE `one` = 1 AND `fence` = ? FOR UPDATE", []any{t.state.fence}, &high)
		if err != nil {
			return err
		}
		if !found {
			return errFenced
		}
		for _, x := range refused {
			if err := bury(ctx, c, x); err != nil {
				return err
			}
		}
		if err := moveMarker(ctx, c, high, top); err != nil {
			return err
		}
		for _, text := range deletions(done, max(high, top)) {
			if _, err := c.ExecOnce(ctx, text); err != nil {
				return err
			}
		}
		t.r.cfg.Failpoint(PointBeforeCommit)
		return nil
	})
}

// moveMarker replaces the marker by the row top if that is greater. Before a row is deleted it verifies that the marker is there:
// if the table was emptied, the same ids are other rows now.
func moveMarker(ctx context.Context, c *mysql.Conn, high, top int64) error {
	if top <= high {
		id := int64(0)
		found, err := mysql.One(ctx, c, "check the marker", "SELECT id FROM freshet_outbox WHERE id = ? AND dataset = '' LOCK IN SHARE MODE", []any{high}, &id)
		if err == nil && !found {
			err = ErrMarker
		}
		return err
	}
	if high > 0 {
		if n, err := c.Exec(ctx, "DELETE FROM freshet_outbox WHERE id = ? AND dataset = ''", high); err != nil || n != 1 {
			return orMarker(err)
		}
	}
	n, err := c.Exec(ctx, "UPDATE freshet_outbox SET dataset = '', record_key = '', data = NULL, version = NULL, traceparent = NULL, tracestate = NULL WHERE id = ?", top)
	if err != nil || n != 1 {
		return orMarker(err)
	}
	_, err = c.Exec(ctx, "UPDATE freshet_relay SET `high` = ? WHERE `one` = 1", top)
	return err
}

func orMarker(err error) error {
	if err == nil {
		return ErrMarker
	}
	return err
}

// bury copies a row that can never be published.
func bury(ctx context.Context, c *mysql.Conn, x *row) error {
	const columns = "id, dataset, record_key, op, data, version, traceparent, tracestate, created_at"
	_, err := c.Exec(ctx, "REPLACE INTO freshet_outbox_dead ("+columns+", reason) SELECT "+columns+", ? FROM freshet_outbox WHERE id = ?", mysql.Cut(x.refused, 255), x.id)
	if err != nil {
		return fmt.Errorf("move row to freshet_outbox_dead: %w", err)
	}
	return nil
}

// deletions are the statements that delete rows but the one that is the marker. Ids that follow each other are a range: each of
// them was read.
func deletions(rows []*row, marker int64) []string {
	var texts, terms []string
	flush := func() {
		if len(terms) > 0 {
			texts = append(texts, "DELETE FROM freshet_outbox WHERE "+strings.Join(terms, " OR "))
			terms = nil
		}
	}
	for i := 0; i < len(rows); {
		first := rows[i].id
		last := first
		for i++; i < len(rows) && rows[i].id == last+1 && rows[i].id != marker; i++ {
			last++
		}
		if first == marker {
			continue
		}
		terms = append(terms, "id BETWEEN "+strconv.FormatInt(first, 10)+" AND "+strconv.FormatInt(last, 10))
		if len(terms) == maxRanges {
			flush()
		}
	}
	flush()
	return texts
}
