package replica

import (
	"errors"
	"fmt"

	"github.com/freshet/freshet/schemas"
)

// Row is one row of a replica table.
type Row struct {
	// Found is false when there is no row, or only a placeholder; everything else is then empty.
	Found bool
	// Values has one value per column of the dataset, as in schemas.Row.
	Values []any
	// Version is the row's version; a deleted row keeps the version of its deletion. 0 is a row that was loaded by other means
	// without one: every event overwrites it.
	Version int64
	Deleted bool
	// At is the broker's time of the event that wrote the row, Unix ms.
	At int64
}

// Properties returns the row as the record's properties, ready for JSON: booleans as bool, date-times in RFC 3339,
// objects and arrays as json.RawMessage, NULL as nil. A value that no event can bring is returned unchanged. nil without a row.
func (r Row) Properties(ds *schemas.Dataset) map[string]any {
	if !r.Found {
		return nil
	}
	props := make(map[string]any, len(r.Values))
	for i := range ds.Replica.Columns {
		c := &ds.Replica.Columns[i]
		v, err := c.Property.JSONValue(c.Type, r.Values[i])
		if err != nil {
			v = r.Values[i] // written by other means; an operator who inspects the row must see it
		}
		props[c.Property.Name] = v
	}
	return props
}

// errColumn comes when the database returns a value that the column cannot have.
var errColumn = errors.New("value of an unexpected type")

// columnValue brings what the driver returns for a column into the form of schemas.Row.
func columnValue(c *schemas.Column, v any) (any, error) {
	out, err := c.Property.ColumnValue(c.Type, v)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", errColumn, err.Error())
	}
	return out, nil
}
