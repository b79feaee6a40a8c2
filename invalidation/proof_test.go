package invalidation_test

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
)

// proof knows when each version was invalidated, and reports which reads were older than a node may ever be.
type proof struct {
	bound time.Duration

	mu   sync.Mutex
	told map[string][]time.Time // by key: when the invalidation of version i+1 was acknowledged
	bad  []string
	seen int
}

func newProof(bound time.Duration) *proof {
	return &proof{bound: bound, told: map[string][]time.Time{}}
}

// say notes that everybody could know of the next version of key from now on.
func (p *proof) say(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told[key] = append(p.told[key], time.Now())
}

// judge compares what a read gave with what had been announced when it began: whatever was announced longer ago than the bound
// must be in it.
func (p *proof) judge(key, value string, began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen++
	_, text, _ := strings.Cut(value, "@")
	version, err := strconv.Atoi(text)
	if err != nil {
		p.bad = append(p.bad, fmt.Sprintf("a value that no one wrote: %q", value))
		return
	}
	if told := p.told[key]; len(told) > version && began.Sub(told[version]) > p.bound {
		p.bad = append(p.bad, fmt.Sprintf("%s, when version %d had been told for %s", value, version+1, began.Sub(told[version])))
	}
}

// holds fails the test for each read that was too old.
func (p *proof) holds(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == 0 {
		t.Error("nothing was read")
	}
	for i, b := range p.bad {
		if i == 5 {
			t.Errorf("and %d more", len(p.bad)-i)
			break
		}
		t.Errorf("read %s; the bound is %s", b, p.bound)
	}
	t.Logf("%d reads, %d of them too old", p.seen, len(p.bad))
}

// tell is change that notes it.
func (p *proof) tell(r *rig, key string) {
	r.t.Helper()
	r.change(key)
	p.say(key)
}

// readers read keys all the time until the function that they give is called, or the test ends.
func (p *proof) readers(t testing.TB, c *invalidation.Cache[string], keys ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, k := range keys {
		wg.Go(func() {
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				began := time.Now()
				if v, err := c.Get(ctx, k); err == nil {
					p.judge(k, v, began)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// flushes are a lane's, by reason, without those that never were.
func flushes(n *invalidation.Node, lane int) map[string]int64 {
	f := maps.Clone(n.Stats().Lanes[lane].Flushes)
	maps.DeleteFunc(f, func(_ string, n int64) bool { return n == 0 })
	return f
}
