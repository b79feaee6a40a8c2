// Package model is a randomised model checker of the lane protocol; it has tests only and the standard library alone.
//
// One seed is one run: a fault phase in which randomly chosen actors make one atomic step each (publish, worker, zombie,
// node, lost messages, fail-overs to an older prefix, flushed servers), a calm phase, a drain, and then the check that
// everything readable equals the replica. Each rule of the protocol can be switched off; then some seed must fail. A
// violation of the full protocol is fixed in the protocol and its scripts, never in the checker.
//
// The world is small on purpose: 8 cache keys, 2 partitions, 2 lanes with Redis states of their own, 3 nodes. Many short
// runs reach more interleavings than few long ones. FRESHET_MODEL_SEEDS sets the number of seeds of the full protocol.
//
// A third of the seeds also has dead letters, writers that redrive them beside the workers through the outbox and the topic
// of other writers' invalidations, and transactions that wait long for their locks.
//
// Another third of those without, a fifth of all, has a change of the dataset's cache section: the operator registers the
// new one while workers and nodes of both run side by side, which name and tag the same records otherwise. It is changed
// once in a run: back and forth within a loss of Redis is not modelled.
//
// In a third of the seeds, masters that were replaced, with or without a loss, continue answering reads as replicas do, and a node's connections
// for reads may lead to them for a while.
//
// In a third of the seeds, nodes keep loads from the primary that the shared tier did not take, for a bounded time: what they serve of
// those is within the bound also where Redis lost something.
//
// In a quarter of the seeds, nodes answer with what they loaded, and keep it, before its fill has returned: a refused fill removes it.
//
// In half of the seeds one node is a simple follower, whose readers share one load per key.
//
// Not modelled: a follower's number of lanes and the ends of its entries (they bound what the protocol does not see), that a node leaves the shared tier alone while its lane is not confirmed (it bounds what two masters that both take writes
// could do, which the protocol assumes away), deletion of rows, overflow of the tag table, a change of hold or of the number of lanes,
// foreign keys, eviction, clock skew between servers, slot migration.
package model
