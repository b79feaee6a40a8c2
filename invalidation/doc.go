// Package invalidation keeps caches fresh. A worker tells through an Emitter what became stale; every process that caches
// follows as a Node and reads through Caches.
//
// # A node that caches
//
//	datasets, err := schemas.LoadDatasets(os.DirFS("datasets")) // the same files serve producers and workers
//	node, err := invalidation.Join(ctx, rdb, invalidation.Config{Namespace: "shop", Datasets: datasets})
//	defer node.Close()
//
//	users, err := invalidation.NewCache(node, invalidation.CacheConfig[User]{Dataset: "users", Load: loadUser})
//	u, err := users.Get(ctx, "42") // local, then shared, then loadUser
//	if errors.Is(err, invalidation.ErrNotFound) { … }
//
// The loader reads one record from the database that the workers keep, with the row's version:
//
//	func loadUser(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[User], error) {
//		db := secondary
//		if from == invalidation.Primary {
//			db = primary
//		}
//		var u User
//		var version int64
//		var deleted bool
//		err := db.QueryRowContext(ctx, "SELECT name, _version, _deleted FROM users WHERE id = ?", key).Scan(&u.Name, &version, &deleted)
//		if errors.Is(err, sql.ErrNoRows) {
//			return invalidation.Loaded[User]{From: from}, nil
//		}
//		return invalidation.Loaded[User]{Value: u, Version: version, Found: !deleted, From: from}, err
//	}
//
// # What a Get promises
//
// An entry of the local tier is served only while the node can show that it saw every invalidation up to
// Config.MaxStaleness ago: every message names the entry before it, and once a second the node compares itself with the
// lane's log. What it missed it reads there; if it cannot, it forgets everything. A node that is cut off passes its local
// tier by. Without Redis, or before a worker has made the lane, caches ask their loaders: a Get fails only when its
// loader does.
//
// A value enters a tier only under a lease, and only if it is at least as new as the last invalidation of its key. So a
// load that began before a change, or read a source that lags, is served to its caller but never kept.
//
// # Reading one's own writes
//
//	token, err := producer.Publish(ctx, event)
//	err = node.WaitFor(ctx, token) // with a deadline
//	u, err := users.Get(ctx, "42") // reflects the event
//
// A token travels as text (Token.String), so another service can wait for it too. Who knows the version of a single record
// needs no token, and who trusts nothing older than a second says so:
//
//	u, err := users.GetAtLeast(ctx, "42", 17)       // waits until there is version 17, with a deadline
//	u, err := users.GetWithin(ctx, "42", time.Second)
//
// # Many records
//
//	all, err := users.GetMany(ctx, keys) // one round trip per hundred, and one load with CacheConfig.LoadMany
//
// # Options of a Cache
//
// MaxEntries, MaxCost and Cost bound the local tier. RefreshAhead fills what is read often again before it ends. StaleIfError
// lets an old entry be returned in place of a loader's error, up to a bound; it is the one option that relaxes what a Get promises, and
// only while the loader fails. Codec chooses how shared values are written: JSON, Raw, the package msgpack, or your own. LocalOnly
// does without the shared tier. NewCache refuses what cannot go together.
package invalidation
