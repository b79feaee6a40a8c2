package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/durations"
	"github.com/freshet/freshet/internal/kafkalog"
)

const (
	// drainShare is the part of the session timeout that running batches get when partitions move: the coordinator does
	// not hear from this member meanwhile.
	drainShare = 0.4
	// joinBackoff is the pause after a failed join.
	joinBackoff = time.Second
	// coordinatorTimeout bounds each question to the coordinator.
	coordinatorTimeout = 5 * time.Second
)

// Defaults of a Consumer, beside those of kafkalog.
const (
	DefaultSessionTimeout = 10 * time.Second
	DefaultHeartbeat      = time.Second
	DefaultBudget         = 32 << 20
	DefaultWriters        = 3
	DefaultCommitInterval = time.Second
	DefaultWatchInterval  = 30 * time.Second
)

// Config configures a Consumer. Group and Topics are required.
type Config struct {
	// Group is the Kafka consumer group.
	Group string
	// Topics are read as soon as they exist; the others flow meanwhile.
	Topics []string
	// SessionTimeout is after how long a silent member loses its partitions; 0 means DefaultSessionTimeout. Running
	// batches get 0.4 of it to finish when partitions move.
	SessionTimeout time.Duration
	// Heartbeat is how often the coordinator gets a sign of life, and is asked whether partitions move; 0 means DefaultHeartbeat. At
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
	// is; 0 means DefaultWatchInterval. Topics that appear or disappear are looked for as often, and every 15 s at least.
	WatchInterval time.Duration
	// MayJoin, if not nil, is asked before this member joins the group, and again until it returns nil.
	MayJoin func(ctx context.Context) error
	// OnLoss, if not nil, learns of records that were lost before they were read. The partition is stopped until
	// Restart. It must not block.
	OnLoss func(kafkalog.Loss)
	// Logger learns of changes and faults; nil means the client's.
	Logger *slog.Logger
}

// Consumer reads topics as a member of a consumer group.
type Consumer struct {
	client   *kafkalog.Client
	cfg      Config
	handler  Handler
	log      *slog.Logger
	balancer *sticky

	fetches, commitTimes durations.Histogram

	mu       sync.Mutex // guards everything below
	running  bool
	paused   map[string]bool // topics
	missing  []string
	session  *session
	depart   func() // ends the membership; nil while there is none
	lastErr  error  // of the membership; nil once a generation runs
	mixed    error  // members of another deployment are in the group
	sessions int64
	losses   int64
	commits  int64
	failures int // sessions in a row that ended by an error
}

// New checks the configuration. It opens no connection.
func New(c *kafkalog.Client, cfg Config, h Handler) (*Consumer, error) {
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
	cfg.FetchWait = cmp.Or(cfg.FetchWait, kafkalog.DefaultFetchWait)
	cfg.Writers = cmp.Or(cfg.Writers, DefaultWriters)
	cfg.MaxRecords = cmp.Or(cfg.MaxRecords, kafkalog.DefaultMaxRecords)
	cfg.MaxBatchBytes = cmp.Or(cfg.MaxBatchBytes, kafkalog.DefaultMaxBatchBytes)
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
	log := c.Logger()
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
		c.runGroup(ctx, present)
	}
	return nil
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

// runGroup is a member until ctx ends, or until none of the topics can be read.
func (c *Consumer) runGroup(ctx context.Context, found topicSet) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	c.depart = cancel
	c.mu.Unlock()
	m := c.newMembership(found.names(), cancel)
	var wg sync.WaitGroup
	defer m.link.close()
	defer m.depart(ctx)
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { c.watchTopics(ctx, m, found) })
	generations := make(chan struct{}, 1)
	wg.Go(func() { c.watchMembers(ctx, cancel, generations) })
	for ctx.Err() == nil {
		gen, err := m.join(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.note(fmt.Errorf("join group: %w", err))
			await(ctx, nil, time.Now().Add(joinBackoff))
			continue
		}
		c.note(nil)
		c.balancer.note(gen.id, gen.parts)
		select {
		case generations <- struct{}{}:
		default:
		}
		m.run(ctx, gen)
	}
}

// Pause pauses a topic: running batches finish, what is queued is dropped, and nothing more is fetched. Membership
// continues, and the pause outlives rebalances.
func (c *Consumer) Pause(topic string) {
	c.mu.Lock()
	c.paused[topic] = true
	s := c.session
	c.mu.Unlock()
	if s != nil {
		s.pause(topic)
	}
}

// Resume continues with a topic that Pause or ErrPause paused.
func (c *Consumer) Resume(topic string) {
	c.mu.Lock()
	delete(c.paused, topic)
	s := c.session
	c.mu.Unlock()
	if s != nil {
		s.resume(topic)
	}
}

// Restart lets a partition that lost records, or that stopped at a bad batch, continue at offset. An offset beyond what was
// fetched leaves what is queued in place, and what is left out becomes a part of a batch, without records; a lower one
// drops what is queued. It reports whether the partition is assigned to this member.
func (c *Consumer) Restart(p kafkalog.Partition, offset int64) bool {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	return s != nil && s.restart(p, offset)
}

// Leave ends the membership, so that other members get the partitions. This member joins again when MayJoin allows it.
func (c *Consumer) Leave() {
	c.mu.Lock()
	leave := c.depart
	c.mu.Unlock()
	if leave != nil {
		leave()
	}
}

// Rejoin ends a generation, if it still runs, because of cause; the member joins again and takes its partitions again.
func (c *Consumer) Rejoin(generation int32, cause error) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s != nil && s.gen.id == generation {
		s.end(cause)
	}
}

func (c *Consumer) lost(l kafkalog.Loss) {
	c.mu.Lock()
	c.losses++
	c.mu.Unlock()
	if c.cfg.OnLoss != nil {
		c.cfg.OnLoss(l)
	}
}
