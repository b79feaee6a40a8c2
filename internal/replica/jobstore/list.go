package jobstore

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

// Get reads a replay with its parts. Errors: ErrNoJob.
func (l *Jobs) Get(ctx context.Context, id string) (Job, error) {
	jobs, err := l.read(ctx, sqlJobs+" WHERE id = ?", []byte(id))
	if err != nil {
		return Job{}, err
	}
	if len(jobs) == 0 {
		return Job{}, ErrNoJob
	}
	j := jobs[0]
	j.Parts, err = l.parts(ctx, id)
	for i := range j.Parts {
		j.Total.Add(j.Parts[i].Counts)
	}
	return j, err
}

// List reads replays without their parts but with their sums, newest first; after is the id of the last one of the page before, "" begins at
// the newest. ErrNoJob: there is no replay after.
func (l *Jobs) List(ctx context.Context, after string, limit int) ([]Job, error) {
	const newestFirst = " ORDER BY created_at DESC, id LIMIT ?"
	if after == "" {
		return l.summed(ctx, sqlJobs+newestFirst, limit)
	}
	var at int64
	err := l.pool.DB().QueryRowContext(ctx, "SELECT created_at FROM freshet_replay WHERE id = ?", []byte(after)).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoJob
	}
	if err != nil {
		return nil, mysql.Wrap("read replays", "", err)
	}
	return l.summed(ctx, sqlJobs+" WHERE created_at < ? OR (created_at = ? AND id > ?)"+newestFirst, at, at, []byte(after), limit)
}

// summed reads replays and the sums of their parts.
func (l *Jobs) summed(ctx context.Context, text string, args ...any) ([]Job, error) {
	jobs, err := l.read(ctx, text, args...)
	if err != nil || len(jobs) == 0 {
		return jobs, err
	}
	at := make(map[string]*Job, len(jobs))
	ids := make([]any, len(jobs))
	for i := range jobs {
		at[jobs[i].ID], ids[i] = &jobs[i], []byte(jobs[i].ID)
	}
	sums := "SELECT job, SUM(events), SUM(applied), SUM(stale), SUM(invalid), SUM(skipped), SUM(invalidated) FROM freshet_replay_part WHERE job IN (?" +
		strings.Repeat(", ?", len(ids)-1) + ") GROUP BY job"
	err = mysql.Each(ctx, l.pool.DB(), "read replays", sums, ids, func(scan func(...any) error) error {
		var id string
		var c Counts
		if err := scan(&id, &c.Events, &c.Applied, &c.Stale, &c.Invalid, &c.Skipped, &c.Invalidated); err != nil {
			return err
		}
		at[id].Total = c
		return nil
	})
	return jobs, err
}

func (l *Jobs) read(ctx context.Context, text string, args ...any) ([]Job, error) {
	var out []Job
	err := mysql.Each(ctx, l.pool.DB(), "read replays", text, args, func(scan func(...any) error) error {
		var j Job
		var spec []byte
		var created, updated int64
		if err := scan(&j.ID, &spec, &j.State, &j.Actor, &j.Rate, &j.InvalidationRate, &j.Owner, &j.Takeovers, &j.Problem, &created, &updated); err != nil {
			return err
		}
		j.Created, j.Updated = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
		out = append(out, j)
		if err := json.Unmarshal(spec, &out[len(out)-1].Spec); err != nil {
			return fmt.Errorf("replay %s: %w", j.ID, err)
		}
		return nil
	})
	return out, err
}

func (l *Jobs) parts(ctx context.Context, id string) ([]Part, error) {
	var out []Part
	err := mysql.Each(ctx, l.pool.DB(), "read replay", sqlParts, []any{[]byte(id)}, func(scan func(...any) error) error {
		var p Part
		var samples []byte
		c := &p.Counts
		if err := scan(&p.Source, &p.From, &p.Next, &p.End, &c.Events, &c.Applied, &c.Stale, &c.Invalid, &c.Skipped, &c.Invalidated, &samples); err != nil {
			return err
		}
		if len(samples) > 0 {
			if err := json.Unmarshal(samples, &p.Samples); err != nil {
				return err
			}
		}
		out = append(out, p)
		return nil
	})
	return out, err
}
