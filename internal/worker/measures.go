package worker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/durations"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// Measures are what a worker's work took since its start, and how far it is behind now. They are apart from Stats because a
// snapshot of them copies every bucket.
type Measures struct {
	// Fetch is how long fetches took that brought records, the wait for records included; Commit is how long commits of offsets took.
	Fetch, Commit durations.Snapshot
	// Topics has the measures of each topic that this worker carries, by dataset; those of the invalidation topic are under its own name.
	Topics map[string]TopicMeasures
	// Lag is how long the oldest record that is not applied yet has been waited for, by assigned partition; 0 for none.
	Lag map[kafkalog.Partition]time.Duration
	// Lanes is how long ago each lane answered; -1 for one that never did.
	Lanes []time.Duration
}

// TopicMeasures are those of one topic.
type TopicMeasures struct {
	// Applied and Emitted are how old events were when their row was committed, and when every lane was notified. The age begins with the
	// commit at the source where a capture tool states it, else with the record's time in Kafka.
	Applied, Emitted durations.Snapshot
	// Apply and Emit are how long the transactions and the emissions of batches took.
	Apply, Emit durations.Snapshot
	// Rows counts rows that were sent to MySQL.
	Rows uint64
	// Refused counts events that became dead letters, by reason.
	Refused map[schemas.Reason]uint64
}

// measures are one topic's.
type measures struct {
	applied, emitted durations.Histogram
	apply, emit      durations.Histogram
	rows             atomic.Uint64
	refused          map[schemas.Reason]*atomic.Uint64 // its keys do not change
}

// measured are the measures by topic; the map does not change.
type measured map[string]*measures

func measuresOf(cfg *Config) measured {
	all := measured{}
	topics := []string{schemas.InvalidationTopic(cfg.Namespace)}
	if cfg.Datasets != nil {
		for _, d := range cfg.Datasets.All() {
			topics = append(topics, d.Topic)
		}
	}
	for _, t := range topics {
		m := &measures{refused: map[schemas.Reason]*atomic.Uint64{}}
		for _, r := range schemas.Reasons() {
			m.refused[r] = &atomic.Uint64{}
		}
		all[t] = m
	}
	return all
}

// born is when a number of events came into being.
type born struct {
	at int64 // Unix ms
	n  uint64
}

// births are the memory of lists of born, used again by later batches.
type births struct{ pool sync.Pool }

// of lists when the events of changes came into being, in runs of equal times. The caller gives the list back.
func (b *births) of(changes []*replica.Change) *[]born {
	list, ok := b.pool.Get().(*[]born)
	if !ok {
		list = &[]born{}
	}
	out := (*list)[:0]
	for _, c := range changes {
		for ; c != nil; c = c.Older {
			at := bornAt(c)
			if at <= 0 {
				continue
			}
			if last := len(out) - 1; last >= 0 && out[last].at == at {
				out[last].n++
			} else {
				out = append(out, born{at, 1})
			}
		}
	}
	*list = out
	return list
}

func (b *births) giveBack(list *[]born) {
	if list != nil {
		b.pool.Put(list)
	}
}

// bornAt is when an event was committed at its source, as far as a capture tool states it, else when it was published. The time of
// a CloudEvent is the publisher's to choose, so it is not relied on.
func bornAt(c *replica.Change) int64 {
	if c.Dataset.Format != schemas.FormatCloudEvents && !c.Event.Time.IsZero() {
		return c.Event.Time.UnixMilli()
	}
	return c.At
}

// age counts how old events are now.
func age(h *durations.Histogram, list *[]born) {
	now := time.Now().UnixMilli()
	for _, b := range *list {
		h.ObserveN(time.Duration(now-b.at)*time.Millisecond, b.n)
	}
}

// wrote counts a batch that was committed, before its changes are released.
func (c *core) wrote(p *partition, pr *prepared, b *kafkalog.Batch, r *replica.Result, took time.Duration) {
	m := p.measures
	m.apply.Observe(took)
	m.rows.Add(uint64(r.Rows))
	for _, l := range r.Dead {
		if n := m.refused[l.Reason]; n != nil {
			n.Add(1)
		}
	}
	p.newest.Store(pr.newest)
	if b.Next >= b.LastStable { // as of its fetch nothing was left; what came since then has waited since now at most
		p.caughtUp.Store(int64(c.now()))
		p.newest.Store(0)
	}
	pr.born = c.births.of(pr.changes)
	if b.Next > p.fresh { // else it was applied, and counted, before
		age(&m.applied, pr.born)
	}
}

// notified counts a batch whose emission is done.
func (c *core) notified(p *partition, pr *prepared, took time.Duration) {
	if p.cached() {
		p.measures.emit.Observe(took)
		if pr.born != nil {
			age(&p.measures.emitted, pr.born)
		}
	}
	c.births.giveBack(pr.born)
	pr.born = nil
}

// noteCaughtUp notes which partitions have nothing left to apply.
func (c *core) noteCaughtUp() {
	for _, st := range c.consumer.Stats().Partitions {
		if p := c.partition(st.Partition); p != nil && st.LastStable >= 0 && st.Applied >= st.LastStable {
			p.caughtUp.Store(int64(c.now()))
			p.newest.Store(0)
		}
	}
}

// lag is how long the oldest record of p that is not applied yet has been waited for: since the newest applied one was published or,
// where none was applied since p was last known to have caught up, since then.
func (c *core) lag(p *partition) time.Duration {
	if newest := p.newest.Load(); newest > 0 {
		return max(0, time.Since(time.UnixMilli(newest)))
	}
	return c.now() - time.Duration(p.caughtUp.Load())
}

// Measures returns a snapshot. It may be called at any time.
func (w *Worker) Measures() Measures {
	fetch, commit := w.consumer.Durations()
	out := Measures{Fetch: fetch, Commit: commit, Topics: map[string]TopicMeasures{}, Lag: map[kafkalog.Partition]time.Duration{}}
	for topic, m := range w.measured {
		name := topic
		if d, ok := w.cfg.Datasets.ByTopic(topic); ok {
			name = d.Name
		} else if w.cfg.Namespace == "" {
			continue
		}
		tm := TopicMeasures{
			Applied: m.applied.Snapshot(), Emitted: m.emitted.Snapshot(), Apply: m.apply.Snapshot(), Emit: m.emit.Snapshot(),
			Rows: m.rows.Load(), Refused: map[schemas.Reason]uint64{},
		}
		for reason, n := range m.refused {
			tm.Refused[reason] = n.Load()
		}
		out.Topics[name] = tm
	}
	for _, st := range w.consumer.Stats().Partitions {
		behind := time.Duration(0)
		if p := w.partition(st.Partition); p != nil && st.LastStable > st.Applied {
			behind = w.lag(p)
		}
		out.Lag[st.Partition] = behind
	}
	for _, v := range w.lanes.views {
		silent := w.lanes.age(v)
		if v.answered.Load() < 0 {
			silent = -1
		}
		out.Lanes = append(out.Lanes, silent)
	}
	return out
}
