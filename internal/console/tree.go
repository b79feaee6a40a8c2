package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
)

// mostBranches bounds what a tree shows; the text beside it has the rest.
const mostBranches = 500

// branch is a value of JSON with what is in it, in the order of the text.
type branch struct {
	Name, Text string
	Items      []*branch
}

// tree reads JSON. What is not JSON is one branch with the text.
func tree(raw json.RawMessage) *branch {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	left := mostBranches
	b, err := grow(d, &left)
	if err != nil && (b == nil || !errors.Is(err, errFull)) {
		return &branch{Text: string(raw)}
	}
	return b
}

// errFull ends the reading of a tree that is large enough.
var errFull = errors.New("the tree is large enough")

// grow reads one value. With errFull, what it returns is what was read so far.
func grow(d *json.Decoder, left *int) (*branch, error) {
	if *left--; *left < 0 {
		return &branch{Text: "…"}, errFull
	}
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, isDelim := tok.(json.Delim)
	if !isDelim {
		text, err := json.Marshal(tok)
		return &branch{Text: string(text)}, err
	}
	b, ends := &branch{}, map[json.Delim]string{'{': "}", '[': "]"}[delim]
	defer func() { b.Text = delim.String() + strconv.Itoa(len(b.Items)) + ends }()
	for i := 0; d.More(); i++ {
		name := strconv.Itoa(i)
		if delim == '{' {
			tok, err := d.Token()
			if err != nil {
				return nil, err
			}
			name, _ = tok.(string)
		}
		item, err := grow(d, left)
		if item != nil {
			item.Name = name
			b.Items = append(b.Items, item)
		}
		if err != nil {
			return b, err
		}
	}
	if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}
