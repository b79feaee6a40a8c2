package schemas

import (
	"errors"
	"io/fs"
	"slices"
)

// Schema is the JSON Schema of a dataset's records, for tools that look into it. It is immutable.
type Schema struct {
	root  map[string]any
	props []Property
}

// LoadSchema reads one JSON Schema file under the rules that hold for those of datasets. Errors wrap ErrInvalid.
func LoadSchema(fsys fs.FS, file string) (*Schema, error) {
	d := declaration{file: file, lines: map[string]int{}}
	doc := d.loadSchema(fsys, file, 0)
	if len(d.errs) > 0 {
		return nil, errors.Join(d.errs...)
	}
	return &Schema{root: doc.root, props: doc.props}, nil
}

// Schema returns the JSON Schema of the dataset's records.
func (d *Dataset) Schema() *Schema { return d.schema }

// Document is the parsed schema: map[string]any, []any, string, json.Number, bool and nil. It must not be changed.
func (s *Schema) Document() map[string]any { return s.root }

// Properties are the top-level properties, sorted by name.
func (s *Schema) Properties() []Property { return slices.Clone(s.props) }
