// Package kafkalog reads and writes Kafka for Freshet: a fetcher that reads compacted and transactional topics correctly, a
// group consumer that drains, an idempotent producer that keeps order, and the few admin calls that are needed. It is the
// only user of kafka-go, of which it takes the protocol layer.
//
// # Files
//
//   - client.go, conn.go, sasl.go, pool.go: a cluster, one connection to one broker, its authentication, and connections that are
//     kept.
//   - metadata.go, offsets.go, topics.go, transactions.go: questions to the cluster.
//   - recordbatch, wire (packages): record batches, and the fields of replies.
//   - fetch.go, loss.go: one fetch request and its proof, and what it means when a broker does not have an offset. Reader
//     (reader.go: one partition, no group) and fetcher (fetcher.go: all partitions of a session) share them.
//   - feed.go: a partition on its path from its leader to the handler, and decoding it into batches.
//   - consumer.go, watch.go, member.go, link.go, balancer.go, identity.go: membership in a group, and which members share one.
//   - session.go, flow.go, stats.go: one generation of the group, and the path of its batches through the Handler.
//   - produce.go, produceall.go, produce_topic.go, produce_queue.go, produce_deliver.go, produce_request.go: the producer, what it
//     knows of a topic, a partition's queue, the delivery of a batch, and requests with what their answers mean.
//
// # Goroutines
//
// Consumer.Run is the membership. Beside it run watchTopics and watchMembers as long as the member stays, and a heartbeat as
// long as a generation lasts. A session runs the fetcher, which has one goroutine for each leader; Writers goroutines that
// call Apply; one goroutine for each partition that calls Emit; and the commit loop. A session waits for all of them before it
// ends, and a generation for its session.
//
// A Producer runs one goroutine for each partition that it has written to, and one for upkeep. Close waits for them. Client
// and Reader have none.
//
// # Locks
//
// Where two are held, the first of this list is taken first:
//
//  1. fetcher.mu: feeds as far as they are fetched, leaders.
//  2. session.mu: feeds as far as they are worked on, and which of them wait for a writer.
//
// Consumer.mu, sticky.mu, membership.mu, pool.mu and Client.mu are taken alone, and no callback runs under them. In the
// producer, topic.mu is taken before Producer.mu, which is taken before no other; partition.mu is taken alone.
package kafkalog
