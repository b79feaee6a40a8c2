package pulse

import (
	"time"

	"github.com/freshet/freshet/admin/api"
)

// minSpan is the shortest time that a rate is computed of.
const minSpan = 500 * time.Millisecond

// ratesBetween returns what happened from old to now. What one of them does not know, or what began again in between, is left out.
func ratesBetween(old, now *Look) (r api.Rates) {
	if old == nil || now.At.Sub(old.At) < minSpan {
		return r
	}
	span := now.At.Sub(old.At).Seconds()
	if old.Known.Lag && now.Known.Lag {
		r.Published, r.Applied = partitionRates(old.Lag, now.Lag, span)
	}
	if old.Known.Lanes && now.Known.Lanes && len(old.Lanes) == len(now.Lanes) {
		r.Emitted = per(laneEntries(old.Lanes, now.Lanes), span)
	}
	if old.Known.Nodes && now.Known.Nodes {
		nodeRates(old, now, &r)
	}
	return r
}

func per(n int64, span float64) *float64 {
	v := float64(n) / span
	return &v
}

func partitionRates(old, now []api.Partition, span float64) (published, applied *float64) {
	type id struct {
		topic     string
		partition int32
	}
	before := make(map[id]*api.Partition, len(old))
	for i := range old {
		before[id{old[i].Topic, old[i].Partition}] = &old[i]
	}
	var in, done int64
	for i := range now {
		p := &now[i]
		q := before[id{p.Topic, p.Partition}]
		if q == nil || p.Partition < 0 {
			continue
		}
		in += max(0, p.End-q.End) // a topic that was recreated begins again
		done += max(0, reached(p)-reached(q))
	}
	return per(in, span), per(done, span)
}

// reached is the first offset that is not applied: by MySQL, or by the group where MySQL has no position yet.
func reached(p *api.Partition) int64 { return max(p.Position, p.Committed, p.First) }

func laneEntries(old, now []uint64) (n int64) {
	for i := range now {
		if now[i] > old[i] { // else nothing came, or the lane was lost and begins again
			n += int64(now[i] - old[i])
		}
	}
	return n
}

// nodeRates adds what nodes did. Each node's numbers are as old as its last report.
func nodeRates(old, now *Look, r *api.Rates) {
	before := make(map[string]*api.Node, len(old.Nodes))
	for i := range old.Nodes {
		before[old.Nodes[i].ID] = &old.Nodes[i]
	}
	items := map[int]float64{} // by lane, of the node that found most: each of them is announced to every node
	var reads, hits, dropped float64
	known := false
	for i := range now.Nodes {
		n := &now.Nodes[i]
		o := before[n.ID]
		if o == nil || !o.Began.Equal(n.Began) {
			continue
		}
		span := now.At.Sub(old.At) - seconds(n.Silence) + seconds(o.Silence)
		if span < minSpan {
			continue // it has not reported since
		}
		known = true
		for j := range n.Lanes {
			if j < len(o.Lanes) {
				items[n.Lanes[j].Lane] = max(items[n.Lanes[j].Lane], float64(n.Lanes[j].Items-o.Lanes[j].Items)/span.Seconds())
			}
		}
		a, b := countsOf(n), countsOf(o)
		reads += max(0, float64(a.all-b.all)) / span.Seconds()
		hits += max(0, float64(a.hits-b.hits)) / span.Seconds()
		dropped += max(0, float64(a.dropped-b.dropped)) / span.Seconds()
	}
	if !known {
		return
	}
	var sum float64
	for _, v := range items {
		sum += max(0, v)
	}
	r.Invalidations, r.Reads, r.Evictions = &sum, &reads, &dropped
	if reads > 0 {
		ratio := min(1, hits/reads)
		r.HitRatio = &ratio
	}
}

type readCounts struct{ all, hits, dropped int64 }

func countsOf(n *api.Node) (c readCounts) {
	for _, x := range n.Caches {
		c.hits += x.LocalHits + x.SharedHits
		c.all += x.LocalHits + x.SharedHits + x.Loads
		c.dropped += x.Dropped
	}
	return c
}

// freshness returns how old the newest change since old was on the slowest node, and which that is; nil if nothing changed and nothing waits.
func freshness(old, now *Look) (*float64, string) {
	if !now.Known.Nodes {
		return nil, ""
	}
	before := map[string]*api.Node{}
	if old != nil {
		for i := range old.Nodes {
			before[old.Nodes[i].ID] = &old.Nodes[i]
		}
	}
	var worst *float64
	slowest := ""
	for i := range now.Nodes {
		n := &now.Nodes[i]
		o := before[n.ID]
		if o == nil || seconds(n.Silence) >= silentAfter {
			continue
		}
		for j := range n.Lanes {
			l := &n.Lanes[j]
			moved := j < len(o.Lanes) && l.Entries > o.Lanes[j].Entries
			if moved && l.Fresh && (worst == nil || l.Delay > *worst) {
				v := l.Delay
				worst, slowest = &v, n.ID
			}
		}
	}
	if _, oldest := now.backlog(true); now.Known.Lag && oldest > 0 && (worst == nil || oldest > *worst) {
		worst, slowest = &oldest, ""
	}
	return worst, slowest
}
