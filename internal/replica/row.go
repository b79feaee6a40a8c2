package replica

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"

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
// objects and arrays as json.RawMessage, NULL as nil. nil without a row.
func (r Row) Properties(ds *schemas.Dataset) map[string]any {
	if !r.Found {
		return nil
	}
	props := make(map[string]any, len(r.Values))
	for i, c := range ds.Replica.Columns {
		v := r.Values[i]
		switch c.Property.Kind {
		case schemas.KindBoolean:
			if n, ok := v.(int64); ok {
				v = n != 0
			}
		case schemas.KindDateTime:
			if s, ok := v.(string); ok {
				if t, err := time.Parse("2006-01-02 15:04:05.999999", s); err == nil {
					v = t.Format(time.RFC3339Nano)
				}
			}
		case schemas.KindJSON:
			if s, ok := v.(string); ok {
				v = json.RawMessage(s)
			}
		case schemas.KindString, schemas.KindInteger, schemas.KindNumber, schemas.KindDecimal, schemas.KindDate:
		}
		props[c.Property.Name] = v
	}
	return props
}

// errColumn comes when the database returns a value of a type that the column cannot have.
var errColumn = errors.New("value of an unexpected type")

// columnValue brings what the driver returns for a column into the form of schemas.Row.
func columnValue(p schemas.Property, v any) (any, error) {
	var text string
	switch v := v.(type) {
	case nil:
		return nil, nil //nolint:nilnil // NULL is a value
	case []byte:
		text = string(v)
	case string:
		text = v
	case time.Time: // a connector with parseTime
		text = v.UTC().Format("2006-01-02 15:04:05.999999")
	case int64:
		text = strconv.FormatInt(v, 10)
	case uint64:
		text = strconv.FormatUint(v, 10)
	case float64:
		text = strconv.FormatFloat(v, 'g', -1, 64)
	case float32:
		text = strconv.FormatFloat(float64(v), 'g', -1, 32)
	case bool:
		text = "0"
		if v {
			text = "1"
		}
	default:
		return nil, errColumn
	}
	var got any
	var err error
	switch p.Kind {
	case schemas.KindInteger:
		if p.Unsigned {
			got, err = strconv.ParseUint(text, 10, 64)
		} else {
			got, err = strconv.ParseInt(text, 10, 64)
		}
	case schemas.KindBoolean:
		got, err = strconv.ParseInt(text, 10, 64)
	case schemas.KindNumber:
		got, err = strconv.ParseFloat(text, 64)
	case schemas.KindDate:
		got = text[:min(len(text), len(time.DateOnly))]
	case schemas.KindString, schemas.KindDecimal, schemas.KindDateTime, schemas.KindJSON:
		got = text
	default:
		got = text
	}
	if err != nil {
		return nil, errColumn
	}
	return got, nil
}
