package registry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/retry"
)

const (
	// lookInterval is how often a Keeper looks whether the status has changed.
	lookInterval = time.Second
	// callLimit bounds one call of the registry, leaveLimit the last one: a registry that is away must not delay the end of a process.
	callLimit, leaveLimit = 5 * time.Second, 2 * time.Second
)

// Config of a Keeper.
type Config struct {
	// Registry is where the process is listed; required.
	Registry Registry
	// Instance returns the process as it is now; required. It is called about once a second and must not block; only Status and Note
	// may change.
	Instance func() Instance
	// Logger; nil discards.
	Logger *slog.Logger
}

// Keeper keeps a process listed. A registry that is away or refuses is tried again with growing pauses; nothing else waits for it. A nil
// Keeper lists nothing.
type Keeper struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex // guards stats
	stats Stats
}

// Stats is a snapshot of a Keeper.
type Stats struct {
	// Listed: the last call succeeded, so the registry has the instance for at least a TTL from then.
	Listed bool
	// Failures counts calls that failed.
	Failures int64
	// Err is why the last call failed, nil if it succeeded; Since when they have failed.
	Err   error
	Since time.Time
}

// New checks cfg and connects to nothing. Errors wrap ErrConfig.
func New(cfg Config) (*Keeper, error) {
	if cfg.Registry == nil {
		return nil, fmt.Errorf("%w: Registry is nil", ErrConfig)
	}
	if cfg.Instance == nil {
		return nil, fmt.Errorf("%w: Instance is nil", ErrConfig)
	}
	if err := cfg.Instance().Check(); err != nil {
		return nil, err
	}
	return &Keeper{cfg: cfg, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)).With("component", "registry")}, nil
}

// Run lists the process until ctx ends, and then removes it, for which it takes at most two seconds. It returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	if k == nil {
		return nil
	}
	var last Instance
	pause := max(k.cfg.Registry.TTL()/3, lookInterval)
	policy := retry.Policy{First: 200 * time.Millisecond, Max: pause, Notify: func(err error, _ time.Duration) { k.failed(err) }}
	register := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, callLimit)
		defer cancel()
		last = k.cfg.Instance()
		return k.cfg.Registry.Register(ctx, last)
	}
	for retry.Do(ctx, policy, register) == nil {
		k.succeeded()
		k.await(ctx, last.Status, pause)
	}
	k.leave(context.WithoutCancel(ctx), last)
	return nil
}

// await returns after the pause, or when the status has changed.
func (k *Keeper) await(ctx context.Context, status Status, pause time.Duration) {
	over := time.NewTimer(pause)
	defer over.Stop()
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-look.C:
			if k.cfg.Instance().Status != status {
				return
			}
		}
	}
}

func (k *Keeper) leave(ctx context.Context, last Instance) {
	if last.ID == "" {
		return // nothing was ever asked of the registry
	}
	ctx, cancel := context.WithTimeout(ctx, leaveLimit)
	defer cancel()
	err := k.cfg.Registry.Deregister(ctx, last)
	k.mu.Lock()
	k.stats.Listed, k.stats.Err = false, nil // it is not meant to be listed any more
	k.mu.Unlock()
	if err != nil {
		k.log.Warn("this process could not be removed from the registry, which forgets it when its time is over", "error", err)
		return
	}
	k.log.Info("removed from the registry", "address", last.Address)
}

func (k *Keeper) failed(err error) {
	k.mu.Lock()
	first := k.stats.Err == nil
	k.stats.Listed, k.stats.Err = false, err
	k.stats.Failures++
	if first {
		k.stats.Since = time.Now()
	}
	k.mu.Unlock()
	if first {
		k.log.Warn("the registry does not take this process; it is tried again", "error", err)
	}
}

func (k *Keeper) succeeded() {
	k.mu.Lock()
	before := k.stats
	k.stats.Listed, k.stats.Err, k.stats.Since = true, nil, time.Time{}
	k.mu.Unlock()
	if !before.Listed {
		k.log.Info("listed in the registry", "address", k.cfg.Instance().Address)
	}
}

// Stats returns a snapshot.
func (k *Keeper) Stats() Stats {
	if k == nil {
		return Stats{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stats
}

// Problems returns why the process is not listed, for a list of what is degraded; nothing before the first failure.
func (k *Keeper) Problems() []string {
	s := k.Stats()
	if s.Err == nil {
		return nil
	}
	return []string{fmt.Sprintf("this process is not listed in the registry since %s: %v", s.Since.UTC().Format(time.RFC3339), s.Err)}
}
