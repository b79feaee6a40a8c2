package relay

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/durations"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/mysql"
)

const (
	// censusInterval is how often the outbox is counted.
	censusInterval = 15 * time.Second
	// CountLimit is where the count of the backlog ends.
	CountLimit = 100_000
)

// census is what was counted.
type census struct {
	backlog  int64
	oldest   time.Duration // age of the oldest row
	datasets map[string]datasetCensus
	dead     int64
}

type datasetCensus struct {
	rows   int64
	oldest time.Duration
}

// takeCensus counts the rows of the outbox: no more than CountLimit, in the order of their ids.
func takeCensus(ctx context.Context, q mysql.Querier) (census, error) {
	c := census{datasets: map[string]datasetCensus{}}
	const oldest = "(SELECT dataset, created_at FROM freshet_outbox WHERE dataset <> '' ORDER BY id LIMIT ?) o"
	err := mysql.Each(ctx, q, "count the outbox", "SELECT MIN(dataset), COUNT(*), TIMESTAMPDIFF(MICROSECOND, MIN(created_at), NOW(3)) FROM "+oldest+" GROUP BY HEX(dataset)",
		[]any{CountLimit}, func(scan func(...any) error) error {
			var name string
			var n, age int64
			if err := scan(&name, &n, &age); err != nil {
				return err
			}
			d := datasetCensus{n, max(0, time.Duration(age)*time.Microsecond)}
			c.datasets[name] = d
			c.backlog += n
			c.oldest = max(c.oldest, d.oldest)
			return nil
		})
	if err == nil {
		_, err = mysql.One(ctx, q, "count dead rows of the outbox", "SELECT COUNT(*) FROM (SELECT 1 FROM freshet_outbox_dead LIMIT ?) d", []any{CountLimit}, &c.dead)
	}
	return c, err
}

// count takes a census again and again.
func (t *term) count(ctx context.Context) error {
	reported := map[string]bool{}
	for {
		if c, err := takeCensus(ctx, t.pool.DB()); err == nil {
			t.r.mu.Lock()
			t.r.census = c
			t.r.mu.Unlock()
			t.reportUnknown(ctx, c, reported)
		} else {
			t.r.log.DebugContext(ctx, "outbox not counted", "error", err)
		}
		if !pause(ctx, censusInterval) {
			return nil
		}
	}
}

// reportUnknown logs each dataset whose rows stay in the outbox, once for as long as there are such rows: nothing else fails
// when a service enqueues under a wrong name.
func (t *term) reportUnknown(ctx context.Context, c census, reported map[string]bool) {
	for name, d := range c.datasets {
		if _, err := t.r.cfg.Datasets.Publishable(name); err != nil && !reported[name] {
			reported[name] = true
			t.r.log.WarnContext(ctx, "rows stay in the outbox: declare their dataset for all relays and restart them, or delete the rows", "dataset", name, "rows", d.rows, "error", err)
		}
	}
	maps.DeleteFunc(reported, func(name string, _ bool) bool { return c.datasets[name].rows == 0 })
}

type counts struct {
	published, deleted, refused, terms, advances atomic.Uint64
}

// Stats is a snapshot of a Relay.
type Stats struct {
	// Active: this relay has the lease.
	Active bool
	// Published rows were acknowledged by Kafka, Refused ones moved to freshet_outbox_dead; Deleted is the sum of both.
	Published, Deleted, Refused uint64
	// Terms counts how often this relay became the active one, Advances how often it advanced the counter.
	Terms, Advances uint64
	// Backlog is the number of rows in the outbox, at most CountLimit, and Oldest the age of the oldest one, at the last count.
	// Only the active relay counts.
	Backlog int64
	Oldest  time.Duration
	// Unknown rows are of datasets that this relay does not publish.
	Unknown map[string]int64
	// Dead is the number of rows in freshet_outbox_dead, at most CountLimit.
	Dead int64
	// Blocked are the datasets whose rows wait, with the reason.
	Blocked map[string]error
	// Delivery is what the producer of the current term did, and holds; zero while the relay stands by.
	Delivery delivery.Stats
	// Failed counts rows that Kafka did not take so far and that stay in the outbox, over all terms.
	Failed uint64
	// Durations counts how long rows took from when they were read until Kafka had them, over all terms.
	Durations durations.Snapshot
	// Waiting is why this relay does not publish, since when it does not.
	Waiting error
	Since   time.Time
}

// Stats returns the counters since the start and the state as of now.
func (r *Relay) Stats() Stats {
	c := &r.counts
	s := Stats{
		Published: c.published.Load(), Deleted: c.deleted.Load(), Refused: c.refused.Load(), Terms: c.terms.Load(), Advances: c.advances.Load(),
		Blocked: map[string]error{}, Unknown: map[string]int64{},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Durations.Add(r.ended.Durations)
	s.Failed = r.ended.Failed
	s.Active, s.Waiting, s.Since = r.term != nil, r.waiting, r.since
	if r.term == nil {
		return s
	}
	s.Delivery = r.term.out.Stats()
	s.Durations.Add(s.Delivery.Durations)
	s.Failed += s.Delivery.Failed
	s.Backlog, s.Oldest, s.Dead = r.census.backlog, r.census.oldest, r.census.dead
	for name, d := range r.census.datasets {
		if _, err := r.cfg.Datasets.Publishable(name); err != nil {
			s.Unknown[name] = d.rows
		}
	}
	s.Blocked = r.term.obstacles.reasons()
	return s
}

// NotReady lists why no rows are published, one sentence each; empty when they are, and for a relay that stands by.
func (r *Relay) NotReady() []string {
	s := r.Stats()
	var out []string
	var standby *StandbyError
	if s.Waiting != nil && !errors.As(s.Waiting, &standby) {
		out = append(out, "outbox: "+s.Waiting.Error())
	}
	return out
}

// Degraded lists the datasets whose rows are not published while others are, one sentence each.
func (r *Relay) Degraded() []string {
	s := r.Stats()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.Blocked)) {
		out = append(out, "outbox: rows of dataset "+name+" wait: "+s.Blocked[name].Error())
	}
	return out
}
