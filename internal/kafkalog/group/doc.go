// Package group consumes topics as a member of a consumer group. Partitions are handed over without a gap: running batches
// finish, and what they did is committed before another member begins.
//
// # Files
//
//   - consumer.go, stats.go: Consumer, what is configured, and snapshots.
//   - watch.go, member.go, link.go, balancer.go, identity.go: membership in a group, and which members share one.
//   - session.go, locate.go: one generation of the group, and the leaders of its partitions.
//   - fetcher.go, loss.go: fetching all partitions of a session from their leaders.
//   - streams.go: which of the streams of a partition asks for it, and which share its reply.
//   - feed.go: a partition on its path from its leader to the handler, and decoding it into batches.
//   - handler.go, flow.go: Handler, and the path of batches through it to the commit.
//
// # Goroutines
//
// Consumer.Run is the membership. Beside it run watchTopics and watchMembers as long as the member stays, and a heartbeat as
// long as a generation lasts. A session runs the fetcher, which has one goroutine for each leader; Writers goroutines that
// call Apply; one goroutine for each partition that calls Emit; and the commit loop. A session waits for all of them before it
// ends, and a generation for its session.
//
// # Locks
//
// Where two are held, the first of this list is taken first:
//
//  1. fetcher.mu: feeds as far as they are fetched, leaders.
//  2. session.mu: feeds as far as they are worked on, and which of them wait for a writer.
//
// Consumer.mu, sticky.mu and membership.mu are taken alone, and no callback runs under them.
package group
