package relay

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// firstObstacle and maxObstacle are the waits before the rows of a dataset that Kafka refused are tried again.
	firstObstacle = time.Second
	maxObstacle   = 10 * time.Second
)

// errNoAnswer is why a dataset waits whose records were sent.
var errNoAnswer = errors.New("Kafka has not answered yet; its rows wait for a leader of the topic's partitions")

// obstacle is why the rows of a dataset are not read.
type obstacle struct {
	err          error
	since, until time.Time
	wait         time.Duration
	stuck        bool // its records are sent and have no outcome: until they have one
	taken        bool // Kafka took one of them meanwhile
}

// obstacles keep the rows of single datasets in the outbox, so that others are published. It is safe for concurrent use.
type obstacles struct {
	log *slog.Logger

	mu  sync.Mutex // guards all
	all map[string]obstacle
}

// add keeps a dataset's rows in the outbox for a while.
func (o *obstacles) add(dataset string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	b, ok := o.all[dataset]
	if ok && (b.stuck || now.Before(b.until)) {
		return // a row of the same failure
	}
	if !ok {
		b.since = now
		o.log.Warn("dataset not published", "dataset", dataset, "error", err)
	}
	b.err, b.wait = err, min(max(2*b.wait, firstObstacle), maxObstacle)
	b.until = now.Add(b.wait)
	o.all[dataset] = b
}

// stick keeps a dataset's rows in the outbox while records of it have no outcome.
func (o *obstacles) stick(dataset string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, ok := o.all[dataset]
	if b.stuck {
		return
	}
	if !ok {
		b.since = time.Now()
		o.log.Warn("dataset not published", "dataset", dataset, "error", errNoAnswer)
	}
	b.err, b.stuck = errNoAnswer, true
	o.all[dataset] = b
}

// unstick lets the rows of stuck datasets be read again, but for those that the function names.
func (o *obstacles) unstick(still func(dataset string) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, b := range o.all {
		if !b.stuck || still(name) {
			continue
		}
		b.stuck = false
		o.all[name] = b
		if b.taken { // there may be no other row to show that the obstacle is gone
			o.end(name, b)
		}
	}
}

// passed notes that Kafka took a row of the dataset.
func (o *obstacles) passed(dataset string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, ok := o.all[dataset]
	switch {
	case !ok:
	case b.stuck:
		b.taken = true
		o.all[dataset] = b
	default:
		o.end(dataset, b)
	}
}

// end removes an obstacle that is over. mu is held.
func (o *obstacles) end(dataset string, b obstacle) {
	if !time.Now().After(b.until) {
		return
	}
	delete(o.all, dataset)
	o.log.Info("dataset published again", "dataset", dataset, "duration_seconds", time.Since(b.since))
}

// has reports whether the rows of a dataset have to wait now.
func (o *obstacles) has(dataset string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, ok := o.all[dataset]
	return ok && (b.stuck || time.Now().Before(b.until))
}

// stuck reports whether records of a dataset have no outcome.
func (o *obstacles) stuck(dataset string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all[dataset].stuck
}

// reasons returns why datasets wait.
func (o *obstacles) reasons() map[string]error {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make(map[string]error, len(o.all))
	for name, b := range o.all {
		out[name] = b.err
	}
	return out
}
