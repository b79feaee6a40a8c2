// Package jobstore keeps jobs in the database: replays, redrives and rebuilds, who runs each and how far it is, and the
// tables of rebuilds until one is swapped into its place.
package jobstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
	"github.com/freshet/freshet/schemas"
)

// State is where a replay is.
type State string

// The states. A job that is done, failed or cancelled stays so.
const (
	Running   State = "running"
	Paused    State = "paused"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Live reports whether a job in this state still may write.
func (s State) Live() bool { return s == Running || s == Paused }

// Action is what a replay does with each event.
type Action string

// The actions. Whatever changes a row also invalidates what the row made stale; there is no way around that.
const (
	// ActionApply applies events whose record is older.
	ActionApply Action = "apply"
	// ActionInvalidate leaves rows alone and invalidates the cached copies of each event's record.
	ActionInvalidate Action = "invalidate"
	// ActionBoth applies, and invalidates also where no row changed.
	ActionBoth Action = "apply+invalidate"
	// ActionRedrive applies the events of open dead letters, under the versions that the letters keep.
	ActionRedrive Action = "redrive"
)

// Spec is what a replay is to do. It does not change once the job exists.
type Spec struct {
	Dataset string `json:"dataset"`
	Action  Action `json:"action"`
	DryRun  bool   `json:"dry_run"`
	// From, Until and Partitions are the range as it was asked for; the job's parts have what it came to.
	From       string  `json:"from,omitempty"`
	Until      string  `json:"until,omitempty"`
	Partitions []int32 `json:"partitions,omitempty"`
	// Keys, Prefix, Op and Type choose events; empty means all.
	Keys   []string `json:"keys,omitempty"`
	Prefix string   `json:"prefix,omitempty"`
	Op     string   `json:"op,omitempty"`
	Type   string   `json:"type,omitempty"`
	// LetterReason and Errno choose letters of a redrive by what was wrong with them; empty means all.
	LetterReason schemas.Reason `json:"letter_reason,omitempty"`
	Errno        uint16         `json:"errno,omitempty"`
	// DropOld drops the previous table after a rebuild; else it stays under another name.
	DropOld bool `json:"drop_old,omitempty"`
	// AcceptLoss lets a rebuild swap although rows of the previous table are newer than what the topic holds, or not in it.
	AcceptLoss bool   `json:"accept_loss,omitempty"`
	Reason     string `json:"reason"`
}

// Sample is one event as a replay saw it.
type Sample struct {
	Outcome string `json:"outcome"`
	Offset  int64  `json:"offset"`
	Key     string `json:"key,omitempty"`
	Version int64  `json:"version,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// Counts are the events of a replay: each is applied, stale, invalid, or skipped by a filter.
type Counts struct {
	Events      int64 `json:"events"`
	Applied     int64 `json:"applied"`
	Stale       int64 `json:"stale"`
	Invalid     int64 `json:"invalid"`
	Skipped     int64 `json:"skipped"`
	Invalidated int64 `json:"invalidated"`
}

// Add adds o.
func (c *Counts) Add(o Counts) {
	c.Events += o.Events
	c.Applied += o.Applied
	c.Stale += o.Stale
	c.Invalid += o.Invalid
	c.Skipped += o.Skipped
	c.Invalidated += o.Invalidated
}

// Part is one partition of a replay: [From, End), done up to Next. A redrive has one for each source of letters.
type Part struct {
	Source          string
	From, Next, End int64
	Counts
	Samples []Sample
}

// Job is a replay.
type Job struct {
	ID    string
	Spec  Spec
	State State
	Actor string
	// Rate and InvalidationRate are limits a second; 0 means the runner's own.
	Rate, InvalidationRate int
	// Owner runs it, or ran it to its end; empty if no one does. Takeovers counts how often another had to.
	Owner     string
	Takeovers int
	// Problem is why it failed, or what it waits for.
	Problem          string
	Created, Updated time.Time
	// Total is the sum of Parts, which Jobs leaves out.
	Total Counts
	Parts []Part
}

// Errors of jobs.
var (
	// ErrMoved: the job is not running any more, has another owner, or its checkpoint is elsewhere. Nothing was written.
	ErrMoved = errors.New("replay has another owner or state")
	// ErrNoJob: there is no such replay.
	ErrNoJob = errors.New("there is no such replay")
	// ErrOverlap: another replay of the dataset is not over.
	ErrOverlap = errors.New("another replay of this dataset is not over")
)

// Jobs keeps replays and who runs them. It is safe for concurrent use.
type Jobs struct{ pool *mysql.Pool }

// NewJobs returns the jobs of a database.
func NewJobs(pool *mysql.Pool) *Jobs { return &Jobs{pool} }

const (
	maxProblemBytes = 1000

	sqlAddJob = "INSERT INTO freshet_replay (id, spec, state, actor, rate, invalidation_rate, idem, created_at, updated_at) VALUES (?, ?, 'running', ?, ?, ?, ?, " +
		mysql.NowMillis + ", " + mysql.NowMillis + ")"
	sqlAddPart = "INSERT INTO freshet_replay_part (job, source, dataset, from_off, next_off, end_off) VALUES (?, ?, ?, ?, ?, ?)"
	// The owner of a job that may continue runs it only while its lease lasts.
	sqlJobs    = "SELECT id, spec, state, actor, rate, invalidation_rate, IF(state IN ('running', 'paused') AND lease_until < " + mysql.NowMillis + ", '', owner), takeovers, problem, created_at, updated_at FROM freshet_replay"
	sqlParts   = "SELECT source, from_off, next_off, end_off, events, applied, stale, invalid, skipped, invalidated, samples FROM freshet_replay_part WHERE job = ? ORDER BY source"
	sqlClaimed = "UPDATE freshet_replay SET takeovers = takeovers + IF(owner = '' OR owner = ?, 0, 1), owner = ?, lease_until = " + mysql.NowMillis + " + ?, updated_at = " + mysql.NowMillis +
		" WHERE id = ? AND state = 'running' AND (owner = '' OR owner = ? OR lease_until < " + mysql.NowMillis + ")"
	sqlExtend = "UPDATE freshet_replay SET lease_until = " + mysql.NowMillis + " + ? WHERE id = ? AND owner = ? AND state = 'running'"
	// A job that is over keeps the name of its owner.
	sqlLeave   = "UPDATE freshet_replay SET owner = '', lease_until = 0 WHERE id = ? AND owner = ? AND state IN ('running', 'paused')"
	sqlEndJob  = "UPDATE freshet_replay SET state = ?, problem = ?, updated_at = " + mysql.NowMillis + " WHERE id = ? AND owner = ? AND state = 'running'"
	sqlSetJob  = "UPDATE freshet_replay SET state = ?, updated_at = " + mysql.NowMillis + " WHERE id = ? AND state = ?"
	sqlLimit   = "UPDATE freshet_replay SET rate = COALESCE(?, rate), invalidation_rate = COALESCE(?, invalidation_rate), updated_at = " + mysql.NowMillis + " WHERE id = ? AND state IN ('running', 'paused')"
	sqlByIdem  = "SELECT id FROM freshet_replay WHERE idem = ?"
	sqlRunning = "SELECT id FROM freshet_replay WHERE state = 'running' AND (owner = '' OR lease_until < " + mysql.NowMillis + ") ORDER BY created_at LIMIT 10"
	// The position of the part is compared, so that a batch is counted once, whichever process repeats it.
	sqlCheckpoint = "UPDATE freshet_replay_part p JOIN freshet_replay j ON j.id = p.job SET p.next_off = ?, p.events = p.events + ?, p.applied = p.applied + ?," +
		" p.stale = p.stale + ?, p.invalid = p.invalid + ?, p.skipped = p.skipped + ?, p.invalidated = p.invalidated + ?, p.samples = ?, j.updated_at = " + mysql.NowMillis +
		" WHERE p.job = ? AND p.source = ? AND p.next_off = ? AND j.owner = ? AND j.state = 'running'"
)

// Add makes a replay that is ready to run. idem, if not empty, makes it once: for a repetition the first one's id is
// returned with made false. ErrOverlap: another replay of the dataset, dry runs aside, is not over; id is that one's.
func (l *Jobs) Add(ctx context.Context, j Job, idem string) (id string, made bool, err error) {
	spec, err := json.Marshal(j.Spec)
	if err != nil {
		return "", false, fmt.Errorf("write replay: %w", err)
	}
	id = "r" + rand.Text()
	err = l.pool.Transact(ctx, "add replay", func(ctx context.Context, w *mysql.Conn) error {
		made = false
		if _, err := w.Exec(ctx, meta.SQLAdd, []byte(meta.Replays), []byte{}); err != nil { // one at a time
			return mysql.Wrap("lock replays", "", err)
		}
		var key any
		if idem != "" {
			key = []byte(idem)
			var old []byte
			err := w.QueryRow(ctx, sqlByIdem, []any{key}, &old)
			if err == nil {
				id = string(old)
				return nil
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return mysql.Wrap("read replay", "", err)
			}
		}
		if !j.Spec.DryRun {
			other, err := overlaps(ctx, w, j.Spec.Dataset)
			if err != nil {
				id = other
				return err
			}
		}
		if _, err := w.Exec(ctx, sqlAddJob, []byte(id), spec, []byte(j.Actor), j.Rate, j.InvalidationRate, key); err != nil {
			return mysql.Wrap("add replay", "", err)
		}
		for _, p := range j.Parts {
			if _, err := w.Exec(ctx, sqlAddPart, []byte(id), []byte(p.Source), []byte(j.Spec.Dataset), p.From, p.From, p.End); err != nil {
				return mysql.Wrap("add replay", "", err)
			}
		}
		made = true
		return nil
	})
	return id, made, err
}

// overlaps returns ErrOverlap and the id if another replay writes the dataset.
func overlaps(ctx context.Context, w *mysql.Conn, dataset string) (id string, err error) {
	type job struct{ id, spec []byte }
	live, err := mysql.Collect(ctx, w, "read replays", "SELECT id, spec FROM freshet_replay WHERE state IN ('running', 'paused')", nil, func(j *job) []any { return []any{&j.id, &j.spec} })
	if err != nil {
		return "", err
	}
	for _, j := range live {
		var s Spec
		if json.Unmarshal(j.spec, &s) != nil || s.Dataset == dataset && !s.DryRun {
			return string(j.id), ErrOverlap
		}
	}
	return "", nil
}

// Claim makes owner the runner of a replay that is to run and that no live process runs, for the lease's time.
// ErrNoJob: there is none.
func (l *Jobs) Claim(ctx context.Context, owner string, lease time.Duration) (Job, error) {
	ids, err := mysql.Texts(ctx, l.pool.DB(), "look for replays", sqlRunning)
	if err != nil {
		return Job{}, err
	}
	for _, id := range ids {
		ok, err := l.changed(ctx, "claim replay", sqlClaimed, []byte(owner), []byte(owner), lease.Milliseconds(), []byte(id), []byte(owner))
		if err != nil {
			return Job{}, err
		}
		if ok {
			return l.Get(ctx, id)
		}
	}
	return Job{}, ErrNoJob
}

// changed runs an update and reports whether it met a row.
func (l *Jobs) changed(ctx context.Context, what, text string, args ...any) (ok bool, err error) {
	err = l.pool.Transact(ctx, what, func(ctx context.Context, w *mysql.Conn) error {
		n, err := w.Exec(ctx, text, args...)
		ok = n > 0
		return mysql.Wrap(what, "", err)
	})
	return ok, err
}

// Extend keeps the lease. ErrMoved: the job has another owner or state.
func (l *Jobs) Extend(ctx context.Context, id, owner string, lease time.Duration) error {
	return l.moved(ctx, "extend replay", sqlExtend, lease.Milliseconds(), []byte(id), []byte(owner))
}

// Leave ends the lease early, so that another may continue at once.
func (l *Jobs) Leave(ctx context.Context, id, owner string) error {
	_, err := l.changed(ctx, "leave replay", sqlLeave, []byte(id), []byte(owner))
	return err
}

// End ends a replay as its owner. ErrMoved: the job has another owner or state.
func (l *Jobs) End(ctx context.Context, id, owner string, state State, problem string) error {
	return l.moved(ctx, "end replay", sqlEndJob, []byte(state), []byte(mysql.Cut(problem, maxProblemBytes)), []byte(id), []byte(owner))
}

func (l *Jobs) moved(ctx context.Context, what, text string, args ...any) error {
	ok, err := l.changed(ctx, what, text, args...)
	if err == nil && !ok {
		return ErrMoved
	}
	return err
}

// Set moves a replay from one state to another. ErrMoved: it is not in the first, or it is a rebuild whose table is
// in its place and that can only be finished. Its runner notices with its next batch, which is then not written.
func (l *Jobs) Set(ctx context.Context, id string, from, to State) error {
	if to == Running {
		return l.set(ctx, id, from, to)
	}
	return withoutSwap(ctx, l.pool, id, func(swapped bool) error {
		if swapped {
			return ErrMoved
		}
		return l.set(ctx, id, from, to)
	})
}

func (l *Jobs) set(ctx context.Context, id string, from, to State) error {
	return l.pool.Transact(ctx, "change replay", func(ctx context.Context, w *mysql.Conn) error {
		if to != Running {
			if swapped, err := swapped(ctx, w, id); err != nil || swapped {
				return cmp.Or(err, ErrMoved)
			}
		}
		n, err := w.Exec(ctx, sqlSetJob, []byte(to), []byte(id), []byte(from))
		if err == nil && n == 0 {
			return ErrMoved
		}
		return mysql.Wrap("change replay", "", err)
	})
}

// Limit changes the limits of a replay that is not over; nil leaves one unchanged. ErrMoved: it is over.
func (l *Jobs) Limit(ctx context.Context, id string, rate, invalidationRate *int) error {
	return l.moved(ctx, "limit replay", sqlLimit, rate, invalidationRate, []byte(id))
}

// Grow lets a replay read each source up to the given offset at least. A source that the replay does not have yet
// is read from its beginning. ErrMoved: it has another owner or state.
func (l *Jobs) Grow(ctx context.Context, id, owner, dataset string, ends map[string]int64) error {
	return l.pool.Transact(ctx, "extend replay", func(ctx context.Context, w *mysql.Conn) error {
		var one int64
		err := w.QueryRow(ctx, "SELECT 1 FROM freshet_replay WHERE id = ? AND owner = ? AND state = 'running' FOR UPDATE", []any{[]byte(id), []byte(owner)}, &one)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrMoved
		}
		if err != nil {
			return mysql.Wrap("extend replay", "", err)
		}
		for source, end := range ends {
			if _, err := w.Exec(ctx, sqlGrowPart, []byte(id), []byte(source), []byte(dataset), end, end); err != nil {
				return mysql.Wrap("extend replay", "", err)
			}
		}
		return nil
	})
}

// Checkpoint is a batch of a job's part that is done.
type Checkpoint struct {
	// Job and Source identify the part, Owner the process that runs the job.
	Job, Source, Owner string
	// From is where the part was, Next where it is.
	From, Next int64
	// Counts are those of the batch, Samples all of the part so far.
	Counts  Counts
	Samples []Sample
}

// Move moves a part's checkpoint in the transaction of w. ErrMoved: the job has another owner, state or checkpoint.
func (c Checkpoint) Move(ctx context.Context, w *mysql.Conn) error {
	samples, err := json.Marshal(c.Samples)
	if err != nil {
		return fmt.Errorf("write samples: %w", err)
	}
	n := c.Counts
	changed, err := w.Exec(ctx, sqlCheckpoint, c.Next, n.Events, n.Applied, n.Stale, n.Invalid, n.Skipped, n.Invalidated, samples,
		[]byte(c.Job), []byte(c.Source), c.From, []byte(c.Owner))
	if err != nil {
		return mysql.Wrap("move checkpoint", "", err)
	}
	if changed == 0 {
		return ErrMoved
	}
	return nil
}
