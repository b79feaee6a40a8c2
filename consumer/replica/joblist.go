package replica

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

// Job reads a replay with its parts. Errors: ErrNoJob.
func (m *MySQL) Job(ctx context.Context, id string) (Job, error) {
	jobs, err := m.jobs(ctx, sqlJobs+" WHERE id = ?", []byte(id))
	if err != nil {
		return Job{}, err
	}
	if len(jobs) == 0 {
		return Job{}, ErrNoJob
	}
	j := jobs[0]
	j.Parts, err = m.jobParts(ctx, id)
	for i := range j.Parts {
		j.Total.Add(j.Parts[i].JobCounts)
	}
	return j, err
}

// Jobs reads replays without their parts but with their sums, newest first; after is the id of the last one of the page before, "" begins at
// the newest. ErrNoJob: there is no replay after.
func (m *MySQL) Jobs(ctx context.Context, after string, limit int) ([]Job, error) {
	const newestFirst = " ORDER BY created_at DESC, id LIMIT ?"
	if after == "" {
		return m.summed(ctx, sqlJobs+newestFirst, limit)
	}
	var at int64
	err := m.db.QueryRowContext(ctx, "SELECT created_at FROM freshet_replay WHERE id = ?", []byte(after)).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoJob
	}
	if err != nil {
		return nil, mysql.Wrap("read replays", "", err)
	}
	return m.summed(ctx, sqlJobs+" WHERE created_at < ? OR (created_at = ? AND id > ?)"+newestFirst, at, at, []byte(after), limit)
}

// summed reads replays and the sums of their parts.
func (m *MySQL) summed(ctx context.Context, text string, args ...any) ([]Job, error) {
	jobs, err := m.jobs(ctx, text, args...)
	if err != nil || len(jobs) == 0 {
		return jobs, err
	}
	at := make(map[string]*Job, len(jobs))
	ids := make([]any, len(jobs))
	for i := range jobs {
		at[jobs[i].ID], ids[i] = &jobs[i], []byte(jobs[i].ID)
	}
	sums := "SELECT job, SUM(events), SUM(applied), SUM(stale), SUM(invalid), SUM(skipped), SUM(invalidated) FROM freshet_replay_part WHERE job IN (?" + //nolint:gosec // the pieces are constants
		strings.Repeat(", ?", len(ids)-1) + ") GROUP BY job"
	rows, err := m.db.QueryContext(ctx, sums, ids...)
	if err != nil {
		return nil, mysql.Wrap("read replays", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var id []byte
		var c JobCounts
		if err := rows.Scan(&id, &c.Events, &c.Applied, &c.Stale, &c.Invalid, &c.Skipped, &c.Invalidated); err != nil {
			return nil, mysql.Wrap("read replays", "", err)
		}
		at[string(id)].Total = c
	}
	return jobs, mysql.Wrap("read replays", "", rows.Err())
}

func (m *MySQL) jobs(ctx context.Context, text string, args ...any) (out []Job, err error) {
	rows, err := m.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, mysql.Wrap("read replays", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var j Job
		var id, spec, state, actor, owner, problem []byte
		var created, updated int64
		if err := rows.Scan(&id, &spec, &state, &actor, &j.Rate, &j.InvalidationRate, &owner, &j.Takeovers, &problem, &created, &updated); err != nil {
			return nil, mysql.Wrap("read replays", "", err)
		}
		if err := json.Unmarshal(spec, &j.Spec); err != nil {
			return nil, fmt.Errorf("read replay %s: %w", id, err)
		}
		j.ID, j.State, j.Actor, j.Owner, j.Problem = string(id), JobState(state), string(actor), string(owner), string(problem)
		j.Created, j.Updated = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
		out = append(out, j)
	}
	return out, mysql.Wrap("read replays", "", rows.Err())
}

func (m *MySQL) jobParts(ctx context.Context, id string) (out []JobPart, err error) {
	rows, err := m.db.QueryContext(ctx, sqlParts, []byte(id))
	if err != nil {
		return nil, mysql.Wrap("read replay", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var p JobPart
		var source, samples []byte
		c := &p.JobCounts
		if err := rows.Scan(&source, &p.From, &p.Next, &p.End, &c.Events, &c.Applied, &c.Stale, &c.Invalid, &c.Skipped, &c.Invalidated, &samples); err != nil {
			return nil, mysql.Wrap("read replay", "", err)
		}
		p.Source = string(source)
		if len(samples) > 0 {
			if err := json.Unmarshal(samples, &p.Samples); err != nil {
				return nil, fmt.Errorf("read replay: %w", err)
			}
		}
		out = append(out, p)
	}
	return out, mysql.Wrap("read replay", "", rows.Err())
}
