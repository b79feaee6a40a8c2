package schemas

import "io/fs"

// This file holds the signatures that others already rely on. Whoever builds a part moves it to its own file and
// removes it here; the file goes when it is empty.

type compiled struct{}

// Datasets is an immutable set of datasets, unique by name, topic, table and cache templates.
type Datasets struct{}

// LoadDatasets reads every *.yaml and *.yml in the root of fsys, and the JSON Schemas that they name. Errors name file,
// line and mend and wrap ErrInvalid.
func LoadDatasets(fsys fs.FS) (*Datasets, error) { panic("schemas: LoadDatasets") }

// Get gives the dataset of that name.
func (s *Datasets) Get(name string) (*Dataset, bool) { panic("schemas: Get") }

// ByTopic gives the dataset whose topic it is.
func (s *Datasets) ByTopic(topic string) (*Dataset, bool) { panic("schemas: ByTopic") }

// All gives the datasets, sorted by name.
func (s *Datasets) All() []*Dataset { panic("schemas: All") }

// Len is the number of datasets.
func (s *Datasets) Len() int { panic("schemas: Len") }

// Unbuilt lists what the declaration asks for and this release does not have ("cache.derived: …"); every program refuses
// to start with such a dataset.
func (d *Dataset) Unbuilt() []string { panic("schemas: Unbuilt") }

// Check is the one check of an event, used by publishers and workers alike: bounds, key, schema. It gives the row that
// the replica table wants. Errors are FieldErrors.
func (d *Dataset) Check(ev *Event) (Row, error) { panic("schemas: Check") }

// FormatKey makes the canonical key of the key properties' values (string, int64, uint64, bool …), in order.
func (d *Dataset) FormatKey(values ...any) (string, error) { panic("schemas: FormatKey") }

// ParseKey splits a canonical key into the values of the key columns, as in Row.
func (d *Dataset) ParseKey(key string) ([]any, error) { panic("schemas: ParseKey") }

// CacheKey is the name of the record's own cache entry. Errors: a key that is not canonical.
func (d *Dataset) CacheKey(key string) (string, error) { panic("schemas: CacheKey") }

// CacheHash identifies the cache section: programs that disagree about it must not share entries. "" without one.
func (d *Dataset) CacheHash() string { panic("schemas: CacheHash") }

// Encode writes ev as a CloudEvents 1.0 Kafka record in binary mode. Encode does not check; Check does.
func (d *Dataset) Encode(ev *Event) (Record, error) { panic("schemas: Encode") }

// Decode reads the events of one record in the dataset's format. What it gives may alias rec.
func (d *Dataset) Decode(rec Record) ([]Event, error) { panic("schemas: Decode") }

// Token says which offsets a reader must have seen; it is merged by the greater offset per source. The zero value is
// empty and useful.
type Token struct{ offsets map[string]int64 }

// NewToken is the token of one offset of one source.
func NewToken(source string, offset int64) Token { panic("schemas: NewToken") }

// Merge gives the token that waits for both.
func (t Token) Merge(o Token) Token { panic("schemas: Merge") }

// Offsets is a copy of source → offset.
func (t Token) Offsets() map[string]int64 { panic("schemas: Offsets") }

// IsZero says whether the token waits for nothing.
func (t Token) IsZero() bool { return len(t.offsets) == 0 }

// String is the token's text form: base64url of {"v":1,"s":{source:offset}}.
func (t Token) String() string { panic("schemas: String") }

// ParseToken reads what String wrote. Errors wrap ErrInvalid.
func ParseToken(s string) (Token, error) { panic("schemas: ParseToken") }

// SourceName is "<topic>/<topic id>/<partition>".
func SourceName(topic, topicID string, partition int32) string { panic("schemas: SourceName") }

// ParseSource splits a source name. Errors wrap ErrInvalid.
func ParseSource(s string) (topic, topicID string, partition int32, err error) {
	panic("schemas: ParseSource")
}
