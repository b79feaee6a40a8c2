// Package roster holds what workers report of themselves, so that any process can list them. Each writes its state into the table
// freshet_worker, beside the positions that it moves, since not every worker has a Redis.
package roster

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/freshet/freshet/admin/api"
)

const (
	// Interval is how often a worker writes its state at least; a change of what it waits for or owns is written at once.
	Interval = 3 * time.Second
	// TTL is how long a worker that says nothing counts as alive.
	TTL = 15 * time.Second
	// announceLook is how often a worker looks whether there is a change to write.
	announceLook = 250 * time.Millisecond
	// keepWorkers is how long the last words of a dead worker are kept.
	keepWorkers = 24 * time.Hour
)

const (
	sqlNowMillis  = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
	sqlAnnounce   = "INSERT INTO freshet_worker (owner, at, state) VALUES (?, " + sqlNowMillis + ", ?) ON DUPLICATE KEY UPDATE at = VALUES(at), state = VALUES(state)"
	sqlWorkers    = "SELECT at, state, " + sqlNowMillis + " FROM freshet_worker ORDER BY owner"
	sqlWorkerGone = "DELETE FROM freshet_worker WHERE owner = ?"
	sqlOldWorkers = "DELETE FROM freshet_worker WHERE at < " + sqlNowMillis + " - ?"
)

// Announce writes a worker's state every Interval and when it changes, until ctx ends, and then removes it. A
// database that is away is waited for: the worker's readiness reports it.
func Announce(ctx context.Context, db *sql.DB, state func() api.WorkerState, log *slog.Logger) error {
	tick := time.NewTicker(announceLook)
	defer tick.Stop()
	var last api.WorkerState
	var written time.Time
	for purge := 0; ; {
		if st := state(); time.Since(written) >= Interval || !sameStanding(st, last) {
			if err := write(ctx, db, st, purge%100 == 0); err != nil && ctx.Err() == nil {
				log.Debug("state of the worker cannot be written", "error", err)
			}
			last, written = st, time.Now()
			purge++
		}
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if _, err := db.ExecContext(end, sqlWorkerGone, []byte(last.Owner)); err != nil {
				log.Debug("state of the worker cannot be removed", "error", err)
			}
			return nil
		case <-tick.C:
		}
	}
}

// sameStanding reports whether two states of a worker wait for the same and own the same partitions in the same condition.
func sameStanding(a, b api.WorkerState) bool {
	return slices.Equal(a.NotReady, b.NotReady) && slices.Equal(a.Degraded, b.Degraded) && slices.EqualFunc(a.Partitions, b.Partitions, func(p, q api.WorkerPartition) bool {
		return p.Topic == q.Topic && p.Partition == q.Partition && p.Paused == q.Paused && p.Stopped == q.Stopped
	})
}

func write(ctx context.Context, db *sql.DB, st api.WorkerState, purge bool) error {
	text, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("write worker: %w", err)
	}
	if _, err := db.ExecContext(ctx, sqlAnnounce, []byte(st.Owner), text); err != nil {
		return fmt.Errorf("write worker: %w", err)
	}
	if purge {
		if _, err := db.ExecContext(ctx, sqlOldWorkers, keepWorkers.Milliseconds()); err != nil {
			return fmt.Errorf("remove old workers: %w", err)
		}
	}
	return nil
}

// Workers returns what workers said of themselves, dead ones too.
func Workers(ctx context.Context, db *sql.DB) (out []api.WorkerState, err error) {
	rows, err := db.QueryContext(ctx, sqlWorkers)
	if err != nil {
		return nil, fmt.Errorf("read workers: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	out = []api.WorkerState{}
	for rows.Next() {
		var at, now int64
		var text []byte
		if err := rows.Scan(&at, &text, &now); err != nil {
			return nil, fmt.Errorf("read workers: %w", err)
		}
		var st api.WorkerState
		if json.Unmarshal(text, &st) != nil {
			continue // written by another release
		}
		age := time.Duration(now-at) * time.Millisecond
		st.Seconds, st.Alive = age.Seconds(), age <= TTL
		out = append(out, st)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read workers: %w", err)
	}
	return out, nil
}
