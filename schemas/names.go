package schemas

import (
	"slices"
	"strings"
)

// Names are what one state of a record is called beside its own key, by the templates of the cache section. A change of
// the record makes the names of its old and of its new state stale.
type Names struct {
	// Derived are cache keys, Tags tags, Foreign the keys of other applications. A template with a property that is
	// absent or null leads to no name.
	Derived, Tags, Foreign []string
	// Oversize counts the foreign keys that are longer than MaxNameBytes and therefore left out.
	Oversize int
}

// Names renders the names of a state: an event's Row.Values or a table's row in the same form.
func (d *Dataset) Names(values []any) Names {
	c := d.compiled
	var n Names
	n.Derived = appendNames(nil, c.derived, values)
	n.Tags = appendNames(nil, c.tags, values)
	for _, t := range c.external {
		name, ok := t.plain(values)
		switch {
		case !ok:
		case len(name) > MaxNameBytes:
			n.Oversize++
		default:
			n.Foreign = append(n.Foreign, name)
		}
	}
	return n
}

// CacheNames returns each template of a cache key, with the JSON Schema type of every property in it: what a follower in another
// language needs to name entries. It is nil without a cache section.
func (d *Dataset) CacheNames() map[string]map[string]string {
	types := map[Kind]string{KindString: "string", KindInteger: "integer", KindBoolean: "boolean"}
	var all map[string]map[string]string
	for _, t := range d.templates() {
		if all == nil {
			all = map[string]map[string]string{}
		}
		all[t.text] = map[string]string{}
		for i, name := range t.names {
			all[t.text][name] = types[t.kinds[i]]
		}
	}
	return all
}

// HasNames reports whether the cache section has any derived key, tag or foreign key.
func (d *Dataset) HasNames() bool {
	return len(d.compiled.derived)+len(d.compiled.tags)+len(d.compiled.external) > 0
}

// NameColumns are the positions in Replica.Columns of the columns that Names needs beside the key. Without any, all states
// of a record have the same names, and nothing needs to look at the old one.
func (d *Dataset) NameColumns() []int { return slices.Clone(d.compiled.nameColumns) }

// Derived is one template of derived keys, as a way to look records up: users by email, for instance.
type Derived struct {
	form keyForm
	t    template // bound to positions in form
}

// Derived returns the derived template with that text, as the declaration has it.
func (d *Dataset) Derived(text string) (*Derived, error) {
	t, err := findTemplate("cache.derived", d.compiled.derived, text)
	if err != nil {
		return nil, err
	}
	v := &Derived{t: *t}
	v.t.fields = nil
	for _, f := range t.fields {
		i := slices.IndexFunc(v.form, func(c Column) bool { return c.Name == d.Replica.Columns[f].Name })
		if i < 0 {
			i = len(v.form)
			v.form = append(v.form, d.Replica.Columns[f])
		}
		v.t.fields = append(v.t.fields, i)
	}
	return v, nil
}

// FormatKey makes the key to look up by from the values of the template's properties, in the order in which they first
// appear. It has the form of a record's key (Dataset.FormatKey): a single property's key is its plain value.
func (v *Derived) FormatKey(values ...any) (string, error) { return v.form.format(values) }

// ParseKey splits a key that FormatKey could have made into values of columns, as in Row.
func (v *Derived) ParseKey(key string) ([]any, error) { return v.form.parse(key) }

// Name is the cache key of what is looked up.
func (v *Derived) Name(key string) (string, error) {
	var room [4]string
	texts, err := v.form.texts(key, room[:0])
	if err != nil {
		return "", err
	}
	return v.t.render(texts), nil
}

// Tag renders a tag by one of the declaration's templates, for the labels that a loader attaches to an entry: values of its
// properties, as for FormatKey, in the order in which the template has them. If one of them is nil, it returns "": no tag.
func (d *Dataset) Tag(text string, values ...any) (string, error) {
	t, err := findTemplate("cache.tags", d.compiled.tags, text)
	if err != nil {
		return "", err
	}
	if len(values) != len(t.fields) {
		return "", &FieldError{Field: "cache.tags", Problem: "template " + text + " has another number of properties", Fix: "give " + strings.Join(t.names, ", ")}
	}
	all := make([]any, len(d.Replica.Columns))
	for i, f := range t.fields {
		if values[i] == nil {
			return "", nil
		}
		all[f] = values[i]
	}
	name, ok := t.name(all)
	if !ok {
		return "", &FieldError{Field: "cache.tags", Problem: "a value for " + text + " has the wrong type", Reason: ReasonKey}
	}
	return name, nil
}

func findTemplate(field string, list []*template, text string) (*template, error) {
	for _, t := range list {
		if t.text == text {
			return t, nil
		}
	}
	return nil, &FieldError{Field: field, Problem: "has no template " + text, Fix: "name one of the declaration's"}
}

// bindNames binds the templates to columns.
func (d *Dataset) bindNames() {
	c := d.compiled
	for _, t := range slices.Concat(c.derived, c.tags, c.external) {
		for _, name := range t.names {
			i := slices.IndexFunc(d.Replica.Columns, func(col Column) bool { return col.Property.Name == name })
			t.fields = append(t.fields, i)
			if i >= d.Replica.KeyColumns && !slices.Contains(c.nameColumns, i) {
				c.nameColumns = append(c.nameColumns, i)
			}
		}
	}
	slices.Sort(c.nameColumns)
}

func appendNames(names []string, list []*template, values []any) []string {
	for _, t := range list {
		if name, ok := t.name(values); ok {
			names = append(names, name)
		}
	}
	return names
}

// name renders a name from a row's values; false if one of them is absent.
func (t *template) name(values []any) (string, bool) {
	texts, ok := t.texts(values)
	if !ok {
		return "", false
	}
	return t.assemble(func(i int) string { return texts[i] }), true
}

// plain is name with unchanged values and without hashing.
func (t *template) plain(values []any) (string, bool) {
	texts, ok := t.texts(values)
	if !ok {
		return "", false
	}
	var b strings.Builder
	b.WriteString(t.literals[0])
	for i, text := range texts {
		b.WriteString(text)
		b.WriteString(t.literals[i+1])
	}
	return b.String(), true
}

// texts returns the text of each placeholder.
func (t *template) texts(values []any) ([]string, bool) {
	texts := make([]string, len(t.fields))
	for i, f := range t.fields {
		if f >= len(values) || values[f] == nil {
			return nil, false
		}
		var ok bool
		if texts[i], ok = keyText(t.kinds[i], values[f]); !ok {
			return nil, false
		}
	}
	return texts, true
}
