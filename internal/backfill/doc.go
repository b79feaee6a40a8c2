// Package backfill enqueues the rows of a source table into the outbox, so that a replica receives rows that existed before
// the service published its changes.
//
// # How a row travels
//
// A Loader reads the table in chunks, in the order of the record's key. One short transaction for each chunk locks its rows
// (shared), inserts one event for each of them into freshet_outbox and stores the cursor in freshet_backfill. The lock makes
// the versions right: a transaction that changes one of these rows commits either before, and the chunk has its state, or
// waits, and its own event has a greater id. The relay publishes these events as it publishes all others.
//
// When every row is enqueued, the Loader walks through the replica and looks for records that the source does not have. For
// each of them it enqueues a deletion, in a transaction that locks the gap where the row would be: an insert of that record
// waits until the deletion has its id.
//
// A Loader that is killed loses nothing and repeats nothing: the cursor commits with the chunk. Two Loaders of one dataset
// share the cursor's row and alternate.
package backfill
