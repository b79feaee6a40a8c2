// Package cdc reads what capture tools write into Kafka: Debezium's envelopes and flattened rows, Canal's flat JSON and
// Maxwell's JSON become events, one per row, with the full state as JSON and a version. CloudEvents are read too, so that
// one Decoder serves every dataset.
//
//	dec := cdc.New(cdc.Config{Dataset: users, Epoch: epoch, Partitions: partitions})
//	res, err := dec.Decode(record)
//
// What a record says is a function of the record, its offset, the dataset's declaration and the Config alone: reading it
// again returns the same events with the same versions.
//
// A row that cannot be an event comes with an error, for a dead letter; its neighbours in the same record do not suffer.
// Records that carry no row (heartbeats, DDL, transaction marks, statements, other tables) are ignored and named, so that
// they can be counted. What changes a table without naming rows (TRUNCATE), and what contradicts the declaration in a way
// that would lose deletions, is a PauseError.
package cdc
