package group

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/wire"
)

const (
	// shortWait is the wait of a request that leaves out a partition whose queue is full: it will want more soon.
	shortWait = 20 * time.Millisecond
	// longFull is after how long a full queue is not expected to want more at any moment.
	longFull = time.Second
	// leastShare and greatestShare bound a partition's part of the budget.
	leastShare    = 128 << 10
	greatestShare = 8 << 20
	// leastWhole is how much of a compressed batch is unfolded at once also where a share is less: nearly every producer's.
	leastWhole = 1 << 20
	// leastPart is the least that is asked for of a partition at a time.
	leastPart = 64 << 10
)

// fetcher reads partitions from their leaders, one connection per leader, into a bounded queue per partition. It lives
// for one generation.
type fetcher struct {
	client *kafkalog.Client
	log    *slog.Logger
	wait   time.Duration
	share  int                  // bytes that a partition may hold before no more is asked for it
	watch  time.Duration        // how often topic ids, and the log start of partitions that are not being fetched, are asked for
	onData func(*feed)          // something was queued
	onLoss func(*kafkalog.Loss) // a feed is lost
	onTime func(time.Duration)  // a fetch brought records
	slabs  slabs

	mu           sync.Mutex // guards everything below, and its part of the feeds; taken before the session's mutex, never after it
	feeds        []*feed    // sorted by topic and partition
	changed      chan struct{}
	addrs        map[int32]string // of brokers, as of the last metadata
	nodes        map[int32]bool   // leaders with a running goroutine
	turn         int              // rotates the order of partitions from request to request
	changedTopic error            // ErrTopicChanged: a topic is no longer the one that was assigned
}

func newFetcher(c *kafkalog.Client, budget int, starts []Start) *fetcher {
	f := &fetcher{
		client: c, wait: kafkalog.DefaultFetchWait, watch: DefaultWatchInterval, changed: make(chan struct{}), nodes: map[int32]bool{},
		onData: func(*feed) {}, onLoss: func(*kafkalog.Loss) {},
		onTime: func(time.Duration) {},
	}
	for _, s := range starts {
		f.feeds = append(f.feeds, &feed{
			part: s.Partition, node: -1, epoch: -1, next: s.Offset, delivered: s.Offset,
			lastStable: -1, logStart: -1, badAt: -1, fetched: time.Now(),
			from: s.Offset, applied: s.Offset, emitted: s.Offset, committed: -1, restartAt: -1,
		})
	}
	slices.SortFunc(f.feeds, func(a, b *feed) int {
		return cmp.Or(cmp.Compare(a.part.Topic, b.part.Topic), cmp.Compare(a.part.ID, b.part.ID))
	})
	f.share = min(max(budget/max(len(f.feeds), 1), leastShare), greatestShare)
	return f
}

// wake lets all waiting goroutines look again. The mutex is held.
func (f *fetcher) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// run fetches until ctx ends, then it returns nil, or until a topic turns out to be recreated: ErrTopicChanged.
func (f *fetcher) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	watch := time.Now().Add(f.watch)
	for ctx.Err() == nil {
		now := time.Now()
		lookAgain, due := f.leaderless(now)
		if due || now.After(watch) {
			cl, err := f.client.Metadata(ctx, f.topics()...)
			f.assign(cl, err)
			switch {
			case now.After(watch) && err == nil:
				f.watchIdle(ctx, cl)
				watch = now.Add(f.watch)
			case now.After(watch):
				watch = now.Add(lastWait)
			}
		}
		f.mu.Lock()
		changed, recreated := f.changed, f.changedTopic
		for node, addr := range f.idleNodes() {
			f.nodes[node] = true
			wg.Go(func() { f.serve(ctx, node, addr) })
		}
		f.mu.Unlock()
		if recreated != nil {
			return recreated
		}
		if lookAgain.IsZero() || lookAgain.After(watch) {
			lookAgain = watch
		}
		await(ctx, changed, lookAgain)
	}
	return nil
}

// await waits for a change, for a time, or for the end of ctx.
func await(ctx context.Context, changed <-chan struct{}, until time.Time) {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-t.C:
	}
}

// leaderless reports whether a feed wants its leader found now, and when the next one will.
func (f *fetcher) leaderless(now time.Time) (next time.Time, due bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.feeds {
		switch {
		case d.node >= 0 || d.state != feedActive:
		case !d.notBefore.After(now):
			due = true
		case next.IsZero() || d.notBefore.Before(next):
			next = d.notBefore
		}
	}
	return next, due
}

func (f *fetcher) topics() []string {
	var out []string
	for _, d := range f.feeds {
		out = append(out, d.part.Topic)
	}
	return slices.Compact(out)
}

// assign sets every feed's leader.
func (f *fetcher) assign(cl *kafkalog.Cluster, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, d := range f.feeds {
		node, epoch, err := int32(-1), int32(-1), err
		if err == nil {
			if id := cl.Topics[d.part.Topic].Info.ID; cl.Topics[d.part.Topic].Err == nil && id != d.part.TopicID {
				f.changedTopic = kafkalog.ErrTopicChanged
			}
			node, _, epoch, err = cl.Leader(d.part.Topic, d.part.ID)
		}
		if err != nil {
			if d.node < 0 && !d.notBefore.After(now) {
				d.backOff(now, err)
			}
			continue
		}
		d.node, d.epoch = node, epoch
	}
	f.addrs = nil
	if cl != nil {
		f.addrs = cl.Brokers
	}
}

// idleNodes returns the leaders that have feeds and no goroutine yet. The mutex is held.
func (f *fetcher) idleNodes() map[int32]string {
	out := map[int32]string{}
	for _, d := range f.feeds {
		if addr, ok := f.addrs[d.node]; ok && !f.nodes[d.node] && d.state == feedActive {
			out[d.node] = addr
		}
	}
	return out
}

// serve fetches from one leader until it leads none of our partitions or cannot be reached.
func (f *fetcher) serve(ctx context.Context, node int32, addr string) {
	k, err := f.client.Dial(ctx, addr)
	if err != nil {
		f.nodeFailed(ctx, node, err)
		return
	}
	defer func() { _ = k.Close() }()
	for ctx.Err() == nil {
		r := f.pick(node)
		if r.none {
			return
		}
		if len(r.wants) == 0 {
			await(ctx, r.changed, r.until)
			continue
		}
		asked := time.Now()
		parts, err := k.Fetch(ctx, r.wants, r.wait, r.partBytes)
		if err == nil {
			if slices.ContainsFunc(parts, func(p kafkalog.FetchPart) bool { return p.HasRecords() }) {
				f.onTime(time.Since(asked))
			}
			err = f.accept(ctx, k, r, parts)
		}
		if err != nil {
			f.nodeFailed(ctx, node, err)
			return
		}
	}
	f.nodeFailed(ctx, node, ctx.Err())
}

// fetchRound is what one request asks of one leader.
type fetchRound struct {
	wants     []kafkalog.FetchWant
	feeds     []*feed
	turns     []int
	others    []*feed // streams that would ask if another one of their partition did not
	wait      time.Duration
	partBytes int
	none      bool // nothing is left to do at this leader
	changed   <-chan struct{}
	until     time.Time
}

// pick chooses the partitions of node that have room, beginning with another one each time.
func (f *fetcher) pick(node int32) fetchRound {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	r := fetchRound{
		wait: f.wait, partBytes: min(max(f.share/2, leastPart), kafkalog.MaxPart), none: true, changed: f.changed,
		until: now.Add(f.watch),
	}
	f.turn++
	for i := range f.feeds {
		d := f.feeds[(i+f.turn)%len(f.feeds)]
		switch {
		case d.node != node || d.state != feedActive:
			continue
		case d.notBefore.After(now):
			if d.notBefore.Before(r.until) {
				r.until = d.notBefore
			}
			if w := d.notBefore.Sub(now); w < r.wait {
				r.wait = max(w, shortWait)
			}
		case d.held >= f.share:
			if d.full.IsZero() {
				d.full = now
			}
			if now.Sub(d.full) < longFull {
				r.wait = min(r.wait, shortWait)
			}
		default:
			d.full = time.Time{}
			if !r.mayWant(d) {
				break
			}
			r.wants = append(r.wants, kafkalog.FetchWant{Topic: d.part.Topic, Partition: d.part.ID, Offset: d.next, Epoch: d.epoch})
			r.feeds = append(r.feeds, d)
			r.turns = append(r.turns, d.turn)
		}
		r.none = false
	}
	if r.none {
		delete(f.nodes, node)
	}
	r.settleTurns(f.turn)
	return r
}

// nodeFailed lets the leaders of everything that node led be looked up again.
func (f *fetcher) nodeFailed(ctx context.Context, node int32, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.nodes, node)
	if ctx.Err() != nil {
		return
	}
	f.log.Warn("fetching from a broker failed", "broker", node, "error", err)
	now := time.Now()
	for _, d := range f.feeds {
		if d.node == node {
			d.node = -1
			d.backOff(now, err)
		}
	}
	f.wake()
}

// accept queues what a reply brought. An error means that the connection cannot be used any more.
func (f *fetcher) accept(ctx context.Context, k *kafkalog.Conn, r fetchRound, parts []kafkalog.FetchPart) error {
	for n := range parts {
		p := &parts[n]
		i := slices.IndexFunc(r.wants, func(w kafkalog.FetchWant) bool { return w.Topic == p.Topic && w.Partition == p.Partition })
		if i < 0 {
			return wire.ErrMalformed
		}
		d, want := r.feeds[i], r.wants[i]
		run, next, err := p.Prove(want.Offset)
		if errors.Is(err, kafkalog.ErrOvertaken) {
			if err := f.overtaken(ctx, k, d, r.turns[i], want.Offset); err != nil {
				return err
			}
			continue
		}
		if err := f.acceptPart(d, r.turns[i], want.Offset, p, run, next, err); err != nil {
			return err
		}
		for other, turn := range f.waitingFor(d, want.Offset) {
			_ = f.acceptPart(other, turn, want.Offset, p, run, next, nil) // bad bytes behind next are its own fetch's to find
		}
	}
	return nil
}

// acceptPart queues what prove returned for one partition's part. An error means that the connection brought bad bytes.
func (f *fetcher) acceptPart(d *feed, turn int, offset int64, p *kafkalog.FetchPart, run []byte, next int64, bad error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.turn != turn || d.state != feedActive {
		return nil
	}
	now := time.Now()
	if p.Err != nil {
		f.refused(d, now, p.Err)
		return nil
	}
	d.measure(now, p.HighWater, p.LastStable, p.LogStart)
	d.fetched = now
	if next > offset {
		d.queue = append(d.queue, chunk{
			run: run, from: offset, next: next, aborted: p.Aborted, lastStable: p.LastStable, logStart: p.LogStart,
		})
		d.held += len(run)
		d.next = next
		f.onData(d)
	}
	if bad != nil && next == offset {
		f.countBad(d, offset, bad)
		return bad
	}
	d.err, d.wait, d.above = nil, 0, 0
	return nil
}

// refused handles a partition's error code. The mutex is held.
func (f *fetcher) refused(d *feed, now time.Time, err error) {
	if d.err == nil {
		f.log.Warn("fetching a partition failed", "topic", d.part.Topic, "partition", d.part.ID, "error", err)
	}
	d.backOff(now, err)
	switch {
	case kafkalog.IsLeadership(err):
		d.node = -1
		f.wake()
	case kafkalog.IsAuthorization(err):
		d.notBefore = now.Add(authWait)
	}
}

// countBad counts how often the batch at offset was bad, and stops the feed there in the end. The mutex is held.
func (f *fetcher) countBad(d *feed, offset int64, err error) {
	if d.badAt != offset {
		d.badAt, d.bad = offset, 0
	}
	d.bad++
	d.backOff(time.Now(), err)
	if d.bad >= kafkalog.CorruptTries {
		d.state = feedStopped
		f.log.Error("partition stopped at a batch that cannot be read",
			"topic", d.part.Topic, "partition", d.part.ID, "offset", offset, "error", err)
	}
}
