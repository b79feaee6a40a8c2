package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/retry"
)

const (
	// standbyPoll is how often a relay that is not active looks at the lease.
	standbyPoll = time.Second
	// maxWait is the longest wait between tries to reach the database.
	maxWait = 5 * time.Second
)

// Relay publishes an outbox while it is the active one of any number of relays. It is safe for concurrent use.
type Relay struct {
	cfg    Config
	log    *slog.Logger
	counts counts
	high   atomic.Int64 // greatest id that this process published
	below  atomic.Bool  // a row was read whose id is below numbering.low

	mu      sync.Mutex // guards all below
	waiting error      // why it does not publish; nil: it does
	since   time.Time  // of waiting
	term    *term      // nil: standing by
	census  census
	ended   delivery.Stats // what the producers of earlier terms did
}

// New checks the configuration. It opens no connection.
func New(cfg Config) (*Relay, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("make relay: %w", err)
	}
	return &Relay{cfg: cfg, log: cfg.Logger.With("component", "relay"), waiting: errStarting, since: time.Now()}, nil
}

// ID is the name of this relay.
func (r *Relay) ID() string { return r.cfg.Owner }

var errStarting = errors.New("starting")

// Run publishes until ctx ends. Faults of the database and of Kafka are waited out. It returns nil after an orderly stop.
func (r *Relay) Run(ctx context.Context) error {
	pool, err := r.open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer pool.Close()
	for ctx.Err() == nil {
		err := r.once(ctx, pool)
		if ctx.Err() != nil {
			return nil
		}
		r.wait(ctx, err)
		pause(ctx, standbyPoll)
	}
	return nil
}

// open connects to the database, for as long as it takes.
func (r *Relay) open(ctx context.Context) (pool *mysql.Pool, err error) {
	policy := retry.Policy{Max: maxWait, Notify: func(err error, _ time.Duration) { r.wait(ctx, err) }}
	err = retry.Do(ctx, policy, func(ctx context.Context) error {
		pool, err = mysql.Open(ctx, r.cfg.MySQL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the source database: %w", err)
	}
	return pool, nil
}

// once takes the lease and publishes until that ends. Its error is what the relay waits for.
func (r *Relay) once(ctx context.Context, pool *mysql.Pool) error {
	began := time.Now() // the lease begins later
	st, err := r.lead(ctx, pool)
	if err != nil {
		return err
	}
	return r.serve(ctx, pool, st, began)
}

// wait notes what the relay waits for; what is new is logged.
func (r *Relay) wait(ctx context.Context, err error) {
	if err == nil {
		err = errFenced
	}
	r.mu.Lock()
	news := r.waiting == nil || r.waiting.Error() != err.Error()
	if news {
		r.waiting, r.since = err, time.Now()
	}
	r.mu.Unlock()
	var standby *StandbyError
	switch {
	case !news:
	case errors.As(err, &standby):
		r.log.InfoContext(ctx, "standing by", "relay", standby.Owner)
	default:
		r.log.WarnContext(ctx, "outbox not published", "error", err)
	}
}

// pause waits for d, and returns false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
