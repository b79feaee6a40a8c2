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
	// ErrNoCache: the token is of a topic whose dataset has no cache section, so no lane will ever tell of it.
	ErrNoCache = errors.New("dataset of the token has no cache section: there is nothing to wait for")
	// ErrTokenGone: the token is of a topic that was deleted and made anew since.
	ErrTokenGone = errors.New("topic of the token was made anew; the token means nothing any more")
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
// afterwards reflects that write, whichever tier answers. It gives nil, ErrNoCache, ErrTokenGone, ErrClosed or ctx's
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
	suspicions := 0
	for {
		f, missing, changed, unknown := n.missing(offsets)
		if f == nil {
			n.waitedNow()
			return nil
		}
		signal(f.asked)
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for token: %w", context.Cause(ctx))
		case <-n.ctx.Done():
			return ErrClosed
		case <-changed:
			continue
		case <-again.C:
		}
		if !unknown {
			continue
		}
		gone, err := n.gone(ctx, f, missing)
		if err != nil || !gone {
			suspicions = 0
			continue // Redis is away or the source is new: wait on
		}
		if suspicions++; suspicions > 1 {
			return ErrTokenGone
		}
	}
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

// missing gives a lane that has not seen a source up to its offset, preferably a source of which the lane knows nothing;
// changed tells when to look again. Without one, every lane has.
func (n *Node) missing(offsets map[string]int64) (f *follower, source string, changed <-chan struct{}, unknown bool) {
	for _, l := range n.lanes {
		for s, off := range offsets {
			done, known, c := l.view.reached(s, off)
			if done {
				continue
			}
			if f == nil || !known && !unknown {
				f, source, changed, unknown = l, s, c, !known
			}
		}
	}
	return f, source, changed, unknown
}

// gone says whether the lane knows the source's topic under another id only.
func (n *Node) gone(ctx context.Context, f *follower, source string) (bool, error) {
	topic, id, _, err := schemas.ParseSource(source)
	if err != nil {
		return false, fmt.Errorf("wait for token: %w", err)
	}
	fields, err := n.control.HKeys(ctx, n.reader.Keys(f.n).Meta).Result()
	if err != nil {
		return false, fmt.Errorf("read sources of the lane: %w", err)
	}
	other := false
	for _, f := range fields {
		s, ok := strings.CutPrefix(f, "wm:")
		if !ok {
			continue
		}
		t, i, _, err := schemas.ParseSource(s)
		if err != nil || t != topic {
			continue
		}
		if i == id {
			return false, nil // another partition of the same topic: this one is only quiet yet
		}
		other = true
	}
	return other, nil
}

// waitedNow makes loads begun before this moment unfit for those who read after it.
func (n *Node) waitedNow() {
	n.waitedAt.Store(n.now())
	n.waited.Store(n.clock.now.Add(1))
}

// waitedLately says whether somebody may rely on having waited: then a load that no floor guards reads the primary.
func (n *Node) waitedLately() bool {
	at := n.waitedAt.Load()
	return at != 0 && n.now()-at <= int64(max(n.cfg.Hold, DefaultHold))
}
