package e2e_test

import (
	"testing"

	"github.com/freshet/freshet/internal/worker"
)

// SIGKILL at each point of a batch's way, again and again. In half of the campaigns another worker lives through it all.
func TestKilledAtEachPoint(t *testing.T) {
	for _, point := range points() {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			c := newCampaign(t, servers{})
			if c.rng.IntN(2) == 0 {
				t.Log("with a companion")
				c.startChild("", 0)
			}
			c.join(2)
			n := times(5, 50)
			for i := range n {
				ch := c.startChild(point, c.nth(point))
				ch.awaitPoint(t)
				if i == n-1 {
					c.stopTraffic() // nothing comes later that would fix what is forgotten now
				}
				ch.Kill(t)
			}
			t.Logf("killed %d times at %s", n, point)
			c.startChild("", 0)
			c.rest()
		})
	}
}

// nth is how often a worker passes a point before it stops there: at once, before it ever committed an offset, or later.
func (c *campaign) nth(point string) int64 {
	// Offsets are committed five times a second, and on a machine that is fast enough few emissions have several keys.
	if point == worker.PointBeforeCommit || point == pointHalfEmitted || c.rng.IntN(2) == 0 {
		return 1 + c.rng.Int64N(4)
	}
	return 20 + c.rng.Int64N(40)
}

// A worker stops at each point of a batch's way for longer than its session, and continues from there when another has its
// partitions and has written newer versions. It must not write rows or commit offsets over its successor.
func TestZombieWakesAtEachPoint(t *testing.T) {
	for _, point := range points() {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			c := newCampaign(t, servers{})
			c.lookForIntruders()
			c.join(2)
			for range times(1, 20) {
				victim := c.startFreezing(point, c.nth(point))
				victim.awaitPoint(t)
				victim.Stop(t) // it has stopped itself; this waits until the kernel says so
				successor := c.startChild("", 0)
				c.taken(successor)
				c.progress()
				victim.Cont(t)
				c.progress()
				victim.Kill(t)
				successor.Kill(t)
			}
			c.startChild("", 0)
			c.rest()
		})
	}
}
