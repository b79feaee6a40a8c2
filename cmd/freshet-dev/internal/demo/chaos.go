package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// PauseNode stops a node's reads and its network for d, as a stopped process is.
func (s *Shop) PauseNode(i int, d time.Duration) error {
	n, err := s.node(i)
	if err != nil {
		return err
	}
	n.pause(time.Now().Add(d))
	s.tell("node %d is stopped for %v", i, d)
	return nil
}

// CutNode cuts a node's network for d; its readers continue.
func (s *Shop) CutNode(i int, d time.Duration) error {
	n, err := s.node(i)
	if err != nil {
		return err
	}
	n.disconnect(time.Now().Add(d))
	s.tell("node %d is cut from Redis for %v", i, d)
	return nil
}

// DropMessages loses the messages of a node's subscription for d, on a connection that looks healthy.
func (s *Shop) DropMessages(i int, d time.Duration) error {
	n, err := s.node(i)
	if err != nil {
		return err
	}
	n.dropMessages(time.Now().Add(d))
	s.tell("node %d loses its messages for %v", i, d)
	return nil
}

// KillWorker kills the worker without any farewell and starts another one. Kafka gives it the partitions once the dead
// one's session has timed out.
func (s *Shop) KillWorker() error {
	if !s.isRunning() {
		return ErrNotRunning
	}
	// Beside a Redis that lost its lanes the repair waits for the new owner.
	s.mu.Lock()
	flushed := s.flushed
	s.mu.Unlock()
	now := s.oracle.Now()
	if flushed > 0 && now-time.Duration(flushed) < s.repair() {
		s.disturb(s.repair() + s.takeover())
	}
	s.workers.kill(time.Now())
	s.tell("the worker is killed")
	return nil
}

// FlushRedis empties Redis: lanes, watermarks, floors and values are gone at once.
func (s *Shop) FlushRedis(ctx context.Context) error {
	if !s.isRunning() {
		return ErrNotRunning
	}
	if s.cfg.EmptyRedis == nil {
		return fmt.Errorf("flush Redis: %w: no way was given", ErrNotRunning)
	}
	extra := s.repair()
	if s.workers.headless(time.Now(), s.takeover()) {
		extra += s.takeover()
	}
	s.disturb(extra)
	s.mu.Lock()
	s.flushed = int64(s.oracle.Now())
	s.mu.Unlock()
	s.tell("Redis is emptied")
	if err := s.cfg.EmptyRedis(ctx); err != nil {
		return fmt.Errorf("flush Redis: %w", err)
	}
	return nil
}

// repair is how long a living worker may take to notice a loss and to fill the lane again.
func (s *Shop) repair() time.Duration { return s.cfg.CheckInterval + RepairAllowance }

// takeover is how long the partitions of a dead worker may be without an owner: its session, and the others' rejoining.
func (s *Shop) takeover() time.Duration { return s.cfg.Session + RepairAllowance }

// disturb lengthens the Oracle's bound for all reads that what happens now may touch.
func (s *Shop) disturb(extra time.Duration) { s.oracle.Disturb(s.cfg.MaxStaleness+extra, extra) }

func (s *Shop) node(i int) (*node, error) {
	if i < 0 || i >= len(s.nodes) {
		return nil, fmt.Errorf("node %d: %w", i, ErrNoNode)
	}
	if !s.isRunning() {
		return nil, ErrNotRunning
	}
	return s.nodes[i], nil
}

// SetChaos switches faults that happen by themselves on or off. Those that run end at their time.
func (s *Shop) SetChaos(on bool) {
	if s.chaos.Swap(on) != on {
		s.tell("chaos is %s", map[bool]string{true: "on", false: "off"}[on])
	}
}

// calm is the shortest time between two kills of the worker: each needs a session time-out until work continues.
const calm = 20 * time.Second

// runChaos does a fault every few seconds while chaos is switched on.
func (s *Shop) runChaos(ctx context.Context) error {
	r := rand.New(rand.NewPCG(s.cfg.Seed, 2))
	between := func(from, to time.Duration) time.Duration {
		return (from + time.Duration(r.Int64N(int64(to-from)))).Round(100 * time.Millisecond)
	}
	t := time.NewTimer(between(time.Second, 4*time.Second))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		t.Reset(between(2*time.Second, 8*time.Second))
		if !s.chaos.Load() {
			continue
		}
		var err error
		switch i := r.IntN(len(s.nodes)); r.IntN(6) {
		case 0:
			err = s.PauseNode(i, between(time.Second, 15*time.Second))
		case 1:
			err = s.CutNode(i, between(time.Second, 15*time.Second))
		case 2, 3:
			err = s.DropMessages(i, between(time.Second, 6*time.Second))
		case 4:
			if !s.workers.headless(time.Now(), calm) {
				err = s.KillWorker()
			}
		case 5:
			if s.cfg.EmptyRedis != nil {
				err = s.FlushRedis(ctx)
			}
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}
