package schemas

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/freshet/freshet/internal/jsontext"
)

// TypeInvalidate is the CloudEvents type of an Invalidation.
const TypeInvalidate = "io.freshet.invalidate.v1"

// Limits of one Invalidation; Split makes several of one that is larger.
const (
	// MaxInvalidationNames bounds names, tags and foreign keys together.
	MaxInvalidationNames = 1000
	// MaxInvalidationBytes bounds its JSON.
	MaxInvalidationBytes = 256 << 10
)

// InvalidationTopic is the topic that carries what other writers than a dataset's events made stale in a namespace.
func InvalidationTopic(namespace string) string { return "freshet.invalidations." + namespace }

// Invalidation names what became stale without an event of its dataset: replica rows that another writer changed, or
// entries that a service wants gone. It has no row and no version.
type Invalidation struct {
	// Names are cache keys, Tags labels of cache entries, Foreign keys of other applications.
	Names   []string `json:"names,omitempty"`
	Tags    []string `json:"tags,omitempty"`
	Foreign []string `json:"foreign,omitempty"`
}

// Len is the number of everything that v names.
func (v Invalidation) Len() int { return len(v.Names) + len(v.Tags) + len(v.Foreign) }

// Check refuses what no lane could carry. Errors are FieldErrors.
func (v Invalidation) Check() error {
	switch {
	case v.Len() == 0:
		return invalidationError("data", "names nothing", "give names or tags")
	case v.Len() > MaxInvalidationNames:
		return invalidationError("data", "names more than 1000", "split it")
	}
	for _, l := range listsOf(&v) {
		for _, name := range *l.list {
			if problem := nameProblem(name, l.field == "foreign"); problem != "" {
				return invalidationError("data/"+l.field, "holds one that "+problem, "give cache keys and tags as the datasets' templates make them")
			}
		}
	}
	return nil
}

type namedList struct {
	field string
	list  *[]string
}

// listsOf returns v's lists with their names.
func listsOf(v *Invalidation) []namedList {
	return []namedList{{"names", &v.Names}, {"tags", &v.Tags}, {"foreign", &v.Foreign}}
}

// nameProblem reports why a text can be no key or tag, "" if it can. Control characters would break a tag list and a frame;
// a raw name, of another application's key, goes into neither.
func nameProblem(s string, raw bool) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > MaxNameBytes:
		return "is longer than 512 bytes"
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	}
	for i := 0; i < len(s) && !raw; i++ {
		if s[i] < ' ' || s[i] == 0x7F {
			return "holds a control character"
		}
	}
	return ""
}

// Split returns v in parts that Check and Encode accept as far as their size goes, in order.
func (v Invalidation) Split() []Invalidation {
	var out []Invalidation
	var part Invalidation
	size := 0
	for i, l := range listsOf(&v) {
		for _, name := range *l.list {
			// The most that JSON makes of a byte is six.
			if n := 6*len(name) + 3; part.Len() == MaxInvalidationNames || size+n > MaxInvalidationBytes-64 {
				out, part, size = append(out, part), Invalidation{}, 0
			}
			size += 6*len(name) + 3
			list := listsOf(&part)[i].list
			*list = append(*list, name)
		}
	}
	if part.Len() > 0 {
		out = append(out, part)
	}
	return out
}

// Encode checks v and writes it as a CloudEvents 1.0 Kafka record in binary mode, keyed by its first name. id and source
// are the event's.
func (v Invalidation) Encode(id, source string) (Record, error) {
	if err := v.Check(); err != nil {
		return Record{}, err
	}
	if id == "" || source == "" {
		return Record{}, invalidationError("id", "or the source is missing", "give a UUIDv7 and a URI reference")
	}
	data, err := json.Marshal(v)
	if err != nil {
		return Record{}, invalidationError("data", "has no JSON form", "")
	}
	if len(data) > MaxInvalidationBytes {
		return Record{}, invalidationError("data", "is larger than 256 KiB", "split it")
	}
	var key string
	for _, l := range listsOf(&v) {
		if len(*l.list) > 0 {
			key = (*l.list)[0]
			break
		}
	}
	w := headerWriter{buf: make([]byte, 0, len(id)+len(source)+64), list: make([]Header, 0, 5)}
	w.add("ce_specversion", specVersion)
	w.add("ce_id", id)
	w.add("ce_source", source)
	w.add("ce_type", TypeInvalidate)
	w.add("content-type", contentJSON)
	return Record{Key: []byte(key), Value: data, Headers: w.list}, nil
}

// DecodeInvalidation reads a record of an invalidation topic, in binary or structured mode. Unknown members are ignored.
// What it returns shares no memory with the record. Errors are FieldErrors.
func DecodeInvalidation(rec Record) (Invalidation, error) {
	if rec.Oversize > 0 {
		return Invalidation{}, tooLarge("record")
	}
	var a attributes
	if err := a.readHeaders(rec.Headers); err != nil {
		return Invalidation{}, err
	}
	structured, err := isStructured(a.contentType)
	if err != nil {
		return Invalidation{}, err
	}
	data := rec.Value
	if structured {
		a = attributes{}
		if err := a.readStructured(rec.Value); err != nil {
			return Invalidation{}, err
		}
		data = a.data
	}
	switch {
	case a.specVersion != specVersion:
		return Invalidation{}, invalidationError("ce_specversion", "is missing or not 1.0", "write CloudEvents 1.0")
	case a.typ != TypeInvalidate:
		return Invalidation{}, invalidationError("ce_type", "is not "+TypeInvalidate, "this topic carries nothing else")
	}
	return ParseInvalidation(data)
}

// ParseInvalidation reads the JSON of an Invalidation, as json.Marshal writes it. Errors are FieldErrors.
func ParseInvalidation(data []byte) (Invalidation, error) {
	if len(data) > MaxInvalidationBytes {
		return Invalidation{}, invalidationError("data", "is larger than 256 KiB", "split it")
	}
	tree, err := jsontext.ParseTree(string(data))
	if err != nil {
		return Invalidation{}, malformed(err)
	}
	obj, ok := tree.(map[string]any)
	if !ok {
		return Invalidation{}, invalidationError("data", "is not a JSON object", "")
	}
	var v Invalidation
	for _, l := range listsOf(&v) {
		items, ok := obj[l.field].([]any)
		if !ok && obj[l.field] != nil {
			return Invalidation{}, invalidationError("data/"+l.field, "is not a list", "write a list of strings")
		}
		for _, item := range items {
			name, ok := item.(string)
			if !ok {
				return Invalidation{}, invalidationError("data/"+l.field, "holds something else than strings", "write a list of strings")
			}
			*l.list = append(*l.list, name)
		}
	}
	if err := v.Check(); err != nil {
		return Invalidation{}, err
	}
	return v, nil
}

func invalidationError(field, problem, fix string) error {
	return &FieldError{Field: field, Problem: problem, Fix: fix, Reason: ReasonMalformed}
}
