package consumer

import (
	"context"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
)

// A worker that alone cannot reach MySQL would keep its partitions from workers that can. When MySQL is away for all, leaving would
// only move the wait, so it leaves only while others commit.

// cutOff is what a worker knows of other members while it waits for MySQL. Only the watch uses it.
type cutOff struct {
	committed map[string]map[int32]int64
}

// checkCutOff leaves the group if this worker has waited for MySQL for half of PauseAfter, still cannot reach it, and other
// members' partitions are committed meanwhile. It joins again once MySQL answers.
func (w *Worker) checkCutOff(ctx context.Context) {
	if w.cfg.Binding == nil || w.waitsForMySQL() < w.cfg.PauseAfter/2 || !w.consumer.Stats().Assigned {
		w.cut.committed = nil
		return
	}
	if w.reachMySQL(ctx) == nil {
		w.cut.committed = nil // the fault is a table's, or has passed
		return
	}
	var topics []string
	for _, d := range w.cfg.Datasets.All() {
		topics = append(topics, d.Topic)
	}
	now, err := w.cfg.Kafka.CommittedOffsets(ctx, w.cfg.Group, topics)
	if err != nil {
		return
	}
	before := w.cut.committed
	w.cut.committed = now
	if before == nil || !w.othersCommit(before, now) {
		return
	}
	w.cut.committed = nil
	w.log.Error("this worker cannot reach MySQL while others can: it leaves its partitions to them")
	w.consumer.Leave()
}

// waitsForMySQL returns how long the oldest wait for MySQL has lasted.
func (w *Worker) waitsForMySQL() (longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for what, f := range w.faults {
		if strings.HasPrefix(what, "mysql") {
			longest = max(longest, time.Since(f.since))
		}
	}
	return longest
}

func (w *Worker) othersCommit(before, now map[string]map[int32]int64) bool {
	ours := map[string]map[int32]bool{}
	for _, p := range w.partitions() {
		if ours[p.id.Topic] == nil {
			ours[p.id.Topic] = map[int32]bool{}
		}
		ours[p.id.Topic][p.id.ID] = true
	}
	for t, parts := range now {
		for id, next := range parts {
			if at, ok := before[t][id]; !ours[t][id] && (!ok || next > at) {
				return true
			}
		}
	}
	return false
}

// reachMySQL is what a member of the group must be able to do.
func (w *Worker) reachMySQL(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kafkalog.DefaultSessionTimeout)
	defer cancel()
	_, err := w.cfg.Binding.Bind(ctx, w.cfg.BindTo, w.cfg.Group)
	return err //nolint:wrapcheck // it names what it did
}
