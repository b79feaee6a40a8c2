package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// Defaults of a Config.
const (
	// DefaultCheckInterval is how often each lane's watermarks are looked at, and how old a lane's last answer may
	// be when a transaction begins.
	DefaultCheckInterval = time.Second
	// DefaultWindow is how far back a new lane is filled again from Kafka.
	DefaultWindow = 15 * time.Minute
	// DefaultKeepDisplaced is how long displaced names outlive their commit.
	DefaultKeepDisplaced = 24 * time.Hour
	// DefaultHold is how long after an invalidation fills are restrained.
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

// Config of a Worker. Group, Owner, Datasets, Kafka and Replica are required, and Emitter and LaneLog as
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
	// Replica is the database that is written; it must know the datasets (replica.DB.Prepare).
	Replica *replica.DB
	// Apply, if not nil, writes batches in place of Replica.Apply, which it calls in turn: a benchmark measures it there.
	Apply func(ctx context.Context, b *replica.Batch) (replica.Result, error)
	// Topics remembers the identity of topics; nil means Replica.Topics.
	Topics TopicLog
	// Emitter writes the lanes; nil only when no dataset has a cache section. If it is set although none has one,
	// lanes still learn of removed sections.
	Emitter Emitter
	// LaneLog remembers from which offset each lane is complete; nil only together with Emitter.
	LaneLog *replica.LaneLog
	// Namespace of the lanes: the worker follows its topic of other writers' invalidations. It also
	// publishes those that their writers left in Replica.Outbox. Empty: neither. Only together with Emitter.
	Namespace string
	// BindTo is the namespace that the database belongs to, also when no dataset is cached: the worker takes nothing before the
	// database belongs to it and to the group. Empty: that is not checked, which only a database with one writer allows.
	BindTo string
	// DeadTopics copies each dead letter to the topic DeadTopic(its topic), which must exist: no offset is committed
	// before its letters are copied.
	DeadTopics bool
	// Consumer tunes fetching; Group, Topics and OnLoss are set by the worker.
	Consumer group.Config
	// CheckInterval; 0 means DefaultCheckInterval.
	CheckInterval time.Duration
	// Window; 0 means DefaultWindow. At most KeepDisplaced.
	Window time.Duration
	// KeepDisplaced; 0 means DefaultKeepDisplaced.
	KeepDisplaced time.Duration
	// Hold; 0 means DefaultHold. It must be the Emitter's. Negative: none, see invalidation.EmitterConfig.
	Hold time.Duration
	// MaxKeyRate is how many keys a second this worker emits into one lane, with bursts of up to ten times that; beyond it the
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
	// Tracer records the stages of events whose traces are sampled; nil: none. Lane entries carry their traces in any case.
	Tracer trace.Tracer
}

// The points at which Config.Failpoint is called.
const (
	PointAfterFetch = "after-fetch"
	// PointInApply is inside the transaction, with everything written and nothing committed. It is the replica's to call:
	// see replica.Config.BeforeCommit.
	PointInApply    = "in-apply"
	PointAfterApply = "after-apply"
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
	if c.Replica != nil {
		if c.Topics == nil {
			c.Topics = c.Replica.Topics
		}
		if c.Apply == nil {
			c.Apply = c.Replica.Apply
		}
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
			return fmt.Errorf("%w: worker.Config.%s is missing", ErrConfig, field)
		}
		return nil
	}
	cached := c.Datasets != nil && c.Datasets.Cached()
	errs := []error{
		missing("Group", c.Group == ""),
		missing("Owner", c.Owner == ""),
		missing("Datasets", c.Datasets == nil || c.Datasets.Len() == 0),
		missing("Kafka", c.Kafka == nil),
		missing("Replica", c.Replica == nil),
		missing("Emitter", cached && c.Emitter == nil),
		missing("LaneLog", cached && c.LaneLog == nil),
		missing("Emitter", c.Namespace != "" && c.Emitter == nil),
		missing("Foreign", c.anyForeign() && c.Foreign == nil),
	}
	return errors.Join(append(errs, c.Check())...)
}

// Check returns what contradicts itself, also while the fields that need servers are not set yet. Errors wrap ErrConfig.
func (c Config) Check() error {
	c = c.withDefaults()
	var errs []error
	if c.Window > c.KeepDisplaced {
		errs = append(errs, fmt.Errorf("%w: Window %v is above KeepDisplaced %v; lower it or keep displaced names longer", ErrConfig, c.Window, c.KeepDisplaced))
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
