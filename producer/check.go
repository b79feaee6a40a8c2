package producer

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/schemas"
)

// Checker reports what a Producer would refuse, without Kafka: for dry runs and tests. It is safe for concurrent use.
type Checker struct {
	datasets *schemas.Datasets
	source   string
}

// NewChecker refuses datasets that ask for what this release does not have. source is as in Config.
func NewChecker(datasets *schemas.Datasets, source string) (*Checker, error) {
	if datasets == nil {
		return nil, errors.New("check Datasets: none given; load them with schemas.LoadDatasets")
	}
	if err := datasets.CheckBuilt(); err != nil {
		return nil, fmt.Errorf("check Datasets: %w", err)
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
		out[i].Data = bytes.Clone(out[i].Data) // the record's, or the caller's
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
	d, err := c.datasets.Publishable(ev.Dataset)
	if err != nil {
		return checked{}, err
	}
	if ev.ID == "" {
		ev.ID = newID(time.Now())
	}
	if ev.Source == "" {
		ev.Source = c.source
	}
	rec, err := d.EncodeCopy(&ev)
	if err == nil && ev.Op == schemas.Upsert {
		ev.Data = rec.Value // what is sent is what is checked, also if the caller changes its own meanwhile
	}
	if err := d.Verify(&ev); err != nil {
		return checked{}, err //nolint:wrapcheck // a FieldError, which its caller puts with the event
	}
	if err != nil {
		return checked{}, err
	}
	if err := rec.CheckSize(); err != nil {
		return checked{}, err
	}
	if !ev.Time.IsZero() {
		rec.Time = ev.Time.UnixMilli()
	}
	return checked{topic: d.Topic, event: ev, rec: rec}, nil
}
