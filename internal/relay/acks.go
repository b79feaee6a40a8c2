package relay

import (
	"sync"

	"github.com/freshet/freshet/schemas"
)

// Acks lets a process that enqueues events and runs the relay learn when each is published: Config.Published is its method
// Published. The zero value works. It is safe for concurrent use.
type Acks struct {
	mu      sync.Mutex
	waiting map[ack]func(schemas.Token)
}

// ack identifies an event.
type ack struct {
	dataset, key string
	version      int64
}

// Expect lets done be called with the event's place in Kafka when it is published. Call it before the event's transaction
// commits, and the function that it returns if that fails: it reports whether the event was published all the same.
func (a *Acks) Expect(dataset, key string, version int64, done func(schemas.Token)) (forget func() (published bool)) {
	id := ack{dataset, key, version}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = map[ack]func(schemas.Token){}
	}
	a.waiting[id] = done
	return func() bool { return a.take(id) == nil }
}

// Published is for Config.Published.
func (a *Acks) Published(p Published) {
	if done := a.take(ack{p.Dataset, p.Key, p.Version}); done != nil {
		done(schemas.NewToken(p.Source, p.Offset))
	}
}

func (a *Acks) take(id ack) func(schemas.Token) {
	a.mu.Lock()
	defer a.mu.Unlock()
	done := a.waiting[id]
	delete(a.waiting, id)
	return done
}
