package demo

import (
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/freshet/freshet/invalidation/lane"
)

// retention is how long acknowledgements stay apart from a record's floor, beyond every bound: so long may a read last
// and still be judged.
const retention = 30 * time.Second

// Verdict is what the Oracle says of one read.
type Verdict uint8

// The verdicts.
const (
	// Good: what was served is not older than the bound allows, and is what was published under that version.
	Good Verdict = iota + 1
	// Stale: a version that was emitted longer ago than the bound is missing from what was served.
	Stale
	// Wrong: the content is not what was published under the version that was served.
	Wrong
	// Unjudged: the read took so long that nothing can be said.
	Unjudged
)

// Served is the outcome of one read.
type Served struct {
	// Found is false when the record was said not to exist; Version and Sum are then 0.
	Found   bool
	Version int64
	// Sum is a hash of the content.
	Sum uint64
}

// Oracle is the truth against which every read is judged. It knows what was published, under which version, and when the
// emission of each version was acknowledged. A read that began at t must show every version whose emission was
// acknowledged before t − bound, or a newer one; deletions are versions like others.
//
// After a loss of Redis the bound is longer for a while, as the protocol promises: see Disturb.
type Oracle struct {
	bound time.Duration
	began time.Time
	first int64 // versions below belong to an earlier run, whose content is unknown

	mu           sync.Mutex
	records      map[string]*record // by cache key; guarded by mu, like all below
	disturbances []disturbance
	reach        map[string]int64 // per source: the offset after the newest emitted one
	applied      int64
}

// record is the history of one record.
type record struct {
	floor     int64 // newest version that was acknowledged longer ago than every bound
	acked     []ack // ascending by time and by version
	published []publication
}

type ack struct {
	at      time.Duration
	version int64
}

type publication struct {
	version int64
	deleted bool
	sum     uint64
}

// disturbance lengthens the bound of reads that overlap with [from, until].
type disturbance struct {
	from, until, extra time.Duration
}

// NewOracle makes an Oracle for nodes with that MaxStaleness. Versions from first on belong to this run.
func NewOracle(bound time.Duration, first int64) *Oracle {
	return &Oracle{bound: bound, began: time.Now(), first: first, records: map[string]*record{}, reach: map[string]int64{}}
}

// Now is the Oracle's clock.
func (o *Oracle) Now() time.Duration { return time.Since(o.began) }

// Published notes a version before it is sent. Versions of a record come in ascending order.
func (o *Oracle) Published(cacheKey string, version int64, deleted bool, sum uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.record(cacheKey)
	r.published = append(r.published, publication{version, deleted, sum})
}

// Emitted notes an acknowledged emission, at the moment when its acknowledgement is known.
func (o *Oracle) Emitted(e *lane.Emission, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if next := e.To + 1; e.To >= e.From {
		seen, ok := o.reach[e.Source]
		if !ok {
			seen = e.From
		}
		if next > seen {
			o.applied += next - seen
			o.reach[e.Source] = next
		}
	}
	for _, it := range e.Items {
		if it.Version < o.first {
			continue // without a version, or of an earlier run
		}
		r := o.record(it.Key)
		if n := len(r.acked); n > 0 && r.acked[n-1].version >= it.Version || it.Version <= r.floor {
			continue // delivered again
		}
		r.acked = append(r.acked, ack{at, it.Version})
		o.fold(r, at)
	}
}

// Applied is the number of offsets that were emitted at least once.
func (o *Oracle) Applied() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.applied
}

// Disturb reports that the protocol's bound is longer by extra for every read that overlaps with the time from now until
// now + lasts. It is called before the disturbance begins.
func (o *Oracle) Disturb(lasts, extra time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.Now()
	o.disturbances = slices.DeleteFunc(o.disturbances, func(d disturbance) bool { return d.until < now-retention })
	o.disturbances = append(o.disturbances, disturbance{now, now + lasts, extra})
}

// Judge reports whether a read that began at that time and has just ended was allowed to serve what it served. want is the
// version that it had to reach.
func (o *Oracle) Judge(cacheKey string, began time.Duration, s Served) (v Verdict, want int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.Now()
	r := o.records[cacheKey]
	switch {
	case r == nil:
		return Good, 0
	case now-began > retention:
		return Unjudged, 0
	}
	want = r.required(began - o.bound - o.extra(began, now))
	if !s.Found {
		if want == 0 || slices.ContainsFunc(r.published, func(p publication) bool { return p.deleted && p.version >= want }) {
			return Good, want
		}
		return Stale, want
	}
	if s.Version < want {
		return Stale, want
	}
	if s.Version < o.first {
		return Good, want
	}
	i := slices.IndexFunc(r.published, func(p publication) bool { return p.version == s.Version })
	if i < 0 || r.published[i].deleted || r.published[i].sum != s.Sum {
		return Wrong, want
	}
	return Good, want
}

// Keys are the cache keys of all records that were ever published.
func (o *Oracle) Keys() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.records)
}

func (o *Oracle) record(cacheKey string) *record {
	r := o.records[cacheKey]
	if r == nil {
		r = &record{}
		o.records[cacheKey] = r
	}
	return r
}

// extra is what disturbances that overlap with [began, ended] add to the bound.
func (o *Oracle) extra(began, ended time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range o.disturbances {
		if d.from <= ended && began <= d.until {
			sum = max(sum, d.extra)
		}
	}
	return sum
}

// required is the newest version that was acknowledged at or before at.
func (r *record) required(at time.Duration) int64 {
	i := sort.Search(len(r.acked), func(i int) bool { return r.acked[i].at > at })
	if i == 0 {
		return r.floor
	}
	return r.acked[i-1].version
}

// fold moves acknowledgements that are older than every bound into the floor, and forgets what was published below it.
func (o *Oracle) fold(r *record, now time.Duration) {
	longest := o.bound
	for _, d := range o.disturbances {
		longest = max(longest, o.bound+d.extra)
	}
	old := now - longest - retention
	n := sort.Search(len(r.acked), func(i int) bool { return r.acked[i].at > old })
	if n == 0 {
		return
	}
	r.floor = r.acked[n-1].version
	r.acked = slices.Delete(r.acked, 0, n)
	r.published = slices.DeleteFunc(r.published, func(p publication) bool { return p.version < r.floor })
}
