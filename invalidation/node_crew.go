package invalidation

import "sync/atomic"

// maxIdle is how many goroutines of a node wait for fills.
const maxIdle = 16

// job is what a goroutine of a crew runs.
type job interface{ run() }

// crew are the goroutines that run a node's fills. One that is done waits for the next fill: a new goroutine would have to
// grow its stack several times, which takes longer than all else that a fill does in memory.
type crew struct {
	next chan job // has no buffer, so only one that waits takes from it
	idle atomic.Int32
}

// start runs what has entered the node, in another goroutine.
func (n *Node) start(fill job) {
	select {
	case n.crew.next <- fill:
	default:
		go n.runFills(fill)
	}
}

// runFills runs a fill and those that come while it is idle. A fill keeps Close from returning as long as it is not given
// up, and so does waiting for one.
func (n *Node) runFills(fill job) {
	for {
		fill.run()
		fill = nil // an idle goroutine keeps no value alive
		if n.crew.idle.Add(1) > maxIdle || !n.enter() {
			n.crew.idle.Add(-1)
			return
		}
		select {
		case fill = <-n.crew.next:
		case <-n.ctx.Done():
		}
		n.crew.idle.Add(-1)
		n.leave()
		if fill == nil {
			return
		}
	}
}
