package backfill

import (
	"context"
	"fmt"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// each calls fn with each row of a query for all columns, as the driver returns it. The values are only valid during the
// call.
func (s *source) each(ctx context.Context, q mysql.Querier, text string, args []any, fn func(raw []any) error) error {
	raw := make([]any, len(s.columns))
	dest := make([]any, len(raw))
	for i := range raw {
		dest[i] = &raw[i]
	}
	return mysql.Each(ctx, q, "read rows of "+s.label, text, args, func(scan func(...any) error) error {
		if err := scan(dest...); err != nil {
			return err
		}
		return fn(raw)
	})
}

// keyValues returns the values of the record's key properties.
func (s *source) keyValues(d *schemas.Dataset, raw []any) (values []any, err error) {
	values = make([]any, d.Replica.KeyColumns)
	for i := range values {
		p := &d.Replica.Columns[i].Property
		if values[i], err = p.ColumnValue(s.types[i], raw[i]); err != nil {
			return nil, err //nolint:wrapcheck // it states the property
		}
	}
	return values, nil
}

// event makes the event of a row whose key properties have these values.
func (s *source) event(d *schemas.Dataset, raw, key []any) (event, error) {
	ev := schemas.Event{Dataset: d.Name, Op: schemas.Upsert, Version: schemas.MinVersion}
	var err error
	if ev.Key, err = d.FormatKey(key...); err != nil {
		return event{}, err //nolint:wrapcheck // it states the property
	}
	if ev.Data, err = d.AppendState(nil, s.types, raw); err == nil {
		_, err = d.Check(&ev)
	}
	if err != nil {
		return event{}, fmt.Errorf("record %s: %w", ev.Key, err)
	}
	return event{key: ev.Key, op: schemas.Upsert, data: ev.Data}, nil
}
