package worker

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// faults are what the worker waits for: parts of the infrastructure that do not work, by what is being done. They are shown
// in readiness and logged once when they begin and once when they end.
type faults struct {
	log *slog.Logger

	mu     sync.Mutex
	byWhat map[string]fault
}

// scope is what a fault keeps from being applied.
type scope bool

const (
	wholeWorker scope = false
	oneDataset  scope = true
)

type fault struct {
	scope scope
	since time.Time
	last  error // contains no keys and no values
}

// add notes that err is in the way of what, and with it of all work.
func (f *faults) add(what string, err error) { f.addIn(wholeWorker, what, err) }

// addIn is add with what the fault keeps from being applied.
func (f *faults) addIn(sc scope, what string, err error) {
	f.mu.Lock()
	cur, known := f.byWhat[what]
	if !known {
		cur.scope, cur.since = sc, time.Now()
	}
	cur.last = err
	f.byWhat[what] = cur
	f.mu.Unlock()
	if !known {
		f.log.Warn("waiting for the infrastructure", "step", what, "error", err)
	}
}

// end notes that each of these works again.
func (f *faults) end(whats ...string) {
	for _, what := range whats {
		f.mu.Lock()
		cur, known := f.byWhat[what]
		delete(f.byWhat, what)
		f.mu.Unlock()
		if known {
			f.log.Info("continuing", "step", what, "duration_seconds", time.Since(cur.since))
		}
	}
}

// drop removes a fault without a log line: something else reports it by now.
func (f *faults) drop(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byWhat, what)
}

// clear removes all faults without a log line.
func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.byWhat)
}

// hook returns a retry hook that adds each error to what.
func (f *faults) hook(what string) func(error, time.Duration) { return f.hookIn(wholeWorker, what) }

// hookIn is hook with what the fault keeps from being applied.
func (f *faults) hookIn(sc scope, what string) func(error, time.Duration) {
	return func(err error, _ time.Duration) { f.addIn(sc, what, err) }
}

// mysqlWait returns how long the oldest wait for MySQL has lasted, 0 if there is none.
func (f *faults) mysqlWait() (longest time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for what, cur := range f.byWhat {
		if strings.HasPrefix(what, "mysql") {
			longest = max(longest, time.Since(cur.since))
		}
	}
	return longest
}

// waits returns how long each fault has lasted.
func (f *faults) waits() map[string]time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]time.Duration, len(f.byWhat))
	for what, cur := range f.byWhat {
		out[what] = time.Since(cur.since)
	}
	return out
}

// reasons returns one sentence of readiness for each fault of the scope.
func (f *faults) reasons(sc scope) (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for what, cur := range f.byWhat {
		if cur.scope != sc {
			continue
		}
		out = append(out, fmt.Sprintf("waiting since %s for %s: %v", cur.since.UTC().Format(time.RFC3339), what, cur.last))
	}
	return out
}
