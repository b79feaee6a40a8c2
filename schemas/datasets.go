package schemas

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Datasets is an immutable set of datasets, unique by name, topic, table and cache templates.
type Datasets struct {
	list     []*Dataset
	byName   map[string]*Dataset
	byTopic  map[string]*Dataset
	warnings []string
}

// compiled holds the parts of a dataset that are prepared at load.
type compiled struct {
	rules    *rules
	cacheKey *template // nil without a cache section
	// derived, tags and external are bound to positions in Replica.Columns.
	derived, tags, external []*template
	// nameColumns are the columns that those use beside the key's.
	nameColumns []int
	cacheHash   string
}

// LoadDatasets reads every *.yaml and *.yml in the root of fsys, and the JSON Schemas that they name. It reads them all
// and reports everything that it found; errors name file, line and fix and wrap ErrInvalid (only a folder that cannot be
// read returns fsys's own error). Nothing but fsys is read: a schema may refer to files in it, never to the network.
func LoadDatasets(fsys fs.FS) (*Datasets, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("read the folder of datasets: %w", err)
	}
	s := &Datasets{byName: map[string]*Dataset{}, byTopic: map[string]*Dataset{}}
	var errs []error
	var decls []*declaration
	for _, e := range entries {
		ext := path.Ext(e.Name())
		if e.IsDir() || (ext != ".yaml" && ext != ".yml") {
			continue
		}
		decl := readDeclaration(fsys, e.Name())
		errs = append(errs, decl.errs...)
		s.warnings = append(s.warnings, decl.warnings...)
		if decl.dataset != nil {
			decls = append(decls, decl)
		}
	}
	errs = append(errs, findClashes(decls)...)
	if len(decls) == 0 && len(errs) == 0 {
		errs = append(errs, &FieldError{
			Field: ".", Problem: "holds no dataset", Fix: "put one .yaml file per dataset into this folder",
		})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for _, decl := range decls {
		d := decl.dataset
		if d.hasTable() {
			d.Topic += "#" + d.Name
		}
		s.list = append(s.list, d)
		s.byName[d.Name] = d
		s.byTopic[d.Topic] = d
	}
	slices.SortFunc(s.list, func(a, b *Dataset) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

// Warnings returns what the declarations say in a way that the next release refuses, one sentence each with file and line.
func (s *Datasets) Warnings() []string { return slices.Clone(s.warnings) }

// Get returns the dataset of that name.
func (s *Datasets) Get(name string) (*Dataset, bool) {
	d, ok := s.byName[name]
	return d, ok
}

// ByTopic returns the dataset whose topic it is.
func (s *Datasets) ByTopic(topic string) (*Dataset, bool) {
	d, ok := s.byTopic[topic]
	return d, ok
}

// All returns the datasets, sorted by name.
func (s *Datasets) All() []*Dataset { return slices.Clone(s.list) }

// Cached reports whether any of them has a cache section.
func (s *Datasets) Cached() bool {
	return slices.ContainsFunc(s.list, func(d *Dataset) bool { return d.Cache != nil })
}

// Len is the number of datasets.
func (s *Datasets) Len() int { return len(s.list) }

// Unbuilt lists what the declaration asks for and this release does not have ("on_data_loss: …"); every program refuses
// to start with such a dataset.
func (d *Dataset) Unbuilt() []string {
	var list []string
	add := func(missing bool, text string) {
		if missing {
			list = append(list, text)
		}
	}
	add(d.ResyncOnDataLoss, "on_data_loss: resync is not built; use stop")
	return list
}

// findClashes looks for what two datasets may not share.
func findClashes(decls []*declaration) []error {
	var errs []error
	for i, b := range decls {
		if d := b.dataset; d.hasTable() && len(d.Topic)+1+len(d.Name) > maxTopicName {
			errs = append(errs, &FieldError{
				Field: b.at("topic"), Problem: "is too long", Fix: "use shorter names: topic and dataset together may have 248 characters where cdc.table is set",
			})
		}
		for _, a := range decls[:i] {
			clash := func(field, what string) {
				errs = append(errs, &FieldError{
					Field: b.at(field), Problem: what + " " + a.dataset.File, Fix: "give each dataset its own",
				})
			}
			if a.dataset.Name == b.dataset.Name {
				clash("dataset", "has the same name as in")
			}
			if problem := sharing(a.dataset, b.dataset); problem != "" {
				errs = append(errs, &FieldError{
					Field: b.at("topic"), Problem: "is also the topic of " + a.dataset.File, Fix: problem,
				})
			}
			// Not every server distinguishes table names by case.
			if strings.EqualFold(a.dataset.Replica.Table, b.dataset.Replica.Table) {
				clash("replica.table", "is also the table of")
			}
			for _, t := range b.dataset.templates() {
				for _, other := range a.dataset.templates() {
					if t.overlaps(other) {
						clash("cache", "template "+t.text+" could give the same name as "+other.text+" of")
					}
				}
			}
		}
	}
	return errs
}

// sharing returns what two datasets of one topic need to share it, "" if they may or if each has its own.
func sharing(a, b *Dataset) (fix string) {
	switch {
	case a.Topic != b.Topic:
		return ""
	case a.Format == FormatCloudEvents || b.Format == FormatCloudEvents:
		return "give each dataset its own"
	case a.Format != b.Format:
		return "use one format for all datasets of the topic"
	case a.CDC.Table == "" || b.CDC.Table == "":
		return "set cdc.table in both, so that each reads the rows of its own table"
	case a.CDC.Table == b.CDC.Table:
		return "set another cdc.table in one of them: both read " + a.CDC.Table
	}
	return ""
}

// hasTable reports whether the dataset reads one table of its topic, and may share it. It has a name of its own for the topic
// also while it reads it alone: positions are kept by that name, and those of one dataset say nothing about the rows of another.
func (d *Dataset) hasTable() bool { return d.CDC != nil && d.CDC.Table != "" }

// templates are those whose names belong to Freshet alone: the record key's and the derived ones.
func (d *Dataset) templates() []*template {
	if d.compiled.cacheKey == nil {
		return nil
	}
	return append([]*template{d.compiled.cacheKey}, d.compiled.derived...)
}
