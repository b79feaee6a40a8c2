// Package meta reads the table freshet_meta and has all the names in it.
package meta

import (
	"context"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
)

// The table freshet_meta keeps single facts under these names. A name that ends with a colon is followed by what the fact is
// about: a dataset, a source, a topic or a replay.
const (
	Database  = "database"   // identity of the database, which a physical copy shares
	Namespace = "namespace"  // the namespace that the database belongs to
	Replays   = "replays"    // locked while a replay is added
	Hash      = "dataset:"   // dataset: hash of its cache section, "" without one
	Changed   = "changed:"   // dataset: when its hash changed, in Unix seconds
	Schema    = "schema:"    // dataset: its tables.Schema
	Pause     = "pause:"     // dataset: its Pause
	Storms    = "storms:"    // dataset: until when its storms are ignored, in Unix ms
	Restart   = "restart:"   // source: its Restart
	Misplaced = "misplaced:" // topic: its Misplaced record
	Rebuild   = "rebuild:"   // replay: its rebuildNote
)

// Retired is the name under which a topic's previous id is noted.
func Retired(topic, id string) []byte { return []byte("retired:" + topic + "/" + id) }

// Statements on one name, and locks that Read takes: SQLAdd keeps a value that is there, SQLSet replaces it.
const (
	sqlValue  = "SELECT value FROM freshet_meta WHERE name = ?"
	sqlAll    = "SELECT name, value FROM freshet_meta WHERE name LIKE ?"
	SQLAdd    = "INSERT INTO freshet_meta (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE name = name"
	SQLSet    = "INSERT INTO freshet_meta (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = VALUES(value)"
	SQLRemove = "DELETE FROM freshet_meta WHERE name = ?"

	ForUpdate = " FOR UPDATE"
	ForShare  = " LOCK IN SHARE MODE"
)

// Read returns the value of a name; ok is false if there is none. lock, if any, is added to the query.
func Read(ctx context.Context, q mysql.Querier, what, name string, lock ...string) (value []byte, ok bool, err error) {
	ok, err = mysql.One(ctx, q, what, sqlValue+strings.Join(lock, ""), []any{[]byte(name)}, &value)
	return value, ok, err
}

// All returns the values whose names begin with prefix, under the rest of their names. prefix holds no wildcard.
func All(ctx context.Context, q mysql.Querier, what, prefix string) (map[string][]byte, error) {
	values := map[string][]byte{}
	return values, mysql.Each(ctx, q, what, sqlAll, []any{[]byte(prefix + "%")}, func(scan func(...any) error) error {
		var name string
		var value []byte
		err := scan(&name, &value)
		values[strings.TrimPrefix(name, prefix)] = value
		return err
	})
}
