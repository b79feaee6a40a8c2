package compat

import (
	"reflect"
	"slices"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// Datasets compares every dataset of older with the one of the same name in newer: schemas, and declarations.
func Datasets(older, newer *schemas.Datasets, cfg Config) Report {
	var all walk
	for _, a := range older.All() {
		w := walk{cfg: cfg, dataset: a.Name, wasClosed: a.RejectUnknown}
		if b, ok := newer.Get(a.Name); ok {
			w.isClosed = b.RejectUnknown
			w.declarations(a, b)
			w.schemas(a.Schema(), b.Schema())
			w.renamed(a, b)
			w.cache(a.Cache, b.Cache)
		} else {
			w.add(Breaking, "dataset", "is not declared any more: its topic is not read and its table stays unchanged")
		}
		all.findings = append(all.findings, w.findings...)
	}
	for _, b := range newer.All() {
		if _, ok := older.Get(b.Name); !ok {
			all.dataset = b.Name
			all.add(Safe, "dataset", "is new")
		}
	}
	return all.report()
}

// declarations compares what decides where events come from, where they go, and how they are read.
func (w *walk) declarations(a, b *schemas.Dataset) {
	for _, f := range []struct {
		path   string
		differ bool
		answer Answer
		reason string
	}{
		{"topic", schemas.KafkaTopic(a.Topic) != schemas.KafkaTopic(b.Topic), Breaking, "differs: what is left in the old topic is not read any more"},
		{"format", a.Format != b.Format, Breaking, "differs: records that are stored in the topic are not understood any more"},
		{"key", !slices.Equal(a.Key, b.Key), Breaking, "differs: records have other keys, and the table another primary key"},
		{"version", a.Version != b.Version, Breaking, "differs: versions of earlier and of later events cannot be compared"},
		{"replica.table", a.Replica.Table != b.Replica.Table, Breaking, "differs: the old table is not written any more"},
		{"cdc", !reflect.DeepEqual(a.CDC, b.CDC), Unknown, "differs: records that are stored in the topic are read in another way"},
		{"on_delete", a.KeepOnDelete != b.KeepOnDelete, Safe, "differs: deletions treat the other columns in another way from now on"},
		{"on_storm", a.FlowInStorms != b.FlowInStorms, Safe, "differs"},
		{"on_data_loss", a.ResyncOnDataLoss != b.ResyncOnDataLoss, Safe, "differs"},
		{"unknown_properties", a.RejectUnknown && !b.RejectUnknown, Safe, "undeclared properties are ignored and counted from now on"},
	} {
		if f.differ {
			w.add(f.answer, f.path, f.reason)
		}
	}
}

// renamed looks for properties that fill another column than before, or one of another type.
func (w *walk) renamed(a, b *schemas.Dataset) {
	for _, was := range a.Replica.Columns {
		i := slices.IndexFunc(b.Replica.Columns, func(c schemas.Column) bool { return c.Property.Name == was.Property.Name })
		switch {
		case i < 0:
		case !strings.EqualFold(b.Replica.Columns[i].Name, was.Name):
			w.add(Breaking, "replica.columns."+was.Name, "its property fills another column now")
		case !reflect.DeepEqual(b.Replica.Columns[i].Type, was.Type):
			w.add(Unknown, "replica.columns."+was.Name, "its type differs: what the new type does not keep unchanged is refused from now on")
		}
	}
}

// cache compares the cache sections. Both a changed and a removed one are guarded by the hash, but of a removed one no one
// would tell the nodes that still cache.
func (w *walk) cache(a, b *schemas.CacheRules) {
	switch {
	case a != nil && b == nil:
		w.add(Breaking, "cache", "is removed: take it from the nodes first, then run `freshet migrate datasets --drop-cache`, then from the workers")
	case a == nil && b != nil:
		w.add(Safe, "cache", "is new: run `freshet migrate datasets`, then roll out workers and nodes")
	case !reflect.DeepEqual(a, b):
		w.add(Safe, "cache", "differs: after `freshet migrate datasets` older workers pause this dataset and older nodes bypass their caches for it")
	}
}
