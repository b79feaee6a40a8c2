package kafkalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/freshet/freshet/internal/retry"
)

const (
	// drainShare is the part of the session timeout that running batches get when partitions move: the coordinator does
	// not hear from this member meanwhile.
	drainShare = 0.4
	// lookForTopics is how often topics that do not exist yet are looked for.
	lookForTopics = 15 * time.Second
	// joinBackoff is the pause after a failed join.
	joinBackoff = time.Second
	// coordinatorTimeout bounds each question to the coordinator.
	coordinatorTimeout = 5 * time.Second
)

// ConsumerConfig says what a Consumer reads. Group and Topics are required.
type ConsumerConfig struct {
	// Group is the Kafka consumer group.
	Group string
	// Topics are read as soon as they exist; the others flow meanwhile.
	Topics []string
	// SessionTimeout is after how long a silent member loses its partitions; 0 means DefaultSessionTimeout. Running
	// batches get 0.4 of it to finish when partitions move.
	SessionTimeout time.Duration
	// Heartbeat is how often the coordinator is told, and asked whether partitions move; 0 means DefaultHeartbeat. At
	// most a third of SessionTimeout.
	Heartbeat time.Duration
	// FetchWait is how long a broker may wait for new records; 0 means DefaultFetchWait.
	FetchWait time.Duration
	// Writers is how many Apply calls may run at once, for different partitions; 0 means DefaultWriters.
	Writers int
	// MaxRecords and MaxBatchBytes bound a batch; 0 means DefaultMaxRecords and DefaultMaxBatchBytes.
	MaxRecords, MaxBatchBytes int
	// Budget bounds the bytes of fetched records in memory, shared evenly by the partitions, each of which gets 128 KiB
	// at least; 0 means DefaultBudget.
	Budget int
	// CommitInterval is how often Settle is asked and offsets are committed; 0 means DefaultCommitInterval.
	CommitInterval time.Duration
	// WatchInterval is how often topic ids are compared, and how long a partition may go unfetched before its log start
	// is; 0 means DefaultWatchInterval.
	WatchInterval time.Duration
	// Rack names this member's rack, for brokers that choose replicas by it.
	Rack string
	// OnLoss, if not nil, hears of records that were lost before they were read. The partition stands still until
	// Restart. It must not block.
	OnLoss func(Loss)
	// Logger hears of changes and faults; nil means the client's.
	Logger *slog.Logger
}

// Consumer reads topics as a member of a consumer group.
type Consumer struct {
	client   *Client
	cfg      ConsumerConfig
	handler  Handler
	log      *slog.Logger
	balancer *sticky

	mu       sync.Mutex // guards everything below
	running  bool
	paused   map[string]bool // topics
	missing  []string
	session  *session
	lastErr  error // of the membership; nil once a generation runs
	mixed    error // members of another deployment are in the group
	sessions int64
	losses   int64
	commits  int64
	failures int // sessions in a row that ended by an error
}

// NewConsumer checks the configuration. It opens no connection.
func NewConsumer(c *Client, cfg ConsumerConfig, h Handler) (*Consumer, error) {
	switch {
	case cfg.Group == "":
		return nil, errors.New("check group: empty; name the consumer group")
	case len(cfg.Topics) == 0:
		return nil, errors.New("check topics: none given; name at least one")
	case h == nil:
		return nil, errors.New("check handler: nil")
	}
	cfg.Topics = slices.Compact(slices.Sorted(slices.Values(cfg.Topics)))
	cfg.SessionTimeout = cmp.Or(cfg.SessionTimeout, DefaultSessionTimeout)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, min(DefaultHeartbeat, cfg.SessionTimeout/3))
	cfg.FetchWait = cmp.Or(cfg.FetchWait, DefaultFetchWait)
	cfg.Writers = cmp.Or(cfg.Writers, DefaultWriters)
	cfg.MaxRecords = cmp.Or(cfg.MaxRecords, DefaultMaxRecords)
	cfg.MaxBatchBytes = cmp.Or(cfg.MaxBatchBytes, DefaultMaxBatchBytes)
	cfg.Budget = cmp.Or(cfg.Budget, DefaultBudget)
	cfg.CommitInterval = cmp.Or(cfg.CommitInterval, DefaultCommitInterval)
	cfg.WatchInterval = cmp.Or(cfg.WatchInterval, DefaultWatchInterval)
	if cfg.Heartbeat > cfg.SessionTimeout/3 {
		return nil, fmt.Errorf("check heartbeat: %s is more than a third of the session timeout %s", cfg.Heartbeat, cfg.SessionTimeout)
	}
	if min(int64(cfg.SessionTimeout), int64(cfg.FetchWait), int64(cfg.CommitInterval), int64(cfg.WatchInterval), int64(cfg.Writers),
		int64(cfg.MaxRecords), int64(cfg.MaxBatchBytes), int64(cfg.Budget)) < 0 {
		return nil, errors.New("check limits: one is negative; leave it 0 for its default")
	}
	log := c.log
	if cfg.Logger != nil {
		log = cfg.Logger.With("component", "kafkalog")
	}
	return &Consumer{
		client: c, cfg: cfg, handler: h, log: log.With("group", cfg.Group), balancer: &sticky{}, paused: map[string]bool{},
	}, nil
}

// Run is a member of the group until ctx ends; then it lets running batches finish, commits, leaves and returns nil. It
// waits out missing topics and brokers. It may be called once at a time.
func (c *Consumer) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("run consumer: it runs already")
	}
	c.running = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running = false
		c.mu.Unlock()
	}()
	for ctx.Err() == nil {
		present, err := c.awaitTopics(ctx)
		if err != nil {
			break
		}
		if !c.mayJoin(ctx) {
			continue
		}
		if err := c.runGroup(ctx, present); err != nil {
			return fmt.Errorf("run consumer: %w", err)
		}
	}
	return nil
}

// awaitTopics waits until at least one topic exists, and gives those that do.
func (c *Consumer) awaitTopics(ctx context.Context) (present []string, err error) {
	err = retry.Do(ctx, retry.Policy{First: firstWait, Max: lastWait}, func(ctx context.Context) error {
		present, err = c.findTopics(ctx)
		c.note(err)
		return err
	})
	return present, err
}

func (c *Consumer) findTopics(ctx context.Context) ([]string, error) {
	cl, err := c.client.metadata(ctx, c.cfg.Topics...)
	if err != nil {
		return nil, err
	}
	var present, missing []string
	for _, t := range c.cfg.Topics {
		if e := cl.topics[t].err; e != nil {
			missing = append(missing, t)
			err = fmt.Errorf("find topic %s: %w", t, e)
			continue
		}
		present = append(present, t)
	}
	c.mu.Lock()
	if !slices.Equal(c.missing, missing) {
		c.log.Warn("topics changed", "missing", missing)
	}
	c.missing = missing
	c.mu.Unlock()
	if len(present) > 0 {
		err = nil
	}
	return present, err
}

// note keeps an error of the membership for Stats, and logs it when it is new.
func (c *Consumer) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && (c.lastErr == nil || c.lastErr.Error() != err.Error()) {
		c.log.Warn("not a member of the group", "error", err)
	}
	c.lastErr = err
}

// runGroup is a member until ctx ends or the topics that exist are others.
func (c *Consumer) runGroup(ctx context.Context, topics []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, err := kafka.NewConsumerGroup(c.groupConfig(topics))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		_ = group.Close()
	})
	wg.Go(func() { c.watchTopics(ctx, cancel, topics) })
	generations := make(chan struct{}, 1)
	wg.Go(func() { c.watchMembers(ctx, cancel, generations) })
	for {
		gen, err := group.Next(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, kafka.ErrGroupClosed):
			return nil
		case err != nil:
			c.note(fmt.Errorf("join group: %w", err))
			if isAuthorization(err) {
				await(ctx, nil, time.Now().Add(joinBackoff))
				return nil // whoever may not read one topic joins for the others
			}
			continue
		}
		c.note(nil)
		c.balancer.note(gen.ID, gen.Assignments)
		s := newSession(c, gen, cancel)
		gen.Start(s.run)
		select {
		case generations <- struct{}{}:
		default:
		}
	}
}

// watchTopics ends the membership when a topic that was missing exists: the subscription must change.
func (c *Consumer) watchTopics(ctx context.Context, regroup func(), topics []string) {
	t := time.NewTicker(lookForTopics)
	defer t.Stop()
	for len(topics) < len(c.cfg.Topics) {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if present, err := c.findTopics(ctx); err == nil && !slices.Equal(present, topics) {
			regroup()
			return
		}
	}
}

func (c *Consumer) groupConfig(topics []string) kafka.ConsumerGroupConfig {
	return kafka.ConsumerGroupConfig{
		ID:      c.cfg.Group,
		Brokers: c.client.addresses(),
		Dialer: &kafka.Dialer{
			ClientID: c.client.cfg.ClientID, Timeout: dialTimeout, KeepAlive: keepAlive,
			TLS: c.client.cfg.TLS, SASLMechanism: c.client.cfg.SASL, DialFunc: c.client.cfg.Dial,
		},
		Topics:                 topics,
		GroupBalancers:         []kafka.GroupBalancer{c.balancer, kafka.RangeGroupBalancer{}},
		HeartbeatInterval:      c.cfg.Heartbeat,
		PartitionWatchInterval: lookForTopics,
		WatchPartitionChanges:  true,
		SessionTimeout:         c.cfg.SessionTimeout,
		RebalanceTimeout:       c.cfg.SessionTimeout,
		JoinGroupBackoff:       joinBackoff,
		StartOffset:            kafka.FirstOffset,
		Timeout:                coordinatorTimeout,
		Logger:                 kafka.LoggerFunc(func(msg string, args ...any) { c.log.Debug("group", "detail", fmt.Sprintf(msg, args...)) }),
		ErrorLogger:            kafka.LoggerFunc(func(msg string, args ...any) { c.log.Warn("group", "detail", fmt.Sprintf(msg, args...)) }),
	}
}

// Pause sets a topic aside: running batches finish, what is queued is dropped, and nothing more is fetched. Membership
// goes on, and the pause outlives rebalances.
func (c *Consumer) Pause(topic string) {
	c.mu.Lock()
	c.paused[topic] = true
	s := c.session
	c.mu.Unlock()
	if s != nil {
		s.pause(topic)
	}
}

// Resume goes on with a topic that Pause or ErrPause set aside.
func (c *Consumer) Resume(topic string) {
	c.mu.Lock()
	delete(c.paused, topic)
	s := c.session
	c.mu.Unlock()
	if s != nil {
		s.resume(topic)
	}
}

// Restart lets a partition that lost records, or that stopped at a bad batch, go on at offset. An offset beyond what was
// fetched leaves what is queued in place, and what is left out becomes a part of a batch, without records; a lower one
// drops what is queued. It says whether the partition is assigned to this member.
func (c *Consumer) Restart(p Partition, offset int64) bool {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	return s != nil && s.restart(p, offset)
}

// Rejoin ends a generation, if it still runs, because of cause; the member joins again and takes its partitions anew.
func (c *Consumer) Rejoin(generation int32, cause error) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s != nil && s.gen.ID == generation {
		s.end(cause)
	}
}

func (c *Consumer) lost(l Loss) {
	c.mu.Lock()
	c.losses++
	c.mu.Unlock()
	if c.cfg.OnLoss != nil {
		c.cfg.OnLoss(l)
	}
}
