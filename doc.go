// Package freshet is the root of Freshet, which keeps every copy of a record fresh.
//
// A service changes a record in its own database and publishes it once. Freshet carries that change through Kafka to every
// MySQL replica, removes what it made stale from Redis, and notifies every node that holds the record in its own memory.
// When writes stop, every copy equals the source or is gone.
//
// # The one idea
//
// A record carries one version from the moment of publishing through the replica row and the shared cache entry down to
// each node's local entry. At every tier the greater version wins. So a late, repeated, reordered or replayed event is a
// no-op.
//
// # The path of a change
//
//	producer/outbox   Enqueue: the event is a row in the transaction of the service; internal/relay publishes it
//	producer          Publish: check against the dataset's schema, encode, append to the dataset's topic
//	internal/worker   Worker: fetch, decode, check, keep the newest version of each record of the batch
//	internal/replica  one MySQL transaction: fence and position, guarded upserts, dead letters
//	invalidation      Emitter: one atomic script deletes shared entries, keeps floors, appends to the lane, publishes
//	internal/worker   then, and only then, the Kafka offset is committed
//	invalidation      Node: every process that caches follows the lane and drops what became stale
//	invalidation      Cache: Get looks in the local tier, then the shared tier, then asks the loader
//
// # The packages
//
//	schemas         events, datasets, the CloudEvents codec, validation: shared by all other packages
//	consumer        a worker inside a program of your own
//	migrations      Freshet's own tables
//	internal        the parts of the worker (worker, replica, jobs), Kafka (kafkalog), the admin API, the sampler that compares
//	                what readers get with the replica, and the servers for tests
//	cmd/freshet     the binary for servers and operators; the only place that knows all packages
//	cmd/freshet-dev the demo, with embedded servers
//
// A service imports producer, invalidation and schemas, and consumer if it runs the worker itself. docs/design.md has the design and a map of all packages.
package freshet
