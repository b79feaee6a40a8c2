package invalidation

import "time"

const (
	// clockInterval is how often the clocks are compared, maxDrift how far they may part in that time. They part when the
	// machine was suspended: the monotonic clock was stopped, and what was confirmed is older than it looks.
	clockInterval = 100 * time.Millisecond
	maxDrift      = 2 * time.Second
)

// watchClocks takes the confirmation back when the machine was suspended.
func (n *Node) watchClocks() {
	t := time.NewTicker(clockInterval)
	defer t.Stop()
	drift := n.drift()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-t.C:
		}
		d := n.drift()
		if parted(drift, d) {
			n.suspended.Store(n.now())
			for _, f := range n.lanes {
				f.view.suspect()
				signal(f.now)
			}
			n.jumps.Add(1)
			n.log.Info("clocks parted; local entries are not served until the lanes were read", "gap_seconds", d-drift)
		}
		drift = d
	}
}

// drift is how much more the wall clock has moved than the monotonic clock.
func (n *Node) drift() time.Duration {
	t := time.Now()
	return t.Round(0).Sub(n.began.Round(0)) - t.Sub(n.began)
}

func parted(before, after time.Duration) bool { return (after - before).Abs() > maxDrift }
