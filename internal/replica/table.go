package replica

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// Limits of one statement.
const (
	maxPlaceholders   = 65535   // the protocol's; more is error 1390
	maxStatementBytes = 4 << 20 // far below the server's usual 16 MB packet
	baseRowBytes      = 32
	baseValueBytes    = 9
)

// table is what is prepared once for a dataset's replica table.
type table struct {
	// unfit: Prepare found that it must not be written, and no one has looked since.
	unfit atomic.Bool
	// differs is how the dataset differs from the noted schema, as of the last batch.
	differs atomic.Pointer[difference]
	ds      *schemas.Dataset
	name    string // quoted
	// ladder holds the sizes of prepared statements in rows, greatest first, down to 1. Few sizes keep the number of
	// prepared statements small; a batch is split greedily.
	ladder []int
	// metaName is the name of the dataset's cache hash in freshet_meta; "" for a shadow of a dataset that has one: what is
	// written there is announced to no node yet, and the swap holds the hash's row.
	metaName      string
	dialect       mysql.Dialect
	names         []int // columns beside the key that names are made of
	selectRow     string
	selectVersion string
}

func newTable(ds *schemas.Dataset, d mysql.Dialect) *table {
	r := ds.Replica
	t := &table{ds: ds, name: mysql.Quote(r.Table), dialect: d}
	if ds.Cache != nil || ds.CacheHash() == "" {
		t.metaName = meta.Hash + ds.Name
	}
	for _, rows := range []int{1000, 500, 100, 10, 1} {
		if rows*(len(r.Columns)+tables.OwnColumns) <= maxPlaceholders || rows == 1 {
			t.ladder = append(t.ladder, rows)
		}
	}
	if ds.Cache != nil {
		t.names = ds.NameColumns()
	}
	var cols, where []string
	for i, c := range r.Columns {
		cols = append(cols, mysql.Quote(c.Name))
		if i < r.KeyColumns {
			where = append(where, mysql.Quote(c.Name)+" = ?")
		}
	}
	from := " FROM " + t.name + " WHERE " + strings.Join(where, " AND ")
	t.selectRow = "SELECT " + strings.Join(cols, ", ") + ", " + tables.ColVersion + ", " + tables.ColDeleted + ", " + tables.ColAt + from
	t.selectVersion = "SELECT " + tables.ColVersion + from
	return t
}

func (t *table) upsertSQL(rows int) string { return tables.UpsertSQL(t.ds, t.dialect, rows) }

// key returns the values of the key columns.
func (t *table) key(c *Change) []any { return c.Values[:t.ds.Replica.KeyColumns] }

// args appends the change's row in the order of UpsertSQL.
func (t *table) args(args []any, c *Change) []any {
	var at any
	if n := len(args) - 2; n > 0 {
		if was, ok := args[n].(int64); ok && was == c.At {
			at = args[n] // many records have the time of the one before
		}
	}
	if at == nil {
		at = c.At
	}
	for i := range t.ds.Replica.Columns {
		switch {
		case i >= len(c.Values), c.Deleted && i >= t.ds.Replica.KeyColumns:
			args = append(args, nil)
		default:
			args = append(args, c.Values[i])
		}
	}
	deleted := int64(0)
	if c.Deleted {
		deleted = 1
	}
	return append(args, deleted, at, c.Version)
}

// chunk is how many of the rows go into the next statement: the greatest step of the ladder that has enough of them and
// stays below the limit of bytes.
func (t *table) chunk(rows []*Change) int {
	size, fit := 0, 0
	for fit < len(rows) && fit < t.ladder[0] {
		size += rowBytes(rows[fit])
		if size > maxStatementBytes && fit > 0 {
			break
		}
		fit++
	}
	for _, step := range t.ladder {
		if step <= fit {
			return step
		}
	}
	return 1
}

// rowBytes is about how many bytes a row takes in a statement, at least what it does take.
func rowBytes(c *Change) int {
	n := baseRowBytes
	if c.Event != nil && len(c.Event.Data) > 0 {
		return n + len(c.Event.Key) + len(c.Event.Data) + baseValueBytes*len(c.Values) // its values are parts of its data
	}
	for _, v := range c.Values {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
		n += baseValueBytes
	}
	return n
}

// sortRows puts rows into key order: two transactions that lock the same rows in one order cannot deadlock.
func (t *table) sortRows(rows []*Change) {
	if t.ds.Replica.KeyColumns != 1 || !sortByText(rows) {
		slices.SortStableFunc(rows, t.compareKeys)
	}
}

// sortByText sorts rows whose only key value is a text, and returns false if there are others.
func sortByText(rows []*Change) bool {
	type keyed struct {
		key string
		c   *Change
	}
	all := make([]keyed, len(rows))
	for i, c := range rows {
		key, ok := c.Values[0].(string)
		if !ok {
			return false
		}
		all[i] = keyed{key, c}
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	for i := range all {
		rows[i] = all[i].c
	}
	return true
}

func (t *table) compareKeys(a, b *Change) int {
	for i, v := range t.key(a) {
		if c := compareValues(v, b.Values[i]); c != 0 {
			return c
		}
	}
	return 0
}

// compareValues orders two values of one column. Values of different types have no order of their own; any fixed one
// will do.
func compareValues(a, b any) int {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
	case uint64:
		if b, ok := b.(uint64); ok {
			return cmp.Compare(a, b)
		}
	case float64:
		if b, ok := b.(float64); ok {
			return cmp.Compare(a, b)
		}
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b)
		}
	case []byte:
		if b, ok := b.([]byte); ok {
			return bytes.Compare(a, b)
		}
	}
	return cmp.Compare(rank(a), rank(b))
}

func rank(v any) int {
	switch v.(type) {
	case int64:
		return 1
	case uint64:
		return 2
	case float64:
		return 3
	case string:
		return 4
	case []byte:
		return 5
	}
	return 0
}

// Kinds of a table's prepared statements.
const (
	upserts uint8 = iota
	selectsOld
	insertsPlaceholders
	comparesRows
	locksRows
)
