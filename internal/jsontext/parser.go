// Package jsontext reads JSON texts strictly by RFC 8259 in one pass: no name twice in an object, no invalid UTF-8, no lone
// surrogates, and bounds for depth and numbers. Values are substrings of the text wherever possible.
package jsontext

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of the JSON that Freshet reads. Depth bounds the stack; the bounds of number literals bound the work of exact
// arithmetic (1e999999999 is eleven bytes long).
const (
	maxDepth       = 64
	maxNumberBytes = 256
	maxExponent    = 400
)

// Shape is the JSON type of a value, one bit of a set.
type Shape uint8

// The JSON types.
const (
	Null Shape = 1 << iota
	Boolean
	Number
	String
	Array
	Object
)

// Value is one JSON value as the parser saw it.
type Value struct {
	Shape Shape
	// Text is the decoded string, the literal of a number or boolean, or the compact text of an array or object.
	Text string
	// Plain is true for a number without fraction and exponent.
	Plain bool
	// Tree is the value as encoding/json with UseNumber decodes it; set only where it was asked for.
	Tree any
}

// Parser reads one JSON text from front to back.
type Parser struct {
	text  string
	pos   int
	depth int
	// gap: whitespace was seen since it was last cleared, so that the raw text is not compact.
	gap bool
}

// New returns a parser at the beginning of text.
func New(text string) Parser { return Parser{text: text} }

// SyntaxError is what is wrong with a text, and where. It never holds text of the input.
type SyntaxError struct {
	Problem string
	Pos     int
}

// Error returns the problem and its place.
func (e *SyntaxError) Error() string { return e.Problem + " at byte " + strconv.Itoa(e.Pos) }

// Since returns the text from a place, which Pos returned, to the parser's place.
func (p *Parser) Since(pos int) string { return p.text[pos:p.pos] }

// Pos returns the parser's place in the text.
func (p *Parser) Pos() int { return p.pos }

// Fail returns a SyntaxError at the parser's place.
func (p *Parser) Fail(problem string) error { return &SyntaxError{problem, p.pos} }

// Space passes over white space.
func (p *Parser) Space() {
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.gap = true
			p.pos++
		default:
			return
		}
	}
}

// Peek returns the next byte, 0 at the end (a NUL is nowhere valid outside a string).
func (p *Parser) Peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// End checks that nothing but whitespace follows.
func (p *Parser) End() error {
	p.Space()
	if p.pos != len(p.text) {
		return p.Fail("text after the JSON value")
	}
	return nil
}

// Skip reads over one value of any depth and any numbers, which may repeat names: all that RFC 8259 allows.
func (p *Parser) Skip() error {
	p.Space()
	d := json.NewDecoder(strings.NewReader(p.text[p.pos:]))
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil || !utf8.Valid(raw) {
		return p.Fail("invalid JSON")
	}
	p.pos += int(d.InputOffset())
	return nil
}

// Enter reads the opening bracket and reports whether the container is empty.
func (p *Parser) Enter(closing byte) (empty bool, err error) {
	if p.depth++; p.depth > maxDepth {
		return false, p.Fail("JSON is nested too deeply")
	}
	p.pos++
	p.Space()
	if p.Peek() == closing {
		p.pos++
		p.depth--
		return true, nil
	}
	return false, nil
}

// More reads what follows a member or item: a comma (true) or the closing bracket.
func (p *Parser) More(closing byte) (bool, error) {
	p.Space()
	switch p.Peek() {
	case ',':
		p.pos++
		p.Space()
		return true, nil
	case closing:
		p.pos++
		p.depth--
		return false, nil
	}
	return false, p.Fail("a comma or closing bracket is missing")
}

// Name reads a member's name and the colon.
func (p *Parser) Name() (string, error) {
	if p.Peek() != '"' {
		return "", p.Fail("a property name is missing")
	}
	name, err := p.str()
	if err != nil {
		return "", err
	}
	p.Space()
	if p.Peek() != ':' {
		return "", p.Fail("a colon is missing")
	}
	p.pos++
	p.Space()
	return name, nil
}

// Value reads the value at the parser's place; tree asks for Value.Tree.
func (p *Parser) Value(tree bool) (v Value, err error) {
	switch c := p.Peek(); c {
	case '"':
		v.Shape = String
		v.Text, err = p.str()
		if tree {
			v.Tree = v.Text
		}
	case '{', '[':
		return p.container(c, tree)
	case 't', 'f', 'n':
		return p.literal(c, tree)
	default:
		v, err = p.number()
		if tree && err == nil {
			v.Tree = json.Number(v.Text)
		}
	}
	return v, err
}

func (p *Parser) literal(c byte, tree bool) (Value, error) {
	v := Value{Shape: Boolean}
	switch c {
	case 't':
		v.Text = "true"
	case 'f':
		v.Text = "false"
	default:
		v = Value{Shape: Null, Text: "null"}
	}
	if !strings.HasPrefix(p.text[p.pos:], v.Text) {
		return Value{}, p.Fail("unknown literal")
	}
	p.pos += len(v.Text)
	if tree && v.Shape == Boolean {
		v.Tree = c == 't'
	}
	return v, nil
}

// container reads an object or array and returns its compact text.
func (p *Parser) container(open byte, tree bool) (Value, error) {
	start, before := p.pos, p.gap
	p.gap = false
	v := Value{Shape: Object}
	var err error
	if open == '{' {
		v.Tree, err = p.members(tree)
	} else {
		v.Shape = Array
		v.Tree, err = p.items(tree)
	}
	if err != nil {
		return Value{}, err
	}
	v.Text = p.text[start:p.pos]
	// Only the outermost container's text is used; the inner ones need no compaction of their own.
	if p.gap && p.depth <= 1 {
		v.Text = Compact(v.Text)
	}
	p.gap = p.gap || before
	return v, nil
}

func (p *Parser) members(tree bool) (any, error) {
	var obj map[string]any
	if tree {
		obj = map[string]any{}
	}
	empty, err := p.Enter('}')
	if err != nil || empty {
		return obj, err
	}
	var seen Names
	for more := true; more; {
		name, err := p.Name()
		if err != nil {
			return nil, err
		}
		if !seen.Add(name) {
			return nil, p.Fail("a property name occurs twice")
		}
		v, err := p.Value(tree)
		if err != nil {
			return nil, err
		}
		if tree {
			obj[name] = v.Tree
		}
		if more, err = p.More('}'); err != nil {
			return nil, err
		}
	}
	return obj, nil
}

func (p *Parser) items(tree bool) (any, error) {
	if !tree {
		return nil, p.skipItems()
	}
	list := []any{}
	empty, err := p.Enter(']')
	if err != nil || empty {
		return list, err
	}
	for more := true; more; {
		v, err := p.Value(true)
		if err != nil {
			return nil, err
		}
		list = append(list, v.Tree)
		if more, err = p.More(']'); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (p *Parser) skipItems() error {
	empty, err := p.Enter(']')
	for more := !empty; more && err == nil; {
		if _, err = p.Value(false); err == nil {
			more, err = p.More(']')
		}
	}
	return err
}

// Names is the set of the property names of one object: an array as long as they are few.
type Names struct {
	first [8]string
	n     int
	set   map[string]struct{}
}

// Add adds a name and reports whether it is new.
func (n *Names) Add(name string) bool {
	if n.Has(name) {
		return false
	}
	switch {
	case n.n < len(n.first):
		n.first[n.n] = name
		n.n++
		return true
	case n.set == nil:
		n.set = map[string]struct{}{}
	}
	n.set[name] = struct{}{}
	return true
}

// Has reports whether Add was called with the name.
func (n *Names) Has(name string) bool {
	for _, s := range n.first[:n.n] {
		if s == name {
			return true
		}
	}
	_, ok := n.set[name]
	return ok
}

// Compact removes the whitespace between the tokens of valid JSON.
func Compact(text string) string {
	out := make([]byte, 0, len(text))
	quoted := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quoted && c == '\\':
			out = append(out, c, text[i+1])
			i++
			continue
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		out = append(out, c)
	}
	return string(out)
}

// ParseTree reads a whole JSON text into maps, slices, strings, json.Numbers, booleans and nil.
func ParseTree(text string) (any, error) {
	p := Parser{text: text}
	p.Space()
	v, err := p.Value(true)
	if err != nil {
		return nil, err
	}
	return v.Tree, p.End()
}

// ParseValue reads a text that is one JSON value.
func ParseValue(text string) (Value, error) {
	p := New(text)
	p.Space()
	v, err := p.Value(false)
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return Value{}, err
	}
	if p.gap && v.Shape&(Array|Object) != 0 {
		v.Text = Compact(v.Text)
	}
	return v, nil
}
