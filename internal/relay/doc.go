// Package relay publishes the rows of an outbox: the table freshet_outbox of a service's database, into which any program
// inserts events in the transaction that changes a record.
//
// # Files
//
//   - relay.go: Relay, which takes part in the choice of the active one and reports what it waits for.
//   - lease.go, state.go: the lease, the row of freshet_relay, and what keeps a relay from publishing.
//   - term.go: the life of the active relay, pass by pass.
//   - read.go, publish.go, settle.go: the three stages of a pass, which work at the same time.
//   - advance.go: continues the versions above all that were published.
//   - census.go, status.go: what is counted for metrics, and what commands print.
//
// # Why no row is lost
//
// There is no cursor. A row is deleted by the transaction that proves that the relay still has the lease, after every replica in
// sync has its event; until then each pass finds it again, also if it was committed late with a small id. A pass reads one
// snapshot in the order of ids, so the rows of one record are published in the order of their commits. What a crash repeats has
// the same version and changes nothing.
//
// The row with the greatest published id stays as a marker, emptied, until a later row is published. It keeps the counter where it
// is over a restart of the server, and its absence shows that ids may be given again.
package relay
