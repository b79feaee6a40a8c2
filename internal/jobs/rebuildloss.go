package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// A topic need not hold what the table holds: compaction keeps the last record of a key and not the highest version, and
// rows may have been loaded by other means. So the table that was built is compared with the present one before the swap,
// and what would be taken back or dropped is counted and refused unless the operator accepts it.

const (
	compareRows = 1000
	// maxSuspects bounds the rows that are looked at again while live batches wait.
	maxSuspects = 20_000
)

// difference is what a swap would lose.
type difference struct {
	// newer rows have a higher version than the topic, lacking ones are live and not in it at all.
	newer, lacking int64
	suspects       []string
}

// judge compares rows of the present table with the versions that the topic has.
func (d *difference) judge(rows []replica.LiveRow, versions map[string]int64) {
	for _, row := range rows {
		switch v, ok := versions[row.Key]; {
		case ok && row.Version > v:
			d.newer++
		case !ok && !row.Deleted: // a deletion that compaction removed leaves nothing to be dropped
			d.lacking++
		default:
			continue
		}
		if len(d.suspects) <= maxSuspects && row.Key != "" {
			d.suspects = append(d.suspects, row.Key)
		}
	}
}

func (d *difference) any() bool { return d.newer+d.lacking > 0 }

// String reports what would be lost.
func (d *difference) String() string {
	return fmt.Sprintf("%d rows are newer than what the topic holds of them, and %d live rows are not in the topic", d.newer, d.lacking)
}

// refusal is the error of a swap that would lose something.
func (d *difference) refusal(ds *schemas.Dataset) error {
	return &tables.DatasetError{
		Dataset: ds.Name, Loss: true, Problem: d.String() + ": a rebuild would take the first back and drop the others",
		Fix: "publish the current state of these records, or start the rebuild again with accept_loss (--accept-loss)",
	}
}

// mayLose lets what would lose something pass if the operator accepted that.
func mayLose(err error, accepted bool) error {
	var refused *tables.DatasetError
	if accepted && errors.As(err, &refused) && refused.Loss {
		return nil
	}
	return err
}

// suspect compares the whole of both tables, while live batches continue. What they change meanwhile shows as a difference too,
// so it is looked at once more when they wait.
func (x *rebuilding) suspect(ctx context.Context) error {
	if x.compared || x.run.job.Spec.AcceptLoss {
		return nil
	}
	var d difference
	unnamed := int64(0)
	for after := []any(nil); ; {
		rows, last, err := x.run.r.cfg.Replica.Rows.Page(ctx, x.live, after, compareRows)
		if err != nil {
			return incomparable(x.live, err)
		}
		var keys []string
		for _, row := range rows {
			if row.Key != "" {
				keys = append(keys, row.Key)
			} else if !row.Deleted {
				unnamed++
			}
		}
		versions, err := x.run.r.cfg.Replica.Rows.Versions(ctx, x.tables.Shadow, keys)
		if err != nil {
			return err //nolint:wrapcheck // it states what it did
		}
		d.judge(rows, versions)
		if after = last; last == nil {
			break
		}
	}
	if len(d.suspects) > maxSuspects {
		return d.refusal(x.live)
	}
	x.suspects, x.unnamed, x.compared = d.suspects, unnamed, true
	return nil
}

// incomparable: a table that does not fit its dataset cannot be compared, and perhaps that is why it is rebuilt.
func incomparable(ds *schemas.Dataset, err error) error {
	if number, ok := mysql.Errno(err); ok && number == 1054 {
		return &tables.DatasetError{
			Dataset: ds.Name, Errno: number, Loss: true, Problem: "table " + ds.Replica.Table + " cannot be compared with the topic, since it lacks columns",
			Fix: "run freshet migrate datasets, or start the rebuild again with accept_loss (--accept-loss)",
		}
	}
	return err
}

// lost looks at the suspects once more, when both tables are at the same positions, and refuses what would be lost.
func (x *rebuilding) lost(ctx context.Context) error {
	if x.run.job.Spec.AcceptLoss {
		return nil
	}
	d := difference{lacking: x.unnamed}
	for keys := range slices.Chunk(x.suspects, compareRows) {
		rows, err := x.run.r.cfg.Replica.Rows.Of(ctx, x.live, keys)
		if err != nil {
			return err //nolint:wrapcheck // it states what it did
		}
		versions, err := x.run.r.cfg.Replica.Rows.Versions(ctx, x.tables.Shadow, keys)
		if err != nil {
			return err //nolint:wrapcheck // it states what it did
		}
		d.judge(rows, versions)
	}
	if d.any() {
		return d.refusal(x.live)
	}
	return nil
}

// foresee is the comparison of a dry run, which has no second table but remembers the versions that it saw.
func (x *run) foresee(ctx context.Context, begun bool) error {
	if begun {
		x.outcome = "rows that the topic lacks or holds in an older version were not counted, since another worker began this dry run; start it again, or let the swap count them"
		return nil
	}
	var d difference
	for after := []any(nil); ; {
		rows, last, err := x.r.cfg.Replica.Rows.Page(ctx, x.dataset, after, compareRows)
		if err != nil {
			return incomparable(x.dataset, err)
		}
		d.judge(rows, x.seen)
		if after = last; last == nil {
			break
		}
	}
	if n := len(d.suspects); n > 0 && n <= maxSuspects {
		var err error
		if d, err = x.explain(ctx, &d); err != nil {
			return err
		}
	}
	x.outcome = d.String()
	if d.any() {
		x.outcome += "; the rebuild needs accept_loss (--accept-loss)"
	}
	return nil
}

// explain looks at the suspects once more, with the events that came after the end of the dry run: live batches continued.
func (x *run) explain(ctx context.Context, d *difference) (difference, error) {
	out := difference{lacking: d.newer + d.lacking - int64(len(d.suspects))} // rows whose key no event can have
	rows := []replica.LiveRow{}
	for keys := range slices.Chunk(d.suspects, compareRows) {
		some, err := x.r.cfg.Replica.Rows.Of(ctx, x.dataset, keys)
		if err != nil {
			return out, err //nolint:wrapcheck // it states what it did
		}
		rows = append(rows, some...)
	}
	versions := make(map[string]int64, len(d.suspects))
	for _, key := range d.suspects {
		if v, ok := x.seen[key]; ok {
			versions[key] = v
		}
	}
	for _, p := range x.job.Parts {
		if err := x.tail(ctx, &p, versions); err != nil {
			return out, err
		}
	}
	out.judge(rows, versions)
	return out, nil
}

// tail adds the versions of the events behind the end of a part, as far as live batches are.
func (x *run) tail(ctx context.Context, p *jobstore.Part, versions map[string]int64) error {
	topic, id, n, err := schemas.ParseSource(p.Source)
	if err != nil {
		return fmt.Errorf("%w: %w", errReplayUnfit, err)
	}
	next, err := x.r.cfg.Replica.Positions.OfTopic(ctx, topic, id)
	if err != nil || next[p.Source] <= p.End {
		return err //nolint:wrapcheck // it states what it did
	}
	reader := kafkalog.NewReader(x.r.cfg.Kafka, kafkalog.Partition{Topic: topic, TopicID: id, ID: n}, p.End,
		kafkalog.ReaderConfig{Until: next[p.Source], MaxRecords: replayBatch})
	defer reader.Close()
	for {
		b, err := reader.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s/%d: %w", topic, n, err)
		}
		for i := range b.Records {
			res, err := x.decoder.Decode(b.Records[i])
			if err != nil {
				continue // a TRUNCATE: it is not a row's
			}
			for j := range res.Rows {
				ev := &res.Rows[j].Event
				if _, err := x.dataset.Check(ev); err == nil && res.Rows[j].Err == nil {
					versions[ev.Key] = max(versions[ev.Key], ev.Version)
				}
			}
		}
		b.Release()
	}
}
