package cdc

import (
	"strconv"

	"github.com/freshet/freshet/schemas"
)

// cloudEvents reads CloudEvents, whose versions the dataset may take from elsewhere than the publisher.
func (d *Decoder) cloudEvents(rec *schemas.Record, room *[1]Row) Result {
	if room == nil {
		room = new([1]Row)
	}
	*room = [1]Row{}
	row := &room[0]
	if err := d.ds.DecodeInto(&row.Event, rec); err != nil {
		return d.refuse(rec, err)
	}
	switch d.ds.Version.Kind {
	case schemas.VersionOffset:
		row.Event.Version, row.Err = schemas.PositionVersion(d.epoch, rec.Offset)
	case schemas.VersionColumn:
		row.Err = d.columnVersion(&row.Event)
	case schemas.VersionEvent:
	}
	return Result{Rows: room[:]}
}

// columnVersion takes the version from the data. A deletion without the column keeps what its publisher said.
func (d *Decoder) columnVersion(ev *schemas.Event) error {
	found := false
	var version int64
	if len(ev.Data) > 0 {
		err := schemas.WalkObject(string(ev.Data), func(name string, v schemas.JSON) error {
			if name == d.version && v.Kind == schemas.JSONNumber {
				n, err := strconv.ParseInt(v.Text, 10, 64)
				version, found = n, err == nil
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	switch {
	case !found && ev.Op == schemas.Delete && ev.Version > 0:
		return nil
	case !found:
		ev.Version = 0
		return noVersion(d.version)
	}
	return setColumnVersion(ev, version, d.version)
}

// setColumnVersion returns an event the version that its row says. A deletion carries the row's last version and would be
// no news, so it takes the one above.
func setColumnVersion(ev *schemas.Event, version int64, property string) error {
	ev.Version = version
	if ev.Op == schemas.Delete {
		ev.Version++
	}
	if version < schemas.MinVersion || ev.Version > schemas.MaxVersion {
		ev.Version = 0
		return &schemas.FieldError{
			Field: "data/" + property, Problem: "is outside 1 … 2^53-2", Fix: "the version column grows with each change of the record",
			Reason: schemas.ReasonVersion,
		}
	}
	return nil
}

func noVersion(property string) error {
	return &schemas.FieldError{
		Field: "data/" + property, Problem: "holds the version and is missing or no integer",
		Fix: "every row, deleted ones too, needs the version column", Reason: schemas.ReasonVersion,
	}
}
