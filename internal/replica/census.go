package replica

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/schemas"
)

// CensusLimit bounds the open dead letters of a dataset that a Census counts, so that a storm of them does not make it expensive.
const CensusLimit = 10_000

// Census is what the database holds for all workers.
type Census struct {
	// OpenLetters counts open dead letters by dataset and reason, of each dataset CensusLimit at most.
	OpenLetters map[string]map[schemas.Reason]int64
	// Jobs counts replays, redrives and rebuilds by state; those that are over are counted until their retention ends.
	Jobs map[jobstore.State]int64
	// JobFailedAt is when a job failed last; zero if none is kept that did.
	JobFailedAt time.Time
}

const (
	sqlOpenLetters = "SELECT reason, COUNT(*) FROM (SELECT reason FROM freshet_dead_letter WHERE dataset = ? AND state = ? LIMIT ?) l GROUP BY reason"
	sqlJobStates   = "SELECT state, COUNT(*) FROM freshet_replay GROUP BY state"
	sqlJobFailed   = "SELECT MAX(updated_at) FROM freshet_replay WHERE state = ?"
)

// Census counts the open dead letters of datasets, and jobs.
func (m *DB) Census(ctx context.Context, datasets []*schemas.Dataset) (Census, error) {
	c := Census{OpenLetters: map[string]map[schemas.Reason]int64{}}
	var err error
	for _, d := range datasets {
		if c.OpenLetters[d.Name], err = tally[schemas.Reason](ctx, m.pool, "count dead letters", sqlOpenLetters, []byte(d.Name), []byte(StateOpen), CensusLimit); err != nil {
			return c, err
		}
	}
	if c.Jobs, err = tally[jobstore.State](ctx, m.pool, "count jobs", sqlJobStates); err != nil {
		return c, err
	}
	var failed sql.NullInt64
	if err := m.pool.DB().QueryRowContext(ctx, sqlJobFailed, []byte(jobstore.Failed)).Scan(&failed); err != nil {
		return c, fmt.Errorf("read the last failure of a job: %w", err)
	}
	if failed.Valid {
		c.JobFailedAt = time.UnixMilli(failed.Int64)
	}
	return c, nil
}

// tally reads pairs of a name and a number.
func tally[K ~string](ctx context.Context, pool *mysql.Pool, what, text string, args ...any) (map[K]int64, error) {
	out := map[K]int64{}
	return out, mysql.Each(ctx, pool.DB(), what, text, args, func(scan func(...any) error) error {
		var name string
		var n int64
		err := scan(&name, &n)
		out[K(name)] = n
		return err
	})
}
