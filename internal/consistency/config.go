package consistency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/schemas"
)

// Defaults of a Config.
const (
	// DefaultRecords is how many records a second are taken.
	DefaultRecords = 1
	// DefaultInterval is how often records are taken and looked at.
	DefaultInterval = time.Second
	// DefaultAlarm is how long after a change every copy must have it: above a node's proof (10 s by default), one look at
	// the lanes, and the time that a worker's successor and the repair of a lane need.
	DefaultAlarm = 60 * time.Second
	// maxStale is how many stale copies are kept.
	maxStale = 100
)

// DefaultWindows are the ages at which a sample is looked at; Config.Alarm is one more.
func DefaultWindows() []time.Duration {
	return []time.Duration{time.Second, 10 * time.Second, 60 * time.Second, 300 * time.Second}
}

// ErrConfig comes, wrapped, when a field of a Config is missing or contradicts another.
var ErrConfig = errors.New("configuration of the consistency sampler")

// Replica is the truth. *replica.MySQL has it. Reads are fresh and take no locks.
type Replica interface {
	// Versions returns the versions of those records that have a row, by their canonical keys.
	Versions(ctx context.Context, d *schemas.Dataset, keys []string) (map[string]int64, error)
	// Keys gives up to n keys behind after, in their order; "" begins with the first.
	Keys(ctx context.Context, d *schemas.Dataset, after string, n int) ([]string, error)
	// Applied returns, for each source of a topic, the first offset that is not in the replica yet.
	Applied(ctx context.Context, topic string) (map[string]int64, error)
}

// Tiers are where the copies lie. *Reader has it.
type Tiers interface {
	// Look returns what the tiers hold under each of at most 100 names.
	Look(ctx context.Context, names ...string) ([]report.Copies, error)
	// Told reports whether everything below each source's offset has been emitted to the lane of a name.
	Told(ctx context.Context, name string, next map[string]int64) (bool, error)
}

// Config of a Sampler. Datasets, Replica and Tiers are required; the zero value of every other field works.
type Config struct {
	// Datasets are those whose records are looked at; datasets without a cache section have no copies.
	Datasets *schemas.Datasets
	Replica  Replica
	Tiers    Tiers
	// Records is how many records are taken at each Interval, half of them just changed, half of them in the order of
	// their tables; 0 means DefaultRecords, at most 100. Each is looked at once for each of Windows.
	Records int
	// Interval; 0 means DefaultInterval.
	Interval time.Duration
	// Windows are the ages at which a sample is looked at, ascending; nil means DefaultWindows.
	Windows []time.Duration
	// Alarm: a copy that is stale at a window of at least this length is looked at again after Confirm, and is an alarm if
	// it is still stale. 0 means DefaultAlarm. It must not be below MaxStaleness of any node.
	Alarm time.Duration
	// Confirm; 0 means a quarter of Alarm. It should not be below MaxStaleness of any node either: a node that was cut off
	// when Redis lost data may serve what it has for so long.
	Confirm time.Duration
	// Choose returns a number from 0 to n-1 and decides which of many changed records are looked at; nil means a random one. It
	// is never called by two goroutines at once.
	Choose func(n int) int
	// Logger; nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	for field, absent := range map[string]bool{"Datasets": c.Datasets == nil, "Replica": c.Replica == nil, "Tiers": c.Tiers == nil} {
		if absent {
			return c, fmt.Errorf("%w: %s is missing", ErrConfig, field)
		}
	}
	if err := c.Check(); err != nil {
		return c, err
	}
	if c.Choose == nil {
		c.Choose = rand.IntN
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Interval, DefaultInterval)
	def(&c.Alarm, DefaultAlarm)
	def(&c.Confirm, c.Alarm/4)
	if c.Records == 0 {
		c.Records = DefaultRecords
	}
	if c.Windows == nil {
		c.Windows = append(DefaultWindows(), c.Alarm)
		slices.Sort(c.Windows)
		c.Windows = slices.Compact(c.Windows)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Check returns what is out of range, also while the fields that need servers are not set yet. Errors wrap ErrConfig.
func (c Config) Check() error {
	if c.Records < 0 || c.Records > maxNames {
		return fmt.Errorf("%w: Records is %d; give 1 to %d", ErrConfig, c.Records, maxNames)
	}
	for field, d := range map[string]time.Duration{"Interval": c.Interval, "Alarm": c.Alarm, "Confirm": c.Confirm} {
		if d < 0 {
			return fmt.Errorf("%w: %s is %v; it must not be negative", ErrConfig, field, d)
		}
	}
	if !slices.IsSorted(c.Windows) || len(c.Windows) > 0 && c.Windows[0] <= 0 {
		return fmt.Errorf("%w: Windows are %v; give positive lengths, ascending", ErrConfig, c.Windows)
	}
	return nil
}
