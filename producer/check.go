package producer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/freshet/freshet/schemas"
)

// Checker reports what a Producer would refuse, without Kafka: for dry runs and tests. It is safe for concurrent use.
type Checker struct {
	datasets *schemas.Datasets
	source   string
	rows     sync.Pool // of *[]any: the values of rows, which no one needs after the check
}

// NewChecker refuses datasets that ask for what this release does not have. source is as in Config.
func NewChecker(datasets *schemas.Datasets, source string) (*Checker, error) {
	if datasets == nil {
		return nil, errors.New("check Datasets: none given; load them with schemas.LoadDatasets")
	}
	for _, d := range datasets.All() {
		if missing := d.Unbuilt(); len(missing) > 0 {
			return nil, fmt.Errorf("check Datasets: dataset %s (%s) asks for what this release does not have: %s; remove it there",
				d.Name, d.File, strings.Join(missing, ", "))
		}
	}
	if source == "" {
		source = DefaultSource
	}
	return &Checker{datasets: datasets, source: source}, nil
}

// Check returns the events as they would be published, with id and source, or a *PublishError that names each that would
// be refused.
func (c *Checker) Check(events ...schemas.Event) ([]schemas.Event, error) {
	all := make([]checked, len(events))
	if err := c.all(events, all); err != nil {
		return nil, err
	}
	out := make([]schemas.Event, len(events))
	for i := range all {
		out[i] = all[i].event
	}
	return out, nil
}

// checked is an event that may be sent.
type checked struct {
	topic string
	event schemas.Event
	rec   schemas.Record
}

// all checks every event into out; one that is wrong fails them all.
func (c *Checker) all(events []schemas.Event, out []checked) error {
	var failed []*EventError
	for i := range events {
		ok, err := c.one(events[i])
		if err != nil {
			failed = append(failed, &EventError{Index: i, Dataset: events[i].Dataset, Err: err})
			continue
		}
		out[i] = ok
	}
	if len(failed) > 0 {
		return &PublishError{Events: failed}
	}
	return nil
}

// one checks and encodes an event. The record shares no memory with it, for the caller may use the event's data again
// while the record still waits.
func (c *Checker) one(ev schemas.Event) (checked, error) {
	d, ok := c.datasets.Get(ev.Dataset)
	switch {
	case ev.Dataset == "":
		return checked{}, &schemas.FieldError{
			Field: "dataset", Problem: "is missing", Fix: "name the dataset of the record", Reason: schemas.ReasonDataset,
		}
	case !ok:
		return checked{}, &schemas.FieldError{
			Field: "dataset", Problem: "is not declared", Fix: "add its declaration to the datasets that the producer loads",
			Reason: schemas.ReasonDataset,
		}
	case d.Format != schemas.FormatCloudEvents:
		return checked{}, &schemas.FieldError{
			Field: "dataset", Problem: "has the format " + string(d.Format) + ", which other tools write",
			Fix: "change the row in its database", Reason: schemas.ReasonDataset,
		}
	case d.Version.Kind == schemas.VersionOffset:
		return checked{}, &schemas.FieldError{
			Field: "dataset", Problem: "takes its versions from positions in the topic, so that a publisher knows none",
			Fix: "declare version: event, or write the topic with other tools", Reason: schemas.ReasonDataset,
		}
	}
	if ev.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return checked{}, fmt.Errorf("make event id: %w", err)
		}
		ev.ID = id.String()
	}
	if ev.Source == "" {
		ev.Source = c.source
	}
	ev.Data = bytes.Clone(ev.Data)
	if err := c.checkRow(d, &ev); err != nil {
		return checked{}, err
	}
	rec, err := d.Encode(&ev)
	if err != nil {
		return checked{}, err
	}
	if rec.Size() > schemas.MaxRecordBytes {
		return checked{}, &schemas.FieldError{
			Field: "data", Problem: "makes a record above 1,000,000 bytes", Fix: "keep large parts elsewhere and publish a reference",
			Reason: schemas.ReasonTooLarge,
		}
	}
	if !ev.Time.IsZero() {
		rec.Time = ev.Time.UnixMilli()
	}
	return checked{topic: d.Topic, event: ev, rec: rec}, nil
}

// checkRow checks an event whose row is not wanted.
func (c *Checker) checkRow(d *schemas.Dataset, ev *schemas.Event) error {
	room, ok := c.rows.Get().(*[]any)
	if !ok {
		room = new([]any)
	}
	defer c.rows.Put(room)
	n := len(d.Replica.Columns)
	*room = slices.Grow((*room)[:0], n)[:n]
	defer clear(*room) // the pool keeps no event's data
	_, err := d.CheckInto(ev, *room)
	return err //nolint:wrapcheck // a FieldError, which its caller puts with the event
}
