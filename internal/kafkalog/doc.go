// Package kafkalog knows a Kafka cluster: connections to its brokers, questions to it, and a reader of committed records
// that handles compacted and transactional topics correctly. Package group (a consumer group that drains) and package
// delivery (an idempotent producer that keeps order) are built on it. The three use the protocol layer of
// kafka-go, and recordbatch its compression; nothing else does but freshet bench, which compares with its client.
//
// # Files
//
//   - client.go, brokers.go: a cluster, and the addresses where to begin.
//   - conn.go, sasl.go, pool.go: one connection to one broker, its authentication, and connections that are kept.
//   - metadata.go, offsets.go, topics.go, transactions.go: questions to the cluster.
//   - streams.go: what one dataset reads of a topic that several share.
//   - produce.go: one produce request. partitioner.go: the partition of a key.
//   - fetch.go, loss.go: one fetch request and its proof, and what it means when a broker does not have an offset.
//   - reader.go: one partition without a group.
//   - recordbatch, wire (packages): record batches, and the fields of replies.
//   - kafkatest (package): clusters and clients for tests.
//
// # Goroutines and locks
//
// The package starts no goroutine. The mutexes of brokerList and Pool are taken alone.
package kafkalog
