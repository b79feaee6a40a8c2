package worker

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// noSection is noted in a lane for a dataset whose cache section was removed. No dataset has this hash, so nodes that still have
// the section do not cache the dataset.
const noSection = "-"

// lanes are the lanes of the namespace, as any partition of the worker has seen them last. They are none if no Emitter is
// configured.
type lanes struct {
	*core

	views []*laneView
}

func newLanes(c *core) *lanes {
	l := &lanes{core: c}
	if c.cfg.Emitter == nil {
		return l
	}
	for n := range c.cfg.Emitter.Lanes() { // also without a cached dataset: lanes may know a cache section that was removed
		v := &laneView{n: n, governor: newGovernor(c.cfg.MaxKeyRate)}
		v.answered.Store(-1)
		l.views = append(l.views, v)
	}
	return l
}

// laneView is what the worker knows of one lane, whichever partition learned it.
type laneView struct {
	n int
	// answered is when the newest request that the lane answered was sent, in nanoseconds since the worker was made.
	answered atomic.Int64
	// sections are the hashes of the lane's cache sections as it last said; nil before, and while it is missing.
	sections atomic.Pointer[map[string]string]
	governor *governor
}

// carries reports whether the lane had d's cache section when it was last read.
func (v *laneView) carries(d *schemas.Dataset) bool {
	sections := v.sections.Load()
	return sections != nil && (*sections)[d.Name] == d.CacheHash()
}

// adoptLane makes a missing lane, and copies the cache hashes that the operator set and this worker agrees with, or that
// there is none any more. A changed hash comes with a new root and a hold, since entries made under other templates are not invalidated by ours.
func (l *lanes) adoptLane(ctx context.Context, v *laneView) error {
	st, err := l.state(ctx, v, nil)
	if err != nil {
		return err
	}
	if st.Exists && st.Lanes != l.cfg.Emitter.Lanes() {
		return fmt.Errorf("lane %d was made for %d lanes, this worker has %d: the number of lanes is fixed for a namespace", v.n, st.Lanes, l.cfg.Emitter.Lanes())
	}
	if st.Exists && st.Group != "" && st.Group != l.cfg.Group {
		return fmt.Errorf("lane %d belongs to another consumer group: one group emits into a namespace", v.n)
	}
	set, err := l.cfg.Replica.Declarations.Hashes(ctx)
	if err != nil {
		return err
	}
	want := map[string]string{}
	for _, d := range l.cfg.Datasets.All() {
		h, known := d.CacheHash(), st.Hashes[d.Name]
		switch {
		case h != "" && set[d.Name] == h:
			want[d.Name] = h
		case h == "" && set[d.Name] == "" && known != "":
			want[d.Name] = noSection
		}
	}
	req := lane.RootRequest{Expected: st.Root, Group: l.cfg.Group, Hashes: want}
	if st.Exists {
		merged := maps.Clone(st.Hashes)
		if merged == nil {
			merged = map[string]string{}
		}
		maps.Copy(merged, want)
		if maps.Equal(merged, st.Hashes) {
			return nil
		}
		req.HoldMillis = l.cfg.Hold.Milliseconds()
	} else if l.cfg.Hold > 0 {
		// A worker of the previous section noted the names of old rows under its templates: to emit its work again does not
		// cover ours, and loads may lack that work yet.
		changed, err := l.cfg.Replica.Declarations.HashChanged(ctx, l.cfg.Hold)
		if err != nil {
			return fmt.Errorf("read when cache hashes changed: %w", err)
		}
		if changed {
			req.HoldMillis = l.cfg.Hold.Milliseconds()
		}
	}
	r, err := l.cfg.Emitter.Root(ctx, v.n, req)
	if err != nil {
		return fmt.Errorf("make root of lane %d: %w", v.n, err)
	}
	if r.Status == lane.OK {
		l.counts.laneRoots.Add(1)
		l.log.Info("lane has a new root", "lane", v.n, "existed", st.Exists)
	}
	return nil
}

// markRemoved notes in the lanes that cache sections were removed, where no dataset has one any more: nothing else reads the lanes then,
// and nodes that still have a section would serve entries that no worker makes stale any more.
func (l *lanes) markRemoved(ctx context.Context) {
	if len(l.views) == 0 || l.cfg.Datasets.Cached() {
		return // those who own partitions of cached datasets see to it
	}
	const what = "redis: note in the lanes that cache sections were removed"
	for _, v := range l.views {
		st, err := l.state(ctx, v, nil)
		if err == nil && st.Exists {
			err = l.adoptLane(ctx, v)
		}
		if err != nil {
			if ctx.Err() == nil {
				l.faults.add(what, err)
			}
			return
		}
	}
	l.faults.end(what)
}

// flushOne gives a lane a new root with hold: nothing cached before counts any more, and for the hold only loads from the
// primary may fill. more may set a watermark.
func (l *lanes) flushOne(ctx context.Context, v *laneView, more lane.RootRequest) error {
	for {
		st, err := l.state(ctx, v, nil)
		if err != nil {
			return err
		}
		more.Expected, more.HoldMillis, more.Group = st.Root, l.cfg.Hold.Milliseconds(), l.cfg.Group
		r, err := l.cfg.Emitter.Root(ctx, v.n, more)
		if err != nil {
			return fmt.Errorf("flush lane %d: %w", v.n, err)
		}
		if r.Status == lane.OK {
			l.counts.laneFlushes.Add(1)
			return nil
		}
	}
}

// flushAll flushes every lane; more may set a watermark. It may be called again after an error.
func (l *lanes) flushAll(ctx context.Context, more lane.RootRequest) error {
	for _, v := range l.views {
		if err := l.flushOne(ctx, v, more); err != nil {
			return err
		}
	}
	return nil
}

// state reads a lane's meta hash and notes that the lane answered.
func (l *lanes) state(ctx context.Context, v *laneView, parts []*partition) (lane.State, error) {
	sources := make([]string, len(parts))
	for i, p := range parts {
		sources[i] = p.source
	}
	all := l.cfg.Datasets.All()
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.Name
	}
	sent := l.now()
	st, err := l.cfg.Emitter.State(ctx, v.n, sources, names)
	if err != nil {
		return st, fmt.Errorf("read lane %d: %w", v.n, err)
	}
	v.saw(sent)
	v.sections.Store(&st.Hashes)
	return st, nil
}

// saw notes that the lane answered a request that was sent at t.
func (v *laneView) saw(t time.Duration) {
	for {
		old := v.answered.Load()
		if int64(t) <= old || v.answered.CompareAndSwap(old, int64(t)) {
			return
		}
	}
}

func (l *lanes) age(v *laneView) time.Duration {
	at := v.answered.Load()
	if at < 0 {
		return time.Duration(1<<63 - 1)
	}
	return l.now() - time.Duration(at)
}
