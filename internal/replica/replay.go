package replica

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/jobstore"
)

// ReplayBatch is what one transaction of a replay makes durable: rows, what they make stale, and the checkpoint.
type ReplayBatch struct {
	Job, Owner, Source string
	// Namespace gets the invalidations.
	Namespace string
	// From is the checkpoint before the batch, Next the one after it.
	From, Next int64
	// Events are the batch's checked events in the order of their offsets, filtered.
	Events []*Change
	// Redrive are, with ActionRedrive, the batch's dead letters with their content; there are no events then.
	Redrive []StoredLetter
	// Action is what is done with them; DryRun writes nothing but the checkpoint.
	// With ActionRebuild the events go to the table that is being built (Rebuild.Shadow), and no node is notified.
	Action jobstore.Action
	// Letters are, with ActionRebuild, those of the batch's events that are no good: a letter that is kept already stays
	// as it is.
	Letters []*Letter
	DryRun  bool
	// Counts holds what is known without the database: events, invalid and skipped ones.
	Counts jobstore.Counts
	// Samples are those of the part so far; at most MaxSamples of each outcome are added.
	Samples []jobstore.Sample
	// Seen holds, in a dry run, the versions that earlier batches would have written, by record; it is added to.
	Seen map[string]int64
}

// ReplayResult reports what a batch did.
type ReplayResult struct {
	Counts  jobstore.Counts
	Samples []jobstore.Sample
	// Outgoing was noted in the invalidation outbox; the caller publishes and removes it.
	Outgoing []Outgoing
}

// MaxSamples is how many events of each outcome a part keeps.
const MaxSamples = 5

// Outcomes of events, as in samples.
const (
	SampleApplied = "applied"
	SampleStale   = "stale"
	SampleInvalid = "invalid"
)

// replay is one try at the transaction of a batch.
type replay struct {
	redrive
	rb     *ReplayBatch
	topics map[string]Topic // of rb.Redrive, by dataset
	res    ReplayResult
}

// Replay applies events again by the statements and under the row locks of Apply, moves the checkpoint of the replay, and
// notes what the rows that changed made stale in the invalidation outbox, all in one transaction. Positions of the
// consumer group are not touched, and no row goes back. jobstore.ErrMoved: the replay has another owner, state or checkpoint;
// nothing was written.
func (m *DB) Replay(ctx context.Context, b *ReplayBatch) (ReplayResult, error) {
	topics, err := m.topicsOf(ctx, b.Redrive)
	if err != nil {
		return ReplayResult{}, err
	}
	var r *replay
	err = m.redriving(ctx, "replay batch", func(ctx context.Context, w *mysql.Conn) error {
		r = &replay{rb: b, topics: topics}
		r.dry, r.known, r.seen = b.DryRun, b.Seen, map[string]int64{}
		r.run = run{m: m, w: w, b: &Batch{Source: b.Source, Next: b.Next}}
		r.res.Counts, r.res.Samples = b.Counts, slices.Clone(b.Samples)
		return r.do(ctx)
	})
	if err != nil {
		return ReplayResult{}, err
	}
	if b.Seen != nil {
		maps.Copy(b.Seen, r.seen)
	}
	return r.res, nil
}

func (r *replay) do(ctx context.Context) error {
	if r.rb.Action == jobstore.ActionRedrive {
		if err := r.redriveLetters(ctx); err != nil {
			return err
		}
		return r.finish(ctx)
	}
	r.parts = r.m.split(newest(r.rb.Events))
	if err := r.checkHashes(ctx); err != nil {
		return err
	}
	if r.rb.Action == jobstore.ActionInvalidate {
		r.invalidateAll()
	} else {
		for _, p := range r.parts {
			if err := r.applyPart(ctx, p); err != nil {
				return err
			}
		}
		if r.rb.Action == jobstore.ActionBoth {
			r.invalidateAll()
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	return r.finish(ctx)
}

// redriveLetters counts each letter once, since its state and the checkpoint move together.
func (r *replay) redriveLetters(ctx context.Context) error {
	r.tasks = r.m.judge(r.rb.Redrive, r.topics)
	if err := r.redrive.do(ctx); err != nil {
		return err
	}
	c := &r.res.Counts
	for i := range r.tasks {
		t := &r.tasks[i]
		c.Events++
		switch t.Outcome {
		case OutcomeApplied:
			c.Applied++
		case OutcomeStale:
			c.Stale++
		case OutcomeInvalid, OutcomeUnfit:
			c.Invalid++
		case OutcomeClosed, OutcomePublished:
			c.Skipped++ // another process dealt with it since it was read
		}
		r.res.Samples = AddSample(r.res.Samples, jobstore.Sample{
			Outcome: string(t.Outcome), Offset: t.Offset, Key: strings.ToValidUTF8(t.Key, "\uFFFD"), Version: t.Version, Detail: t.Detail,
		})
	}
	return nil
}

// settle deals with dead letters. What a rebuild cannot apply must not go by silently: the table of old may have taken
// it. Letters that it overtakes are closed after the swap, since it may yet be cancelled.
func (r *replay) settle(ctx context.Context) error {
	switch {
	case r.rb.DryRun:
		return nil
	case r.rb.Action != jobstore.ActionRebuild:
		return r.supersede(ctx)
	}
	for _, l := range r.rb.Letters {
		r.letters = append(r.letters, &letter{Letter: l, source: r.rb.Source, t: r.m.tables.named(l.Dataset)})
	}
	return r.writeLetters(ctx)
}

// newest returns the newest event of each record, the older ones linked behind it. A change that comes after a newer one of
// its record is left out.
func newest(events []*Change) []*Change {
	byKey := map[string]int{}
	var out []*Change
	for _, ev := range events {
		c := *ev // the links are this try's
		c.Older = nil
		at, ok := byKey[c.Event.Key]
		switch {
		case !ok:
			byKey[c.Event.Key] = len(out)
			out = append(out, &c)
		case c.Version > out[at].Version:
			c.Older = out[at]
			out[at] = &c
		}
	}
	return out
}

// applyPart locks the rows, counts each event against them as if it came alone, and sends the newest ones.
func (r *replay) applyPart(ctx context.Context, p tableRows) error {
	old := make(map[string]oldRow, len(p.rows))
	var err error
	switch {
	case r.rb.DryRun && r.rb.Action == jobstore.ActionRebuild: // the table will be new
	case r.rb.DryRun:
		err = r.selectOld(ctx, p.t, p.rows, old)
	case len(p.t.names) > 0:
		old, err = r.lockOld(ctx, p.t, p.rows)
	default:
		err = r.selectOld(ctx, p.t, p.rows, old)
	}
	if err != nil {
		return err
	}
	at := make(map[string]int64, len(old))
	for key, row := range old {
		at[key] = row.version
	}
	r.count(at)
	if r.rb.DryRun {
		return nil
	}
	newer := slices.DeleteFunc(slices.Clone(p.rows), func(c *Change) bool { return c.Version <= old[c.Event.Key].version })
	done := tableRows{t: p.t}
	if err := r.send(ctx, p.t, newer, &done.rows); err != nil {
		return err
	}
	r.res.Counts.Applied -= int64(r.refused)
	r.res.Counts.Invalid += int64(r.refused)
	if r.rb.Action != jobstore.ActionRebuild {
		r.letters = nil // the live path wrote them when the events came first
	}
	r.applied = append(r.applied, done)
	for _, c := range done.rows {
		r.displaced = nil
		r.displace([]*Change{c}, old, p.t)
		r.makeStale(c)
	}
	return nil
}

// count judges every event in order against the versions that the rows would have by then.
func (r *replay) count(at map[string]int64) {
	for _, c := range r.rb.Events {
		key := c.Event.Key
		v := max(at[key], r.rb.Seen[key])
		outcome := SampleStale
		if c.Version > v {
			outcome, at[key] = SampleApplied, c.Version
			r.res.Counts.Applied++
			if r.rb.DryRun && r.rb.Seen != nil {
				r.seen[key] = c.Version
			}
		} else {
			r.res.Counts.Stale++
		}
		r.res.Samples = AddSample(r.res.Samples, jobstore.Sample{Outcome: outcome, Offset: c.Offset, Key: key, Version: c.Version})
	}
}

// AddSample adds a sample unless there are enough of its outcome.
func AddSample(samples []jobstore.Sample, s jobstore.Sample) []jobstore.Sample {
	n := 0
	for i := range samples {
		if samples[i].Outcome == s.Outcome {
			n++
		}
	}
	if n >= MaxSamples {
		return samples
	}
	return append(samples, s)
}

// invalidateAll names what each event's record is cached under.
func (r *replay) invalidateAll() {
	for _, c := range r.rb.Events {
		r.displaced = nil
		r.makeStale(c)
	}
}

// finish notes the invalidations and moves the checkpoint.
func (r *replay) finish(ctx context.Context) error {
	v := &r.changed
	for _, names := range []*[]string{&v.Names, &v.Tags, &v.Foreign} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	r.res.Counts.Invalidated = int64(v.Len())
	if !r.rb.DryRun && v.Len() > 0 {
		out, err := addOutgoing(ctx, r.w, r.rb.Namespace, *v)
		if err != nil {
			return err
		}
		r.res.Outgoing = out
	}
	done := jobstore.Checkpoint{
		Job: r.rb.Job, Source: r.rb.Source, Owner: r.rb.Owner, From: r.rb.From, Next: r.rb.Next, Counts: r.res.Counts, Samples: r.res.Samples,
	}
	return done.Move(ctx, r.w)
}
