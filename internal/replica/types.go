// Package replica writes MySQL and MariaDB: the fence and position of each source, guarded upserts into replica tables,
// dead letters, displaced cache keys, and the DDL of a dataset's table. One batch is one transaction.
package replica

import (
	"errors"
	"fmt"

	"github.com/freshet/freshet/schemas"
)

// Errors that the worker decides by. Every other error of this package is an infrastructure fault: wait and try again.
var (
	// ErrFenced is returned when the fence of a source moved or its row is gone: another owner took it. Nothing was written.
	ErrFenced = errors.New("fenced: the database does not accept this worker's batches of the partition")
	// ErrBehind wraps ErrFenced. It is returned when the position of a source is below the batch: the database went back,
	// because it was restored or a standby that lagged became the primary. What lies between must be read again.
	ErrBehind = fmt.Errorf("%w: its position is below what was committed, as after a failover to a standby that lagged", ErrFenced)
	// ErrLate: Take came with an older generation than the owner that is alive, or Observe with a topic id that another
	// has replaced.
	ErrLate = errors.New("late: a newer generation owns this partition")
	// ErrForeignGroup: the position row belongs to another consumer group; one group writes one replica database.
	ErrForeignGroup = errors.New("another consumer group writes this replica database")
)

// Claim is a source that a worker wants to own.
type Claim struct {
	Source string
	// First is the oldest offset that Kafka has. It becomes the position of a source that has none, so that what is deleted
	// before the first batch is missed and not skipped.
	First int64
}

// Position is what Take returns for a claim, in the order of the claims.
type Position struct {
	Source string
	// Fence is the number of this assignment; each batch's transaction proves that it is still the newest.
	Fence int64
	// Next is the offset after the last batch that was committed to MySQL, or Claim.First before there was any.
	Next int64
	// Fresh: the source had no position before this.
	Fresh bool
}

// Change is one event on its way into a replica table.
type Change struct {
	Dataset *schemas.Dataset
	// Values are Row.Values: one per Dataset.Replica.Columns. They are nil, as are CacheKey and Names, until the event is checked.
	Values  []any
	Deleted bool
	Version int64
	// At is the broker's time of the record, Unix ms.
	At int64
	// Offset and Index say which record of the source it came from, and which row of that record (0 unless the format
	// puts several into one).
	Offset int64
	Index  int
	// Event is kept for a dead letter, should the table refuse the row; CacheKey is displaced then ("" without cache).
	Event    *schemas.Event
	CacheKey string
	// Names are the other names of the state that the event brings.
	Names schemas.Names
	// Record is the Kafka record that the event came from; its headers and bytes go into a letter.
	Record *schemas.Record
	// Unknown counts the event's properties that the schema does not declare.
	Unknown int
	// Older is the next older change of the same record in the same batch, which need not be checked: it is applied if this one
	// is refused.
	Older *Change
}

// NewChange makes the change of a checked event; index is which of its record's events it is.
func NewChange(d *schemas.Dataset, rec *schemas.Record, index int, ev *schemas.Event, row schemas.Row) (*Change, error) {
	c := &Change{}
	c.Decoded(d, rec, index, ev)
	return c, c.checked(row)
}

// Decoded makes c the change of an event that is not checked yet.
func (c *Change) Decoded(d *schemas.Dataset, rec *schemas.Record, index int, ev *schemas.Event) {
	*c = Change{
		Dataset: d, Deleted: ev.Op == schemas.Delete, Version: ev.Version,
		At: rec.Time, Offset: rec.Offset, Index: index, Event: ev, Record: rec,
	}
}

// Check checks the event unless that was done before. values has an element for each column and becomes Values; their texts are
// parts of the event's data.
func (c *Change) Check(values []any) error {
	if c.Values != nil {
		return nil
	}
	row, err := c.Dataset.CheckInto(c.Event, values)
	if err != nil {
		return err //nolint:wrapcheck // it names field and problem
	}
	return c.checked(row)
}

func (c *Change) checked(row schemas.Row) (err error) {
	if c.Dataset.Cache != nil {
		if c.CacheKey, err = c.Dataset.CacheKey(c.Event.Key); err != nil {
			return err //nolint:wrapcheck // as above
		}
		if c.Dataset.HasNames() {
			c.Names = c.Dataset.Names(row.Values)
		}
	}
	c.Values, c.Unknown = row.Values, row.UnknownProperties
	return nil
}

// Letter is a dead letter: an event that can never be applied.
type Letter struct {
	Offset int64
	Index  int
	// Dataset is the topic's dataset. Key, Version, Op and EventID are set as far as they could be read.
	Dataset string
	Key     string
	Version int64
	Op      schemas.Op
	EventID string
	Reason  schemas.Reason
	Errno   uint16
	// Detail is what was wrong: field and problem, no values. At most 1000 bytes are kept.
	Detail string
	// Record's bytes are copied into the table; an oversize record leaves none.
	Record *schemas.Record
	// CacheKey is the record's own cache entry when the key could be computed: it is invalidated without a version.
	CacheKey string
}

// Batch is what one transaction makes durable for one source.
type Batch struct {
	Source string
	Fence  int64
	// From is where the batch begins, which is where the one before ended, and Next the offset after it. A position below
	// From refuses the batch.
	From, Next int64
	// Changes has the newest change of each record, older ones linked behind it; any order.
	Changes []*Change
	Letters []*Letter
}

// Result reports what a batch did.
type Result struct {
	// Rows is the number of rows that were sent or found to be as new, one per record of the batch.
	Rows int
	// Refused is the number of changes that the table refused and that became letters.
	Refused int
	// Lost are the changes that lost against their rows.
	Lost Lost
	// Behind are the keys of records whose change has a lower version than the row.
	Behind []string
	// Dead are the letters that were written, those of refused changes included. They alias the batch's records.
	Dead []*Letter
	// Unknown counts the properties that no schema has of events that were applied in place of refused ones.
	Unknown int
	// Undone counts transactions that the server, or a proxy, ended without an error. Each was written again.
	Undone int
}

// Name is a displaced name: something that an offset made stale and that its event alone does not yield.
type Name struct {
	Offset int64
	// Kind is 'k' for a cache key, 't' for a tag, 'f' for a foreign key.
	Kind byte
	Name string
}
