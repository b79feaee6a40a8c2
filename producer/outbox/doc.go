// Package outbox writes events into the table freshet_outbox of a service's own database, in the transaction that changes
// the record. What is committed is published by `freshet relay`; what is rolled back was never there.
//
// # Writing
//
// A service makes one Outbox and keeps it:
//
//	datasets, err := schemas.LoadDatasets(os.DirFS("datasets"))
//	box, err := outbox.New(outbox.Config{Datasets: datasets})
//
// In each transaction it changes the record first, and enqueues what the record has become afterwards:
//
//	tx, err := db.BeginTx(ctx, nil)
//	defer tx.Rollback()
//	_, err = tx.ExecContext(ctx, "UPDATE users SET name = ? WHERE id = ?", name, id)
//	// ... read the state to publish, if the statement above does not contain all of it
//	versions, err := box.Enqueue(ctx, tx, schemas.Event{
//		Dataset: "users", Key: "42", Op: schemas.Upsert, Data: body,
//	})
//	err = tx.Commit()
//
// # The lock rule
//
// [Outbox.Enqueue] must come after the statement that changes the record, or after a SELECT … FOR UPDATE of it, in the same
// transaction, and the event's state must be read after that statement. The lock on the record's row keeps every other
// transaction that changes the record waiting until this one ends, so the outbox ids of a record follow the order of its
// commits. The id is the event's version: an event that is enqueued before the lock may have the greater version and the
// older state.
//
// # Reading what was written
//
// The versions that Enqueue returns are those of the events. After the commit, invalidation's Cache.GetAtLeast with the
// record's key and version returns the record in at least that state, from any process.
//
// # Other languages
//
// The table is a contract: any program may insert rows. docs/outbox.md has the columns and examples; [DDL] returns the
// statements that create the tables.
package outbox
