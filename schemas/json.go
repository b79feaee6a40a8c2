package schemas

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Limits of the JSON that Freshet reads. Depth bounds the stack; the bounds of number literals bound the work of exact
// arithmetic (1e999999999 is eleven bytes long).
const (
	maxDepth       = 64
	maxNumberBytes = 256
	maxExponent    = 400
)

// shape is the JSON type of a value.
type shape uint8

const (
	shapeNull shape = 1 << iota
	shapeBoolean
	shapeNumber
	shapeString
	shapeArray
	shapeObject
)

// value is one JSON value as the parser saw it.
type value struct {
	shape shape
	// text is the decoded string, the literal of a number or boolean, or the compact text of an array or object.
	text string
	// plain: a number without fraction and exponent.
	plain bool
	// tree is the value as encoding/json with UseNumber would give it; set only where it was asked for.
	tree any
}

// parser reads one JSON text, strictly by RFC 8259, in one pass: no duplicate names, no invalid UTF-8, no lone
// surrogates, no depth beyond maxDepth. Values are substrings of text wherever possible.
type parser struct {
	text  string
	pos   int
	depth int
	// gap: whitespace was seen since it was last cleared, so that the raw text is not compact.
	gap bool
}

// syntaxError says what is wrong and where; it never holds text of the input.
type syntaxError struct {
	problem string
	pos     int
}

func (e *syntaxError) Error() string { return e.problem + " at byte " + strconv.Itoa(e.pos) }

func (p *parser) fail(problem string) error { return &syntaxError{problem, p.pos} }

func (p *parser) space() {
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

// peek gives the next byte, 0 at the end (a NUL is nowhere valid outside a string).
func (p *parser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// end checks that nothing but whitespace follows.
func (p *parser) end() error {
	p.space()
	if p.pos != len(p.text) {
		return p.fail("text after the JSON value")
	}
	return nil
}

// enter reads the opening bracket and says whether the container is empty.
func (p *parser) enter(closing byte) (empty bool, err error) {
	if p.depth++; p.depth > maxDepth {
		return false, p.fail("JSON is nested too deeply")
	}
	p.pos++
	p.space()
	if p.peek() == closing {
		p.pos++
		p.depth--
		return true, nil
	}
	return false, nil
}

// more reads what follows a member or item: a comma (true) or the closing bracket.
func (p *parser) more(closing byte) (bool, error) {
	p.space()
	switch p.peek() {
	case ',':
		p.pos++
		p.space()
		return true, nil
	case closing:
		p.pos++
		p.depth--
		return false, nil
	}
	return false, p.fail("a comma or closing bracket is missing")
}

// name reads a member's name and the colon.
func (p *parser) name() (string, error) {
	if p.peek() != '"' {
		return "", p.fail("a property name is missing")
	}
	name, err := p.str()
	if err != nil {
		return "", err
	}
	p.space()
	if p.peek() != ':' {
		return "", p.fail("a colon is missing")
	}
	p.pos++
	p.space()
	return name, nil
}

// value reads the value at pos; tree asks for value.tree.
func (p *parser) value(tree bool) (v value, err error) {
	switch c := p.peek(); c {
	case '"':
		v.shape = shapeString
		v.text, err = p.str()
		if tree {
			v.tree = v.text
		}
	case '{', '[':
		return p.container(c, tree)
	case 't', 'f', 'n':
		return p.literal(c, tree)
	default:
		v, err = p.number()
		if tree && err == nil {
			v.tree = json.Number(v.text)
		}
	}
	return v, err
}

func (p *parser) literal(c byte, tree bool) (value, error) {
	v := value{shape: shapeBoolean}
	switch c {
	case 't':
		v.text = "true"
	case 'f':
		v.text = "false"
	default:
		v = value{shape: shapeNull, text: "null"}
	}
	if !strings.HasPrefix(p.text[p.pos:], v.text) {
		return value{}, p.fail("unknown literal")
	}
	p.pos += len(v.text)
	if tree && v.shape == shapeBoolean {
		v.tree = c == 't'
	}
	return v, nil
}

// container reads an object or array and gives its compact text.
func (p *parser) container(open byte, tree bool) (value, error) {
	start, before := p.pos, p.gap
	p.gap = false
	v := value{shape: shapeObject}
	var err error
	if open == '{' {
		v.tree, err = p.members(tree)
	} else {
		v.shape = shapeArray
		v.tree, err = p.items(tree)
	}
	if err != nil {
		return value{}, err
	}
	v.text = p.text[start:p.pos]
	// Only the outermost container's text is used; the inner ones need no compaction of their own.
	if p.gap && p.depth <= 1 {
		v.text = compact(v.text)
	}
	p.gap = p.gap || before
	return v, nil
}

func (p *parser) members(tree bool) (any, error) {
	var obj map[string]any
	if tree {
		obj = map[string]any{}
	}
	empty, err := p.enter('}')
	if err != nil || empty {
		return obj, err
	}
	var seen names
	for more := true; more; {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		if !seen.add(name) {
			return nil, p.fail("a property name occurs twice")
		}
		v, err := p.value(tree)
		if err != nil {
			return nil, err
		}
		if tree {
			obj[name] = v.tree
		}
		if more, err = p.more('}'); err != nil {
			return nil, err
		}
	}
	return obj, nil
}

func (p *parser) items(tree bool) (any, error) {
	if !tree {
		return nil, p.skipItems()
	}
	list := []any{}
	empty, err := p.enter(']')
	if err != nil || empty {
		return list, err
	}
	for more := true; more; {
		v, err := p.value(true)
		if err != nil {
			return nil, err
		}
		list = append(list, v.tree)
		if more, err = p.more(']'); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (p *parser) skipItems() error {
	empty, err := p.enter(']')
	for more := !empty; more && err == nil; {
		if _, err = p.value(false); err == nil {
			more, err = p.more(']')
		}
	}
	return err
}

// names is the set of the property names of one object: an array as long as they are few.
type names struct {
	first [8]string
	n     int
	set   map[string]struct{}
}

// add says whether the name is new.
func (n *names) add(name string) bool {
	if n.has(name) {
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

// has says whether add was called with the name.
func (n *names) has(name string) bool {
	for _, s := range n.first[:n.n] {
		if s == name {
			return true
		}
	}
	_, ok := n.set[name]
	return ok
}

// compact removes the whitespace between the tokens of valid JSON.
func compact(text string) string {
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

// parseTree reads a whole JSON text into maps, slices, strings, json.Numbers, booleans and nil.
func parseTree(text string) (any, error) {
	p := parser{text: text}
	p.space()
	v, err := p.value(true)
	if err != nil {
		return nil, err
	}
	return v.tree, p.end()
}
