package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation/lane"
)

// restartAfter is how long the shop waits before it replaces a worker that gave up.
const restartAfter = time.Second

// workers keeps one worker running and replaces it when it dies. One that was killed may live on for a while without
// connections, as a zombie.
type workers struct {
	cfg    *Config
	log    *slog.Logger
	oracle *Oracle
	kills  chan struct{} // one slot

	killed, failed atomic.Int64

	mu     sync.Mutex
	killAt time.Time // of the last kill; guarded by mu
}

func newWorkers(cfg Config, log *slog.Logger, o *Oracle) *workers {
	return &workers{cfg: &cfg, log: log, oracle: o, kills: make(chan struct{}, 1)}
}

// run keeps a worker running until ctx ends, and then waits for all of them.
func (w *workers) run(ctx context.Context) error {
	var zombies sync.WaitGroup
	defer zombies.Wait()
	for ctx.Err() == nil {
		worker, err := w.cfg.NewWorker(ctx, w.watch)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("make a worker: %w", err)
		}
		alive, die := context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan error, 1)
		zombies.Go(func() {
			ended <- worker.Run(alive)
			worker.Sever()
		})
		select {
		case <-ctx.Done():
			die()
			return w.last(ended)
		case <-w.kills:
			worker.Sever()
			die()
			w.killed.Add(1)
		case err := <-ended:
			die()
			w.failed.Add(1)
			w.log.Warn("worker ended by itself and is replaced", "error", err)
			t := time.NewTimer(restartAfter)
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
		}
	}
	return nil
}

// last waits for the orderly end of the running worker.
func (w *workers) last(ended <-chan error) error {
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("end the worker: %w", err)
	}
	return nil
}

// kill makes the running worker die and returns when the one before was killed.
func (w *workers) kill(now time.Time) {
	w.mu.Lock()
	w.killAt = now
	w.mu.Unlock()
	select {
	case w.kills <- struct{}{}:
	default: // one is on its way
	}
}

// headless reports whether, within d before now, the partitions may have had no owner.
func (w *workers) headless(now time.Time, d time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.killAt.IsZero() && now.Sub(w.killAt) < d
}

// watch puts the Oracle's ear to an Emitter.
func (w *workers) watch(e worker.Emitter) worker.Emitter { return &watched{e, w.oracle} }

// watched is an Emitter whose acknowledged emissions the Oracle learns of.
type watched struct {
	worker.Emitter

	oracle *Oracle
}

// Emit is worker.Emitter's.
func (w *watched) Emit(ctx context.Context, n int, root string, start int64, e lane.Emission) (lane.Reply, error) {
	r, err := w.Emitter.Emit(ctx, n, root, start, e)
	if err == nil && r.Status == lane.OK {
		w.oracle.Emitted(&e, w.oracle.Now())
	}
	return r, err
}
