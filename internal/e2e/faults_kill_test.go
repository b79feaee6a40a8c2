package e2e_test

import "testing"

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
			for range n {
				ch := c.startChild(point, 1+c.rng.Int64N(4))
				ch.awaitPoint(t)
				ch.Kill(t)
			}
			t.Logf("killed %d times at %s", n, point)
			c.startChild("", 0)
			c.rest()
		})
	}
}
