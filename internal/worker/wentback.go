package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/replica"
)

// A database goes back when it is restored from a backup, or when a standby that lagged becomes the primary, also while
// workers run. Its position then is below what a worker committed. Each batch checks that in its transaction; a partition
// without records is checked here. The worker takes its partitions again and reads from where the database now is.

// positionsWait bounds one check, so that a database that does not answer does not block the watch.
const positionsWait = 5 * time.Second

// checkPositions rejoins the group if the database went back behind a partition of this worker.
func (c *core) checkPositions(ctx context.Context) {
	parts := c.partitions()
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
	for _, locked := range []bool{false, true} {
		// A proxy may send the first read to a standby that lags; only the second one, of what looks wrong, is proof.
		found, err := c.cfg.Replica.Positions.Of(ctx, sources, locked)
		if err != nil {
			c.log.Debug("positions are not checked", "error", err)
			return
		}
		if parts = behind(parts, found, reached); len(parts) == 0 {
			return
		}
		sources = sources[:0]
		for _, p := range parts {
			sources = append(sources, p.source)
		}
	}
	p := parts[0]
	c.wentBack(p, reached[p.source])
	c.consumer.Rejoin(p.generation, fmt.Errorf("check position of %s/%d: %w: %w", p.id.Topic, p.id.ID, group.ErrRejoin, replica.ErrBehind))
}

// behind returns the partitions whose position or fence is lower than they reached. Another owner raises the fence, and no
// owner lowers the position: both are lower only in a database that went back.
func behind(parts []*partition, found []replica.Position, reached map[string]int64) (out []*partition) {
	byName := make(map[string]replica.Position, len(found))
	for _, s := range found {
		byName[s.Source] = s
	}
	for _, p := range parts {
		now, ok := byName[p.source]
		if !p.ended() && (!ok || now.Fence < p.fence || now.Next < reached[p.source]) {
			out = append(out, p)
		}
	}
	return out
}

// wentBack counts and logs that the database is behind what p committed.
func (c *core) wentBack(p *partition, reached int64) {
	c.counts.wentBack.Add(1)
	c.log.Error("database went back: it was restored, or a standby that lagged became the primary; what it lost is read from Kafka again",
		"topic", p.id.Topic, "partition", p.id.ID, "offset", reached)
}
