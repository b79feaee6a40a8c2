package report

import (
	"cmp"
	"slices"
	"time"
)

// Stale is a copy that is known to be older than the replica longer than is promised, or to claim a version that the replica does not get.
type Stale struct {
	Old

	Dataset string `json:"dataset"`
	Key     string `json:"key"`
	// Replica is the version that the row had at Since at the latest; of a copy that is Ahead, the row's at the last look.
	Replica int64     `json:"replica_version"`
	Since   time.Time `json:"since"`
}

// Window counts the looks at one tier at one age of the samples.
type Window struct {
	Tier    string  `json:"tier"`
	Seconds float64 `json:"seconds"`
	// Checks are the entries that were asked for, one for each node in the local tier.
	Checks uint64 `json:"checks"`
	// Violations were older than the replica although the change had been emitted to their lane.
	Violations uint64 `json:"violations"`
	// Waiting were older and the change had not been emitted to their lane yet: a worker is behind, or Redis lost data and is being repaired.
	Waiting uint64 `json:"waiting"`
}

// Stats is a snapshot of a Sampler.
type Stats struct {
	Windows []Window `json:"windows"`
	// Alarms counts by tier the copies that stayed stale or ahead.
	Alarms map[string]uint64 `json:"alarms"`
	// Stale are those that still are, at most those of 100 records.
	Stale []Stale `json:"stale"`
	// Failures counts the rounds in which a tier or the replica could not be asked.
	Failures uint64 `json:"failures"`
}

// Sum adds up the snapshots of several samplers.
func Sum(all ...Stats) Stats {
	type at struct {
		tier    string
		seconds float64
	}
	sum := Stats{Windows: []Window{}, Alarms: map[string]uint64{}, Stale: []Stale{}}
	place := map[at]int{}
	for _, s := range all {
		for _, w := range s.Windows {
			i, ok := place[at{w.Tier, w.Seconds}]
			if !ok {
				i = len(sum.Windows)
				place[at{w.Tier, w.Seconds}] = i
				sum.Windows = append(sum.Windows, Window{Tier: w.Tier, Seconds: w.Seconds})
			}
			sum.Windows[i].Checks += w.Checks
			sum.Windows[i].Violations += w.Violations
			sum.Windows[i].Waiting += w.Waiting
		}
		for tier, n := range s.Alarms {
			sum.Alarms[tier] += n
		}
		sum.Stale = append(sum.Stale, s.Stale...)
		sum.Failures += s.Failures
	}
	slices.SortStableFunc(sum.Windows, func(a, b Window) int {
		return cmp.Or(cmp.Compare(b.Tier, a.Tier), cmp.Compare(a.Seconds, b.Seconds))
	})
	return sum
}
