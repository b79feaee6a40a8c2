package worker

import (
	"sync"
	"time"

	"github.com/freshet/freshet/internal/replica"
)

// Events that lose against their row's version change nothing, so they are easy to overlook: a source that was restored from
// a backup publishes versions below those of the rows, and nothing of what it publishes arrives. They are counted for each
// dataset. An event with the row's version and other content means that the source returns a version twice; the row then
// differs from the source until the record changes again.

const (
	// recentWindow is how long the recent counts of DatasetStats go back at least; at most twice as long.
	recentWindow = 5 * time.Minute
	// manySuperseded is from how many recent events on a majority of superseded ones is logged.
	manySuperseded = 20
	// warnEvery is the shortest time between two warnings about a dataset.
	warnEvery = time.Minute
)

// DatasetStats counts the events of one dataset.
type DatasetStats struct {
	// Events counts decoded events, Superseded those with a lower version than their record already had; repetitions of a record's
	// version with the same content are not counted.
	Events, Superseded uint64
	// Conflicts have the version of their record's row and other content.
	Conflicts uint64
	// Misplaced records are in another partition than the producer's partitioner chooses for their keys.
	Misplaced uint64
	// RecentEvents and RecentSuperseded are those of the last five to ten minutes.
	RecentEvents, RecentSuperseded uint64
}

// VersionsWentBack reports whether most of the recent events were superseded, as after a restore of the source.
func (s DatasetStats) VersionsWentBack() bool {
	return s.RecentSuperseded >= manySuperseded && 2*s.RecentSuperseded > s.RecentEvents
}

// versionCounts count the events of each dataset.
type versionCounts struct {
	*core

	mu        sync.Mutex
	byDataset map[string]*versions
}

// stats returns the counts by dataset.
func (vc *versionCounts) stats() map[string]DatasetStats {
	vc.mu.Lock()
	defer vc.mu.Unlock()
	out := make(map[string]DatasetStats, len(vc.byDataset))
	for d, v := range vc.byDataset {
		out[d] = v.stats(vc.now())
	}
	return out
}

// versions counts one dataset. The mutex of versionCounts guards it.
type versions struct {
	total        DatasetStats
	began        time.Duration // of the current part of the window
	cur, prev    DatasetStats
	warnedBack   time.Duration
	warnedEquals time.Duration
}

func (v *versions) add(now time.Duration, events int, lost replica.Lost) {
	if now-v.began >= recentWindow {
		v.prev = v.cur
		if now-v.began >= 2*recentWindow {
			v.prev = DatasetStats{}
		}
		v.began, v.cur = now, DatasetStats{}
	}
	for _, s := range []*DatasetStats{&v.total, &v.cur} {
		s.Events += uint64(events)
		s.Superseded += uint64(lost.Superseded)
		s.Conflicts += uint64(lost.Conflicts)
	}
}

func (v *versions) stats(now time.Duration) DatasetStats {
	s := v.total
	switch age := now - v.began; {
	case age < recentWindow:
		s.RecentEvents, s.RecentSuperseded = v.cur.Events+v.prev.Events, v.cur.Superseded+v.prev.Superseded
	case age < 2*recentWindow:
		s.RecentEvents, s.RecentSuperseded = v.cur.Events, v.cur.Superseded
	}
	return s
}

// judged counts a batch's events that lost, and warns at most once a minute.
func (vc *versionCounts) judged(p *partition, pr *prepared) {
	lost := pr.lost
	if p.dataset == nil {
		return
	}
	now := vc.now()
	vc.mu.Lock()
	v := vc.byDataset[p.dataset.Name]
	if v == nil {
		v = &versions{warnedBack: -warnEvery, warnedEquals: -warnEvery}
		vc.byDataset[p.dataset.Name] = v
	}
	v.add(now, pr.events, lost)
	v.total.Misplaced += uint64(pr.misplaced)
	s := v.stats(now)
	back := lost.Superseded > 0 && s.VersionsWentBack() && now-v.warnedBack >= warnEvery
	equals := lost.Conflicts > 0 && now-v.warnedEquals >= warnEvery
	if back {
		v.warnedBack = now
	}
	if equals {
		v.warnedEquals = now
	}
	vc.mu.Unlock()
	if back {
		vc.log.Warn("most events have lower versions than their rows and change nothing: late events, or a source whose versions went back, as after a restore from a backup",
			"dataset", p.dataset.Name, "events", s.RecentEvents, "superseded", s.RecentSuperseded)
	}
	if equals {
		vc.log.Warn("an event has the version of its row and other content, and changes nothing: the source gives a version twice",
			"dataset", p.dataset.Name, "topic", p.id.Topic, "partition", p.id.ID, "offset", lost.At, "conflicts", s.Conflicts)
	}
}
