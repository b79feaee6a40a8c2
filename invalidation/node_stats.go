package invalidation

import (
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/durations"
)

// NodeStats is a snapshot of a node. Counters count from the node's beginning.
type NodeStats struct {
	ID, Namespace string
	Lanes         []LaneStats
	// Syncs and SyncErrors count comparisons with lanes, Subscriptions confirmed ones, ClockJumps suspensions of the
	// machine.
	Syncs, SyncErrors, Subscriptions, ClockJumps int64
	// Waiting is the number of sources that WaitFor calls wait for now.
	Waiting int
	// Disagreeing names the datasets that are not cached, or not in every lane, because a lane's cache section differs or is
	// not known.
	Disagreeing []string
	// Freshness counts, for each entry of a lane, how old its newest event was when this node had applied the entry: by the time of the
	// record in Kafka and this machine's clock. Nodes does not show it.
	Freshness Durations `json:"-"`
}

// Durations counts durations in buckets.
type Durations = durations.Snapshot

// LaneStats is what a node knows of one lane.
type LaneStats struct {
	Lane int
	// Exists is false until a worker has made the lane, or when it is gone: caches ask their loaders.
	Exists bool
	// Live: the subscription works. Fresh: local entries are served.
	Live, Fresh bool
	// Last is the newest entry that the node knows, "" for none.
	Last string
	// ConfirmAge is how long ago the node last knew to have everything; -1 for never.
	ConfirmAge time.Duration
	// Delay is how old the newest event of the last applied entry was when it was applied; 0 before.
	Delay time.Duration
	// Entries and Items count what was applied, Gaps the messages that did not follow what was known, CaughtUp the
	// entries that were read from the stream instead.
	Entries, Items, Gaps, CaughtUp int64
	// Flushes by reason: start, mismatch, trimmed, lane_missing, flag, unread, asked.
	Flushes map[string]int64
}

// Stats returns a snapshot.
func (n *Node) Stats() NodeStats {
	s := NodeStats{ID: n.cfg.ID, Namespace: n.cfg.Namespace, ClockJumps: n.jumps.Load(), Waiting: n.waits.len()}
	for _, name := range n.names {
		for i := range n.lanes {
			if !n.datasets[name].lanes[i].agreed.Load() {
				s.Disagreeing = append(s.Disagreeing, name)
				break
			}
		}
	}
	for _, f := range n.lanes {
		s.Syncs += f.syncCount.Load()
		s.SyncErrors += f.failed.Load()
		s.Subscriptions += f.subscriptions.Load()
		s.Lanes = append(s.Lanes, f.stats(n.now()))
		s.Freshness.Add(f.view.ages.Snapshot())
	}
	return s
}

// Caches returns a snapshot of each cache of the node.
func (n *Node) Caches() []CacheStats {
	caches := *n.caches.Load()
	out := make([]CacheStats, 0, len(caches))
	for _, c := range caches {
		out = append(out, c.Stats())
	}
	return out
}

func (f *follower) stats(now int64) LaneStats {
	v := f.view
	l := LaneStats{
		Lane: f.n, Exists: v.exists.Load(), Live: f.live.Load(), Fresh: f.fresh(now), ConfirmAge: -1,
		Entries: v.messages.Load(), Items: v.items.Load(), Gaps: v.gaps.Load(), CaughtUp: v.caught.Load(),
		Flushes: counts([]string{"start", "mismatch", "trimmed", "lane_missing", "flag", "unread", "asked"}, v.flushes[:]),
		Delay:   time.Duration(v.delay.Load()),
	}
	if id := v.end(); id != (entryID{}) {
		l.Last = id.String()
	}
	if c := v.confirm.Load(); c != 0 {
		l.ConfirmAge = time.Duration(now - c)
	}
	return l
}

// counts names the counters.
func counts(names []string, c []atomic.Int64) map[string]int64 {
	out := make(map[string]int64, len(names))
	for i, name := range names {
		out[name] = c[i].Load()
	}
	return out
}
