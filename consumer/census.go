package consumer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

const (
	// censusInterval is how often a worker counts what the database holds for all workers.
	censusInterval = 15 * time.Second
	// censusTimeout bounds one count.
	censusTimeout = 10 * time.Second
)

// census counts what the database holds for all workers, so that a scrape asks no database.
type census struct {
	db       *replica.DB
	datasets []*schemas.Dataset
	log      *slog.Logger

	mu     sync.Mutex
	last   Census // guarded by mu
	failed uint64 // guarded by mu
}

// Census is what the database holds for all workers, so each of them reports the same.
type Census struct {
	// OpenDeadLetters counts open dead letters by dataset and reason, 10,000 of a dataset at most.
	OpenDeadLetters map[string]map[schemas.Reason]int64
	// Jobs counts replays, redrives and rebuilds by state: running, paused, done, failed or cancelled. Those that are over are counted
	// until Retention.Replays ends.
	Jobs map[string]int64
	// JobFailedAt is when one of them failed last; zero if none is kept that did.
	JobFailedAt time.Time
	// At is when it was counted; zero before.
	At time.Time
	// Failures counts the times that the database did not answer. The other fields keep their values then.
	Failures uint64
}

// run counts until ctx ends.
func (c *census) run(ctx context.Context) error {
	t := time.NewTicker(censusInterval)
	defer t.Stop()
	for {
		c.count(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (c *census) count(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, censusTimeout)
	defer cancel()
	got, err := c.db.Census(limited, c.datasets)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			c.failed++
			c.log.DebugContext(ctx, "dead letters and jobs cannot be counted", "error", err)
		}
		return
	}
	c.last = Census{OpenDeadLetters: got.OpenLetters, Jobs: map[string]int64{}, JobFailedAt: got.JobFailedAt, At: time.Now()}
	for state, n := range got.Jobs {
		c.last.Jobs[string(state)] = n
	}
}

func (c *census) newest() Census {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.last
	out.Failures = c.failed
	return out
}
