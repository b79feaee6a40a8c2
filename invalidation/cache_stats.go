package invalidation

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/durations"
)

// Why a tier was passed by.
const (
	bypassUnconfirmed = iota
	bypassNoLane
	bypassNewRoot
	bypassDataset
	bypassRedis
	bypassBusy
	bypassCodec
	numBypasses
)

// Why a value was not kept, or had to be loaded again.
const (
	refusedGuard = iota
	refusedLost
	refusedStale
	refusedPrimary
	refusedRedis
	refusedCodec
	refusedInvalid
	numRefusals
)

// What is logged only once, because each read would repeat it.
const (
	warnEncode = iota
	warnDecode
	warnForm
	warnLoaded
	warnPanic
	warnAbandoned
	warnType
	numWarnings
)

// spreadCount is a counter in parts, each on a cache line of its own, for what happens with every read.
type spreadCount [16]struct {
	n atomic.Int64
	_ [56]byte
}

// add counts one; any number serves to choose the part.
func (c *spreadCount) add(now int64) { c[now>>5&15].n.Add(1) }

func (c *spreadCount) load() (sum int64) {
	for i := range c {
		sum += c[i].n.Load()
	}
	return sum
}

type cacheCounts struct {
	localHits                                                    spreadCount
	sharedHits, loads, primaryLoads, loadErrors, joined, dropped atomic.Int64
	staleServed, foreign, keptBounded, abandoned, behind         atomic.Int64
	refreshes, refreshErrors, refreshesSkipped                   atomic.Int64

	bypassed [numBypasses]atomic.Int64
	refused  [numRefusals]atomic.Int64
	warned   [numWarnings]sync.Once
	took     durations.Histogram
	blamed   atomic.Pointer[problem]

	// now is the node's clock, log the node's logger of this dataset.
	now         func() int64
	log         *slog.Logger
	derived     bool
	mark        string
	loadTimeout time.Duration
}

// problem is something that a loader does wrong, and when it did it last.
type problem struct {
	text string
	at   int64 // monotonic, on the node's clock
}

// problemSpan is how long a problem counts after it was last seen.
const problemSpan = time.Minute

// blame notes what the loader does wrong.
func (s *cacheCounts) blame(text string) {
	s.blamed.Store(&problem{text, s.now()})
}

func (s *cacheCounts) problem() string {
	p := s.blamed.Load()
	if p == nil || s.now()-p.at > int64(problemSpan) {
		return ""
	}
	return p.text
}

// blameSource notes that the loader did not read the primary when asked to.
func (s *cacheCounts) blameSource() {
	s.blame("its loader was asked for the primary and reports that it read elsewhere, so what it returns is not kept; let it read the primary then, and return Loaded.From")
}

// blameVersion notes that the primary's version is below the floor.
func (s *cacheCounts) blameVersion(version, floor int64) {
	switch {
	case s.derived: // those have none
	case version == 0:
		s.blame("its loader returns no version, so a record is not kept for a while after each of its changes; read the version with the record (_version of a replica row) and return Loaded.Version")
	default:
		s.blame(fmt.Sprintf("its loader returns version %d from the primary, but version %d of that record was emitted, so it is not kept; let it read the version that events "+
			"carry (_version of a replica row), from the database that they come from", version, floor))
	}
}

// CacheStats is a snapshot of a cache. Counters count from its beginning.
type CacheStats struct {
	// Problem is why what the loader returned was not kept lately, and what to do about it; "" while it is.
	Problem string `json:",omitempty"`
	Dataset string
	// Derived is the template of a cache of lookups.
	Derived string `json:",omitempty"`
	// Entries is about the number of local entries, those included that may not be served any more.
	Entries int
	// LocalHits, SharedHits and Loads say which tier answered; Loads includes PrimaryLoads and LoadErrors. Joined reads
	// shared another reader's.
	LocalHits, SharedHits, Loads, PrimaryLoads, LoadErrors, Joined int64
	// Cost is about the sum of what Cost said of the local entries, or their shares; 0 without MaxCost.
	Cost int64
	// StaleServed counts reads that StaleIfError gave an entry instead of the loader's error, or after StaleAfter.
	StaleServed int64
	// KeptBounded counts values that the shared tier did not take and that are kept for MaxStaleness since their load from the
	// primary began. It grows while Redis is away or full, by one per key and MaxStaleness.
	KeptBounded int64
	// Filling is how many fills of the shared tier run just now behind their readers' answers; a GetMany has one for all.
	Filling int64
	// LoadsAbandoned counts loads that ran beyond LoadTimeout because the loader did not heed its context.
	LoadsAbandoned int64
	// Refreshes counts fills ahead of the end of an entry, RefreshErrors those of them that failed, RefreshesSkipped those
	// that did not begin because MaxRefreshes ran.
	Refreshes, RefreshErrors, RefreshesSkipped int64
	// Unreadable counts shared entries of another codec or form, and those that could not be decoded; they made way for new ones.
	Unreadable int64
	// Dropped counts local entries that became stale by key.
	Dropped int64
	// Bypasses by reason: unconfirmed (nothing proves within MaxStaleness that the lane is complete), no_lane, new_root (the lane was
	// flushed since this node last looked), dataset, redis, busy, codec.
	Bypasses map[string]int64
	// Refusals counts values that were not kept, or were loaded again from the primary, by reason: guard, lost, stale,
	// primary, redis, codec, invalid. Sustained stale means that the loaders' source lags.
	Refusals map[string]int64
	// LoadDurations counts how long calls of Load and LoadMany took. Nodes does not show it.
	LoadDurations Durations `json:"-"`
}

// Stats returns a snapshot.
func (c *Cache[V]) Stats() CacheStats {
	s := c.stats
	var cost int64
	if c.cfg.MaxCost > 0 {
		cost = int64(c.local.store.WeightedSize())
	}
	return CacheStats{
		Problem: s.problem(),

		Cost: cost, StaleServed: s.staleServed.Load(), KeptBounded: s.keptBounded.Load(), LoadsAbandoned: s.abandoned.Load(), Filling: s.behind.Load(), Unreadable: s.foreign.Load(),
		Refreshes: s.refreshes.Load(), RefreshErrors: s.refreshErrors.Load(), RefreshesSkipped: s.refreshesSkipped.Load(),

		Dataset: c.cfg.Dataset, Derived: c.cfg.Derived, Entries: c.local.store.EstimatedSize(),
		LocalHits: s.localHits.load(), SharedHits: s.sharedHits.Load(), Loads: s.loads.Load(),
		PrimaryLoads: s.primaryLoads.Load(), LoadErrors: s.loadErrors.Load(), Joined: s.joined.Load(), Dropped: s.dropped.Load(),
		Bypasses:      counts([]string{"unconfirmed", "no_lane", "new_root", "dataset", "redis", "busy", "codec"}, s.bypassed[:]),
		Refusals:      counts([]string{"guard", "lost", "stale", "primary", "redis", "codec", "invalid"}, s.refused[:]),
		LoadDurations: s.took.Snapshot(),
	}
}

// warn reports what a program does wrong, once per kind. err holds no value: a codec's words are not passed on.
func (s *cacheCounts) warn(what int, err error) {
	log := s.log
	s.warned[what].Do(func() {
		switch what {
		case warnEncode:
			log.Warn("value cannot be encoded; it is not cached")
		case warnDecode:
			log.Warn("shared value cannot be decoded; it is loaded")
		case warnForm:
			log.Warn("shared entries are of another codec or form and are replaced: programs with other codecs or types use this dataset, or did before an upgrade", "codec", s.mark)
		case warnLoaded:
			log.Warn("loaded value cannot be cached", "error", err)
		case warnPanic:
			log.Warn("loader panicked where no reader waits for it")
		case warnType:
			log.Warn("a shared entry was not a string and is removed: another program writes under Freshet's prefix of this Redis")
		case warnAbandoned:
			log.Warn("loader did not return within LoadTimeout and is not waited for; let it end when its context does", "limit_seconds", s.loadTimeout)
		}
	})
}
