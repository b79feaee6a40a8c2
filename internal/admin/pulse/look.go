package pulse

import (
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/admin/api"
)

// Look is what the servers said at one time. A part whose Known is false could not be asked for.
type Look struct {
	At time.Time
	// Starting: the process cannot use its database yet; Waiting has why.
	Starting bool
	Waiting  []string
	// Sick are the servers that do not answer: MySQL, Kafka, Redis.
	Sick []string
	// Datasets is how many are declared; Cached are those with a cache section.
	Datasets int
	Cached   map[string]bool
	Known    Known
	// Lag is how far each partition is.
	Lag    []api.Partition
	Pauses map[string]api.Pause
	// Nodes are alive; Lost were, and neither report nor have ended.
	Nodes   []api.Node
	Lost    []Lost
	Workers []api.WorkerState
	// Lanes are the numbers of the newest entry of each lane; 0 for one that does not exist.
	Lanes []uint64
	// Outbox is that of the source; nil: it is not known.
	Outbox *api.Outbox
	Census
}

// Known says which parts of a Look there are. Workers stands for Pauses too.
type Known struct{ Lag, Nodes, Workers, Lanes, Census bool }

// Census is what MySQL counts.
type Census struct{ Letters, RunningJobs, PausedJobs int64 }

// Lost is a node that stopped reporting.
type Lost struct {
	ID   string
	Seen time.Time
}

const (
	// silentAfter is how long a node or worker that writes its state every 3 s may be silent.
	silentAfter = 7 * time.Second
	// lostFor is how long a process that stopped reporting is mentioned.
	lostFor = 5 * time.Minute
)

// silentNodes returns the ids of nodes that are silent, with the longest silence.
func (l *Look) silentNodes() (ids []string, longest time.Duration) {
	for _, n := range l.Nodes {
		if d := seconds(n.Silence); d >= silentAfter {
			ids, longest = append(ids, n.ID), max(longest, d)
		}
	}
	for _, n := range l.Lost {
		ids, longest = append(ids, n.ID), max(longest, l.At.Sub(n.Seen))
	}
	return ids, longest
}

// suspectNodes returns the ids of nodes that report and bypass their local tier.
func (l *Look) suspectNodes() (ids []string) {
	for _, n := range l.Nodes {
		if n.Suspect && seconds(n.Silence) < silentAfter {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// silentWorkers returns the workers that stopped reporting without an end.
func (l *Look) silentWorkers() (out []api.WorkerState) {
	for _, w := range l.Workers {
		if d := seconds(w.Seconds); d >= silentAfter && d < lostFor {
			out = append(out, w)
		}
	}
	return out
}

// aliveWorkers counts the workers that report.
func (l *Look) aliveWorkers() (n int) {
	for _, w := range l.Workers {
		if w.Alive {
			n++
		}
	}
	return n
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// settling is longer than a worker takes to commit the offset of what it applied. Records that wait no longer than that, for nothing, may be
// everywhere already: their wait is not known, and mostly that of the commit.
const settling = 2 * time.Second

func unsettled(p *api.Partition) bool {
	return seconds(p.Seconds) < settling && (p.Waits == nil || p.Waits.Code == waitBusy)
}

// backlog returns the records that wait, and how long the oldest of them has; of cached datasets alone if cached is true.
func (l *Look) backlog(cached bool) (records int64, oldest float64) {
	for i := range l.Lag {
		p := &l.Lag[i]
		if p.Partition >= 0 && (!cached || l.Cached[p.Dataset]) && !unsettled(p) {
			records, oldest = records+p.Records, max(oldest, p.Seconds)
		}
	}
	return records, oldest
}

// sequence returns the number of a lane's entry.
func sequence(id string) (uint64, bool) {
	text, _, ok := strings.Cut(id, "-")
	n, err := strconv.ParseUint(text, 10, 64)
	return n, ok && err == nil
}
