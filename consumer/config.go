package consumer

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
)

// Defaults of a Config.
const (
	// DefaultCheckInterval is T_wm: how often each lane's watermarks are looked at, and how old a lane's last answer may
	// be when a transaction begins.
	DefaultCheckInterval = time.Second
	// DefaultWindow is R: how far back a new lane is filled again from Kafka.
	DefaultWindow = 15 * time.Minute
	// DefaultKeepDisplaced is how long displaced names outlive their commit.
	DefaultKeepDisplaced = 24 * time.Hour
	// DefaultHold is TombTTL: how long after an invalidation fills are restrained.
	DefaultHold = 60 * time.Second
	// DefaultProbeInterval is how often a paused dataset is tried again.
	DefaultProbeInterval = 5 * time.Second
	// DefaultPauseAfter is how long MySQL may refuse a dataset's batch with one and the same error before the dataset is
	// paused.
	DefaultPauseAfter = time.Minute
	// PurgeInterval is how often old displaced names are removed.
	PurgeInterval = time.Minute
)

// ErrConfig comes, wrapped, from New when a field of a Config is missing or contradicts another.
var ErrConfig = errors.New("configuration")

// Config of a Worker. Group, Owner, Datasets, Kafka, Replica and Topics are required, and Emitter, Lanes and Hashes as
// soon as one dataset has a cache section; the zero value of every other field works.
type Config struct {
	// Group is the Kafka consumer group. One group writes one replica database and one lane namespace.
	Group string
	// Owner names this worker in the position rows; unique per process.
	Owner string
	// Datasets are what the worker carries; every one of them.
	Datasets *schemas.Datasets
	// Kafka reads the datasets' topics.
	Kafka *kafkalog.Client
	// Replica is the database that is written.
	Replica Replica
	// Topics remembers the identity of topics.
	Topics TopicLog
	// Emitter writes the lanes; nil only when no dataset has a cache section. With one all the same, the lanes are notified of sections that were
	// removed.
	Emitter Emitter
	// Lanes remembers what the lanes were told; nil only together with Emitter.
	Lanes LaneLog
	// Hashes reads the cache hashes that the operator set; nil only together with Emitter.
	Hashes HashLog
	// Namespace of the lanes: the worker follows its topic of other writers' invalidations. Empty: it follows none. Only
	// together with Emitter.
	Namespace string
	// Misplaced remembers records in unexpected partitions, so that searches by key look into all; nil: they are counted only.
	Misplaced MisplacedLog
	// Binding keeps the workers of other namespaces and databases apart from this one's: the worker takes nothing before the
	// database belongs to BindTo and its group. nil: it is not checked, which only a database with one writer allows.
	Binding BindingLog
	// BindTo is the namespace that the database belongs to, also when no dataset is cached. Only together with Binding.
	BindTo string
	// Outbox holds other writers' invalidations, which the worker publishes when their writers do not; nil: it publishes
	// none. Only together with Namespace.
	Outbox Outbox
	// Pauses are the pauses that hold for all workers; nil: there are none, and storms of dead letters pause nothing.
	Pauses PauseLog
	// Restarts are decisions where stopped partitions continue; nil: they stay stopped until the worker is restarted
	// with another position.
	Restarts RestartLog
	// DeadTopics copies each dead letter to the topic DeadTopic(its topic), which must exist: no offset is committed
	// before its letters are copied.
	DeadTopics bool
	// Consumer tunes fetching; Group, Topics and OnLoss are set by the worker.
	Consumer kafkalog.ConsumerConfig
	// CheckInterval is T_wm; 0 means DefaultCheckInterval.
	CheckInterval time.Duration
	// Window is R; 0 means DefaultWindow. At most KeepDisplaced.
	Window time.Duration
	// KeepDisplaced; 0 means DefaultKeepDisplaced.
	KeepDisplaced time.Duration
	// Hold is TombTTL; 0 means DefaultHold. It must be the Emitter's. Negative: none, see invalidation.EmitterConfig.
	Hold time.Duration
	// MaxKeyRate is how many keys a second this worker emits into one lane, ten times as many at once; beyond it the
	// dataset's common tag is stamped instead, or the lane is flushed, at most once a second. 0 means DefaultMaxKeyRate; negative: no bound.
	MaxKeyRate int
	// Foreign deletes keys of other applications; nil only when no dataset has cache.external. Without it those that other
	// writers name are counted and left alone.
	Foreign Foreign
	// ProbeInterval; 0 means DefaultProbeInterval.
	ProbeInterval time.Duration
	// PauseAfter is how long a batch may wait for MySQL, or for the lanes if other datasets do not need them; 0 means
	// DefaultPauseAfter. A paused dataset lets go of its writer, so that the others flow, and is tried again every
	// ProbeInterval.
	PauseAfter time.Duration
	// Changed, if not nil, is notified of the changes of each committed batch, before they are emitted; key returns the key of
	// each and may be called until Changed returns, which it should soon. Called concurrently.
	Changed func(d *schemas.Dataset, n int, key func(i int) string)
	// Failpoint, if not nil, is called at the named points of a batch's way; fault tests stop the process there. It is
	// nil in production.
	Failpoint func(point string)
	// Logger; nil discards.
	Logger *slog.Logger
}

// The points at which Config.Failpoint is called.
const (
	PointAfterFetch = "after-fetch"
	// PointInApply is inside the transaction, with everything written and nothing committed. It is the replica's to call:
	// see replica.Config.BeforeCommit.
	PointInApply    = "in-t1"
	PointAfterApply = "after-t1"
	// PointInEmit is where a lane has taken an emission and the worker does not know it yet.
	PointInEmit       = "in-emit"
	PointAfterEmit    = "after-emit"
	PointBeforeCommit = "before-commit"
)

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.CheckInterval, DefaultCheckInterval)
	def(&c.Window, DefaultWindow)
	def(&c.KeepDisplaced, DefaultKeepDisplaced)
	def(&c.Hold, DefaultHold)
	def(&c.ProbeInterval, DefaultProbeInterval)
	def(&c.PauseAfter, DefaultPauseAfter)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxKeyRate == 0 {
		c.MaxKeyRate = DefaultMaxKeyRate
	}
	if c.Changed == nil {
		c.Changed = func(*schemas.Dataset, int, func(int) string) {}
	}
	if c.Failpoint == nil {
		c.Failpoint = func(string) {}
	}
	return c
}

func (c Config) validate() error {
	missing := func(field string, absent bool) error {
		if absent {
			return fmt.Errorf("%w: consumer.Config.%s is missing", ErrConfig, field)
		}
		return nil
	}
	cached := c.anyCached()
	errs := []error{
		missing("Group", c.Group == ""),
		missing("Owner", c.Owner == ""),
		missing("Datasets", c.Datasets == nil || c.Datasets.Len() == 0),
		missing("Kafka", c.Kafka == nil),
		missing("Replica", c.Replica == nil),
		missing("Topics", c.Topics == nil),
		missing("Emitter", cached && c.Emitter == nil),
		missing("Lanes", cached && c.Lanes == nil),
		missing("Hashes", (cached || c.Emitter != nil) && c.Hashes == nil),
		missing("Emitter", c.Namespace != "" && c.Emitter == nil),
		missing("Foreign", c.anyForeign() && c.Foreign == nil),
		missing("BindTo", c.Binding != nil && c.BindTo == ""),
		missing("Namespace", c.Outbox != nil && c.Namespace == ""),
	}
	if c.Window > c.KeepDisplaced {
		errs = append(errs, fmt.Errorf("%w: consumer.Config.Window %v is above KeepDisplaced %v; lower it or keep displaced names longer", ErrConfig, c.Window, c.KeepDisplaced))
	}
	if c.Datasets != nil {
		for _, d := range c.Datasets.All() {
			for _, what := range d.Unbuilt() {
				errs = append(errs, fmt.Errorf("%w: dataset %s uses %s, which this release does not have", ErrConfig, d.Name, what))
			}
		}
	}
	return errors.Join(errs...)
}

func (c Config) anyForeign() bool {
	if c.Datasets == nil {
		return false
	}
	return slices.ContainsFunc(c.Datasets.All(), func(d *schemas.Dataset) bool { return d.Cache != nil && len(d.Cache.External) > 0 })
}

func (c Config) anyUncached() bool {
	for _, d := range c.Datasets.All() {
		if d.Cache == nil {
			return true
		}
	}
	return false
}

func (c Config) anyCached() bool {
	if c.Datasets == nil {
		return false
	}
	for _, d := range c.Datasets.All() {
		if d.Cache != nil {
			return true
		}
	}
	return false
}
