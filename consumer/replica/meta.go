package replica

import (
	"context"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
)

// The table freshet_meta keeps single facts under these names. A name that ends with a colon is followed by what the fact is
// about: a dataset, a source, a topic or a replay.
const (
	metaDatabase  = "database"   // identity of the database, which a physical copy shares
	metaNamespace = "namespace"  // the namespace that the database belongs to
	metaReplays   = "replays"    // locked while a replay is added
	metaDataset   = "dataset:"   // dataset: hash of its cache section, "" without one
	metaChanged   = "changed:"   // dataset: when its hash changed, in Unix seconds
	metaSchema    = "schema:"    // dataset: its recordedSchema
	metaPause     = "pause:"     // dataset: its Pause
	metaStorms    = "storms:"    // dataset: until when its storms are ignored, in Unix ms
	metaRestart   = "restart:"   // source: its Restart
	metaMisplaced = "misplaced:" // topic: its Misplaced record
	metaRebuild   = "rebuild:"   // replay: its rebuildNote
)

// metaRetired is the name under which a topic's previous id is noted.
func metaRetired(topic, id string) []byte { return []byte("retired:" + topic + "/" + id) }

const (
	sqlMetaValue  = "SELECT value FROM freshet_meta WHERE name = ?"
	sqlMetaOf     = "SELECT name, value FROM freshet_meta WHERE name LIKE ?"
	sqlAddMeta    = "INSERT INTO freshet_meta (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE name = name" // keeps what is there
	sqlSetMeta    = "INSERT INTO freshet_meta (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = VALUES(value)"
	sqlRemoveMeta = "DELETE FROM freshet_meta WHERE name = ?"

	forUpdate = " FOR UPDATE"
	forShare  = " LOCK IN SHARE MODE"
)

// readMeta returns the value of a name; ok is false if there is none. lock, if any, is added to the query.
func readMeta(ctx context.Context, q mysql.Querier, what, name string, lock ...string) (value []byte, ok bool, err error) {
	ok, err = mysql.One(ctx, q, what, sqlMetaValue+strings.Join(lock, ""), []any{[]byte(name)}, &value)
	return value, ok, err
}

// metaOf returns the values whose names begin with prefix, under the rest of their names. prefix holds no wildcard.
func metaOf(ctx context.Context, q mysql.Querier, what, prefix string) (map[string][]byte, error) {
	values := map[string][]byte{}
	return values, mysql.Each(ctx, q, what, sqlMetaOf, []any{[]byte(prefix + "%")}, func(scan func(...any) error) error {
		var name string
		var value []byte
		err := scan(&name, &value)
		values[strings.TrimPrefix(name, prefix)] = value
		return err
	})
}
