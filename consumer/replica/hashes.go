package replica

import (
	"cmp"
	"context"
	"database/sql"
	"math"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// The hash of each dataset's cache section is noted in freshet_meta, "" without one. A writer of rows of a dataset with
// another section would name entries otherwise than nodes do, or not at all, and must not write.

const (
	sqlNotes   = "SELECT name, value FROM freshet_meta WHERE name IN (?, ?) LOCK IN SHARE MODE"
	sqlSetHash = "INSERT INTO freshet_meta (name, value) VALUES (?, ?), (?, UNIX_TIMESTAMP()) ON DUPLICATE KEY UPDATE value = VALUES(value)"

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
	values, err := metaOf(ctx, l.pool.DB(), "read cache hashes", metaDataset)
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

// checkHashes is step 0. The lock keeps `freshet migrate datasets` waiting until this transaction has ended.
func (r *run) checkHashes(ctx context.Context) error {
	tables := make([]*table, 0, len(r.parts)+1)
	for _, p := range r.parts {
		tables = append(tables, p.t)
	}
	for _, l := range r.b.Letters {
		if t := r.m.tables.named(l.Dataset); t != nil && !slices.Contains(tables, t) {
			tables = append(tables, t)
		}
	}
	slices.SortFunc(tables, func(a, b *table) int { return cmp.Compare(a.metaName, b.metaName) })
	for _, t := range tables {
		hash, schema, err := notes(ctx, r.w, t)
		if err != nil {
			return err
		}
		if t.metaName != "" {
			if problem := CheckSection(t.ds, string(hash)); problem != nil {
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
	schemaName := metaSchema + t.ds.Name
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

// CheckSection returns how a dataset's cache section is not the one that the database knows by its hash, "" for none; nil: it is.
func CheckSection(ds *schemas.Dataset, known string) *DatasetError {
	switch want := ds.CacheHash(); {
	case known == want:
		return nil
	case known == "":
		return &DatasetError{Dataset: ds.Name, Problem: "its cache section is not registered in the database", Fix: mendMigrate}
	case want == "":
		return sectionGone(ds)
	}
	return &DatasetError{Dataset: ds.Name, Problem: "its cache section is not the one that the database knows", Fix: mendMigrate}
}

// sectionGone is about a declaration without the cache section that the database knows.
func sectionGone(ds *schemas.Dataset) *DatasetError {
	return &DatasetError{
		Dataset: ds.Name,
		Problem: "its cache section is gone, and no worker would tell nodes of changes that may still cache it",
		Fix: "put the section back; or take it from the nodes first, restart them, and then run freshet migrate datasets --drop-cache " +
			ds.Name,
	}
}

const mendMigrate = "run freshet migrate datasets with this program's declarations, or start a program that has the registered ones"

// planHash registers the hash of a dataset's cache section, "" without one. It is changed here and nowhere else, and the
// row's lock makes the change wait for running batches.
func planHash(ctx context.Context, db *sql.DB, ds *schemas.Dataset, drop bool) ([]Statement, *DatasetError, error) {
	hash, ok, err := readMeta(ctx, db, "read cache hash of dataset "+ds.Name, metaDataset+ds.Name)
	unknown := !ok
	if err != nil {
		return nil, nil, err
	}
	want := ds.CacheHash()
	var note string
	switch known := string(hash); {
	case unknown && want == "":
		note = "it has no cache section"
	case known == want:
		return nil, nil, nil
	case want == "" && !drop:
		return nil, sectionGone(ds), nil
	case want == "":
		note = "its cache section is gone"
	case known == "":
		note = "its cache section is new"
	default:
		note = "its cache section changed"
	}
	s := Statement{Dataset: ds.Name, SQL: sqlSetHash, Note: note, args: []any{[]byte(metaDataset + ds.Name), []byte(want), []byte(metaChanged + ds.Name)}}
	if unknown {
		s.SQL, s.args = sqlSetMeta, s.args[:2]
	}
	return []Statement{s}, nil, nil
}
