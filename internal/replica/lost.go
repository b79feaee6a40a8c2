package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// Lost counts changes that lost the guard of versions. Repetitions of what a row holds are not counted.
type Lost struct {
	// Superseded changes have a lower version than their row.
	Superseded int
	// Conflicts have the version of their row and other content: one of the two is not what the source has.
	Conflicts int
	// At is the offset of the first conflict, -1 without one.
	At int64
}

// Add counts l's changes too.
func (l *Lost) Add(o Lost) {
	if l.Conflicts == 0 {
		l.At = o.At
	}
	l.Superseded += o.Superseded
	l.Conflicts += o.Conflicts
}

// comparison is what changes are beside their rows.
type comparison struct {
	lost   Lost
	behind []string
	// held has, for each change, whether its row has its version or a greater one, and count is how many have.
	held  []bool
	count int
}

// judged adds changes that lost to the result.
func (r *run) judged(c comparison) {
	r.lost.Add(c.lost)
	r.behind = append(r.behind, c.behind...)
}

// judgeLost compares changes, some of which lost the guard, with the rows that their statement left. The statement holds
// their locks.
func (r *run) judgeLost(ctx context.Context, t *table, rows []*Change) error {
	c, err := r.compare(ctx, t, rows, len(rows), t.compareSQL, comparesRows)
	if err == nil {
		r.judged(c)
	}
	return err
}

// compare reads the rows of changes by a statement for n keys, at least as many as there are changes.
func (r *run) compare(ctx context.Context, t *table, rows []*Change, n int, text func(rows int) string, kind uint8) (comparison, error) {
	found := comparison{held: make([]bool, len(rows))}
	byKey := make(map[string]int, len(rows))
	for i, c := range rows {
		byKey[recordKey(t, c)] = i
	}
	args := t.keyArgs(rows)
	for range n - len(rows) {
		args = append(args, t.key(rows[len(rows)-1])...) // one size of statement, filled up
	}
	columns := t.ds.Replica.Columns
	var row Row
	raw, dest := rawColumns(len(columns), &row.Version, &row.Deleted)
	id := mysql.StatementID{Of: t, Rows: n, Kind: kind}
	err := r.w.EachSized(ctx, "compare rows of "+t.name, id, text, args, func(scan func(...any) error) error {
		if err := scan(dest...); err != nil {
			return fmt.Errorf("%w: %w", errColumn, err)
		}
		values, err := columnValues(columns, raw)
		if err != nil {
			return err
		}
		key, err := t.ds.FormatKey(values[:t.ds.Replica.KeyColumns]...)
		if err != nil {
			return nil //nolint:nilerr // no event can name this row
		}
		if i, ok := byKey[key]; ok {
			found.add(t, i, rows[i], &row, values)
		}
		return nil
	})
	return found, err
}

// add compares change i with its row.
func (found *comparison) add(t *table, i int, c *Change, row *Row, values []any) {
	switch {
	case row.Version < c.Version:
		return
	case row.Version > c.Version:
		found.lost.Add(Lost{Superseded: 1})
		found.behind = append(found.behind, recordKey(t, c))
	case !t.same(c.Values, c.Deleted, values, row.Deleted):
		found.lost.Add(Lost{Conflicts: 1, At: c.Offset})
	}
	if !found.held[i] {
		found.held[i] = true
		found.count++
	}
}

func (t *table) compareSQL(rows int) string {
	cols := make([]string, 0, len(t.ds.Replica.Columns))
	for _, c := range t.ds.Replica.Columns {
		cols = append(cols, mysql.Quote(c.Name))
	}
	key, one := strings.Join(t.keyNames(), ", "), "?"
	if n := t.ds.Replica.KeyColumns; n > 1 {
		key, one = "("+key+")", "(?"+strings.Repeat(",?", n-1)+")"
	}
	return "SELECT " + strings.Join(cols, ", ") + ", " + tables.ColVersion + ", " + tables.ColDeleted + " FROM " + t.name + " WHERE " + key +
		" IN (" + one + strings.Repeat(","+one, rows-1) + ")"
}

// SameState reports whether two changes of one record and version say the same.
func SameState(a, b *Change) bool {
	t := table{ds: a.Dataset}
	return t.same(a.Values, a.Deleted, b.Values, b.Deleted)
}

func (t *table) same(a []any, aDeleted bool, b []any, bDeleted bool) bool {
	if aDeleted || bDeleted {
		return aDeleted == bDeleted
	}
	for i, c := range t.ds.Replica.Columns {
		if i < len(a) && i < len(b) && !sameValue(c.Property, a[i], b[i]) {
			return false
		}
	}
	return true
}

// sameValue compares values as a schema means them: the database writes some of them in another form than they came in.
func sameValue(p schemas.Property, a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	x, y := text(a), text(b)
	if x == y {
		return true
	}
	switch p.Kind {
	case schemas.KindNumber, schemas.KindDecimal:
		m, ok := new(big.Rat).SetString(x)
		n, ok2 := new(big.Rat).SetString(y)
		return ok && ok2 && m.Cmp(n) == 0
	case schemas.KindDateTime:
		const form = "2006-01-02 15:04:05.999999"
		m, err := time.Parse(form, x)
		n, err2 := time.Parse(form, y)
		return err == nil && err2 == nil && m.Equal(n)
	case schemas.KindJSON:
		var m, n any
		return json.Unmarshal([]byte(x), &m) == nil && json.Unmarshal([]byte(y), &n) == nil && reflect.DeepEqual(m, n)
	case schemas.KindString, schemas.KindInteger, schemas.KindDate, schemas.KindBoolean:
	}
	return false
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	}
	return fmt.Sprint(v)
}
