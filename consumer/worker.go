package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// Worker is a member of the consumer group. It is made by New and works while Run does.
type Worker struct {
	cfg      Config
	log      *slog.Logger
	consumer *kafkalog.Consumer
	lanes    []*laneView
	kick     chan struct{} // one slot: look at the lanes now

	// out appends to dead topics and to the invalidation topic; set by Run.
	out       *kafkalog.Producer
	copyNow   chan struct{} // one slot: letters wait to be copied
	pauseLock laneLock      // held while noted pauses are read and followed

	mu        sync.Mutex
	parts     map[kafkalog.Partition]*partition // of the current generation
	counted   map[string]int32                  // by topic: partitions when it was last assigned
	paused    map[string]pause                  // by topic: cannot be written just now
	held      map[string]replica.Pause          // by dataset: the pause is noted
	storms    map[string]*storm                 // by dataset
	versions  map[string]*versions              // by dataset
	scattered map[string]bool                   // by topic id: a misplaced record is noted
	faults    map[string]fault                  // by what is being waited for
	bound     string                            // identity of the database that the group was told of
	lostNames []kafkalog.Loss                   // of the invalidation topic, not yet made good

	cut      cutOff
	counts   counters
	sights   sights
	policies policies
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

// partition is one assigned partition. Emission, repair and settling share its lock.
type partition struct {
	id      kafkalog.Partition
	source  string
	dataset *schemas.Dataset
	// partitions is the topic's number of partitions.
	partitions int32
	decoder    *cdc.Decoder
	// unfit says why nothing of this partition can be applied; nil in all but one case.
	unfit error
	// unnamed: an event had properties that the schema does not have.
	unnamed atomic.Bool
	// retired: unfit, until an operator accepts the topic's id.
	retired bool
	// stopped: the last batch was set aside, and none was applied since. The worker's mutex guards it.
	stopped bool
	// restarted: somebody's decision to go on elsewhere was carried out. Only the watch uses it.
	restarted bool
	// generation is the group's, which took this partition under fence.
	generation int32
	fence      int64
	// reached is the position that the database is known to have had: where it was taken, or the end of a committed batch.
	reached atomic.Int64
	// over is closed when the generation that gave this partition ends: batches under way finish, nothing new is begun.
	over chan struct{}
	// fresh is the next_offset that was taken: what lies at or above it was never committed to MySQL before.
	fresh int64
	// renewal is the flush that must come before all else; nil in all but one case.
	renewal *renewal
	// ready is closed once every lane was checked for the first time; no transaction begins before.
	ready     chan struct{}
	readyOnce sync.Once

	copies  copies
	copying atomic.Bool // somebody is at it

	lock laneLock // guards all that follows
	// read is the end of the contiguous prefix whose emission returned.
	read int64
	// oldest is the first offset that Kafka may still give.
	oldest int64
	// settled is the offset that was last given to be committed.
	settled int64
	lanes   []laneState
}

// cached says whether the partition's records are told to the lanes.
func (p *partition) cached() bool { return p.dataset == nil || p.dataset.Cache != nil }

// laneState is what one partition knows of one lane.
type laneState struct {
	root  string
	start int64 // first offset of this source in that root
	acked int64 // highest offset that the lane acknowledged to this owner
}

// laneLock is a mutex whose wait ends with a context.
type laneLock chan struct{}

func (l laneLock) acquire(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l laneLock) release() { <-l }

// New checks the configuration and makes a Worker. It does not touch the network. Errors wrap ErrConfig.
func New(cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	w := &Worker{
		cfg: cfg, log: cfg.Logger.With("component", "worker"), kick: make(chan struct{}, 1),
		parts: map[kafkalog.Partition]*partition{}, counted: map[string]int32{}, paused: map[string]pause{}, faults: map[string]fault{},
		held: map[string]replica.Pause{}, storms: map[string]*storm{}, versions: map[string]*versions{}, scattered: map[string]bool{}, copyNow: make(chan struct{}, 1), pauseLock: make(laneLock, 1),
	}
	w.counts.started = time.Now()
	if cfg.Emitter != nil { // also without a cached dataset: lanes may know a cache section that was removed
		for n := range cfg.Emitter.Lanes() {
			v := &laneView{n: n, governor: newGovernor(cfg.MaxKeyRate)}
			v.answered.Store(-1)
			w.lanes = append(w.lanes, v)
		}
	}
	cc := cfg.Consumer
	cc.Group, cc.Logger, cc.OnLoss = cfg.Group, cfg.Logger, w.lost
	if cfg.Binding != nil {
		cc.MayJoin = w.reachMySQL
	}
	for _, d := range cfg.Datasets.All() {
		cc.Topics = append(cc.Topics, d.Topic)
	}
	if cfg.Namespace != "" {
		cc.Topics = append(cc.Topics, schemas.InvalidationTopic(cfg.Namespace))
	}
	c, err := kafkalog.NewConsumer(cfg.Kafka, cc, (*handler)(w))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	w.consumer = c
	return w, nil
}

// handler is the Worker as the consumer sees it, so that these methods are not part of the Worker's own face.
type handler Worker

var _ kafkalog.Handler = (*handler)(nil)

// Run carries events until ctx ends; then the running batches finish within the drain budget and Run returns nil. It
// waits out every fault of Kafka, MySQL and Redis.
func (w *Worker) Run(ctx context.Context) error {
	return kafkalog.WithProducer(ctx, w.cfg.Kafka, kafkalog.ProducerConfig{Logger: w.cfg.Logger}, func(out *kafkalog.Producer) error {
		w.out = out
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return w.join(ctx) })
		g.Go(func() error { return w.watch(ctx) })
		if w.cfg.DeadTopics {
			g.Go(func() error { return w.copyLetters(ctx) })
		}
		if w.cfg.Outbox != nil {
			g.Go(func() error { return w.publishOutbox(ctx) })
		}
		return g.Wait()
	})
}

// join is a member of the group once the database is known to belong to it.
func (w *Worker) join(ctx context.Context) error {
	const what = "mysql: bind the database"
	err := retry.Do(ctx, retry.Policy{Notify: w.waiting(what)}, func(ctx context.Context) error {
		_, err := w.bind(ctx)
		return err
	})
	if err != nil {
		return nil //nolint:nilerr // ctx has ended: everything else is waited out
	}
	w.healed(what)
	return w.consumer.Run(ctx) //nolint:wrapcheck // it names what it did
}

// bind compares what the database belongs to, and reports whether it is another one than the group was told of.
func (w *Worker) bind(ctx context.Context) (moved bool, err error) {
	if w.cfg.Binding == nil {
		return false, nil
	}
	b, err := w.cfg.Binding.Bind(ctx, w.cfg.BindTo, w.cfg.Group)
	if err != nil {
		return false, err //nolint:wrapcheck // it names what it did
	}
	id := kafkalog.Identity{Database: b.Database, Namespace: b.Namespace, Label: b.Label}
	w.mu.Lock()
	defer w.mu.Unlock()
	moved = w.bound != id.Database
	w.bound = id.Database
	w.consumer.SetIdentity(id)
	return moved, nil
}

// watch looks at the lanes every CheckInterval and whenever it is kicked, tries paused datasets again, and purges.
func (w *Worker) watch(ctx context.Context) error {
	check, probe, purge := time.NewTicker(w.cfg.CheckInterval), time.NewTicker(w.cfg.ProbeInterval), time.NewTicker(PurgeInterval)
	defer check.Stop()
	defer probe.Stop()
	defer purge.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.kick:
			w.keepInvalidations(ctx)
			w.checkLanes(ctx)
		case <-check.C:
			w.checkPauses(ctx)
			w.followRestarts(ctx)
			w.keepInvalidations(ctx)
			w.checkLanes(ctx)
		case <-probe.C:
			w.probePaused(ctx)
			w.checkCutOff(ctx)
			w.followAccepted(ctx)
			w.checkPositions(ctx)
			w.checkForeign(ctx)
		case <-purge.C:
			w.purge(ctx)
		}
	}
}

func (w *Worker) checkNow() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *Worker) partition(id kafkalog.Partition) *partition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.parts[id]
}

// ended says whether the generation that gave this partition is over.
func (p *partition) ended() bool { return closed(p.over) }

// partitions gives those of the current generation, and none when it has ended: whoever may be another's by now is not
// repaired, flushed or purged.
func (w *Worker) partitions() []*partition {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]*partition, 0, len(w.parts))
	for _, p := range w.parts {
		if !p.ended() {
			out = append(out, p)
		}
	}
	return out
}

// disown is the end of the generation that gave these partitions. What was said of them here is somebody else's to say.
func (w *Worker) disown(taken map[kafkalog.Partition]*partition) {
	for _, p := range taken {
		close(p.over)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.paused)
	clear(w.faults)
	w.sights.forget()
}

// whileOwned gives a context that ends with ctx or with the generation of these partitions.
func whileOwned(ctx context.Context, parts []*partition) (owned context.Context, stop func()) {
	owned, cancel := context.WithCancel(ctx)
	if len(parts) == 0 {
		return owned, cancel
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-parts[0].over: // all are of one generation
			cancel()
		case <-owned.Done():
		}
	})
	return owned, func() {
		cancel()
		wg.Wait()
	}
}

// purge removes displaced names and notes of positions that no repair can need any more.
func (w *Worker) purge(ctx context.Context) {
	if w.cfg.Lanes == nil {
		return
	}
	for _, p := range w.partitions() {
		below := p.reached.Load()
		if p.cached() {
			if err := p.lock.acquire(ctx); err != nil {
				return
			}
			below = p.settled
			p.lock.release()
		}
		if below <= 0 {
			continue
		}
		if err := w.cfg.Lanes.Purge(ctx, p.source, below, w.cfg.KeepDisplaced); err != nil && ctx.Err() == nil {
			w.log.Warn("purge of displaced names is put off", "topic", p.id.Topic, "partition", p.id.ID, "error", err)
		}
	}
}

func (w *Worker) lost(l kafkalog.Loss) {
	w.counts.losses.Add(1)
	if l.Partition.Topic == schemas.InvalidationTopic(w.cfg.Namespace) {
		w.mu.Lock()
		w.lostNames = append(w.lostNames, l)
		w.mu.Unlock()
		w.checkNow()
		return
	}
	w.log.Error("records are gone from Kafka before they were read; the partition stops until the dataset is published again and freshet partitions restart is called",
		"topic", l.Partition.Topic, "partition", l.Partition.ID, "offset", l.Next, "first", l.First, "last", l.Last)
}
