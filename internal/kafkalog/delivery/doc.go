// Package delivery appends records to topics: each once, and in the order of the calls per partition.
//
// # Files
//
//   - producer.go, all.go: Producer, what is configured, and appending several records at once.
//   - topic.go: what is known of a topic.
//   - queue.go: the records of a partition that wait for their outcome.
//   - partition.go, deliver.go: the goroutine that delivers a queue, batch by batch, with its producer id and sequence.
//   - verdict.go: what the answers of brokers mean.
//
// # Goroutines and locks
//
// A Producer runs one goroutine for each partition that it has written to, and one for upkeep. Close waits for them.
//
// topic.mu is taken before Producer.mu, which is taken before no other; queue.mu and trouble.mu are taken alone.
package delivery
