package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/listener"
)

// defaultDrain is what balancers and Prometheus usually need to notice that a process is not ready: two failed checks, some seconds apart.
const defaultDrain = 5 * time.Second

// drainDelay is how long a process with listeners at these addresses drains. By default one that is on loopback alone does not: no other
// machine sends it anything, and a person who stops it should not have to wait.
func drainDelay(c config.Config, addrs ...string) time.Duration {
	if c.DrainDelay >= 0 {
		return c.DrainDelay
	}
	for _, addr := range addrs {
		if addr != "" && !listener.Loopback(addr) {
			return defaultDrain
		}
	}
	return 0
}

// drain returns the context of the work of a process that is asked to end when asked does: it ends after the delay, so that balancers
// see meanwhile that it is not ready, and send nothing more. stop ends it at once.
func drain(asked context.Context, delay time.Duration, log *slog.Logger) (work context.Context, stop func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(asked))
	release := context.AfterFunc(asked, func() {
		defer cancel()
		if delay <= 0 {
			return
		}
		log.Info("draining: this process ends soon, a second signal ends it at once", "wait_seconds", delay)
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-work.Done():
		}
	})
	return work, func() { release(); cancel() }
}
