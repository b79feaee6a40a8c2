package admin

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// mayRebuild refuses a rebuild that would lose something, also in a dry run.
func (rp *replays) mayRebuild(ctx context.Context, d *schemas.Dataset, spec *jobstore.Spec, b *replayRequest) error {
	if spec.Action != jobstore.ActionRebuild {
		if spec.DropOld || spec.AcceptLoss {
			return huma.Error422UnprocessableEntity("drop_old and accept_loss go with the action rebuild alone")
		}
		return nil
	}
	whole := (b.From == "" || b.From == "start") && (b.Until == "" || b.Until == "end")
	if !whole || len(b.Keys)+len(b.Partitions) > 0 || b.Prefix != "" || b.Op != "" || b.Type != "" {
		return huma.Error422UnprocessableEntity("a rebuild reads the whole topic: leave out from, until, partitions, keys, prefix, op and type")
	}
	err := jobs.CheckRebuild(ctx, d, rp.kafka, rp.db.Topics, rp.db.Rebuilds)
	var refused *tables.DatasetError
	switch {
	case !errors.As(err, &refused):
		return rp.answers.fail(ctx, "look whether the table can be rebuilt", err)
	case refused.Loss && spec.AcceptLoss:
		return nil // the operator accepts it
	}
	return huma.Error409Conflict("the table cannot be rebuilt: " + refused.Problem + "; " + refused.Fix)
}

// mayRedrive refuses what does not choose letters, and what chooses nothing else.
func mayRedrive(spec *jobstore.Spec) error {
	if spec.Action != jobstore.ActionRedrive {
		if spec.LetterReason != "" || spec.Errno != 0 {
			return huma.Error422UnprocessableEntity("letter_reason and errno go with the action redrive alone")
		}
		return nil
	}
	for _, f := range []struct {
		field string
		given bool
	}{
		{"from", spec.From != "" && spec.From != "start"},
		{"until", spec.Until != "" && spec.Until != "end"},
		{"partitions", len(spec.Partitions) > 0},
		{"type", spec.Type != ""},
	} {
		if f.given {
			return huma.Error422UnprocessableEntity(f.field + " does not go with the action redrive: leave it out; keys, prefix, op, letter_reason and errno choose among the dataset's open dead letters")
		}
	}
	return nil
}

func sameJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// replayParts fixes the range: what is published later, or becomes a letter later, is not part of it.
func (rp *replays) replayParts(ctx context.Context, d *schemas.Dataset, spec *jobstore.Spec, b *replayRequest) ([]jobstore.Part, error) {
	if spec.Action == jobstore.ActionRedrive {
		return rp.db.Letters.Parts(ctx, replica.RedriveQuery(spec))
	}
	info, ends, from, err := rp.topics.topicFrom(ctx, d, b.From)
	if err != nil {
		return nil, err
	}
	until, err := rp.topics.resolve(ctx, d.Topic, "until", b.Until, ends)
	if err != nil {
		return nil, err
	}
	want := map[int32]bool{}
	for _, p := range b.Partitions {
		if _, ok := ends[p]; !ok {
			return nil, noPartition(p, ends)
		}
		want[p] = true
	}
	if len(b.Keys) > 0 && len(want) == 0 {
		one, err := rp.topics.onePartition(ctx, d, info)
		if err != nil {
			return nil, err
		}
		for _, k := range b.Keys {
			if one {
				want[kafkalog.PartitionOf([]byte(k), info.Partitions)] = true
			}
		}
	}
	var parts []jobstore.Part
	backward := 0
	for id, o := range ends {
		if len(want) > 0 && !want[id] {
			continue
		}
		if b.Until != "end" && until[id] < from[id] {
			backward++
		}
		p := jobstore.Part{Source: kafkalog.Partition{Topic: d.Topic, TopicID: info.ID, ID: id}.Source()}
		p.From = min(max(from[id], o.First), o.LastStable)
		p.End = max(p.From, min(until[id], o.LastStable))
		parts = append(parts, p)
	}
	if backward == len(parts) {
		return nil, huma.Error422UnprocessableEntity("until comes before from, so the range is empty: exchange them, or leave until out")
	}
	return parts, nil
}

// evidenceAmong is how many of the newest replays are looked through for a dry run.
const evidenceAmong = 100

// noteEvidence adds to the audit log what the newest dry run of the same choice counted, or that there was none.
func (rp *replays) noteEvidence(ctx context.Context, spec jobstore.Spec) {
	jobs, err := rp.db.Jobs.List(ctx, "", evidenceAmong)
	if err != nil {
		rp.log.WarnContext(ctx, "dry run of a replay is missing from the audit log", "error", err)
		return
	}
	spec.DryRun = true
	for i := range jobs {
		j := &jobs[i]
		if spec.Reason = j.Spec.Reason; j.State == jobstore.Done && sameJSON(j.Spec, spec) {
			gate.Note(ctx, "dry_run", map[string]any{"replay": j.ID, "ended": j.Updated, "counts": j.Total})
			return
		}
	}
	gate.Note(ctx, "dry_run", "none of this choice came before")
}
