package worker

import (
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas/cdc"
)

// Stats is a snapshot of a Worker.
type Stats struct {
	// Events were decoded, Rows sent to MySQL (one per record and batch), Letters written to freshet_dead_letter.
	Events, Rows, Letters uint64
	// Batches is the number of transactions, ApplyTime the time spent in them.
	Batches   uint64
	ApplyTime time.Duration
	// Items is the number of cache keys emitted, EmitTime the time spent emitting.
	Items    uint64
	EmitTime time.Duration
	// EmitRetries counts emits that got no answer.
	EmitRetries uint64
	// WatermarkWrites counts emits that only moved a watermark.
	WatermarkWrites uint64
	// Regressions counts lanes found to have lost what they acknowledged; Reemitted the keys emitted again for it.
	Regressions, Reemitted uint64
	// LaneRoots and LaneFlushes count new roots made to create lanes or copy hashes, and to flush.
	LaneRoots, LaneFlushes uint64
	// UnknownProperties counts properties that no schema names and that were ignored.
	UnknownProperties uint64
	// Unchecked counts events that were not held against their schema, since a newer event of their record was in the same batch.
	Unchecked uint64
	// Ignored counts records that carry no row of their dataset, by cause. Damaged counts texts that a capture tool could
	// not read and that hold U+FFFD instead.
	Ignored map[string]uint64
	Damaged uint64
	// Restated counts states that were published once more, since a later record of a compacted topic was older; Unrestated
	// states that could not be rebuilt from their rows.
	Restated, Unrestated uint64
	// DataLosses counts ranges that Kafka no longer had when they were to be read.
	DataLosses uint64
	// TopicsRenewed counts topics found to have been recreated, TopicsRepartitioned those found with another number of
	// partitions.
	TopicsRenewed, TopicsRepartitioned uint64
	// Generations counts assignments.
	Generations uint64
	// DatabaseWentBack counts how often the database was found behind what this worker had committed.
	DatabaseWentBack uint64
	// Undone counts transactions that the database, or a proxy in front of it, ended without an error. Each was written again.
	Undone uint64
	// Storms counts datasets paused because their letters came in a storm.
	Storms uint64
	// BadInvalidations counts records of the invalidation topic and rows of the outbox that cannot be read; ForeignSkipped
	// foreign keys that they name and that nothing deletes.
	BadInvalidations, ForeignSkipped uint64
	// ForeignUnlinked counts foreign keys that were deleted, ForeignOversize those that were left out since they are longer
	// than 512 bytes.
	ForeignUnlinked, ForeignOversize uint64
	// Governed counts the keys that the flush of a lane or a stamp of their dataset's common tag stood for.
	Governed uint64
	// CommonStamps counts those stamps.
	CommonStamps uint64
	// OutboxPublished counts rows of the invalidation outbox that this worker published for their writers.
	OutboxPublished uint64
	// DeadCopies counts letters copied to dead topics.
	DeadCopies uint64
	// Datasets counts the events of each dataset that this worker applied events of.
	Datasets map[string]DatasetStats
	// Paused holds, per paused dataset, why; the invalidation topic is under its own name.
	Paused map[string]string
	// Foreign holds, per dataset whose table has never had a row, how many records of other tables its topic has brought.
	Foreign map[string]uint64
	// Waiting holds what the worker waits for, with the last error's kind of fault.
	Waiting map[string]time.Duration
	// Consumer is the state of each partition.
	Consumer group.Stats
}

type counters struct {
	started                                     time.Time
	events, rows, letters, batches, unknown     atomic.Uint64
	items, emitRetries, watermarkWrites         atomic.Uint64
	regressions, reemitted                      atomic.Uint64
	laneRoots, laneFlushes, losses, generations atomic.Uint64
	renewed, repartitioned, wentBack, undone    atomic.Uint64
	storms, badInvalidations, foreignSkipped    atomic.Uint64
	outboxPublished, deadCopies                 atomic.Uint64
	foreignUnlinked, foreignOversize, governed  atomic.Uint64
	commonStamps                                atomic.Uint64
	applyNanos, emitNanos                       atomic.Int64
	ignored                                     [cdc.Causes]atomic.Uint64
	damaged, unchecked                          atomic.Uint64
	restated, unrestated                        atomic.Uint64
}

func (c *counters) applied(p *prepared, r replica.Result, d time.Duration) {
	c.events.Add(uint64(p.events))
	c.rows.Add(uint64(r.Rows))
	c.letters.Add(uint64(len(r.Dead)))
	c.badInvalidations.Add(uint64(p.bad))
	c.foreignOversize.Add(uint64(p.oversize))
	c.unknown.Add(uint64(p.unknown))
	c.damaged.Add(uint64(p.damaged))
	c.unchecked.Add(uint64(p.unchecked()))
	c.undone.Add(uint64(r.Undone))
	for cause, n := range p.ignored {
		if cause != int(cdc.NotIgnored) && n > 0 {
			c.ignored[cause].Add(uint64(n))
		}
	}
	c.batches.Add(1)
	c.applyNanos.Add(int64(d))
}

func (c *counters) emitted(n int, d time.Duration) {
	c.items.Add(uint64(n))
	c.emitNanos.Add(int64(d))
}

// Stats returns a snapshot. It may be called at any time.
func (w *Worker) Stats() Stats {
	c := w.counts
	s := Stats{
		Events: c.events.Load(), Rows: c.rows.Load(), Letters: c.letters.Load(), Batches: c.batches.Load(),
		ApplyTime: time.Duration(c.applyNanos.Load()), Items: c.items.Load(), EmitTime: time.Duration(c.emitNanos.Load()),
		EmitRetries: c.emitRetries.Load(), WatermarkWrites: c.watermarkWrites.Load(), Regressions: c.regressions.Load(),
		Reemitted: c.reemitted.Load(), LaneRoots: c.laneRoots.Load(), LaneFlushes: c.laneFlushes.Load(),
		UnknownProperties: c.unknown.Load(), DataLosses: c.losses.Load(), Generations: c.generations.Load(),
		DatabaseWentBack: c.wentBack.Load(), Undone: c.undone.Load(), TopicsRenewed: c.renewed.Load(), TopicsRepartitioned: c.repartitioned.Load(),
		Storms: c.storms.Load(), BadInvalidations: c.badInvalidations.Load(), ForeignSkipped: c.foreignSkipped.Load(),
		ForeignUnlinked: c.foreignUnlinked.Load(), ForeignOversize: c.foreignOversize.Load(), Governed: c.governed.Load(), CommonStamps: c.commonStamps.Load(),
		OutboxPublished: c.outboxPublished.Load(), DeadCopies: c.deadCopies.Load(),
		Datasets: w.versions.stats(), Paused: w.pauses.causes(), Waiting: w.faults.waits(), Consumer: w.consumer.Stats(),
		Restated: c.restated.Load(), Unrestated: c.unrestated.Load(), Damaged: c.damaged.Load(),
		Unchecked: c.unchecked.Load(), Ignored: map[string]uint64{},
	}
	for cause := range c.ignored {
		if n := c.ignored[cause].Load(); n > 0 {
			s.Ignored[cdc.Ignored(cause).String()] = n
		}
	}
	s.Foreign = w.sights.foreignOnly()
	return s
}
