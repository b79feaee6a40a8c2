package schemas

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// readCache reads the cache section as it stands.
func (d *declaration) readCache(root *section, ds *Dataset) *CacheRules {
	n := root.take("cache")
	if n == nil {
		return nil
	}
	s := d.section("cache.", n)
	if s == nil {
		return nil
	}
	ds.Cache = &CacheRules{Key: s.text("key"), Derived: s.texts("derived"), Tags: s.texts("tags"), External: d.readExternal(s), Common: s.text("common")}
	s.done("key", "derived", "tags", "external", "common")
	if ds.Cache.Key == "" {
		d.fail(n.Line, "cache.key", "is missing", "write key: \""+ds.Name+":{"+strings.Join(ds.Key, "}:{")+"}\"")
	}
	return ds.Cache
}

// readExternal reads the external keys under their name, or under the name that they had before.
func (d *declaration) readExternal(s *section) []string {
	const now, before = "external", "foreign"
	old := s.fields[before]
	if old == nil {
		return s.texts(now)
	}
	if s.fields[now] != nil {
		d.fail(old.Line, s.path+before, "is the previous name of "+now+", which is there as well", "keep "+now+" alone")
		s.take(now)
		return s.texts(before)
	}
	d.lines[s.path+now] = d.lines[s.path+before] // later checks know the new name
	d.warnings = append(d.warnings, d.at(s.path+before)+": is the previous name of "+s.path+now+"; rename it: the next release refuses it")
	return s.texts(before)
}

// prepareCache checks the templates against the schema and prepares them.
func (d *declaration) prepareCache(ds *Dataset, props []Property, cache *CacheRules) {
	if cache == nil || cache.Key == "" {
		return
	}
	kinds := map[string]Kind{}
	ds.compiled.cacheKey = d.template("cache.key", cache.Key, props, kinds)
	if t := ds.compiled.cacheKey; t != nil {
		d.bindKey(t, ds.Key)
	}
	for _, text := range cache.Derived {
		if t := d.template("cache.derived", text, props, kinds); t != nil {
			d.noClash("cache.derived", t, ds)
			ds.compiled.derived = append(ds.compiled.derived, t)
		}
	}
	for _, text := range cache.Tags {
		if t := d.template("cache.tags", text, props, kinds); t != nil {
			ds.compiled.tags = append(ds.compiled.tags, t)
		}
	}
	for _, text := range cache.External {
		if t := d.template("cache.external", text, props, kinds); t != nil {
			ds.compiled.external = append(ds.compiled.external, t)
		}
	}
	d.checkCommon(cache.Common)
	ds.bindNames()
	hash, err := hashCache(ds, kinds)
	if err != nil {
		d.fail(d.lines["cache"], "cache", "cannot be hashed: "+err.Error(), "")
	}
	ds.compiled.cacheHash = hash
}

// checkCommon: a tag that depended on a record could change with it, and its entry would carry another than its change names.
func (d *declaration) checkCommon(tag string) {
	const field = "cache.common"
	switch {
	case strings.ContainsAny(tag, "{}"):
		d.fail(d.lines[field], field, "has a placeholder, but is one tag for all records", "write a plain text, all:users for instance")
	case len(tag) > maxTemplateBytes || strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r == 0x7F || r == utf8.RuneError }):
		d.fail(d.lines[field], field, "is not a tag", "write up to 256 bytes of text without spaces, all:users for instance")
	}
}

// template parses one template; nil after a problem.
func (d *declaration) template(field, text string, props []Property, kinds map[string]Kind) *template {
	t, problem := parseTemplate(text)
	if problem != "" {
		d.fail(d.lines[field], field, "has a bad template: "+problem, "")
		return nil
	}
	for _, name := range t.names {
		p := findProperty(props, name)
		switch {
		case p == nil:
			d.fail(d.lines[field], field, "uses {"+name+"}, which the schema does not declare", "name a property of the schema")
			return nil
		case p.Kind != KindString && p.Kind != KindInteger && p.Kind != KindBoolean:
			d.fail(d.lines[field], field, "uses {"+name+"}, which is not a plain string, integer or boolean", "the column of other types has another text than the JSON")
			return nil
		}
		kinds[name] = p.Kind
		t.kinds = append(t.kinds, p.Kind)
	}
	return &t
}

// bindKey: the record's own entry is named by its key, all of it and nothing else.
func (d *declaration) bindKey(t *template, key []string) {
	for _, name := range t.names {
		i := slices.Index(key, name)
		if i < 0 {
			d.fail(d.lines["cache.key"], "cache.key", "uses {"+name+"}, which is not part of the key", "move it to cache.derived")
			return
		}
		t.fields = append(t.fields, i)
	}
	for _, name := range key {
		if !slices.Contains(t.names, name) {
			d.fail(d.lines["cache.key"], "cache.key", "lacks {"+name+"}: two records would share an entry", "use every key property")
		}
	}
}

// noClash refuses a derived template that could give a record key's name, or another derived one's.
func (d *declaration) noClash(field string, t *template, ds *Dataset) {
	for _, other := range ds.templates() {
		if t.overlaps(other) {
			d.fail(d.lines[field], field, "has "+t.text+", which could give the same name as "+other.text, "give each its own fixed text, such as user:email:")
		}
	}
}
