package worker

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// Worker is a member of the consumer group. It is made by New and works while Run does. Each of its parts has its own lock,
// and none calls another with its mutex held. The exceptions are of type ctxMutex, whose wait ends with the context: a
// partition's, pauses.following, and a governor's.
type Worker struct {
	*core

	lanes      *lanes
	emitter    *emitter
	pauses     *pauses
	topics     *topicWatch
	membership *membership
	copier     *copier
	relay      *relay
	restarter  *restarter
	restater   *restater
	misplaced  *misplaced
	versions   *versionCounts
	sights     sights
}

// New checks the configuration and makes a Worker. It does not touch the network. Errors wrap ErrConfig.
func New(cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := newCore(cfg)
	l := newLanes(c)
	p := newPauses(c)
	t := &topicWatch{core: c, lanes: l, pauses: p, counted: map[string]int32{}}
	w := &Worker{
		core: c, lanes: l, pauses: p, topics: t,
		emitter:    &emitter{core: c, lanes: l, topics: t},
		membership: &membership{core: c},
		copier:     &copier{core: c, pauses: p, soon: make(chan struct{}, 1)},
		relay:      &relay{core: c, lanes: l},
		restarter:  &restarter{core: c, lanes: l},
		restater:   &restater{core: c, byTopic: map[string]policy{}},
		misplaced:  &misplaced{core: c, noted: map[string]bool{}},
		versions:   &versionCounts{core: c, byDataset: map[string]*versions{}},
	}
	cc := cfg.Consumer
	cc.Group, cc.Logger, cc.OnLoss = cfg.Group, cfg.Logger, w.lost
	if cfg.BindTo != "" {
		cc.MayJoin = w.membership.reachMySQL
	}
	for _, d := range cfg.Datasets.All() {
		cc.Topics = append(cc.Topics, d.Topic)
	}
	if cfg.Namespace != "" {
		cc.Topics = append(cc.Topics, schemas.InvalidationTopic(cfg.Namespace))
	}
	consumer, err := group.New(cfg.Kafka, cc, &handler{w})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c.consumer = consumer
	return w, nil
}

// handler is the Worker as group.Consumer sees it, so that these methods are not part of the Worker's own API.
type handler struct{ *Worker }

var _ group.Handler = (*handler)(nil)

// Run carries events until ctx ends; then the running batches finish within the drain budget and Run returns nil. It
// waits out every fault of Kafka, MySQL and Redis.
func (w *Worker) Run(ctx context.Context) error {
	return delivery.WithProducer(ctx, w.cfg.Kafka, delivery.Config{Logger: w.cfg.Logger}, func(out *delivery.Producer) error {
		w.out = out
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return w.join(ctx) })
		g.Go(func() error { return w.watch(ctx) })
		if w.cfg.DeadTopics {
			g.Go(func() error { return w.copier.copyLetters(ctx) })
		}
		if w.cfg.Namespace != "" {
			g.Go(func() error { return w.relay.publishOutbox(ctx) })
		}
		return g.Wait()
	})
}

// FlushLanes gives every lane a new root with hold: nothing cached before counts any more, and for the hold only loads from
// the primary may fill. It may be called again after an error.
func (w *Worker) FlushLanes(ctx context.Context) error {
	return w.lanes.flushAll(ctx, lane.RootRequest{})
}

// join is a member of the group once the database is known to belong to it.
func (w *Worker) join(ctx context.Context) error {
	const what = "mysql: bind the database"
	err := retry.Do(ctx, retry.Policy{Notify: w.faults.hook(what)}, func(ctx context.Context) error {
		_, err := w.membership.bind(ctx)
		return err
	})
	if err != nil {
		return nil //nolint:nilerr // ctx has ended: everything else is waited out
	}
	w.faults.end(what)
	return w.consumer.Run(ctx) //nolint:wrapcheck // it states what it did
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
			w.relay.keepInvalidations(ctx)
			w.emitter.checkLanes(ctx)
		case <-check.C:
			w.noteCaughtUp()
			w.pauses.check(ctx)
			w.restarter.followRestarts(ctx)
			w.relay.keepInvalidations(ctx)
			w.emitter.checkLanes(ctx)
		case <-probe.C:
			w.pauses.probe(ctx)
			w.membership.checkCutOff(ctx)
			w.topics.followAccepted(ctx)
			w.checkPositions(ctx)
			w.checkForeign(ctx)
		case <-purge.C:
			w.purge(ctx)
		}
	}
}

func (w *Worker) lost(l kafkalog.Loss) {
	w.counts.losses.Add(1)
	if l.Partition.Topic == schemas.InvalidationTopic(w.cfg.Namespace) {
		w.relay.addLost(l)
		w.checkNow()
		return
	}
	w.log.Error("records are gone from Kafka before they were read; the partition stops until the dataset is published again and freshet partitions restart is called",
		"topic", l.Partition.Topic, "partition", l.Partition.ID, "offset", l.Next, "first_offset", l.First, "last_offset", l.Last)
}
