package replica

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
	"github.com/freshet/freshet/internal/replica/tables"
)

// The hash of each dataset's cache section is noted in freshet_meta, "" without one. A writer of rows of a dataset with
// another section would name entries otherwise than nodes do, or not at all, and must not write.

const (
	sqlNotes = "SELECT name, value FROM freshet_meta WHERE name IN (?, ?) LOCK IN SHARE MODE"

	sqlHashChanged = "SELECT COUNT(*) FROM freshet_meta WHERE name LIKE 'changed:%' AND value + 0 >= UNIX_TIMESTAMP() - ?"
)

// Declarations are what the database knows of datasets' declarations. It is safe for concurrent use.
type Declarations struct{ pool *mysql.Pool }

// HashChanged reports whether the hash of some dataset's cache section was changed within the time before now.
func (l *Declarations) HashChanged(ctx context.Context, within time.Duration) (bool, error) {
	var n int
	_, err := mysql.One(ctx, l.pool.DB(), "read when cache hashes changed", sqlHashChanged, []any{int64(math.Ceil(within.Seconds()))}, &n)
	return n > 0, err
}

// Hashes returns dataset → hash of its cache section, as `freshet migrate datasets` noted them. Datasets without a section
// are absent.
func (l *Declarations) Hashes(ctx context.Context) (map[string]string, error) {
	values, err := meta.All(ctx, l.pool.DB(), "read cache hashes", meta.Hash)
	if err != nil {
		return nil, err
	}
	hashes := make(map[string]string, len(values))
	for dataset, value := range values {
		if len(value) > 0 {
			hashes[dataset] = string(value)
		}
	}
	return hashes, nil
}

// checkHashes is step 0 of DB.Apply. The lock keeps `freshet migrate datasets` waiting until this transaction has ended.
func (r *run) checkHashes(ctx context.Context) error {
	written := make([]*table, 0, len(r.parts)+1)
	for _, p := range r.parts {
		written = append(written, p.t)
	}
	for _, l := range r.b.Letters {
		if t := r.m.tables.named(l.Dataset); t != nil && !slices.Contains(written, t) {
			written = append(written, t)
		}
	}
	slices.SortFunc(written, func(a, b *table) int { return cmp.Compare(a.metaName, b.metaName) })
	for _, t := range written {
		hash, schema, err := notes(ctx, r.w, t)
		if err != nil {
			return err
		}
		if t.metaName != "" {
			if problem := tables.CheckSection(t.ds, string(hash)); problem != nil {
				return problem
			}
		}
		if err := r.checkSchema(ctx, t, schema); err != nil {
			return err
		}
	}
	return nil
}

// notes reads and locks what freshet_meta has of a dataset. The cache hash of a shadow's dataset is left alone: the swap
// holds its row.
func notes(ctx context.Context, w *mysql.Conn, t *table) (hash, schema []byte, err error) {
	schemaName := meta.Schema + t.ds.Name
	err = mysql.Each(ctx, w, "read declaration of dataset "+t.ds.Name, sqlNotes, []any{cmp.Or(t.metaName, schemaName), schemaName}, func(scan func(...any) error) error {
		var name string
		var value []byte
		err := scan(&name, &value)
		if name == schemaName {
			schema = value
		} else {
			hash = value
		}
		return err
	})
	return hash, schema, err
}
