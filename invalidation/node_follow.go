package invalidation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation/lane"
)

const (
	// receiveTimeout and maxMisses: a link that is silent that often in a row, in spite of pings, is given up.
	receiveTimeout = time.Second
	maxMisses      = 3
	// firstBackoff and maxBackoff bound the wait before subscribing again.
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 2 * time.Second
	// waitInterval is the least time between two syncs that waiting readers ask for.
	waitInterval = 20 * time.Millisecond
	// syncTimeout bounds one comparison with the lane, catching up included.
	syncTimeout = 5 * time.Second
	// maxCatchUp is how many entries a node reads before forgetting everything is cheaper.
	maxCatchUp = 10_000
	// clockInterval is how often the clocks are compared, maxDrift how far they may part in that time. They part when the
	// machine was suspended: the monotonic clock stood still, and what was confirmed is older than it looks.
	clockInterval = 100 * time.Millisecond
	maxDrift      = 2 * time.Second
)

// ErrLanes comes, wrapped, from Join when the namespace was made with another number of lanes than Config.Lanes.
var ErrLanes = errors.New("namespace has another number of lanes")

// follower is the state of a node's goroutines.
type follower struct {
	now   chan struct{} // one slot: sync at once
	asked chan struct{} // one slot: a reader waits
	first chan struct{} // closed after the first successful sync
	nonce uint64        // makes the tokens of this process unlike those of any other with the same ID

	subscribed atomic.Bool // at least one subscription was confirmed
	live       atomic.Bool // the subscription works

	syncs, failed, subscriptions, jumps atomic.Int64

	mu      sync.Mutex
	refusal error
}

func (f *follower) prepare() {
	f.now, f.asked, f.first = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	f.nonce = rand.Uint64()
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already
	}
}

func (f *follower) refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusal = err
}

func (f *follower) refused() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refusal
}

// receive keeps a subscription to the lane's channel. What it brings is only fast, never complete: syncs make it so.
func (n *Node) receive() {
	wait := firstBackoff
	for n.ctx.Err() == nil {
		if n.subscription() {
			wait = firstBackoff
			n.log.Info("subscription to the lane ended; subscribing again")
		}
		t := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-n.ctx.Done():
		case <-t.C:
		}
		t.Stop()
		wait = min(2*wait, maxBackoff)
	}
}

// subscription receives until the link fails or is silent; confirmed says whether it ever worked. Nothing in it blocks
// but the receiving: an invalidation is applied where it arrives.
func (n *Node) subscription() (confirmed bool) {
	ps := n.control.Subscribe(n.ctx, n.reader.Keys(0).Channel)
	stop := context.AfterFunc(n.ctx, func() { _ = ps.Close() }) // a blocked receive does not heed its context
	defer func() {
		n.follow.live.Store(false)
		if stop() {
			_ = ps.Close() // an error would say that it is closed
		}
	}()
	for misses := 0; ; {
		m, err := ps.ReceiveTimeout(n.ctx, receiveTimeout)
		if err != nil {
			var ne net.Error
			misses++
			if n.ctx.Err() != nil || !errors.As(err, &ne) || !ne.Timeout() || misses == maxMisses || ps.Ping(n.ctx) != nil {
				return confirmed
			}
			continue
		}
		misses = 0
		switch m := m.(type) {
		case *redis.Subscription:
			confirmed = true
			n.follow.subscriptions.Add(1)
			n.follow.subscribed.Store(true)
			n.follow.live.Store(true)
			signal(n.follow.now) // what was published before this moment may be lost
		case *redis.Message:
			n.frame(m.Payload)
		}
	}
}

// frame applies a message. One that is not the successor of what is known, or that flushes the lane (its meta may say
// something new), asks for a sync.
func (n *Node) frame(text string) {
	f, err := lane.ParseFrame(text)
	complete := n.view.message(parseID(f.Prev), parseID(f.ID), &f.Payload, err != nil)
	if !complete || f.Payload.Flush {
		signal(n.follow.now)
	}
}

// syncs compares the node with the lane: at once when something is missing, soon when a reader waits, and regularly.
func (n *Node) syncs() {
	poll := time.NewTicker(n.cfg.PollInterval)
	defer poll.Stop()
	soon := time.NewTimer(time.Hour)
	soon.Stop()
	defer soon.Stop()
	var lastSync time.Time
	failing := false
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.follow.asked:
			if d := waitInterval - time.Since(lastSync); d > 0 {
				soon.Reset(d)
				continue
			}
		case <-n.follow.now:
		case <-poll.C:
		case <-soon.C:
		}
		if !n.follow.subscribed.Load() {
			continue // subscribe first, then adopt the lane's head
		}
		err := n.sync()
		lastSync = time.Now()
		if n.ctx.Err() != nil {
			return
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				n.log.Warn("lane cannot be read; local entries are not served once they are too old", "error", err)
			} else {
				n.log.Info("lane can be read again")
			}
		}
		if n.waits.any() {
			soon.Reset(waitInterval)
		}
	}
}

// sync reads the lane's state and what the node missed.
func (n *Node) sync() error {
	ctx, cancel := context.WithTimeout(n.ctx, syncTimeout)
	defer cancel()
	err := n.compare(ctx)
	if err != nil {
		n.follow.failed.Add(1)
		return err
	}
	n.follow.syncs.Add(1)
	n.heard(nil)
	select {
	case <-n.follow.first:
	default:
		close(n.follow.first)
	}
	return nil
}

func (n *Node) compare(ctx context.Context) error {
	for range 3 { // more entries may come while the missing ones are read
		drift := n.drift()
		p := n.view.probe(n.now())
		st, err := n.reader.State(ctx, 0, n.waits.sources(), n.names)
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		if st.Exists && st.Lanes != n.cfg.Lanes {
			n.follow.refuse(fmt.Errorf("%w: %d, Config.Lanes is %d; all programs of a namespace use the same", ErrLanes, st.Lanes, n.cfg.Lanes))
			st = lane.State{} // as good as missing
		} else if st.Exists {
			n.follow.refuse(nil)
		}
		if parted(drift, n.drift()) {
			n.view.suspect() // suspended between asking and now
		}
		n.agree(&st)
		if n.view.settle(p, &st) {
			return nil
		}
		err = n.catchUp(ctx)
		if errors.Is(err, lane.ErrGap) || errors.Is(err, lane.ErrBehind) {
			n.view.forget(p, &st)
			return nil
		}
		if err != nil {
			return err
		}
	}
	signal(n.follow.now)
	return nil
}

// catchUp applies what follows the newest entry that the node knows.
func (n *Node) catchUp(ctx context.Context) error {
	prev := n.view.end()
	err := n.reader.Range(ctx, 0, prev.String(), maxCatchUp, func(e lane.Entry) {
		id := parseID(e.ID)
		n.view.message(prev, id, &e.Payload, e.Err != nil)
		n.view.caught.Add(1)
		prev = id
	})
	if err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	return nil
}

// agree compares the lane's cache sections with the node's.
func (n *Node) agree(st *lane.State) {
	for name, d := range n.datasets {
		got, ok := st.Hashes[name]
		agreed := ok && got == d.hash
		if agreed == d.agreed.Load() {
			continue
		}
		if agreed {
			d.since.Store(n.clock.now.Add(1)) // keys may have been named otherwise until now
		}
		d.agreed.Store(agreed)
		switch {
		case agreed:
			n.log.Info("cache section agrees with the lane", "dataset", name)
		case !st.Exists: // the lane's absence is told elsewhere
		case ok:
			n.log.Warn("cache section differs from the lane's; the dataset is not cached until they agree", "dataset", name)
		default:
			n.log.Warn("lane does not know the dataset; it is not cached until a worker has told", "dataset", name)
		}
	}
}

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
			n.view.suspect()
			n.follow.jumps.Add(1)
			signal(n.follow.now)
			n.log.Info("clocks parted; local entries are not served until the lane was read", "by", d-drift)
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
