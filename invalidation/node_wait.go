package invalidation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/freshet/freshet/schemas"
)

// Errors of WaitFor.
var (
	// ErrNoCache: the token is of a topic whose dataset has no cache section, so no lane will ever report it.
	ErrNoCache = errors.New("dataset of the token has no cache section: there is nothing to wait for")
	// ErrTokenGone: the token is of a topic that was deleted and recreated since.
	ErrTokenGone = errors.New("topic of the token was recreated; the token means nothing any more")
)

const (
	// maxWaited bounds the sources that a node waits for. Tokens come from clients, who may name any number of them.
	maxWaited = 10_000
	// maxUnknown bounds how many sources of which no lane is known to have anything one sync asks for.
	maxUnknown = 64
)

// waits counts the sources that readers wait for.
type waits struct {
	mu    sync.Mutex
	count map[string]int
	known map[string]bool // sources of which a lane had a watermark
}

// enter registers the sources of one reader and returns those that leave must be called with. Unknown ones beyond maxWaited
// are not asked for; what the lanes push makes them known all the same.
func (w *waits) enter(sources map[string]int64) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == nil {
		w.count, w.known = map[string]int{}, map[string]bool{}
	}
	out := make([]string, 0, len(sources))
	for s := range sources {
		if len(w.count) < maxWaited || w.count[s] > 0 || w.known[s] {
			w.count[s]++
			out = append(out, s)
		}
	}
	return out
}

func (w *waits) leave(sources []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sources {
		if w.count[s]--; w.count[s] == 0 {
			delete(w.count, s)
		}
	}
}

// ask returns the sources that a sync asks a lane for: those that are known, and some of the others, by chance.
func (w *waits) ask(v *view) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	unknown := 0
	for s := range w.count {
		if !w.known[s] && !v.heardOf(s) {
			if unknown++; unknown > maxUnknown {
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// learn notes the sources of which a lane has a watermark.
func (w *waits) learn(watermarks map[string]int64) {
	if len(watermarks) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range watermarks {
		if w.count[s] > 0 {
			w.known[s] = true
		}
	}
}

func (w *waits) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.count)
}

// WaitFor returns once this node has seen the invalidations of everything that the token names: a Get that begins
// afterwards reflects that write, whichever tier answers. It returns nil, ErrNoCache, ErrTokenGone, ErrClosed or ctx's
// error; give ctx a deadline, since the worker may be far behind.
//
// The caches see to the loads: a load that the shared tier checks has the invalidation's floor, or is refused unless it
// came from the primary; one that it cannot check (Redis is away, another node holds the lease) asks the loader for
// Primary for as long as the namespace's hold after a WaitFor. A loader that then answers From: Any cannot be helped, and
// after a Redis loss the promise is suspended until the workers have repaired the lane. An event that became a dead
// letter counts as seen.
func (n *Node) WaitFor(ctx context.Context, token schemas.Token) error {
	offsets := token.Offsets()
	for s := range offsets {
		if err := n.waitable(s); err != nil {
			return err
		}
	}
	defer n.waits.leave(n.waits.enter(offsets))
	again := time.NewTicker(n.cfg.PollInterval)
	defer again.Stop()
	w := waiter{lanes: n.lanes, offsets: offsets}
	changed := w.missing()
	var judged *laneSources
	suspicions := 0
	for w.lane != nil {
		signal(w.lane.asked)
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for token: %w", context.Cause(ctx))
		case <-n.ctx.Done():
			return ErrClosed
		case <-changed:
			changed = w.look()
			continue
		case <-again.C:
		}
		if changed = w.missing(); w.lane == nil || !w.unknown {
			continue
		}
		read, err := w.lane.sources(ctx)
		gone := err == nil && read.lack(w.source)
		switch {
		case !gone:
			suspicions = 0 // Redis is away or the source is new: wait on
		case read != judged:
			suspicions++
		}
		if judged = read; suspicions > 1 {
			return ErrTokenGone
		}
	}
	n.waitedNow()
	return nil
}

func (n *Node) waitable(source string) error {
	topic, _, _, err := schemas.ParseSource(source)
	if err != nil {
		return fmt.Errorf("wait for token: %w", err)
	}
	if topic == schemas.InvalidationTopic(n.cfg.Namespace) {
		return nil
	}
	if d, ok := n.cfg.Datasets.ByTopic(topic); !ok || d.Cache == nil {
		return ErrNoCache
	}
	return nil
}

// waiter is one WaitFor: what it waits for, and where it is missing.
type waiter struct {
	lanes   []*follower
	offsets map[string]int64 // by source

	// lane has not seen source up to its offset; nil: every lane has seen every source.
	lane    *follower
	source  string
	unknown bool // the lane knows nothing of source
}

// missing looks at all sources in all lanes for one that is missing, preferably one of which the lane knows nothing, and returns
// what tells when to look again.
func (w *waiter) missing() (changed <-chan struct{}) {
	w.lane = nil
	for _, l := range w.lanes {
		for s, off := range w.offsets {
			done, known, c := l.view.reached(s, off)
			if !done && (w.lane == nil || !known && !w.unknown) {
				w.lane, w.source, w.unknown, changed = l, s, !known, c
			}
		}
	}
	return changed
}

// look looks at what was missing last, and at all only when that has come: each entry of a lane wakes every reader that waits.
func (w *waiter) look() (changed <-chan struct{}) {
	done, known, changed := w.lane.view.reached(w.source, w.offsets[w.source])
	if done {
		return w.missing()
	}
	w.unknown = !known
	return changed
}

// laneSources are the topic ids of which a lane has a watermark, as one read found them.
type laneSources struct {
	asked time.Time
	done  chan struct{}              // closed once what follows is set
	ids   map[string]map[string]bool // by topic
	err   error
}

// lack reports whether the topic of source is known under another id only.
func (r *laneSources) lack(source string) bool {
	topic, id, _, err := schemas.ParseSource(source)
	return err == nil && len(r.ids[topic]) > 0 && !r.ids[topic][id]
}

// sources returns the sources that the lane knew at most PollInterval ago. Readers share a read.
func (f *follower) sources(ctx context.Context) (*laneSources, error) {
	f.mu.Lock()
	r := f.known
	if r == nil || time.Since(r.asked) >= f.node.cfg.PollInterval {
		if !f.node.enter() {
			f.mu.Unlock()
			return nil, ErrClosed
		}
		r = &laneSources{asked: time.Now(), done: make(chan struct{}), ids: map[string]map[string]bool{}}
		f.known = r
		go func() {
			defer f.node.leave()
			defer close(r.done)
			r.err = f.readSources(r)
		}()
	}
	f.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("read sources of the lane: %w", context.Cause(ctx))
	case <-r.done:
		return r, r.err
	}
}

func (f *follower) readSources(r *laneSources) error {
	fields, err := f.node.control.HKeys(f.node.ctx, f.node.reader.Keys(f.n).Meta).Result()
	if err != nil {
		return fmt.Errorf("read sources of the lane: %w", err)
	}
	for _, field := range fields {
		source, ok := strings.CutPrefix(field, "wm:")
		if !ok {
			continue
		}
		topic, id, _, err := schemas.ParseSource(source)
		if err != nil {
			continue
		}
		if r.ids[topic] == nil {
			r.ids[topic] = map[string]bool{}
		}
		r.ids[topic][id] = true
	}
	return nil
}

// waitedNow makes loads begun before this moment unfit for those who read after it.
func (n *Node) waitedNow() {
	n.waitedAt.Store(n.now())
	n.waited.Store(n.clock.now.Add(1))
}

// waitedLately reports whether someone may rely on having waited: then a load that no floor guards reads the primary.
func (n *Node) waitedLately() bool {
	at := n.waitedAt.Load()
	return at != 0 && n.now()-at <= int64(max(n.cfg.Hold, DefaultHold))
}
