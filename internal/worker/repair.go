package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/invalidation/lane"
)

// errLaneMoved is returned when a lane changed during its repair; the repair begins again.
var errLaneMoved = errors.New("lane changed meanwhile")

// repairTurn bounds how long one partition's repair may block the check of the others.
const repairTurn = 5 * time.Second

var (
	errBusy = errors.New("an emission is under way")
	errTurn = errors.New("the repair is not done yet")

	errOtherSection = errors.New("the lane has another cache section of the dataset: start a program that has it")
)

// checkLanes is the watermark check: for each lane two reads of its meta hash and one of the declarations in MySQL, for all partitions, then repairs where a lane is
// missing, has a root that a partition does not know, or forgot what it acknowledged.
func (em *emitter) checkLanes(ctx context.Context) {
	var parts []*partition
	for _, p := range em.partitions() {
		if p.cached() {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		em.lanes.markRemoved(ctx)
		return
	}
	ctx, stop := whileOwned(ctx, parts)
	defer stop()
	parts = em.topics.flushRenewed(ctx, parts)
	const what = "mysql, redis: check lanes"
	failed := map[*partition]error{}
	for _, v := range em.lanes.views {
		if err := em.checkLane(ctx, v, parts, failed); err != nil {
			if ctx.Err() == nil {
				em.faults.add(what, err)
			}
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	em.faults.end(what)
	for _, p := range parts {
		what := fmt.Sprintf("lanes of %s/%d to be repaired", p.id.Topic, p.id.ID)
		switch err := failed[p]; {
		case errors.Is(err, errBusy):
			continue
		case errors.Is(err, errOtherSection):
			em.faults.addIn(oneDataset, what, err) // awaitSection says the rest
		case err != nil:
			em.faults.addIn(oneDataset, what, err)
			continue
		default:
			em.faults.end(what)
		}
		p.markReady()
	}
}

// checkLane looks at one lane. What prevents one partition's repair is noted in failed and does not block
// the others; an error means that the lane itself cannot be looked at.
func (em *emitter) checkLane(ctx context.Context, v *laneView, parts []*partition, failed map[*partition]error) error {
	if err := em.lanes.adoptLane(ctx, v); err != nil {
		return err
	}
	st, err := em.lanes.state(ctx, v, parts)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := em.checkPartition(ctx, v, &st, p); err != nil {
			failed[p] = err
		}
	}
	return nil
}

// checkPartition repairs v for p if that is needed. Neither an emission that waits for something nor a repair that does
// blocks the other partitions: the former finds by itself what its lane lost, the latter continues at the next check from
// where it came to.
func (em *emitter) checkPartition(ctx context.Context, v *laneView, st *lane.State, p *partition) error {
	wait, cancel := context.WithTimeoutCause(ctx, lockWait, errBusy)
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
	return em.repair(turn, p, v.n)
}

// repair brings lane n up to what p has emitted. The caller holds p's lock.
func (em *emitter) repair(ctx context.Context, p *partition, n int) error {
	for {
		err := em.repairOnce(ctx, p, n)
		if !errors.Is(err, errLaneMoved) {
			return err
		}
	}
}

func (em *emitter) repairOnce(ctx context.Context, p *partition, n int) error {
	v, s := em.lanes.views[n], &p.lanes[n]
	if err := em.lanes.adoptLane(ctx, v); err != nil {
		return err
	}
	st, err := em.lanes.state(ctx, v, []*partition{p})
	if err != nil {
		return err
	}
	if !st.Exists {
		return errLaneMoved
	}
	if st.Root != s.root {
		if err := em.meetRoot(ctx, p, n, st.Root); err != nil {
			return err
		}
	}
	next := s.start
	if wm, ok := st.Watermarks[p.source]; ok {
		next = wm + 1
	}
	if next >= p.emitted {
		s.acked = p.emitted - 1
		return nil
	}
	if next > s.acked {
		return nil // the lane knows all that it acknowledged; what follows is on its way
	}
	if d := p.dataset; d != nil && st.Hashes[d.Name] != d.CacheHash() {
		return errOtherSection // a worker that has it wrote some of those rows: this one does not know their names
	}
	em.counts.regressions.Add(1)
	em.log.Warn("lane lost what it had acknowledged; it is emitted again",
		"lane", n, "topic", p.id.Topic, "partition", p.id.ID, "first_offset", next, "last_offset", p.emitted-1)
	low, err := em.cfg.LaneLog.Low(ctx, p.source)
	if err != nil {
		return fmt.Errorf("read purged range: %w", err)
	}
	if next <= low {
		return em.flushLane(ctx, p, n, st.Root, next, "displaced names of that range are purged")
	}
	return em.emitAgain(ctx, p, n, st.Root, next)
}

// window returns where p begins in a new root: at the first offset that was committed to MySQL within the window, or before.
func (em *emitter) window(ctx context.Context, p *partition) (int64, error) {
	from, err := em.cfg.LaneLog.Window(ctx, p.source, em.cfg.Window, p.settled)
	if err != nil {
		return 0, fmt.Errorf("read window: %w", err)
	}
	return min(from, p.emitted), nil
}

// meetRoot notes durably, before the first transaction and the first emit under it, where p begins in a root that is new
// to it. Whether Kafka and MySQL still have what lies there is for the re-emission to find out: what they have not is never
// passed over silently.
func (em *emitter) meetRoot(ctx context.Context, p *partition, n int, root string) error {
	from, err := em.window(ctx, p)
	if err != nil {
		return err
	}
	start, err := em.cfg.LaneLog.Start(ctx, p.source, n, root, from)
	if err != nil {
		return fmt.Errorf("note start in lane %d: %w", n, err)
	}
	p.lanes[n].root, p.lanes[n].start = root, start
	return nil
}

// flushLane gives lane n a new root with hold in place of the re-emission from next, which is not possible any more; what
// can still be emitted again within the window is, under the new root. It is this source's watermark in the new root that
// keeps the flush from being repeated for the same records.
func (em *emitter) flushLane(ctx context.Context, p *partition, n int, root string, next int64, why string) error {
	from, err := em.window(ctx, p)
	if err != nil {
		return err
	}
	low, err := em.cfg.LaneLog.Low(ctx, p.source)
	if err != nil {
		return fmt.Errorf("read purged range: %w", err)
	}
	for _, st := range em.consumer.Stats().Partitions {
		if st.Partition == p.id {
			p.oldest = max(p.oldest, st.LogStart)
		}
	}
	from = min(max(from, low+1, p.oldest), p.emitted)
	r, err := em.cfg.Emitter.Root(ctx, n, lane.RootRequest{
		Expected: root, Source: p.source, Watermark: from - 1, HoldMillis: em.cfg.Hold.Milliseconds(), Group: em.cfg.Group,
	})
	if err != nil {
		return fmt.Errorf("flush lane %d: %w", n, err)
	}
	if r.Status == lane.OK {
		em.counts.laneFlushes.Add(1)
		em.log.Error("lane is flushed, with hold: it lost invalidations that cannot be emitted again",
			"lane", n, "topic", p.id.Topic, "partition", p.id.ID, "first_offset", next, "last_offset", from-1, "reason", why)
		if _, err := em.cfg.LaneLog.Start(ctx, p.source, n, r.Root, from); err != nil {
			return fmt.Errorf("note start in lane %d: %w", n, err)
		}
	}
	return errLaneMoved
}

// emitAgain reads what follows next, up to what is emitted, from Kafka once more and emits it into lane n alone. Until all of it is done,
// what the lane once acknowledged stays noted: a repair that breaks off half-way must be found by the next check, and
// the watermark must not move over what it left out.
func (em *emitter) emitAgain(ctx context.Context, p *partition, n int, root string, next int64) error {
	s := &p.lanes[n]
	reader := kafkalog.NewReader(em.cfg.Kafka, p.id, next, kafkalog.ReaderConfig{Until: p.emitted})
	defer reader.Close()
	for next < p.emitted {
		b, err := reader.Read(ctx)
		var loss *kafkalog.LossError
		switch {
		case errors.As(err, &loss) && loss.Loss.Next < loss.Loss.First:
			p.oldest = max(p.oldest, loss.Loss.First)
			return em.flushLane(ctx, p, n, root, next, "Kafka does not hold that range any more")
		case errors.As(err, &loss), errors.Is(err, kafkalog.ErrCorrupt):
			p.oldest = max(p.oldest, p.emitted)
			return em.flushLane(ctx, p, n, root, next, "Kafka's copy of that range cannot be read any more")
		}
		if err != nil {
			return fmt.Errorf("read again: %w", err)
		}
		e, err := em.emissionAgain(ctx, p, n, next, b)
		b.Release()
		if err != nil {
			return err
		}
		r, err := em.cfg.Emitter.Emit(ctx, n, root, s.start, e)
		if err != nil {
			return fmt.Errorf("emit again: %w", err)
		}
		if r.Status != lane.OK {
			return errLaneMoved
		}
		next = b.Next
		em.counts.reemitted.Add(uint64(len(e.Items)))
	}
	s.acked = p.emitted - 1
	return nil
}

// emissionAgain is the emission of a batch that was applied before, for lane n.
func (em *emitter) emissionAgain(ctx context.Context, p *partition, n int, from int64, b *kafkalog.Batch) (lane.Emission, error) {
	pr := em.prepare(p, b)
	pr.release()
	pr.displaced = true
	if err := em.addDisplaced(ctx, p, pr, b.From, b.Next-1); err != nil {
		return lane.Emission{}, err
	}
	if err := em.unlink(ctx, pr); err != nil {
		return lane.Emission{}, err
	}
	its := pr.split(len(em.lanes.views))[n]
	return lane.Emission{Source: p.source, From: from, To: b.Next - 1, Time: pr.newest, Items: its, Tags: pr.tagNames(), Keep: true}, nil
}
