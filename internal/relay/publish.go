package relay

import (
	"context"
	"encoding/binary"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/schemas"
)

// produceTimeout is how long a batch waits for the producer, which asks for topics that it does not know.
const produceTimeout = 5 * time.Second

// publish hands a batch's rows to the producer, in the order of their ids. An error ends the term.
func (t *term) publish(ctx context.Context, b *batch) error {
	defer b.finish()
	for next := 0; next < len(b.rows); {
		next = t.produce(ctx, b, next)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// produce hands over rows from an index on, until the producer has taken all or the patience ends. It returns the next index.
func (t *term) produce(ctx context.Context, b *batch, next int) int {
	ctx, cancel := context.WithTimeout(ctx, produceTimeout)
	defer cancel()
	for ; next < len(b.rows) && ctx.Err() == nil; next++ {
		x := &b.rows[next]
		if t.obstacles.has(x.dataset.Name) {
			continue
		}
		rec, end, err := t.encode(ctx, x)
		if err != nil {
			b.refuse(x, err.Error()) // a FieldError holds no values
			continue
		}
		b.send(x)
		err = t.out.Produce(ctx, x.dataset.Topic, rec, func(at delivery.Acked, err error) {
			if err == nil && t.r.cfg.Published != nil {
				t.r.cfg.Published(Published{Dataset: x.dataset.Name, Key: x.key, Version: t.version(x), Source: at.Source, Offset: at.Offset})
			}
			end(err)
			b.answer(x, err)
		})
		if err == nil {
			continue
		}
		end(err)
		b.answer(x, err)
		if !delivery.RefusesRecord(err) {
			t.obstacles.add(x.dataset.Name, err) // now, so that no later row of the dataset is sent
		}
	}
	return next
}

// encode makes the record of a row; end finishes its span. Errors are FieldErrors of rows that can never be published.
func (t *term) encode(ctx context.Context, x *row) (rec schemas.Record, end func(error), err error) {
	ev := schemas.Event{
		ID: eventID(t.state.outbox, x.id), Source: t.r.cfg.Source, Dataset: x.dataset.Name, Key: x.key, Data: x.data,
		Version: t.version(x), Time: time.UnixMilli(x.created), TraceParent: x.trace.String, TraceState: x.traceState.String,
	}
	switch x.op {
	case "upsert":
		ev.Op = schemas.Upsert
	case "delete":
		ev.Op = schemas.Delete
	default:
		return rec, nil, &schemas.FieldError{Field: "op", Problem: "is neither upsert nor delete", Reason: schemas.ReasonMalformed}
	}
	switch {
	case x.size > schemas.MaxRecordBytes:
		return rec, nil, &schemas.FieldError{
			Field: "data", Problem: "makes a record above 1,000,000 bytes", Fix: "keep large parts elsewhere and publish a reference", Reason: schemas.ReasonTooLarge,
		}
	case x.key == "":
		return rec, nil, &schemas.FieldError{Field: "record_key", Problem: "is empty", Reason: schemas.ReasonKey}
	}
	end = t.traced(ctx, x, &ev)
	if rec, err = x.dataset.Encode(&ev); err == nil {
		rec.Time = x.created
		err = rec.CheckSize()
	}
	if err != nil {
		end(err)
	}
	return rec, end, err //nolint:wrapcheck // a FieldError
}

// version is the version of a row's event: the row's own, or that of its id.
func (t *term) version(x *row) int64 {
	if x.version.Valid {
		return int64(min(x.version.V, math.MaxInt64))
	}
	return t.state.numbers.version(x.id)
}

// eventID is the id of a row's event, the same each time that it is published: a UUID of version 8 that consists of the start of
// the outbox's own and of the row's id.
func eventID(outbox string, id int64) string {
	u, err := uuid.Parse(outbox)
	if err != nil {
		u = uuid.NewSHA1(uuid.Nil, []byte(outbox)) // a name that someone chose
	}
	binary.BigEndian.PutUint64(u[8:], uint64(id)|1<<63)
	u[6] = u[6]&0x0f | 0x80
	return u.String()
}
