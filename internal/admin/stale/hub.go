package stale

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/freshet/freshet/invalidation/lane"
)

// hub looks at the lanes for all streams of invalidations at once, as long as there are any: what a stream costs Redis
// does not grow with their number.
type hub struct {
	lanes *lane.Scripts

	mu  sync.Mutex
	run *watch // guarded by mu; nil while no client follows
}

// watch is the time from the first stream to the last.
type watch struct {
	lanes *lane.Scripts
	stop  context.CancelFunc
	wg    sync.WaitGroup

	streams int // guarded by the hub's mu

	mu     sync.Mutex
	newest []*round        // by lane, nil before the first; guarded by mu
	wake   []chan struct{} // by lane, closed when there is a newer one; guarded by mu
}

// round is one look at a lane.
type round struct {
	asked time.Time
	state lane.State
	err   error
	// entries follow the position from and lead to the position end. Without entries both are the lane's newest entry.
	from, end string
	entries   []lane.Entry
}

// join takes part in the run that there is, or begins one. leave must be called once.
func (h *hub) join() (run *watch, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run == nil {
		n := h.lanes.Lanes()
		ctx, cancel := context.WithCancel(context.Background()) // it outlives the request that began it
		h.run = &watch{lanes: h.lanes, stop: cancel, newest: make([]*round, n), wake: make([]chan struct{}, n)}
		for i := range n {
			h.run.wake[i] = make(chan struct{})
			h.run.wg.Go(func() { h.run.follow(ctx, i) })
		}
	}
	run = h.run
	run.streams++
	return run, func() { h.leave(run) }
}

func (h *hub) leave(run *watch) {
	h.mu.Lock()
	run.streams--
	last := run.streams == 0
	if last {
		h.run = nil // the next client begins another one
	}
	h.mu.Unlock()
	if last {
		run.stop()
		run.wg.Wait()
	}
}

// follow looks at lane n until ctx ends.
func (r *watch) follow(ctx context.Context, n int) {
	t := time.NewTicker(poll)
	defer t.Stop()
	from := noPosition
	for ctx.Err() == nil {
		round := r.look(ctx, n, from)
		if round.err == nil {
			from = round.end
		}
		r.mu.Lock()
		r.newest[n] = round
		close(r.wake[n])
		r.wake[n] = make(chan struct{})
		r.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}

func (r *watch) look(ctx context.Context, n int, from string) *round {
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	x := &round{asked: time.Now(), end: noPosition}
	x.state, x.err = r.lanes.State(ctx, n, nil, nil)
	if x.err != nil || !x.exists(r.lanes) {
		return x
	}
	x.end = x.state.Last
	if from != noPosition && from != x.end {
		err := r.lanes.Range(ctx, n, from, maxStaleCatchUp, func(e lane.Entry) { x.entries = append(x.entries, e) })
		switch {
		case errors.Is(err, lane.ErrGap) || errors.Is(err, lane.ErrBehind):
			x.entries = nil // each stream finds that out from where it is
		case err != nil:
			x.err = err
		case len(x.entries) > 0:
			x.from, x.end = from, x.entries[len(x.entries)-1].ID
			return x
		}
	}
	x.from = x.end
	return x
}

func (x *round) exists(lanes *lane.Scripts) bool {
	return x.state.Exists && x.state.Lanes == lanes.Lanes()
}

// after waits for a look at lane n that is newer than seen, and returns the newest; nil when ctx ends.
func (r *watch) after(ctx context.Context, n int, seen *round) *round {
	for {
		r.mu.Lock()
		newest, wake := r.newest[n], r.wake[n]
		r.mu.Unlock()
		if newest != nil && newest != seen {
			return newest
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
	}
}
