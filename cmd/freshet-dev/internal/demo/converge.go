package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/invalidation"
)

// Convergence is the outcome of comparing every record at every node with the replica and the replica with the source.
type Convergence struct {
	// Records is how many were ever written; Checked how many pairs of record and node were compared.
	Records, Checked int
	// Missing counts records whose replica row lacks the newest acknowledged version; Different counts pairs whose node
	// serves something else than the replica.
	Missing, Different int
	// Differences names some of them.
	Differences []Difference
	Took        time.Duration
}

// Difference is one thing that does not agree.
type Difference struct {
	// Node is the node's number, or −1 for replica against source.
	Node         int
	Dataset, Key string
	Got, Want    int64
}

// OK reports whether everything agrees.
func (c Convergence) OK() bool { return c.Missing == 0 && c.Different == 0 }

// StopWrites ends the traffic; readers and worker continue. ResumeWrites begins it again.
func (s *Shop) StopWrites() {
	s.traffic.stopped.Store(true)
	s.tell("writes stop")
}

// ResumeWrites continues with the traffic.
func (s *Shop) ResumeWrites() {
	s.traffic.stopped.Store(false)
	s.tell("writes continue")
}

// Converged waits until the worker has carried everything that was acknowledged and every node has applied it, and then
// compares all records ever written: source against replica, and at every node what a read returns against the replica.
// Writes must have been stopped, and chaos switched off; running faults are ended. Errors: ErrWriting, ErrNotRunning,
// ctx's.
func (s *Shop) Converged(ctx context.Context) (Convergence, error) {
	began := time.Now()
	if !s.isRunning() {
		return Convergence{}, ErrNotRunning
	}
	if !s.traffic.stopped.Load() || s.chaos.Load() {
		return Convergence{}, ErrWriting
	}
	far := time.Now().Add(24 * time.Hour)
	for _, n := range s.nodes {
		n.heal(far)
	}
	if err := s.quiet(ctx); err != nil {
		return Convergence{}, err
	}
	token, written := s.traffic.written()
	for _, n := range s.nodes {
		if err := n.inv.WaitFor(ctx, token); err != nil {
			return Convergence{}, fmt.Errorf("wait for node %d: %w", n.i, err)
		}
	}
	c := Convergence{Records: len(written)}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, w := range written {
		g.Go(func() error { return s.compare(ctx, w, &mu, &c) })
	}
	err := g.Wait()
	c.Took = time.Since(began)
	if err != nil {
		return c, fmt.Errorf("compare the records: %w", err)
	}
	s.tell("compared %d records at %d nodes: %d missing, %d different", c.Records, len(s.nodes), c.Missing, c.Different)
	return c, nil
}

// quiet waits until the outcome of every publish is known.
func (s *Shop) quiet(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for !s.traffic.quiet() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for publishing: %w", context.Cause(ctx))
		}
	}
	return nil
}

// compare compares one record everywhere.
func (s *Shop) compare(ctx context.Context, w settled, mu *sync.Mutex, c *Convergence) error {
	ds, key := w.kind.dataset, w.kind.keys[w.id]
	row, err := s.cfg.Rows.Get(ctx, ds, key)
	if err != nil {
		return err
	}
	differs := func(node int, got, want int64, count *int) {
		mu.Lock()
		defer mu.Unlock()
		*count++
		if len(c.Differences) < maxHistory {
			c.Differences = append(c.Differences, Difference{node, ds.Name, key, got, want})
		}
	}
	if !row.Found || row.Version < w.version {
		differs(-1, row.Version, w.version, &c.Missing)
	}
	for _, n := range s.nodes {
		v, err := n.caches[ds.Name].Get(ctx, key)
		if err != nil && !errors.Is(err, invalidation.ErrNotFound) {
			return err
		}
		lives := row.Found && !row.Deleted
		if same := (err == nil) == lives && (!lives || v.Version == row.Version && v.Sum == sum(ds, row.Values)); !same {
			differs(n.i, v.Version, row.Version, &c.Different)
		}
		mu.Lock()
		c.Checked++
		mu.Unlock()
	}
	return nil
}
