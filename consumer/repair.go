package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/invalidation/lane"
)

// errLaneMoved says that a lane changed under a repair; the repair begins again.
var errLaneMoved = errors.New("lane changed meanwhile")

// noSection is noted in a lane for a dataset whose cache section was removed. It is nobody's hash, so nodes that still have
// the section do not cache the dataset.
const noSection = "-"

// repairTurn bounds how long one partition's repair may hold up the check of the others.
const repairTurn = 5 * time.Second

var (
	errBusy = errors.New("an emission is under way")
	errTurn = errors.New("the repair is not done yet")

	errOtherSection = errors.New("the lane has another cache section of the dataset: start a program that has it")
)

// checkLanes is the watermark check: per lane one read of its meta hash for all partitions, then repairs where a lane is
// missing, has a root that a partition does not know, or forgot what it acknowledged.
func (w *Worker) checkLanes(ctx context.Context) {
	var parts []*partition
	for _, p := range w.partitions() {
		if p.cached() {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		w.markRemoved(ctx)
		return
	}
	ctx, stop := whileOwned(ctx, parts)
	defer stop()
	parts = w.flushRenewed(ctx, parts)
	const what = "mysql, redis: check lanes"
	failed := map[*partition]error{}
	for _, v := range w.lanes {
		if err := w.checkLane(ctx, v, parts, failed); err != nil {
			if ctx.Err() == nil {
				w.fault(what, err)
			}
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	w.healed(what)
	for _, p := range parts {
		what := fmt.Sprintf("lanes of %s/%d to be repaired", p.id.Topic, p.id.ID)
		switch err := failed[p]; {
		case errors.Is(err, errBusy):
			continue
		case errors.Is(err, errOtherSection):
			w.fault(what, err) // awaitSection says the rest
		case err != nil:
			w.fault(what, err)
			continue
		default:
			w.healed(what)
		}
		p.markReady()
	}
}

// markRemoved notes in the lanes that cache sections were removed, where no dataset has one any more: nothing else reads the lanes then,
// and nodes that still have a section would serve entries that no worker makes stale any more.
func (w *Worker) markRemoved(ctx context.Context) {
	if len(w.lanes) == 0 || w.cfg.anyCached() {
		return // those who own partitions of cached datasets see to it
	}
	const what = "redis: note in the lanes that cache sections were removed"
	for _, v := range w.lanes {
		st, err := w.state(ctx, v, nil)
		if err == nil && st.Exists {
			err = w.adoptLane(ctx, v)
		}
		if err != nil {
			if ctx.Err() == nil {
				w.fault(what, err)
			}
			return
		}
	}
	w.healed(what)
}

// checkLane looks at one lane. What stands in the way of one partition's repair is noted in failed and does not hold up
// the others; an error means that the lane itself cannot be looked at.
func (w *Worker) checkLane(ctx context.Context, v *laneView, parts []*partition, failed map[*partition]error) error {
	if err := w.adoptLane(ctx, v); err != nil {
		return err
	}
	st, err := w.state(ctx, v, parts)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := w.checkPartition(ctx, v, &st, p); err != nil {
			failed[p] = err
		}
	}
	return nil
}

// checkPartition repairs v for p if that is needed. Neither an emission that waits for something nor a repair that does
// holds up the other partitions: the former finds by itself what its lane lost, the latter goes on at the next check from
// where it came to.
func (w *Worker) checkPartition(ctx context.Context, v *laneView, st *lane.State, p *partition) error {
	wait, cancel := context.WithTimeoutCause(ctx, settleWait, errBusy)
	defer cancel()
	if err := p.lock.acquire(wait); err != nil {
		return err
	}
	defer p.lock.release()
	s := p.lanes[v.n]
	wm, known := st.Watermarks[p.source]
	if st.Exists && st.Root == s.root && (known && wm >= s.acked || !known && s.start > s.acked) {
		return nil
	}
	turn, end := context.WithTimeoutCause(ctx, repairTurn, errTurn)
	defer end()
	return w.repair(turn, p, v.n)
}

// adoptLane makes a missing lane, and copies the cache hashes that the operator set and this worker agrees with, or that
// there is none any more. A changed hash comes with a new root and a hold, since entries made under other templates are not invalidated by ours.
func (w *Worker) adoptLane(ctx context.Context, v *laneView) error {
	st, err := w.state(ctx, v, nil)
	if err != nil {
		return err
	}
	if st.Exists && st.Lanes != w.cfg.Emitter.Lanes() {
		return fmt.Errorf("lane %d was made for %d lanes, this worker has %d: the number of lanes is fixed for a namespace", v.n, st.Lanes, w.cfg.Emitter.Lanes())
	}
	if st.Exists && st.Group != "" && st.Group != w.cfg.Group {
		return fmt.Errorf("lane %d belongs to another consumer group: one group emits into a namespace", v.n)
	}
	set, err := w.cfg.Hashes.Hashes(ctx)
	if err != nil {
		return err
	}
	want := map[string]string{}
	for _, d := range w.cfg.Datasets.All() {
		h, known := d.CacheHash(), st.Hashes[d.Name]
		switch {
		case h != "" && set[d.Name] == h:
			want[d.Name] = h
		case h == "" && set[d.Name] == "" && known != "":
			want[d.Name] = noSection
		}
	}
	req := lane.RootRequest{Expected: st.Root, Group: w.cfg.Group, Hashes: want}
	if st.Exists {
		merged := maps.Clone(st.Hashes)
		if merged == nil {
			merged = map[string]string{}
		}
		maps.Copy(merged, want)
		if maps.Equal(merged, st.Hashes) {
			return nil
		}
		req.HoldMillis = w.cfg.Hold.Milliseconds()
	} else if w.cfg.Hold > 0 {
		// A worker of the former section noted the names of old rows under its templates: to emit its work again does not
		// cover ours, and loads may lack that work yet.
		changed, err := w.cfg.Hashes.HashChanged(ctx, w.cfg.Hold)
		if err != nil {
			return fmt.Errorf("read when cache hashes changed: %w", err)
		}
		if changed {
			req.HoldMillis = w.cfg.Hold.Milliseconds()
		}
	}
	r, err := w.cfg.Emitter.Root(ctx, v.n, req)
	if err != nil {
		return fmt.Errorf("make root of lane %d: %w", v.n, err)
	}
	if r.Status == lane.OK {
		w.counts.laneRoots.Add(1)
		w.log.Info("lane has a new root", "lane", v.n, "existed", st.Exists)
	}
	return nil
}

// repair brings lane n up to what p has emitted. The caller holds p's lock.
func (w *Worker) repair(ctx context.Context, p *partition, n int) error {
	for {
		err := w.repairOnce(ctx, p, n)
		if !errors.Is(err, errLaneMoved) {
			return err
		}
	}
}

func (w *Worker) repairOnce(ctx context.Context, p *partition, n int) error {
	v, s := w.lanes[n], &p.lanes[n]
	if err := w.adoptLane(ctx, v); err != nil {
		return err
	}
	st, err := w.state(ctx, v, []*partition{p})
	if err != nil {
		return err
	}
	if !st.Exists {
		return errLaneMoved
	}
	if st.Root != s.root {
		if err := w.meetRoot(ctx, p, n, st.Root); err != nil {
			return err
		}
	}
	next := s.start
	if wm, ok := st.Watermarks[p.source]; ok {
		next = wm + 1
	}
	if next >= p.read {
		s.acked = p.read - 1
		return nil
	}
	if next > s.acked {
		return nil // the lane knows all that it acknowledged; what follows is on its way
	}
	if d := p.dataset; d != nil && st.Hashes[d.Name] != d.CacheHash() {
		return errOtherSection // a worker that has it wrote some of those rows: this one does not know their names
	}
	w.counts.regressions.Add(1)
	w.log.Warn("lane lost what it had acknowledged; it is emitted again",
		"lane", n, "topic", p.id.Topic, "partition", p.id.ID, "from", next, "to", p.read-1)
	low, err := w.cfg.Lanes.Low(ctx, p.source)
	if err != nil {
		return fmt.Errorf("read purged range: %w", err)
	}
	if next <= low {
		return w.flushLane(ctx, p, n, st.Root, next, "displaced names of that range are purged")
	}
	return w.emitAgain(ctx, p, n, st.Root, next)
}

// window gives where p begins in a new root: at the first offset that was committed to MySQL within the window, or before.
func (w *Worker) window(ctx context.Context, p *partition) (int64, error) {
	from, err := w.cfg.Lanes.Window(ctx, p.source, w.cfg.Window, p.settled)
	if err != nil {
		return 0, fmt.Errorf("read window: %w", err)
	}
	return min(from, p.read), nil
}

// meetRoot notes durably, before the first transaction and the first emit under it, where p begins in a root that is new
// to it. Whether Kafka and MySQL still have what lies there is for the re-emission to find out: what they have not is never
// passed over in silence.
func (w *Worker) meetRoot(ctx context.Context, p *partition, n int, root string) error {
	from, err := w.window(ctx, p)
	if err != nil {
		return err
	}
	start, err := w.cfg.Lanes.Start(ctx, p.source, n, root, from)
	if err != nil {
		return fmt.Errorf("note start in lane %d: %w", n, err)
	}
	p.lanes[n].root, p.lanes[n].start = root, start
	return nil
}

// flushLane gives lane n a new root with hold in place of the re-emission from next, which is not possible any more; what
// can still be emitted again within the window is, under the new root. It is this source's watermark in the new root that
// keeps the flush from being repeated for the same records.
func (w *Worker) flushLane(ctx context.Context, p *partition, n int, root string, next int64, why string) error {
	from, err := w.window(ctx, p)
	if err != nil {
		return err
	}
	low, err := w.cfg.Lanes.Low(ctx, p.source)
	if err != nil {
		return fmt.Errorf("read purged range: %w", err)
	}
	for _, st := range w.consumer.Stats().Partitions {
		if st.Partition == p.id {
			p.oldest = max(p.oldest, st.LogStart)
		}
	}
	from = min(max(from, low+1, p.oldest), p.read)
	r, err := w.cfg.Emitter.Root(ctx, n, lane.RootRequest{
		Expected: root, Source: p.source, Watermark: from - 1, HoldMillis: w.cfg.Hold.Milliseconds(), Group: w.cfg.Group,
	})
	if err != nil {
		return fmt.Errorf("flush lane %d: %w", n, err)
	}
	if r.Status == lane.OK {
		w.counts.laneFlushes.Add(1)
		w.log.Error("lane is flushed, with hold: it lost invalidations that cannot be emitted again",
			"lane", n, "topic", p.id.Topic, "partition", p.id.ID, "from", next, "to", from-1, "reason", why)
		if _, err := w.cfg.Lanes.Start(ctx, p.source, n, r.Root, from); err != nil {
			return fmt.Errorf("note start in lane %d: %w", n, err)
		}
	}
	return errLaneMoved
}

// emitAgain reads the range next … read−1 from Kafka once more and emits it into lane n alone. Until all of it is done,
// what the lane once acknowledged stays noted: a repair that breaks off half-way must be found by the next check, and
// nobody may move the watermark over what it left out.
func (w *Worker) emitAgain(ctx context.Context, p *partition, n int, root string, next int64) error {
	s := &p.lanes[n]
	reader := kafkalog.NewReader(w.cfg.Kafka, p.id, next, kafkalog.ReaderConfig{Until: p.read})
	defer reader.Close()
	for next < p.read {
		b, err := reader.Read(ctx)
		var loss *kafkalog.LossError
		switch {
		case errors.As(err, &loss) && loss.Loss.Next < loss.Loss.First:
			p.oldest = max(p.oldest, loss.Loss.First)
			return w.flushLane(ctx, p, n, root, next, "Kafka does not hold that range any more")
		case errors.As(err, &loss), errors.Is(err, kafkalog.ErrCorrupt):
			p.oldest = max(p.oldest, p.read)
			return w.flushLane(ctx, p, n, root, next, "Kafka's copy of that range cannot be read any more")
		}
		if err != nil {
			return fmt.Errorf("read again: %w", err)
		}
		e, err := w.emissionAgain(ctx, p, n, next, b)
		b.Release()
		if err != nil {
			return err
		}
		r, err := w.cfg.Emitter.Emit(ctx, n, root, s.start, e)
		if err != nil {
			return fmt.Errorf("emit again: %w", err)
		}
		if r.Status != lane.OK {
			return errLaneMoved
		}
		next = b.Next
		w.counts.reemitted.Add(uint64(len(e.Items)))
	}
	s.acked = p.read - 1
	return nil
}

// emissionAgain is the emission of a batch that was applied before, for lane n.
func (w *Worker) emissionAgain(ctx context.Context, p *partition, n int, from int64, b *kafkalog.Batch) (lane.Emission, error) {
	pr, err := w.prepare(p, b)
	if err != nil {
		return lane.Emission{}, fmt.Errorf("prepare batch: %w", err)
	}
	pr.displaced = true
	if err := w.addDisplaced(ctx, p, pr, b.From, b.Next-1); err != nil {
		return lane.Emission{}, err
	}
	if err := w.unlink(ctx, pr); err != nil {
		return lane.Emission{}, err
	}
	its := pr.split(len(w.lanes))[n]
	return lane.Emission{Source: p.source, From: from, To: b.Next - 1, Time: pr.newest, Items: its, Tags: pr.tagNames(), Keep: true}, nil
}

// state reads a lane's meta hash and notes that the lane answered.
func (w *Worker) state(ctx context.Context, v *laneView, parts []*partition) (lane.State, error) {
	sources := make([]string, len(parts))
	for i, p := range parts {
		sources[i] = p.source
	}
	all := w.cfg.Datasets.All()
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.Name
	}
	sent := w.now()
	st, err := w.cfg.Emitter.State(ctx, v.n, sources, names)
	if err != nil {
		return st, fmt.Errorf("read lane %d: %w", v.n, err)
	}
	v.saw(sent)
	v.sections.Store(&st.Hashes)
	return st, nil
}

// now is the time since the worker was made, on the monotonic clock.
func (w *Worker) now() time.Duration { return time.Since(w.counts.started) }

// saw notes that the lane answered a request that was sent at t.
func (v *laneView) saw(t time.Duration) {
	for {
		old := v.answered.Load()
		if int64(t) <= old || v.answered.CompareAndSwap(old, int64(t)) {
			return
		}
	}
}

func (w *Worker) age(v *laneView) time.Duration {
	at := v.answered.Load()
	if at < 0 {
		return time.Duration(1<<63 - 1)
	}
	return w.now() - time.Duration(at)
}
