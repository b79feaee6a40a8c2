package invalidation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/tracecontext"
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
)

// ErrLoads comes, wrapped, from Join when Config.Hold reports that every load reads the primary and the workers say otherwise,
// or the other way round.
var ErrLoads = errors.New("node and namespace disagree about what loads read")

// ErrLanes comes, wrapped, from Join when the namespace was made with another number of lanes than Config.Lanes.
var ErrLanes = errors.New("namespace has another number of lanes")

// follower follows one lane: what it knows of it, and the two goroutines that keep that up.
type follower struct {
	node *Node
	n    int // the lane
	view *view
	log  *slog.Logger

	now   chan struct{} // one slot: sync at once
	asked chan struct{} // one slot: a reader waits
	first chan struct{} // closed after the first successful sync

	subscribed atomic.Bool  // at least one subscription was confirmed
	live       atomic.Bool  // the subscription works
	pushed     atomic.Int64 // messages that the subscription brought
	trouble    atomic.Int32 // requests to the shared tier that failed in a row

	full atomic.Bool // the last fill was refused by Redis, or got no answer

	probe atomic.Bool // one request to the shared tier is allowed although trouble says otherwise

	syncCount, failed, subscriptions atomic.Int64

	agreeing sync.Mutex    // guards the node's agreements about this lane
	doubts   atomic.Uint64 // how often they were taken back

	mu      sync.Mutex // guards what follows
	refusal error
	ps      *redis.PubSub // the subscription; nil between two
	known   *laneSources  // the last read of them
	// The last errors of the subscription and of a sync; nil once one succeeds. That of the shared tier counts while troubled.
	subscribing, syncing, sharing error
}

func newFollower(node *Node, n int) *follower {
	v := newView(&node.clock, node.drop)
	v.tracer, v.node = tracecontext.Tracer(node.cfg.TracerProvider), node.cfg.ID
	return &follower{
		node: node, n: n, view: v, log: node.log.With("lane", n),
		now: make(chan struct{}, 1), asked: make(chan struct{}, 1), first: make(chan struct{}),
	}
}

// laneOf returns the follower of a cache key's lane.
func (n *Node) laneOf(name string) *follower { return n.lanes[lane.Of(name, len(n.lanes))] }

// fresh reports whether local entries of this lane may be served at now.
func (f *follower) fresh(now int64) bool {
	c := f.view.confirm.Load()
	return c != 0 && now-c <= int64(f.node.cfg.MaxStaleness)
}

// heard counts the requests that fail in a row. From maxTrouble on caches do not ask the shared tier, so that a Redis
// that does not answer costs no reader a time-out; after each sync that succeeds one of them tries again.
func (f *follower) heard(err error) {
	switch {
	case err == nil && f.trouble.Load() != 0:
		f.trouble.Store(0)
	case err != nil:
		f.trouble.Add(1)
		f.note(&f.sharing, err)
	}
}

// note remembers an error, or that there is none.
func (f *follower) note(of *error, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*of = err
}

// answered notes that a sync succeeded: one read may find out whether the shared tier answers again.
func (f *follower) answered() {
	if f.trouble.Load() >= maxTrouble {
		f.probe.Store(true)
		return
	}
	f.heard(nil)
}

// troubled reports whether the shared tier is left alone, and lets one caller through after each sync.
func (f *follower) troubled() bool {
	return f.trouble.Load() >= maxTrouble && !f.probe.CompareAndSwap(true, false)
}

// filled notes that Redis takes fills.
func (f *follower) filled() {
	if f.full.Load() {
		f.full.Store(false)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already
	}
}

func (f *follower) refused() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refusal
}

// receive keeps a subscription to the lane's channel. What it brings is only fast, never complete: syncs make it so.
func (f *follower) receive() {
	wait := firstBackoff
	for f.node.ctx.Err() == nil {
		if f.subscription() {
			wait = firstBackoff
			f.log.Info("subscription to the lane ended; subscribing again")
		}
		t := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-f.node.ctx.Done():
		case <-t.C:
		}
		t.Stop()
		wait = min(2*wait, maxBackoff)
	}
}

// subscribe opens a subscription of its own for the lane: one that holds several channels is served by one Redis only,
// and in a cluster they lie on several.
func (f *follower) subscribe() *redis.PubSub {
	channel := f.node.reader.Keys(f.n).Channel
	open := f.node.control.Subscribe
	if f.node.cfg.Sharded {
		open = f.node.control.SSubscribe
	}
	ps := open(f.node.ctx, channel)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ps = ps
	return ps
}

// resubscribe ends the subscription, so that receive makes a new one.
func (f *follower) resubscribe() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ps != nil {
		_ = f.ps.Close() // an error would say that it is closed
	}
}

// subscription receives until the link fails or is silent; confirmed reports whether it ever worked. Nothing in it blocks
// but the receiving: an invalidation is applied where it arrives.
func (f *follower) subscription() (confirmed bool) {
	ctx := f.node.ctx
	ps := f.subscribe()
	stop := context.AfterFunc(ctx, f.resubscribe) // a blocked receive does not heed its context
	defer func() {
		f.live.Store(false)
		stop()
		f.resubscribe()
	}()
	for misses := 0; ; {
		m, err := ps.ReceiveTimeout(ctx, receiveTimeout)
		if err != nil {
			var ne net.Error
			misses++
			if ctx.Err() != nil || !errors.As(err, &ne) || !ne.Timeout() || misses == maxMisses || ps.Ping(ctx) != nil {
				f.note(&f.subscribing, err)
				return confirmed
			}
			continue
		}
		misses = 0
		switch m := m.(type) {
		case *redis.Subscription:
			if m.Kind != "subscribe" && m.Kind != "ssubscribe" {
				return confirmed // the slot moved away: the server ended the subscription by itself
			}
			confirmed = true
			f.subscriptions.Add(1)
			f.subscribed.Store(true)
			f.note(&f.subscribing, nil)
			f.live.Store(true)
			signal(f.now) // what was published before this moment may be lost
		case *redis.Message:
			f.pushed.Add(1)
			f.frame(m.Payload)
		}
	}
}

// frame applies a message. One that is not the successor of what is known, or that flushes the lane (its meta may say
// something new), asks for a sync.
func (f *follower) frame(text string) {
	fr, err := lane.ParseFrame(text)
	if fr.Payload.Flush {
		f.doubt()
	}
	complete := f.view.message(parseID(fr.Prev), parseID(fr.ID), &fr.Payload, err != nil)
	if !complete || fr.Payload.Flush {
		signal(f.now)
	}
}

// syncs compares what is known with the lane: at once when something is missing, soon when a reader waits, and
// regularly.
func (f *follower) syncs() {
	n := f.node
	poll := time.NewTicker(n.cfg.PollInterval)
	defer poll.Stop()
	soon := time.NewTimer(time.Hour)
	soon.Stop()
	defer soon.Stop()
	var lastSync time.Time
	silent := 0
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-f.asked:
			if d := waitInterval - time.Since(lastSync); d > 0 {
				soon.Reset(d)
				continue
			}
		case <-f.now:
		case <-poll.C:
		case <-soon.C:
		}
		if !f.subscribed.Load() {
			continue // subscribe first, then adopt the lane's head
		}
		pushed, caught := f.pushed.Load(), f.view.caught.Load()
		err := f.sync()
		lastSync = time.Now()
		if n.ctx.Err() != nil {
			return
		}
		f.note(&f.syncing, err)
		silent = f.silence(silent, pushed, f.view.caught.Load()-caught)
		if n.waits.len() > 0 {
			soon.Reset(waitInterval)
		}
	}
}

// silence counts syncs in a row that found entries while the subscription brought nothing since before the sync: such a
// subscription is recreated, however well it answers pings. A slot that moved leaves one behind.
func (f *follower) silence(before int, pushed, caught int64) int {
	switch {
	case caught == 0:
		return before
	case f.pushed.Load() != pushed || !f.live.Load():
		return 0
	case before == 0:
		return 1
	}
	f.log.Info("subscription brings nothing; subscribing again")
	f.resubscribe()
	return 0
}

// sync reads the lane's state and what was missed.
func (f *follower) sync() error {
	ctx, cancel := context.WithTimeout(f.node.ctx, syncTimeout)
	defer cancel()
	err := f.compare(ctx)
	if err != nil {
		f.failed.Add(1)
		if c, ok := f.node.control.(*redis.ClusterClient); ok {
			c.ReloadState(ctx) // a master that does not answer may have been replaced
		}
		var said redis.Error
		if errors.As(err, &said) && !errors.Is(err, redis.Nil) {
			f.probe.Store(false)
			f.trouble.Store(maxTrouble) // it answers, but not as the master that it should be: what it holds may be old
		}
		return err
	}
	f.syncCount.Add(1)
	f.answered()
	if !f.looked() {
		close(f.first)
	}
	return nil
}

// looked reports whether a sync has succeeded.
func (f *follower) looked() bool {
	select {
	case <-f.first:
		return true
	default:
		return false
	}
}

func (f *follower) compare(ctx context.Context) error {
	n := f.node
	for range 3 { // more entries may come while the missing ones are read
		drift := n.drift()
		p := f.view.probe(n.now())
		doubts := f.doubts.Load()
		st, err := n.reader.State(ctx, f.n, n.waits.ask(f.view), n.names)
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		n.waits.learn(st.Watermarks)
		if st.Exists && st.Lanes != n.cfg.Lanes {
			f.note(&f.refusal, fmt.Errorf("%w: %d, Config.Lanes is %d; all programs of a namespace use the same", ErrLanes, st.Lanes, n.cfg.Lanes))
			st = lane.State{} // as good as missing
		} else if st.Exists && st.PrimaryLoads != (n.cfg.Hold < 0) {
			f.note(&f.refusal, fmt.Errorf("%w: the workers' namespace was made for loads from %s; Config.Hold is negative if and only if that is the primary", ErrLoads, loadsFrom(st.PrimaryLoads)))
			st = lane.State{}
		} else if st.Exists {
			f.note(&f.refusal, nil)
		}
		if parted(drift, n.drift()) {
			n.suspended.Store(n.now())
			f.view.suspect() // suspended between asking and now
		}
		f.agree(&st, doubts)
		if f.view.settle(p, &st) {
			return nil
		}
		err = f.catchUp(ctx)
		if errors.Is(err, lane.ErrGap) || errors.Is(err, lane.ErrBehind) {
			f.view.forget(p, &st)
			return nil
		}
		if err != nil {
			return err
		}
	}
	signal(f.now)
	return nil
}

// catchUp applies what follows the newest entry that is known.
func (f *follower) catchUp(ctx context.Context) error {
	prev := f.view.end()
	err := f.node.reader.Range(ctx, f.n, prev.String(), maxCatchUp, func(e lane.Entry) {
		id := parseID(e.ID)
		if e.Payload.Flush {
			f.doubt()
		}
		f.view.message(prev, id, &e.Payload, e.Err != nil)
		f.view.caught.Add(1)
		prev = id
	})
	if err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	return nil
}
