package worker

import (
	"context"
	"sync"

	"github.com/freshet/freshet/internal/kafkalog/group"
)

// A worker that alone cannot reach MySQL would keep its partitions from workers that can. When MySQL is away for all, leaving would
// only move the wait, so it leaves only while others commit.

// membership decides whether this worker may be a member of the group.
type membership struct {
	*core

	mu    sync.Mutex
	bound string // identity of the database that the group was notified of
	// committed is what other members had committed at the last look while this worker waits for MySQL. Only the watch uses it.
	committed map[string]map[int32]int64
}

// bind compares what the database belongs to, and reports whether it is another one than the group was notified of.
func (m *membership) bind(ctx context.Context) (moved bool, err error) {
	if m.cfg.BindTo == "" {
		return false, nil
	}
	b, err := m.cfg.Replica.Binding.Bind(ctx, m.cfg.BindTo, m.cfg.Group)
	if err != nil {
		return false, err //nolint:wrapcheck // it states what it did
	}
	id := group.Identity{Database: b.Database, Namespace: b.Namespace, Label: b.Label}
	m.mu.Lock()
	defer m.mu.Unlock()
	moved = m.bound != id.Database
	m.bound = id.Database
	m.consumer.SetIdentity(id)
	return moved, nil
}

// checkCutOff leaves the group if this worker has waited for MySQL for half of PauseAfter, still cannot reach it, and other
// members' partitions are committed meanwhile. It joins again once MySQL answers.
func (m *membership) checkCutOff(ctx context.Context) {
	if m.cfg.BindTo == "" || m.faults.mysqlWait() < m.cfg.PauseAfter/2 || !m.consumer.Stats().Assigned {
		m.committed = nil
		return
	}
	if m.reachMySQL(ctx) == nil {
		m.committed = nil // the fault is a table's, or has passed
		return
	}
	var topics []string
	for _, d := range m.cfg.Datasets.All() {
		topics = append(topics, d.Topic)
	}
	now, err := m.cfg.Kafka.CommittedOffsets(ctx, m.cfg.Group, topics)
	if err != nil {
		return
	}
	before := m.committed
	m.committed = now
	if before == nil || !m.othersCommit(before, now) {
		return
	}
	m.committed = nil
	m.log.Error("this worker cannot reach MySQL while others can: it leaves its partitions to them")
	m.consumer.Leave()
}

func (m *membership) othersCommit(before, now map[string]map[int32]int64) bool {
	ours := map[string]map[int32]bool{}
	for _, p := range m.partitions() {
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
func (m *membership) reachMySQL(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, group.DefaultSessionTimeout)
	defer cancel()
	_, err := m.cfg.Replica.Binding.Bind(ctx, m.cfg.BindTo, m.cfg.Group)
	return err //nolint:wrapcheck // it states what it did
}
