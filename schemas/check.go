package schemas

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/freshet/freshet/internal/jsontext"
)

// maxAttributeBytes bounds the attributes of an event that are free text.
const maxAttributeBytes = 1024

// Check is the one check of an event, used by publishers and workers alike: bounds, key, schema. It returns the row that
// the replica table wants. Errors are FieldErrors. An event that passes publishes and decodes to one that passes.
//
// A delete may carry data; only its key properties are looked at.
func (d *Dataset) Check(ev *Event) (Row, error) {
	return d.check(ev, string(ev.Data), make([]any, len(d.Replica.Columns)))
}

// CheckInto is Check without copies. The row is made in values, which has an element for each of Replica.Columns. Its texts are
// parts of ev.Data, which must stay unchanged for as long as the row is in use.
func (d *Dataset) CheckInto(ev *Event, values []any) (Row, error) {
	clear(values)
	return d.check(ev, unsafe.String(unsafe.SliceData(ev.Data), len(ev.Data)), values)
}

// CheckHead is what Check does without reading data: bounds, attributes, and the form of the key.
func (d *Dataset) CheckHead(ev *Event) error {
	if err := d.checkAttributes(ev); err != nil {
		return err
	}
	var room [4]string
	_, err := d.keyTexts(ev.Key, room[:0])
	return err
}

// CheckKey is CheckHead for an event whose data is not wanted: of that it checks only whether it is a JSON object and has the
// event's key. An event that passes may break the schema, but it is about its own record.
func (d *Dataset) CheckKey(ev *Event) error {
	var room [4]any
	values := room[:]
	if d.Replica.KeyColumns > len(room) {
		values = make([]any, d.Replica.KeyColumns)
	}
	data := unsafe.String(unsafe.SliceData(ev.Data), len(ev.Data))
	_, err := d.checkData(ev, data, &checker{dataset: d, rules: d.compiled.rules, deletes: true, values: values})
	return err
}

func (d *Dataset) check(ev *Event, data string, values []any) (Row, error) {
	return d.checkData(ev, data, &checker{dataset: d, rules: d.compiled.rules, deletes: ev.Op == Delete, values: values})
}

// checkData checks ev with a checker that is made for it.
func (d *Dataset) checkData(ev *Event, data string, c *checker) (Row, error) {
	if err := d.checkAttributes(ev); err != nil {
		return Row{}, err
	}
	var room [4]string
	key, err := d.keyTexts(ev.Key, room[:0])
	if err != nil {
		return Row{}, err
	}
	values := c.values
	if ev.Op == Delete && len(data) == 0 {
		for i, text := range key {
			values[i] = keyValue(&d.Replica.Columns[i].Property, text)
		}
		return Row{Values: values}, nil
	}
	if len(data) == 0 {
		return Row{}, missingData()
	}
	if err := c.run(data); err != nil {
		return Row{}, err
	}
	for i, text := range key {
		state := keyMissing
		if values[i] != nil {
			state = keyStateOf(isKeyValue(values[i], text))
		}
		if err := c.keyError(i, state); err != nil {
			return Row{}, err
		}
	}
	return Row{Values: values, UnknownProperties: c.ignored}, nil
}

func missingData() error {
	return &FieldError{
		Field: "data", Problem: "is missing", Fix: "an upsert carries the record's full state", Reason: ReasonMalformed,
	}
}

// checkAttributes looks at everything but key and data.
func (d *Dataset) checkAttributes(ev *Event) error {
	switch {
	case ev.Dataset != d.Name:
		return &FieldError{Field: "dataset", Problem: "is not " + d.Name, Fix: "one topic has one dataset", Reason: ReasonDataset}
	case ev.Op != Upsert && ev.Op != Delete:
		return &FieldError{Field: "op", Problem: "is neither upsert nor delete", Reason: ReasonMalformed}
	case ev.Version < MinVersion || ev.Version > MaxVersion:
		return &FieldError{
			Field: "version", Problem: "is missing or outside 1 … 2^53-2", Fix: "give a version that grows with each change of the record",
			Reason: ReasonVersion,
		}
	case len(ev.Key)+len(ev.Data) > MaxRecordBytes:
		return tooLarge("data")
	case (ev.Type == TypeUpsert && ev.Op != Upsert) || (ev.Type == TypeDelete && ev.Op != Delete):
		return &FieldError{Field: "type", Problem: "contradicts the op", Fix: "leave it empty", Reason: ReasonMalformed}
	}
	for i, s := range [...]string{ev.ID, ev.Source, ev.Type, ev.DataSchema, ev.TraceParent, ev.TraceState} {
		if !isAttribute(s) {
			name := [...]string{"id", "source", "type", "dataschema", "traceparent", "tracestate"}[i]
			return &FieldError{
				Field: name, Problem: "is longer than 1024 bytes, or no clean UTF-8", Fix: "shorten it; it holds no control characters",
				Reason: ReasonMalformed,
			}
		}
	}
	if y := ev.Time.UTC().Year(); !ev.Time.IsZero() && (y < 1 || y > 9999) {
		return &FieldError{Field: "time", Problem: "is outside the years 1 to 9999", Reason: ReasonMalformed}
	}
	return nil
}

// isAttribute: header values are text, also in logs and on terminals.
func isAttribute(s string) bool {
	if len(s) > maxAttributeBytes {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == 0x7F {
			return false
		} else if c >= utf8.RuneSelf {
			return utf8.ValidString(s[i:]) && !strings.ContainsFunc(s[i:], func(r rune) bool { return r < ' ' || r == 0x7F })
		}
	}
	return true
}

func tooLarge(field string) error {
	return &FieldError{
		Field: field, Problem: "makes a record above 1,000,000 bytes", Fix: "keep large parts elsewhere and publish a reference",
		Reason: ReasonTooLarge,
	}
}

// checker checks one event's data and fills its row.
type checker struct {
	dataset *Dataset
	rules   *rules
	// deletes: only key properties count, and no schema.
	deletes bool
	values  []any
	ignored int            // properties that the schema does not declare
	tree    map[string]any // for rules.whole
	unknown jsontext.Names

	// Of a check without a row: values is nil, key has the texts of the event's key, found what the data have for each.
	rowless bool
	key     [verifyKey]string
	found   [verifyKey]keyState
}

func (c *checker) run(text string) error {
	p := jsontext.New(text)
	p.Space()
	if p.Peek() != '{' {
		if framed(text) {
			return frameError()
		}
		if _, err := jsontext.ParseTree(text); err != nil {
			return malformed(err)
		}
		return &FieldError{Field: "data", Problem: "is not a JSON object", Reason: ReasonSchema}
	}
	if c.rules.whole != nil && !c.deletes {
		c.tree = make(map[string]any, len(c.rules.props))
	}
	var room [64]bool
	seen := room[:]
	if n := len(c.rules.props); n > len(room) {
		seen = make([]bool, n)
	}
	empty, err := p.Enter('}')
	for more := !empty; more && err == nil; {
		if err = c.member(&p, seen); err == nil {
			more, err = p.More('}')
		}
	}
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return malformed(err)
	}
	if c.deletes {
		return nil
	}
	return c.finish(seen)
}

// malformed makes a FieldError of a SyntaxError and returns others unchanged.
func malformed(err error) error {
	var se *jsontext.SyntaxError
	if errors.As(err, &se) {
		return &FieldError{Field: "data", Problem: "is not valid JSON: " + se.Error(), Reason: ReasonMalformed}
	}
	return err
}

// member reads and checks one member of the data.
func (c *checker) member(p *jsontext.Parser, seen []bool) error {
	name, err := p.Name()
	if err != nil {
		return err
	}
	i, declared := c.rules.index[name]
	if !declared {
		if !c.unknown.Add(name) {
			return p.Fail("a property name occurs twice")
		}
		return c.extra(p, name)
	}
	if seen[i] {
		return p.Fail("a property name occurs twice")
	}
	seen[i] = true
	rule := &c.rules.props[i]
	v, err := p.Value(!c.deletes && (rule.schema != nil || c.tree != nil))
	if err != nil {
		return err
	}
	if c.deletes {
		if rule.column >= c.dataset.Replica.KeyColumns || v.Shape&rule.shapesOfKey() == 0 {
			return nil
		}
		return c.store(rule, &v)
	}
	switch {
	case c.tree != nil:
		c.tree[name] = v.Tree
		if v.Shape&rule.Kind.shapes() == 0 {
			return nil // the schema refuses it; finish says so
		}
	case rule.schema != nil:
		if err := rule.schema.Validate(v.Tree); err != nil {
			return schemaError(err, name)
		}
	default:
		if broken := rule.check(&v); broken != "" {
			return c.refuse(name, ReasonSchema, "breaks the schema's "+broken, "")
		}
	}
	return c.store(rule, &v)
}

// extra deals with a property that the schema does not declare.
func (c *checker) extra(p *jsontext.Parser, name string) error {
	v, err := p.Value(c.tree != nil)
	if err != nil || c.deletes {
		return err
	}
	if c.tree != nil {
		c.tree[name] = v.Tree
	}
	if c.dataset.RejectUnknown || c.rules.closed {
		return c.refuse(name, ReasonSchema, "is not a property of the schema", "add it to the schema, or leave it out")
	}
	c.ignored++
	return nil
}

// finish checks what concerns the object as a whole.
func (c *checker) finish(seen []bool) error {
	if c.tree != nil {
		if err := c.rules.whole.Validate(c.tree); err != nil {
			return schemaError(err)
		}
		return nil
	}
	for _, i := range c.rules.required {
		if !seen[i] {
			return c.refuse(c.rules.props[i].Name, ReasonSchema, "is required", "")
		}
	}
	for _, name := range c.rules.missing {
		if !c.unknown.Has(name) {
			return c.refuse(name, ReasonSchema, "is required", "")
		}
	}
	return nil
}

// store puts the value into its column.
func (c *checker) store(rule *propertyRule, v *jsontext.Value) error {
	if v.Shape == jsontext.Null || rule.column < 0 {
		return nil
	}
	if c.rowless {
		return c.compare(rule, v)
	}
	out, problem := columnValue(rule, v)
	if problem != "" {
		return c.refuse(rule.Name, ReasonSchema, problem, "")
	}
	c.values[rule.column] = out
	return nil
}

// refuse names a property of the data.
func (c *checker) refuse(name string, reason Reason, problem, fix string) error {
	return &FieldError{Field: "data/" + nameForError(name), Problem: problem, Fix: fix, Reason: reason}
}

// nameForError keeps out of error texts whatever does not look like the name of a property: maps keyed by people's data
// put that data into names.
func nameForError(name string) string {
	if isIdentifier(name) || isPosition(name) {
		return name
	}
	return "?"
}

func isPosition(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 0 && len(s) <= 6
}

// schemaError makes a FieldError of the first thing that jsonschema found: where and which keyword, never the value.
func schemaError(err error, path ...string) error {
	fe := &FieldError{Field: "data", Problem: "breaks the schema", Reason: ReasonSchema}
	var ve *jsonschema.ValidationError
	if errors.As(err, &ve) {
		for len(ve.Causes) > 0 {
			ve = ve.Causes[0]
		}
		path = append(path, ve.InstanceLocation...)
		if keywords := ve.ErrorKind.KeywordPath(); len(keywords) > 0 {
			fe.Problem = "breaks the schema's " + strings.Join(keywords, "/")
		}
	}
	for _, name := range path {
		fe.Field += "/" + nameForError(name)
	}
	return fe
}
