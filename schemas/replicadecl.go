package schemas

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// columnRule is what replica.columns says of one column.
type columnRule struct {
	name string
	typ  ColumnType
	line int
}

// readReplica reads the table and its declared columns, by property.
func (d *declaration) readReplica(root *section, ds *Dataset) map[string]columnRule {
	ds.Replica.Table = strings.ReplaceAll(ds.Name, "-", "_")
	declared := map[string]columnRule{}
	n := root.take("replica")
	if n == nil {
		return declared
	}
	s := d.section("replica.", n)
	if s == nil {
		return declared
	}
	if table := s.text("table"); table != "" {
		ds.Replica.Table = table
	}
	line := d.lines["replica.table"]
	if !isIdentifier(ds.Replica.Table) {
		d.fail(line, "replica.table", "is not a plain SQL identifier", "use a letter or _, then up to 63 letters, digits or _")
	}
	if strings.HasPrefix(strings.ToLower(ds.Replica.Table), "freshet_") {
		d.fail(line, "replica.table", "begins with freshet_, as Freshet's own tables do", "choose another")
	}
	if cn := s.take("columns"); cn != nil {
		if columns := d.section("replica.columns.", cn); columns != nil {
			for _, name := range columns.order {
				d.readColumn(columns, name, declared)
			}
		}
	}
	s.done("table", "columns")
	return declared
}

// readColumn reads one column: the name of its property, or a mapping with property and type.
func (d *declaration) readColumn(columns *section, name string, declared map[string]columnRule) {
	field := columns.path + name
	c := columnRule{name: name, line: d.lines[field]}
	property := name
	if n := columns.fields[name]; n.Kind == yaml.MappingNode {
		s := d.section(field+".", columns.take(name))
		if p := s.text("property"); p != "" {
			property = p
		}
		if text := s.text("type"); text != "" {
			var ok bool
			if c.typ, ok = ParseColumnType(text); !ok {
				d.fail(d.lines[field+".type"], field+".type", "is not a column type of MySQL or MariaDB", `write it as SHOW COLUMNS does: "int unsigned", "datetime(3)"`)
			}
		}
		s.done("property", "type")
	} else {
		property = columns.text(name)
	}
	if _, twice := declared[property]; twice {
		d.fail(c.line, field, "maps "+property+" a second time", "map a property once")
	}
	declared[property] = c
}

// addColumns gives every property its column: its own name and the default type unless they are declared.
func (d *declaration) addColumns(ds *Dataset, doc *schemaDoc, declared map[string]columnRule) {
	byName := map[string]string{} // folded column → property
	var others []Column
	keys := make([]Column, len(ds.Key))
	for _, p := range doc.props {
		rule, isDeclared := declared[p.Name]
		delete(declared, p.Name)
		if !isDeclared {
			rule = columnRule{name: p.Name, line: d.lines["schema"]}
		}
		name, line := rule.name, rule.line
		folded := strings.ToLower(name)
		switch {
		case !isIdentifier(name):
			d.fail(line, "column "+strconv.Quote(name), "is not a plain SQL identifier", "map the property to another column in replica.columns")
		case folded == "_version" || folded == "_deleted" || folded == "_at":
			d.fail(line, "column "+name, "is one of Freshet's own columns", "map the property to another column in replica.columns")
		case byName[folded] != "":
			d.fail(line, "column "+name, "is filled by "+byName[folded]+" and "+p.Name, "column names do not differ by case: rename one")
		}
		byName[folded] = p.Name
		column := Column{Name: name, Property: p, Type: rule.typ}
		i := slices.Index(ds.Key, p.Name)
		if rule.typ.Base != "" {
			d.checkType(rule, doc, &p, i >= 0)
		}
		if i >= 0 {
			column.Key = true
			keys[i] = column
		} else {
			others = append(others, column)
		}
	}
	for property, rule := range declared {
		d.fail(rule.line, "replica.columns."+rule.name, "maps "+property+", which the schema does not declare", "")
	}
	slices.SortFunc(others, func(a, b Column) int { return strings.Compare(a.Name, b.Name) })
	ds.Replica.Columns = append(keys, others...)
	ds.Replica.KeyColumns = len(keys)
}

// bindColumns sets the column of each rule.
func (d *Dataset) bindColumns() {
	for i := range d.compiled.rules.props {
		rule := &d.compiled.rules.props[i]
		rule.column = slices.IndexFunc(d.Replica.Columns, func(c Column) bool { return c.Property.Name == rule.Name })
		if rule.column >= 0 {
			rule.typ = d.Replica.Columns[rule.column].Type
		}
	}
}

// checkType refuses a type that would alter values of its property.
func (d *declaration) checkType(rule columnRule, doc *schemaDoc, p *Property, key bool) {
	field := "replica.columns." + rule.name + ".type"
	if key && (p.Kind != KindInteger || !rule.typ.IsInteger()) {
		d.fail(d.lines[field], field, "is the type of a key column", "leave it out: keys of text have a type that tells any two of them apart; those of integers may have an integer type")
		return
	}
	declared, _ := doc.root["properties"].(map[string]any)
	decl, _ := declared[p.Name].(map[string]any)
	if m := rule.typ.keeps(p, decl); m.problem != "" {
		d.fail(d.lines[field], field, m.problem, m.fix)
	}
}

// checkNamedTypes refuses templates with columns whose value has another text than the JSON.
func (d *declaration) checkNamedTypes(ds *Dataset) {
	for _, i := range ds.compiled.nameColumns {
		if c := ds.Replica.Columns[i]; c.Type.IsBinary() || c.Type.Base == "time" {
			d.fail(d.lines["cache"], "cache", "uses {"+c.Property.Name+"} in a template, and its column is "+c.Type.String(), "the column of that type has another text than the JSON")
		}
	}
}
