package outbox

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/freshet/freshet/internal/tracecontext"
	"github.com/freshet/freshet/schemas"
)

const (
	// DefaultTable is the table that `freshet relay` reads.
	DefaultTable = "freshet_outbox"
	// MaxEvents is the greatest number of events of one call of Enqueue.
	MaxEvents = 5000
)

// Config of an Outbox.
type Config struct {
	// Datasets whose events may be enqueued. Required.
	Datasets *schemas.Datasets
	// Table is the outbox's table, with its database if that is not the connection's: "shop.freshet_outbox". "" means
	// DefaultTable.
	Table string
}

// Outbox enqueues events in a service's own transactions. It is safe for concurrent use.
type Outbox struct {
	datasets *schemas.Datasets
	insert   string // INSERT … VALUES, without rows
}

// New checks the configuration. It opens no connection.
func New(cfg Config) (*Outbox, error) {
	if cfg.Datasets == nil {
		return nil, errors.New("make outbox: check Datasets: none given; load them with schemas.LoadDatasets")
	}
	if err := cfg.Datasets.CheckBuilt(); err != nil {
		return nil, fmt.Errorf("make outbox: check Datasets: %w", err)
	}
	table := cmp.Or(cfg.Table, DefaultTable)
	if ok, _ := regexp.MatchString(`^([0-9A-Za-z_$]+\.)?[0-9A-Za-z_$]+$`, table); !ok {
		return nil, fmt.Errorf("make outbox: check Table %q: give a table's name, or database.table", table)
	}
	return &Outbox{
		datasets: cfg.Datasets,
		insert: "INSERT INTO `" + strings.ReplaceAll(table, ".", "`.`") +
			"` (dataset, record_key, op, data, version, traceparent, tracestate) VALUES ",
	}, nil
}

// Check reports what Enqueue would refuse, without a database: nil, or an *EventError for each event that is wrong, joined.
func (o *Outbox) Check(events ...schemas.Event) error {
	var errs []error
	for i := range events {
		if err := o.checkOne(events[i]); err != nil {
			errs = append(errs, &EventError{Index: i, Dataset: events[i].Dataset, Err: err})
		}
	}
	return errors.Join(errs...)
}

// Enqueue inserts events into the outbox with one statement of tx, in their order, and returns the version of each: the one
// that the event states, or the id of its row. They are published if tx commits. An error means that none was inserted; those
// of events that are wrong are *EventErrors, joined, and nothing was sent to the database.
//
// Call it after the statement that changes the record, or a SELECT … FOR UPDATE of it, in the same transaction, and take the
// event's state after that: the lock on the record is what makes ids follow the order of its commits. If one transaction
// enqueues several events of a record, the last one must have the final state.
//
// An event has Dataset, Key, Op and Data, optionally a trace context (by default that of the span in ctx, if it is sampled) and a Version of the caller's own; what the relay makes
// (ID, Source, Type, Time) must be empty. A dataset uses either versions of the caller or ids, not both.
func (o *Outbox) Enqueue(ctx context.Context, tx *sql.Tx, events ...schemas.Event) ([]int64, error) {
	if len(events) == 0 {
		return nil, nil
	}
	if len(events) > MaxEvents {
		return nil, fmt.Errorf("enqueue %d events: at most %d fit into one call; use several", len(events), MaxEvents)
	}
	if err := o.Check(events...); err != nil {
		return nil, fmt.Errorf("enqueue: %w", err)
	}
	const row, columns = "(?,?,?,?,?,?,?)", 7
	args := make([]any, 0, columns*len(events))
	parent, state := tracecontext.Texts(ctx)
	for i := range events {
		ev := &events[i]
		args = append(args, ev.Dataset, ev.Key, ev.Op.String(), optional(string(ev.Data)), nil, optional(ev.TraceParent), optional(ev.TraceState))
		if ev.TraceParent == "" && tracecontext.Fits(len(ev.Data)) {
			args[len(args)-2], args[len(args)-1] = optional(parent), optional(state)
		}
		if ev.Version != 0 {
			args[len(args)-3] = ev.Version
		}
	}
	res, err := tx.ExecContext(ctx, o.insert+row+strings.Repeat(","+row, len(events)-1), args...)
	if err != nil {
		return nil, fmt.Errorf("enqueue: insert into the outbox: %w", err)
	}
	first, err := res.LastInsertId()
	if err != nil {
		return nil, fmt.Errorf("enqueue: read the first id: %w", err)
	}
	versions := make([]int64, len(events))
	for i := range events {
		// The ids of a statement that inserts a known number of rows are consecutive; the relay refuses servers whose
		// auto_increment_increment is not 1.
		versions[i] = cmp.Or(events[i].Version, first+int64(i))
	}
	return versions, nil
}

// optional is s as an argument, NULL if it is empty.
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// checkOne checks an event as a publisher would, and that it leaves to the relay what the relay makes.
func (o *Outbox) checkOne(ev schemas.Event) error {
	d, err := o.datasets.Publishable(ev.Dataset)
	if err != nil {
		return err //nolint:wrapcheck // a FieldError, which its caller puts with the event
	}
	for i, s := range [...]string{ev.ID, ev.Source, ev.Type, ev.DataSchema, ev.Replaces} {
		if s != "" {
			return ofRelay([...]string{"id", "source", "type", "dataschema", "replaces"}[i])
		}
	}
	if !ev.Time.IsZero() {
		return ofRelay("time")
	}
	ev.Version = cmp.Or(ev.Version, schemas.MaxVersion) // as long as any other
	if _, err := d.Check(&ev); err != nil {
		return err //nolint:wrapcheck // a FieldError
	}
	// What the relay adds, at its longest: the record must fit with it.
	ev.ID, ev.Source = strings.Repeat("0", 36), strings.Repeat("s", maxSource)
	rec, err := d.Encode(&ev)
	if err != nil {
		return err //nolint:wrapcheck // a FieldError
	}
	return rec.CheckSize() //nolint:wrapcheck // a FieldError
}

// maxSource leaves room for the event source of the relay and the time of the event.
const maxSource = 200

func ofRelay(field string) error {
	return &schemas.FieldError{Field: field, Problem: "is set", Fix: "leave it empty; the relay makes it from the outbox row", Reason: schemas.ReasonMalformed}
}

// EventError is an event that Enqueue refuses.
type EventError struct {
	// Index of the event among the arguments.
	Index int
	// Dataset that the event names.
	Dataset string
	// Err is a schemas.FieldError.
	Err error
}

// Error names the event by index and dataset.
func (e *EventError) Error() string {
	return fmt.Sprintf("event %d (dataset %s): %v", e.Index, e.Dataset, e.Err)
}

// Unwrap returns Err.
func (e *EventError) Unwrap() error { return e.Err }
