// Package worker is a member of the consumer group: it carries the events of every dataset's topic into the replica and the lanes.
//
// The order of a batch never changes: MySQL commit, then emission, then the Kafka offset. A worker that dies anywhere in
// between leaves work that the next owner repeats, and repeating is harmless.
package worker
