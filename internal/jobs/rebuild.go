package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// A rebuild reads the whole topic into a table of its own, through the guards, while live traffic continues in the present
// one; follows it until little is missing; holds live batches for the rest; and swaps the tables. Each step can be
// repeated by the process that takes the replay over: the checkpoints say what was read, the tables' names whether the swap was.

// The points at which Config.Failpoint is called.
const (
	PointRebuildBegun = "rebuild-begun"
	// PointRebuildBatch is after each batch that the new table has.
	PointRebuildBatch = "rebuild-batch"
	// PointRebuildHeld is where live batches wait and the new table has everything.
	PointRebuildHeld    = "rebuild-held"
	PointRebuildSwapped = "rebuild-swapped"
	// PointRebuildTold is after the flush.
	PointRebuildTold = "rebuild-told"
)

const (
	// rebuildNear is how many offsets may be missing when live batches are made to wait.
	rebuildNear = 5000
	// rebuildAgain is the time between two tries to swap.
	rebuildAgain = time.Second
)

// Swapper puts the table of a rebuild in its place. *jobstore.Rebuilds is one.
type Swapper interface {
	// Swap calls catchUp while live batches wait, and swaps the tables. Errors: jobstore.ErrMoved, *tables.DatasetError.
	Swap(ctx context.Context, b *jobstore.Rebuild, topicID, owner string, lease time.Duration, catchUp func(context.Context, map[string]int64) error) error
}

// Redriven applies what a topic may not hold. *replica.DB is one.
type Redriven interface {
	// ApplyRedriven applies the events of redriven letters that are missing from have.
	ApplyRedriven(ctx context.Context, d *schemas.Dataset, have *replica.Reapplied) (int, error)
}

// TableChecker looks at what of a table a swap would lose. *jobstore.Rebuilds is one.
type TableChecker interface {
	// Check returns a *tables.DatasetError if it would lose something.
	Check(ctx context.Context, d *schemas.Dataset) error
}

// TopicNotes are what is remembered of topics. *replica.Topics is one.
type TopicNotes interface {
	// Get returns what is remembered of a topic; ok is false if it was never observed.
	Get(ctx context.Context, topic string) (t replica.Topic, ok bool, err error)
}

// RebuildTopics reads topics. *kafkalog.Client has it.
type RebuildTopics interface {
	Topic(ctx context.Context, name string) (kafkalog.TopicInfo, error)
	Offsets(ctx context.Context, topic string) (map[int32]kafkalog.Offsets, error)
}

// CheckRebuild returns a *tables.DatasetError if d's table cannot be rebuilt from its topic without losing something; any
// other error is a fault of the infrastructure.
func CheckRebuild(ctx context.Context, d *schemas.Dataset, topics RebuildTopics, notes TopicNotes, checker TableChecker) error {
	refuse := func(fix, problem string, args ...any) error {
		return &tables.DatasetError{Dataset: d.Name, Problem: fmt.Sprintf(problem, args...), Fix: fix}
	}
	info, err := topics.Topic(ctx, d.Topic)
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	noted, known, err := notes.Get(ctx, d.Topic)
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	const fill = "use a replay with the action apply, which takes nothing away, or publish every record again"
	if known && (noted.Epoch > 0 || noted.ID != info.ID) {
		return refuse(fill, "topic %s was recreated since the table was first filled, and may not hold every record", d.Topic)
	}
	if known {
		if err := cdc.PartitionsChanged(d, noted.Partitions, info.Partitions); err != nil {
			return refuse(fill, "%v", err)
		}
	}
	ends, err := topics.Offsets(ctx, d.Topic)
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	if err := checker.Check(ctx, d); err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	for n, o := range ends {
		if o.First == 0 {
			continue
		}
		// Compaction alone leaves the first offset at 0.
		return &tables.DatasetError{
			Dataset: d.Name, Loss: true, Fix: fill + "; or accept the loss (accept_loss, --accept-loss)",
			Problem: fmt.Sprintf("topic %s does not hold every record: partition %d begins at offset %d, and what came before is deleted", d.Topic, n, o.First),
		}
	}
	return nil
}

// rebuilding is one run of a replay that rebuilds.
type rebuilding struct {
	run    *run
	tables *jobstore.Rebuild
	live   *schemas.Dataset
	noted  replica.Topic
	topic  kafkalog.TopicInfo
	// compared: suspects are the records that the present table has in a higher version than the new one, or alone, as long
	// as live batches continued; unnamed counts live rows whose key no event can have.
	compared bool
	// redriven are the letters that the new table has.
	redriven replica.Reapplied
	suspects []string
	unnamed  int64
}

// rebuild continues where the tables say that it is.
func (x *run) rebuild(ctx context.Context, noted replica.Topic) error {
	if x.dataset.Cache != nil && x.r.cfg.Lanes == nil {
		return fmt.Errorf("%w: this process cannot flush lanes", errReplayUnfit)
	}
	info, err := x.r.cfg.Kafka.Topic(ctx, x.dataset.Topic)
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	b := &rebuilding{run: x, tables: jobstore.NewRebuild(x.dataset, x.job.ID), live: x.dataset, noted: noted, topic: info}
	swapped, err := x.r.cfg.Replica.Rebuilds.Swapped(ctx, b.tables)
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	if !swapped {
		err = b.build(ctx)
		var broken *tables.DatasetError
		if errors.As(err, &broken) {
			// Its table may be gone because an earlier owner swapped it and could not record that.
			var again error
			if swapped, again = x.r.cfg.Replica.Rebuilds.Swapped(ctx, b.tables); again != nil {
				return again //nolint:wrapcheck // it states what it did
			}
		}
		if err != nil && !swapped {
			return err
		}
	}
	return b.finish(ctx)
}

// target lets what is read go to the table of d.
func (x *rebuilding) target(d *schemas.Dataset, action jobstore.Action) {
	x.run.dataset, x.run.action = d, action
	x.run.decoder = cdc.New(cdc.Config{Dataset: d, Epoch: x.noted.Epoch, Partitions: x.noted.Partitions})
}

// build makes the new table, fills it, and swaps.
func (x *rebuilding) build(ctx context.Context) error {
	if err := mayLose(CheckRebuild(ctx, x.live, x.run.r.cfg.Kafka, x.run.r.cfg.Replica.Topics, x.run.r.cfg.Replica.Rebuilds), x.run.job.Spec.AcceptLoss); err != nil {
		return err
	}
	x.target(x.tables.Shadow, jobstore.ActionRebuild)
	fresh := true
	for _, p := range x.run.job.Parts {
		fresh = fresh && p.Next == p.From
	}
	if err := x.run.r.cfg.Replica.Rebuilds.Begin(ctx, x.tables, fresh); err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	x.run.r.cfg.Failpoint(PointRebuildBegun)
	for {
		if err := x.read(ctx); err != nil {
			return err
		}
		next, err := x.run.r.cfg.Replica.Positions.OfTopic(ctx, x.live.Topic, x.topic.ID)
		if err != nil {
			return err //nolint:wrapcheck // it states what it did
		}
		if missing, err := x.extend(ctx, next); err != nil || missing > rebuildNear {
			if err != nil {
				return err
			}
			continue
		}
		if err := x.suspect(ctx); err != nil {
			return err
		}
		swapped, err := x.swap(ctx)
		if err != nil || swapped {
			return err
		}
		if err := pauseUntil(ctx, time.Now().Add(rebuildAgain)); err != nil {
			return err
		}
	}
}

// extend makes the replay read up to the positions, and returns how many offsets that adds.
func (x *rebuilding) extend(ctx context.Context, next map[string]int64) (missing int64, err error) {
	have := make(map[string]int64, len(x.run.job.Parts))
	for _, p := range x.run.job.Parts {
		have[p.Source] = p.End
	}
	ends := map[string]int64{}
	for source, at := range next {
		if at > have[source] {
			ends[source] = at
			missing += at - have[source]
		}
	}
	if len(ends) == 0 {
		return 0, nil
	}
	if err := x.run.r.cfg.Replica.Jobs.Grow(ctx, x.run.job.ID, x.run.r.cfg.Owner, x.live.Name, ends); err != nil {
		return 0, err //nolint:wrapcheck // it states what it did
	}
	return missing, x.reload(ctx)
}

// reload reads the parts as the database has them.
func (x *rebuilding) reload(ctx context.Context) error {
	j, err := x.run.r.cfg.Replica.Jobs.Get(ctx, x.run.job.ID)
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	x.run.job.Parts = j.Parts
	return nil
}

// read reads what the parts still want, and looks where that led.
func (x *rebuilding) read(ctx context.Context) error {
	if err := x.run.readParts(ctx); err != nil {
		return err
	}
	return x.reload(ctx)
}

// swap holds live batches, reads what is missing, and swaps. Not swapped without an error: something was in the way, and
// it is to be tried again.
func (x *rebuilding) swap(ctx context.Context) (swapped bool, err error) {
	cfg := &x.run.r.cfg
	// Twice: the second pass has what came during the first, so that hardly any is left for when live batches wait.
	for range 2 {
		if _, err := cfg.Redriven.ApplyRedriven(ctx, x.tables.Shadow, &x.redriven); err != nil {
			return false, err //nolint:wrapcheck // it states what it did
		}
	}
	x.run.hurry = true
	defer func() { x.run.hurry = false }()
	err = cfg.Swapper.Swap(ctx, x.tables, x.topic.ID, x.run.r.cfg.Owner, x.run.r.cfg.Lease, func(ctx context.Context, next map[string]int64) error {
		if _, err := x.extend(ctx, next); err != nil {
			return err
		}
		if err := x.read(ctx); err != nil {
			return err
		}
		if _, err := cfg.Redriven.ApplyRedriven(ctx, x.tables.Shadow, &x.redriven); err != nil {
			return err //nolint:wrapcheck // it states what it did
		}
		if err := x.lost(ctx); err != nil {
			return err
		}
		x.run.r.cfg.Failpoint(PointRebuildHeld)
		return nil
	})
	if err == nil {
		x.run.log.Info("rebuilt table is in its place", "table", x.live.Replica.Table, "previous_table", x.tables.Old)
		return true, nil
	}
	if swapped, again := cfg.Replica.Rebuilds.Swapped(ctx, x.tables); again != nil || swapped {
		return swapped, again
	}
	if lasting(err) || ctx.Err() != nil {
		return false, err
	}
	x.run.log.Warn("tables cannot be swapped now; it is tried again", "error", err)
	return false, x.reload(ctx)
}

// lasting reports whether waiting cannot help against err.
func lasting(err error) bool {
	var broken *tables.DatasetError
	var loss *kafkalog.LossError
	return errors.As(err, &broken) || errors.As(err, &loss) || errors.Is(err, jobstore.ErrMoved) || errors.Is(err, errReplayUnfit) ||
		errors.Is(err, kafkalog.ErrTopicChanged) || errors.Is(err, kafkalog.ErrNoTopic)
}

// finish does what follows the swap: whatever the previous table took at the last moment is applied again, and every cached
// copy becomes stale. It may be repeated.
func (x *rebuilding) finish(ctx context.Context) error {
	x.run.r.cfg.Failpoint(PointRebuildSwapped)
	late := x.late(ctx)
	if late != nil && !lasting(late) || ctx.Err() != nil || errors.Is(late, jobstore.ErrMoved) {
		return late
	}
	if x.live.Cache != nil {
		err := retry.Do(ctx, retry.Policy{Notify: func(err error, _ time.Duration) { x.run.log.Warn("rebuild waits for Redis", "error", err) }}, x.run.r.cfg.Lanes.FlushLanes)
		if err != nil {
			return fmt.Errorf("flush lanes after a rebuild: %w", err)
		}
	}
	x.run.r.cfg.Failpoint(PointRebuildTold)
	if late != nil {
		return fmt.Errorf("the rebuilt table is in its place, but the newest events could not be applied to it again: start a replay with the action apply: %w", late)
	}
	if _, err := x.run.r.cfg.Replica.Letters.Supersede(ctx, x.live); err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	if err := x.run.r.cfg.Replica.Rebuilds.End(ctx, x.tables, x.run.job.Spec.DropOld); err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	x.run.outcome = "the previous table is kept as " + x.tables.Old
	if x.run.job.Spec.DropOld {
		x.run.outcome = ""
	}
	return nil
}

// late applies to the table in its new place what was applied to the previous one and is not in it yet.
func (x *rebuilding) late(ctx context.Context) error {
	x.target(x.live, jobstore.ActionApply)
	if err := x.reload(ctx); err != nil {
		return err
	}
	next, err := x.run.r.cfg.Replica.Positions.OfTopic(ctx, x.live.Topic, x.topic.ID)
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	// What is above the checkpoints went to the table in its new place already, or to the previous one: the guards tell.
	if _, err := x.extend(ctx, maps.Clone(next)); err != nil {
		return err
	}
	if err := x.read(ctx); err != nil {
		return err
	}
	_, err = x.run.r.cfg.Redriven.ApplyRedriven(ctx, x.live, &x.redriven)
	return err //nolint:wrapcheck // it states what it did
}

// sweep removes what rebuilds have left whose replays ended before the swap.
func (r *Runner) sweep(ctx context.Context) {
	err := r.cfg.Replica.Rebuilds.Sweep(ctx, func(a jobstore.Abandoned) error {
		r.log.Error("a rebuild was swapped in although it is over: apply the dataset's topic once more", "replay", a.Job, "dataset", a.Dataset, "previous_table", a.Old)
		if r.cfg.Lanes == nil {
			return nil
		}
		return r.cfg.Lanes.FlushLanes(ctx)
	})
	if err != nil && ctx.Err() == nil {
		r.log.Debug("rebuilds that are over cannot be looked for", "error", err)
	}
}
