package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
)

// A database goes back when it is restored from a backup, or when a standby that lagged becomes the primary, also while
// workers run. Its position then is below what a worker committed. Each batch checks that in its transaction; a partition
// without records is checked here. The worker takes its partitions again and reads from where the database now is.

// positionsWait bounds one check, so that a database that does not answer does not block the watch.
const positionsWait = 5 * time.Second

// checkPositions rejoins the group if the database went back behind a partition of this worker.
func (w *Worker) checkPositions(ctx context.Context) {
	parts := w.partitions()
	if len(parts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, positionsWait)
	defer cancel()
	reached := make(map[string]int64, len(parts)) // read before the database is
	sources := make([]string, 0, len(parts))
	for _, p := range parts {
		reached[p.source] = p.reached.Load()
		sources = append(sources, p.source)
	}
	stands, err := w.cfg.Replica.Stands(ctx, sources)
	if err != nil {
		w.log.Debug("positions are not checked", "error", err)
		return
	}
	byName := make(map[string]replica.Position, len(stands))
	for _, s := range stands {
		byName[s.Source] = s
	}
	for _, p := range parts {
		// Another owner raises the fence, and no owner lowers the position: both are lower only in a database that went back.
		now, found := byName[p.source]
		if found && now.Fence >= p.fence && now.Next >= reached[p.source] || p.ended() {
			continue
		}
		w.wentBack(p, reached[p.source])
		w.consumer.Rejoin(p.generation, fmt.Errorf("check position of %s/%d: %w: %w", p.id.Topic, p.id.ID, kafkalog.ErrRejoin, replica.ErrBehind))
		return
	}
}

// wentBack counts and logs that the database is behind what p committed.
func (w *Worker) wentBack(p *partition, reached int64) {
	w.counts.wentBack.Add(1)
	w.log.Error("database went back: it was restored, or a standby that lagged became the primary; what it lost is read from Kafka again",
		"topic", p.id.Topic, "partition", p.id.ID, "committed", reached)
}
