package schemas

import (
	"unsafe"

	"github.com/freshet/freshet/internal/jsontext"
)

// verifyKey is how many parts of a key Verify compares without a row.
const verifyKey = 4

// Verify is Check for those who do not want the row: it accepts and refuses the same, with the same errors, and makes no values.
func (d *Dataset) Verify(ev *Event) error {
	switch {
	case ev.Op == Delete && len(ev.Data) == 0:
		return d.CheckHead(ev)
	case len(d.Key) > verifyKey:
		_, err := d.CheckInto(ev, make([]any, len(d.Replica.Columns)))
		return err
	}
	if err := d.checkAttributes(ev); err != nil {
		return err
	}
	c := checker{dataset: d, rules: d.compiled.rules, deletes: ev.Op == Delete, rowless: true}
	key, err := d.keyTexts(ev.Key, c.key[:0])
	if err != nil {
		return err
	}
	if len(ev.Data) == 0 {
		return missingData()
	}
	if err := c.run(unsafe.String(unsafe.SliceData(ev.Data), len(ev.Data))); err != nil {
		return err
	}
	for i := range key {
		if err := c.keyError(i, c.found[i]); err != nil {
			return err
		}
	}
	return nil
}

// keyState is what the data have for a part of the event's key.
type keyState uint8

const (
	keyMissing keyState = iota
	keyEqual
	keyDiffers
)

func keyStateOf(equal bool) keyState {
	if equal {
		return keyEqual
	}
	return keyDiffers
}

// keyError returns the error of the i-th part of the key, nil for one that is equal.
func (c *checker) keyError(i int, state keyState) error {
	switch state {
	case keyMissing:
		return c.refuse(c.dataset.Key[i], ReasonKey, "is a key property and missing or null", "")
	case keyDiffers:
		return c.refuse(c.dataset.Key[i], ReasonKey, "contradicts the event's key", "the key is made of the data's key properties")
	case keyEqual:
	}
	return nil
}

// compare is store without a row.
func (c *checker) compare(rule *propertyRule, v *jsontext.Value) error {
	if problem := columnProblem(rule, v); problem != "" {
		return c.refuse(rule.Name, ReasonSchema, problem, "")
	}
	if rule.column < c.dataset.Replica.KeyColumns {
		c.found[rule.column] = keyStateOf(isKeyText(rule, v, c.key[rule.column]))
	}
	return nil
}
