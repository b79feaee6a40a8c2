package tables

import (
	"context"
	"database/sql"

	"github.com/freshet/freshet/internal/replica/internal/meta"
	"github.com/freshet/freshet/schemas"
)

const sqlSetHash = "INSERT INTO freshet_meta (name, value) VALUES (?, ?), (?, UNIX_TIMESTAMP()) ON DUPLICATE KEY UPDATE value = VALUES(value)"

// CheckSection returns how a dataset's cache section is not the one that the database knows by its hash, "" for none; nil: it is.
func CheckSection(ds *schemas.Dataset, known string) *DatasetError {
	switch want := ds.CacheHash(); {
	case known == want:
		return nil
	case known == "":
		return &DatasetError{Dataset: ds.Name, Problem: "its cache section is not registered in the database", Fix: FixMigrate}
	case want == "":
		return sectionGone(ds)
	}
	return &DatasetError{Dataset: ds.Name, Problem: "its cache section is not the one that the database knows", Fix: FixMigrate}
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

// FixMigrate is how to fix a declaration that differs from the registered one.
const FixMigrate = "run freshet migrate datasets with this program's declarations, or start a program that has the registered ones"

// planHash registers the hash of a dataset's cache section, "" without one. It is changed here and nowhere else, and the
// row's lock makes the change wait for running batches.
func planHash(ctx context.Context, db *sql.DB, ds *schemas.Dataset, drop bool) ([]Statement, *DatasetError, error) {
	hash, ok, err := meta.Read(ctx, db, "read cache hash of dataset "+ds.Name, meta.Hash+ds.Name)
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
	s := Statement{Dataset: ds.Name, SQL: sqlSetHash, Note: note, args: []any{[]byte(meta.Hash + ds.Name), []byte(want), []byte(meta.Changed + ds.Name)}}
	if unknown {
		s.SQL, s.args = meta.SQLSet, s.args[:2]
	}
	return []Statement{s}, nil, nil
}
