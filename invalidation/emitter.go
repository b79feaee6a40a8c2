package invalidation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation/lane"
)

// Settings of an Emitter's own connections.
const (
	emitTimeout = 2 * time.Second // a full script is below a millisecond, but a busy Redis may be busy for a while
	emitPool    = 8
)

// EmitterConfig states where a worker emits. The zero value of every field but Namespace works.
type EmitterConfig struct {
	// Namespace of the lanes: 1 to 32 of a-z, 0-9, dot, underscore, hyphen; required.
	Namespace string
	// Lanes is the namespace's fixed number of lanes, at most lane.MaxLanes; 0 means 1. More than one lane shares the work
	// among several Redis masters; on a single master it has no benefit.
	Lanes int
	// StreamLen bounds each lane's stream; 0 means lane.DefaultStreamLen.
	StreamLen int
	// Hold is how long an invalidation restrains later fills: at least as long as the slowest source of loads may lag.
	// 0 means lane.DefaultHold. Negative: none, for a namespace whose every load reads the primary.
	Hold time.Duration
	// MaxTags bounds the tag stamps of a lane; 0 means lane.DefaultMaxTags.
	MaxTags int
	// Sharded publishes with SPUBLISH: Redis 7 and nodes that follow it.
	Sharded bool
	// SkipServerCheck leaves the settings of Redis unchecked. For an embedded Redis without INFO.
	SkipServerCheck bool
	// Logger; nil discards.
	Logger *slog.Logger
}

// EmitterStats are counts since the Emitter was made.
type EmitterStats struct {
	// Scripts is the number of emit scripts that Redis answered, Watermarks those of them without items and tags.
	Scripts, Watermarks int64
	// Items and Tags were sent in scripts that succeeded.
	Items, Tags int64
	// Regressed and RootChanged count the answers that say that Redis lost data or another worker flushed the lane.
	Regressed, RootChanged int64
	// Roots is the number of lanes created or flushed.
	Roots int64
	// Errors is the number of calls without an answer.
	Errors int64
	// Busy is the time spent waiting for emit scripts.
	Busy time.Duration
}

// Emitter writes the lanes of a namespace, for a worker. Its methods may be called concurrently, and called again after
// an error: repeating a call is harmless.
type Emitter struct {
	rdb     redis.UniversalClient
	scripts *lane.Scripts
	cfg     EmitterConfig
	log     *slog.Logger

	closed                           atomic.Bool
	emits, watermarks, items, tags   atomic.Int64
	regressed, changed, roots, fails atomic.Int64
	busy                             atomic.Int64
}

// NewEmitter prepares an Emitter; it does not talk to Redis. rdb is a *redis.Client, of a single Redis or behind
// Sentinel, or a *redis.ClusterClient. The Emitter works on connections of its own, made from its options; the caller
// keeps rdb open as long as the Emitter, and closes it afterwards. Errors: ErrNotBuilt, lane.ErrNamespace, a field out of range.
func NewEmitter(rdb redis.UniversalClient, cfg EmitterConfig) (*Emitter, error) {
	if err := checkClient(rdb); err != nil {
		return nil, fmt.Errorf("new emitter: %w", err)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// No retries inside go-redis: a script that is sent again after a fail-over would carry the same entry ID into
	// another history. The worker calls again, and each call has an ID of its own.
	own := dedicated(rdb, clientRole{name: "emit", timeout: emitTimeout, pool: emitPool})
	scripts, err := lane.New(own, lane.Config{
		Namespace: cfg.Namespace, Lanes: cfg.Lanes, StreamLen: cfg.StreamLen, Hold: cfg.Hold, MaxTags: cfg.MaxTags,
		Sharded: cfg.Sharded,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("new emitter: %w", err), own.Close())
	}
	return &Emitter{rdb: own, scripts: scripts, cfg: cfg, log: log.With("component", "emitter")}, nil
}

// Lanes is the number of lanes of the namespace.
func (e *Emitter) Lanes() int { return e.scripts.Lanes() }

// Check asks Redis whether it can carry the lanes: release, eviction, and the number of lanes that are there. Errors that
// wrap ErrOtherSettings last until one of the two sides is changed; after any other, check again.
func (e *Emitter) Check(ctx context.Context) error {
	if !e.cfg.SkipServerCheck {
		if err := fitness(ctx, e.rdb, e.cfg.Sharded, e.log); err != nil {
			return err
		}
		if err := permitted(ctx, e.rdb, e.cfg.Namespace); err != nil {
			return err
		}
	}
	for n := range e.scripts.Lanes() {
		if _, err := e.State(ctx, n, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// State reads the meta hash of lane n, with the watermarks of sources and the hashes of datasets. A lane that was made
// for another number of lanes is refused (ErrUnfit), since its keys would lie elsewhere, and one that was made with a hold
// if the Emitter has none, or the other way round: nodes load as the lane was made.
func (e *Emitter) State(ctx context.Context, n int, sources, datasets []string) (lane.State, error) {
	if err := e.inRange(n); err != nil {
		return lane.State{}, err
	}
	st, err := e.scripts.State(ctx, n, sources, datasets)
	if err != nil {
		e.fails.Add(1)
		e.lookAgain(ctx)
		return lane.State{}, err //nolint:wrapcheck // lane names call and lane
	}
	if st.Exists && st.Lanes != e.scripts.Lanes() {
		return lane.State{}, fmt.Errorf("namespace %s has %d lanes, Lanes is %d: %w: set Lanes to %d, or use a new Namespace",
			e.cfg.Namespace, st.Lanes, e.scripts.Lanes(), ErrOtherSettings, st.Lanes)
	}
	if st.Exists && st.PrimaryLoads != (e.cfg.Hold < 0) {
		return lane.State{}, fmt.Errorf("namespace %s was made for loads from %s: %w: leave that unchanged, or use a new Namespace",
			e.cfg.Namespace, loadsFrom(st.PrimaryLoads), ErrOtherSettings)
	}
	return st, nil
}

// loadsFrom says in words what a namespace's loads read.
func loadsFrom(primary bool) string {
	if primary {
		return "the primary only"
	}
	return "anywhere"
}

// Root creates a missing lane or flushes one.
func (e *Emitter) Root(ctx context.Context, n int, r lane.RootRequest) (lane.Reply, error) {
	if err := e.inRange(n); err != nil {
		return lane.Reply{}, err
	}
	r.PrimaryLoads = e.cfg.Hold < 0
	out, err := e.scripts.Root(ctx, n, r)
	switch {
	case err != nil:
		e.fails.Add(1)
		return lane.Reply{}, err //nolint:wrapcheck // lane names call and lane
	case out.Status == lane.OK:
		e.roots.Add(1)
		e.log.Info("new root of a lane", "lane", n, "flush", r.Expected != "", "hold_seconds", float64(r.HoldMillis)/1000)
	default:
		e.changed.Add(1)
	}
	return out, nil
}

// Emit writes an emission of any size to lane n; start is where its source begins in a root that has no watermark for it
// yet. One that is too large for one script goes in several, of which only the last moves the watermark: after an error
// or an answer other than OK the whole emission is to be sent again.
func (e *Emitter) Emit(ctx context.Context, n int, root string, start int64, em lane.Emission) (lane.Reply, error) {
	if err := e.inRange(n); err != nil {
		return lane.Reply{}, err
	}
	part := em
	for len(em.Items) > lane.MaxKeys || len(em.Tags) > lane.MaxTags {
		part.Items, em.Items = cut(em.Items, lane.MaxKeys)
		part.Tags, em.Tags = cut(em.Tags, lane.MaxTags)
		part.To = part.From - 1
		if r, err := e.script(ctx, n, root, start, part); err != nil || r.Status != lane.OK {
			return r, err
		}
	}
	return e.script(ctx, n, root, start, em)
}

// cut splits s after its first n elements.
func cut[T any](s []T, n int) (head, tail []T) {
	n = min(n, len(s))
	return s[:n], s[n:]
}

func (e *Emitter) script(ctx context.Context, n int, root string, start int64, em lane.Emission) (lane.Reply, error) {
	began := time.Now()
	r, err := e.scripts.Emit(ctx, n, root, start, em)
	e.busy.Add(int64(time.Since(began)))
	if err != nil {
		e.fails.Add(1)
		e.lookAgain(ctx)
		return lane.Reply{}, err //nolint:wrapcheck // lane names call and lane
	}
	e.emits.Add(1)
	switch r.Status {
	case lane.OK:
		e.items.Add(int64(len(em.Items)))
		e.tags.Add(int64(len(em.Tags)))
		if len(em.Items)+len(em.Tags) == 0 {
			e.watermarks.Add(1)
		}
	case lane.RootChanged:
		e.changed.Add(1)
	case lane.Regressed:
		e.regressed.Add(1)
	}
	return r, nil
}

// lookAgain makes a cluster client ask who has which slots: a master that does not answer may have been replaced.
func (e *Emitter) lookAgain(ctx context.Context) {
	if c, ok := e.rdb.(*redis.ClusterClient); ok {
		c.ReloadState(ctx)
	}
}

func (e *Emitter) inRange(n int) error {
	if n < 0 || n >= e.scripts.Lanes() {
		return fmt.Errorf("lane %d: the namespace has %d", n, e.scripts.Lanes())
	}
	return nil
}

// Stats returns the counts so far.
func (e *Emitter) Stats() EmitterStats {
	return EmitterStats{
		Scripts: e.emits.Load(), Watermarks: e.watermarks.Load(), Items: e.items.Load(), Tags: e.tags.Load(),
		Regressed: e.regressed.Load(), RootChanged: e.changed.Load(), Roots: e.roots.Load(), Errors: e.fails.Load(),
		Busy: time.Duration(e.busy.Load()),
	}
}

// Close closes the Emitter's connections; calls in flight fail. It may be called twice.
func (e *Emitter) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	if err := e.rdb.Close(); err != nil {
		return fmt.Errorf("close emitter: %w", err)
	}
	return nil
}
