package schemas

import (
	"fmt"
	"strings"
)

// CheckBuilt returns an error if a dataset asks for what this release does not have.
func (s *Datasets) CheckBuilt() error {
	for _, d := range s.list {
		if missing := d.Unbuilt(); len(missing) > 0 {
			return fmt.Errorf("dataset %s (%s) asks for what this release does not have: %s; remove it there",
				d.Name, d.File, strings.Join(missing, ", "))
		}
	}
	return nil
}

// Publishable returns the dataset of an event that a program publishes itself. Errors are FieldErrors: the dataset is not
// declared, or other tools write its topic.
func (s *Datasets) Publishable(name string) (*Dataset, error) {
	refuse := func(problem, fix string) (*Dataset, error) {
		return nil, &FieldError{Field: "dataset", Problem: problem, Fix: fix, Reason: ReasonDataset}
	}
	d, ok := s.Get(name)
	switch {
	case name == "":
		return refuse("is missing", "name the dataset of the record")
	case !ok:
		return refuse("is not declared", "add its declaration to the datasets that this program loads")
	case d.Format != FormatCloudEvents:
		return refuse("has the format "+string(d.Format)+", which other tools write", "change the row in its database")
	case d.Version.Kind == VersionOffset:
		return refuse("takes its versions from positions in the topic, so that a publisher knows none",
			"declare version: event, or write the topic with other tools")
	}
	return d, nil
}

// CheckSize returns a FieldError if the record is above MaxRecordBytes.
func (r *Record) CheckSize() error {
	if r.Size() > MaxRecordBytes {
		return tooLarge("data")
	}
	return nil
}
