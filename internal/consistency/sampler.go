package consistency

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/schemas"
)

// Sampler looks at a few records all the time. Of each it reads the replica row's version first, and at the ages of
// Config.Windows asks every tier: a copy that readers get and that is older than the row was by then is stale, provided
// that the change had been emitted to the lane; until then the copy only waits for a worker.
//
// Changed may be called concurrently with Run; Run at most once.
type Sampler struct {
	cfg    Config
	cached []*schemas.Dataset

	// Used by Run alone.
	samples []*sample // in flight, and those that are an alarm
	turn    int       // whose turn it is to give a record: the changed ones or the tables
	next    int       // the table whose turn it is
	failing bool

	mu     sync.Mutex
	seen   int                         // guarded by mu: changes since records were last taken
	pool   []candidate                 // guarded by mu: a fair choice of them
	cursor map[*schemas.Dataset]string // guarded by mu: where the walk through each table is
	counts counts                      // guarded by mu
}

// candidate is a record to be looked at.
type candidate struct {
	dataset *schemas.Dataset
	key     string
}

// sample is a record that is being looked at.
type sample struct {
	candidate

	name    string
	version int64            // of the row at taken
	applied map[string]int64 // how far the replica was when the version was read
	taken   time.Time
	window  int // of Config.Windows, the next one
	due     time.Time
	// suspect: it was stale at a window of at least Alarm. old: it is an alarm, for these copies.
	suspect bool
	old     []report.Old
	since   time.Time
}

// New makes a sampler.
func New(cfg Config) (*Sampler, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Sampler{cfg: cfg, cursor: map[*schemas.Dataset]string{}, counts: newCounts(cfg.Windows)}
	for _, d := range cfg.Datasets.All() {
		if d.Cache != nil {
			s.cached = append(s.cached, d)
		}
	}
	return s, nil
}

// Changed reports n changes of a dataset that were just committed; key returns the key of each and is called before Changed
// returns, for few of them. It does no input or output.
func (s *Sampler) Changed(d *schemas.Dataset, n int, key func(i int) string) {
	if d.Cache == nil {
		return
	}
	room := (s.cfg.Records + 1) / 2
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range n {
		s.seen++
		at := len(s.pool)
		if at == room {
			if at = s.cfg.Choose(s.seen); at >= room {
				continue
			}
			s.pool[at] = candidate{d, strings.Clone(key(i))} // the caller's memory is used again
		} else {
			s.pool = append(s.pool, candidate{d, strings.Clone(key(i))})
		}
		if _, begun := s.cursor[d]; !begun {
			s.cursor[d] = s.pool[at].key // so that workers walk in different places
		}
	}
}

// Run looks at records until ctx ends. Faults of the infrastructure are passed over: nothing is known of the records that
// were to be looked at meanwhile.
func (s *Sampler) Run(ctx context.Context) error {
	t := time.NewTicker(s.cfg.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := s.look(ctx)
		if err == nil {
			err = s.take(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		s.mu.Lock()
		if err != nil {
			s.counts.failures++
		}
		s.mu.Unlock()
		if err != nil && !s.failing {
			s.cfg.Logger.Warn("copies cannot be compared with the replica", "component", "consistency", "error", err)
		}
		s.failing = err != nil
	}
}

// take begins with new records.
func (s *Sampler) take(ctx context.Context) error {
	chosen, err := s.choose(ctx)
	if err != nil {
		return err
	}
	for d, keys := range chosen {
		// The positions after the versions: a lane that was notified of everything below them was notified of these versions.
		versions, err := s.cfg.Replica.Versions(ctx, d, keys)
		if err != nil {
			return fmt.Errorf("read versions: %w", err)
		}
		applied, err := s.cfg.Replica.Applied(ctx, d.Topic)
		if err != nil {
			return fmt.Errorf("read positions: %w", err)
		}
		now := time.Now()
		for _, key := range keys {
			name, err := d.CacheKey(key)
			if v := versions[key]; err == nil && name != "" && v > 0 {
				s.samples = append(s.samples, &sample{
					candidate: candidate{d, key}, name: name, version: v, applied: applied, taken: now, due: now.Add(s.cfg.Windows[0]),
				})
			}
		}
	}
	return nil
}

// choose returns the keys of the records to begin with, changed ones and those whose turn it is in the tables.
func (s *Sampler) choose(ctx context.Context) (map[*schemas.Dataset][]string, error) {
	s.mu.Lock()
	pool := s.pool
	s.pool, s.seen = nil, 0
	s.mu.Unlock()
	out := map[*schemas.Dataset][]string{}
	walk := 0
	for range s.cfg.Records {
		if s.turn++; s.turn%2 == 0 && len(pool) > 0 {
			c := pool[len(pool)-1]
			pool = pool[:len(pool)-1]
			out[c.dataset] = append(out[c.dataset], c.key)
		} else {
			walk++
		}
	}
	if walk == 0 || len(s.cached) == 0 {
		return out, nil
	}
	d := s.cached[s.next%len(s.cached)]
	s.next++
	s.mu.Lock()
	after := s.cursor[d]
	s.mu.Unlock()
	keys, err := s.cfg.Replica.Keys(ctx, d, after, walk)
	if err != nil {
		return nil, fmt.Errorf("walk through replica: %w", err)
	}
	after = ""
	if len(keys) == walk {
		after = keys[walk-1]
	}
	s.mu.Lock()
	s.cursor[d] = after
	s.mu.Unlock()
	out[d] = append(out[d], keys...)
	return out, nil
}
