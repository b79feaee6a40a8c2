package schemas

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/freshet/freshet/internal/jsontext"
)

// Limits of a declaration.
const (
	maxNameLength = 64
	maxKeyChars   = 768 // InnoDB's index limit at four bytes a character
	maxFileBytes  = 1 << 20
)

// declaration is one dataset file while it is read.
type declaration struct {
	file  string
	lines map[string]int
	errs  []error
	// warnings are what is still accepted and will not be.
	warnings []string
	dataset  *Dataset // nil when something is wrong
}

// readDeclaration reads one file. The dataset is set only if there are no errors.
func readDeclaration(fsys fs.FS, file string) *declaration {
	d := &declaration{file: file, lines: map[string]int{}}
	text, err := fs.ReadFile(fsys, file)
	if err != nil {
		d.fail(0, "", "cannot be read: "+err.Error(), "")
		return d
	}
	if len(text) > maxFileBytes {
		d.fail(0, "", "is larger than 1 MiB", "")
		return d
	}
	root := d.parseYAML(text)
	if root == nil {
		return d
	}
	ds := &Dataset{File: file, Replica: &Replica{}, compiled: &compiled{}}
	d.readNames(root, ds)
	d.readPolicies(root, ds)
	ds.Key = d.readKey(root)
	doc := d.readSchema(root, fsys)
	d.readVersion(root.take("version"), ds)
	replica := d.readReplica(root, ds)
	cache := d.readCache(root, ds)
	d.readCDC(root, ds)
	root.done("dataset", "topic", "format", "schema", "key", "version", "unknown_properties", "on_delete", "on_data_loss", "on_storm",
		"replica", "cache", "cdc")
	if doc != nil {
		d.addColumns(ds, doc, replica)
		d.checkKey(ds, doc.props)
		d.checkVersionColumn(ds)
		d.checkCDC(ds, doc.props)
		d.prepareCache(ds, doc.props, cache)
		d.checkNamedTypes(ds)
	}
	if len(d.errs) == 0 {
		ds.compiled.rules = newRules(doc.root, doc.compiled, doc.props)
		ds.bindColumns()
		ds.schema = &Schema{root: doc.root, props: doc.props}
		d.dataset = ds
	}
	return d
}

func (d *declaration) readNames(root *section, ds *Dataset) {
	line := root.line
	if n := root.fields["dataset"]; n != nil {
		line = n.Line
	}
	ds.Name = root.text("dataset")
	if !isDatasetName(ds.Name) {
		d.fail(line, "dataset", "is missing or no name of a dataset", "use a small letter, then up to 63 small letters, digits, _ or -")
	}
	ds.Topic = root.text("topic")
	if ds.Topic == "" {
		ds.Topic = "freshet." + ds.Name
	}
	if !isTopic(ds.Topic) {
		d.fail(d.lines["topic"], "topic", "is not a name that Kafka accepts", "use up to 249 letters, digits, ., _ or -")
	}
	if strings.HasPrefix(ds.Topic, "freshet.invalidations.") {
		d.fail(d.lines["topic"], "topic", "is reserved for invalidations", "choose another")
	}
}

func (d *declaration) readPolicies(root *section, ds *Dataset) {
	ds.Format = Format(root.choice("format", string(FormatCloudEvents), string(FormatDebezium), string(FormatDebeziumFlat),
		string(FormatCanal), string(FormatMaxwell)))
	ds.RejectUnknown = root.choice("unknown_properties", "ignore", "reject") == "reject"
	ds.KeepOnDelete = root.choice("on_delete", "clear", "keep") == "keep"
	ds.ResyncOnDataLoss = root.choice("on_data_loss", "stop", "resync") == "resync"
	ds.FlowInStorms = root.choice("on_storm", "pause", "flow") == "flow"
}

func (d *declaration) readVersion(n *yaml.Node, ds *Dataset) {
	ds.Version.Kind = VersionEvent
	if ds.Format != FormatCloudEvents {
		ds.Version.Kind = VersionOffset
	}
	if n == nil {
		return
	}
	const fix = "write event, offset, or {column: name}"
	switch v, isText := textOf(n); {
	case isText && (v == "event" || v == "offset"):
		ds.Version.Kind = VersionKind(v)
	case n.Kind == yaml.MappingNode:
		s := d.section("version.", n)
		ds.Version = VersionRule{Kind: VersionColumn, Column: s.text("column")}
		s.done("column")
		if ds.Version.Column == "" {
			d.fail(n.Line, "version", "states no column", fix)
		}
	default:
		d.fail(n.Line, "version", "is not a known rule", fix)
	}
	if ds.Version.Kind == VersionEvent && ds.Format != FormatCloudEvents {
		d.fail(n.Line, "version", "is event, which "+string(ds.Format)+" does not carry", "write offset, or {column: name}")
	}
}

func (d *declaration) checkVersionColumn(ds *Dataset) {
	if ds.Version.Kind != VersionColumn || ds.Version.Column == "" {
		return
	}
	for _, c := range ds.Replica.Columns {
		if c.Name == ds.Version.Column {
			if c.Property.Kind != KindInteger {
				d.fail(d.lines["version"], "version", "states a column that is not an integer", "state one that grows with each change")
			}
			return
		}
	}
	d.fail(d.lines["version"], "version", "states a column that the replica does not have", "state one of its columns")
}

func (d *declaration) readKey(root *section) []string {
	key := root.texts("key")
	if len(key) == 0 && d.lines["key"] == 0 {
		d.fail(root.line, "key", "is missing", "write key: [id]")
	} else if len(key) == 0 {
		d.fail(d.lines["key"], "key", "is empty", "write key: [id]")
	}
	for i, name := range key {
		if slices.Contains(key[:i], name) {
			d.fail(d.lines["key"], "key", "names "+name+" twice", "name it once")
		}
	}
	return key
}

// checkKey makes sure that every key has one text, and that the table's primary key fits an index.
func (d *declaration) checkKey(ds *Dataset, props []Property) {
	chars := 0
	line := d.lines["key"]
	for _, name := range ds.Key {
		p := findProperty(props, name)
		switch {
		case p == nil:
			d.fail(line, "key", "names "+name+", which the schema does not declare", "name a property of the schema")
			continue
		case p.Kind != KindString && p.Kind != KindInteger && p.Kind != KindBoolean:
			d.fail(line, "key", "names "+name+", which is not a plain string, integer or boolean", "other types have more than one text")
			continue
		case p.Kind == KindString && p.MaxLength == 0:
			d.fail(line, "key", "names "+name+", a string without maxLength", `give it a "maxLength" in the schema`)
			continue
		case p.Kind == KindString:
			chars += p.MaxLength
		default:
			chars += 8
		}
	}
	if chars > maxKeyChars {
		d.fail(line, "key", "may be "+strconv.Itoa(chars)+" characters long", "at most 768 fit an index: lower a maxLength")
	}
}

func findProperty(props []Property, name string) *Property {
	for i := range props {
		if props[i].Name == name {
			return &props[i]
		}
	}
	return nil
}

// isDatasetName: [a-z][a-z0-9_-]{0,63}.
func isDatasetName(s string) bool {
	if s == "" || len(s) > maxNameLength || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, c := range []byte(s) {
		if (!isWord(c) && c != '-') || ('A' <= c && c <= 'Z') {
			return false
		}
	}
	return true
}

// isIdentifier: [A-Za-z_][A-Za-z0-9_]{0,63}.
func isIdentifier(s string) bool {
	if s == "" || len(s) > maxNameLength || jsontext.IsDigit(s[0]) {
		return false
	}
	for _, c := range []byte(s) {
		if !isWord(c) {
			return false
		}
	}
	return true
}

// hashCache identifies everything that decides which names a record has.
func hashCache(ds *Dataset, kinds map[string]Kind) (string, error) {
	text, err := json.Marshal(struct {
		Key           []string
		Kinds         map[string]Kind
		Own           string
		Derived, Tags []string
		External      []string `json:"Foreign"` // its name when the hash was defined
		Common        string   `json:",omitempty"`
	}{ds.Key, kinds, ds.Cache.Key, ds.Cache.Derived, ds.Cache.Tags, ds.Cache.External, ds.Cache.Common})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:16]), nil
}
