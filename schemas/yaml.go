package schemas

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// section is one mapping of a declaration while it is read. Every field that is taken out is known; what is left over
// at the end is refused.
type section struct {
	decl   *declaration
	path   string // "" or "replica."
	line   int
	fields map[string]*yaml.Node
	order  []string
}

// fail notes a problem at a line of the declaration.
func (d *declaration) fail(line int, field, problem, fix string) {
	place := d.file
	if line > 0 {
		place += ":" + strconv.Itoa(line)
	}
	if field != "" {
		place += ": " + field
	}
	d.errs = append(d.errs, &FieldError{Field: place, Problem: problem, Fix: fix})
}

// at returns "file:line: field" for a field that was read before.
func (d *declaration) at(field string) string {
	line, ok := d.lines[field]
	if !ok {
		line = d.lines["dataset"]
	}
	return d.file + ":" + strconv.Itoa(line) + ": " + field
}

// parseYAML reads a file of exactly one document whose root is a mapping; nil when it is not.
func (d *declaration) parseYAML(text []byte) *section {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.fail(0, "", "is empty", "declare a dataset, or remove the file")
		return nil
	case err != nil:
		d.fail(0, "", "is not valid YAML: "+strings.TrimPrefix(err.Error(), "yaml: "), "")
		return nil
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.fail(0, "", "holds more than one document", "write one file per dataset")
		return nil
	}
	if len(doc.Content) != 1 {
		d.fail(0, "", "is empty", "declare a dataset, or remove the file")
		return nil
	}
	return d.section("", doc.Content[0])
}

// section opens a mapping.
func (d *declaration) section(path string, n *yaml.Node) *section {
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, strings.TrimSuffix(path, "."), "is not a mapping of fields", "")
		return nil
	}
	s := &section{decl: d, path: path, line: n.Line, fields: map[string]*yaml.Node{}}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, v := n.Content[i], n.Content[i+1]
		d.lines[path+name.Value] = name.Line
		if _, twice := s.fields[name.Value]; twice {
			d.fail(name.Line, path+name.Value, "is given twice", "keep one")
			continue
		}
		s.fields[name.Value] = v
		s.order = append(s.order, name.Value)
	}
	return s
}

// take removes a field and returns its node, nil when it is absent.
func (s *section) take(name string) *yaml.Node {
	n := s.fields[name]
	delete(s.fields, name)
	if n != nil && n.Kind == yaml.AliasNode {
		s.decl.fail(n.Line, s.path+name, "is an alias", "write the value itself")
		return nil
	}
	return n
}

// text takes a field that is a plain string; "" when it is absent or wrong.
func (s *section) text(name string) string {
	n := s.take(name)
	if n == nil {
		return ""
	}
	v, ok := textOf(n)
	if !ok || v == "" {
		s.decl.fail(n.Line, s.path+name, "is not a text", "write one word or a quoted text")
	}
	return v
}

// textOf returns a scalar that YAML does not read as null, boolean or number.
func textOf(n *yaml.Node) (string, bool) {
	return n.Value, n.Kind == yaml.ScalarNode && n.Tag == "!!str"
}

// texts takes a field that is a list of strings.
func (s *section) texts(name string) []string {
	n := s.take(name)
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		s.decl.fail(n.Line, s.path+name, "is not a list", "write [a, b]")
		return nil
	}
	list := make([]string, 0, len(n.Content))
	for _, item := range n.Content {
		v, ok := textOf(item)
		if !ok || v == "" {
			s.decl.fail(item.Line, s.path+name, "has an item that is not a text", "quote it")
			continue
		}
		list = append(list, v)
	}
	return list
}

// choice takes a field that is one of the words; the first is the default.
func (s *section) choice(name string, words ...string) string {
	n := s.take(name)
	if n == nil {
		return words[0]
	}
	for _, w := range words {
		if v, ok := textOf(n); ok && v == w {
			return w
		}
	}
	s.decl.fail(n.Line, s.path+name, "is none of "+strings.Join(words, ", "), "")
	return words[0]
}

// done refuses every field that no one took.
func (s *section) done(known ...string) {
	for _, name := range s.order {
		if _, left := s.fields[name]; left {
			s.decl.fail(s.decl.lines[s.path+name], s.path+name, "is an unknown field", "known are "+strings.Join(known, ", "))
		}
	}
}
