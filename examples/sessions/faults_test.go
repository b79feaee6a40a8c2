package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation/readyours"
)

// roll restarts each node as a supervisor does, when the one before is used again.
func (f *fleet) roll() {
	for i := range f.procs {
		old := f.procs[i]
		if err := old.Signal(syscall.SIGTERM); err != nil {
			f.t.Fatal(err)
		}
		f.awaitCheck(i, "/readyz", http.StatusServiceUnavailable) // it drains, and answers
		testenv.Await(f.t, old.Done())
		if err := old.Err(); err != nil {
			f.t.Errorf("node %d: %v", i+1, err)
		}
		f.start(i)
		f.awaitCheck(i, "/cachez", http.StatusNoContent)
		f.haproxy.awaitServed("one", "two", "three")
	}
}

// awaitRead waits until a read took as long as a node has for it, and so was repeated at another.
func (c *crowd) awaitRead(limit time.Duration) {
	c.t.Helper()
	testenv.Eventually(c.t, patience, func(context.Context) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.longest < limit {
			return fmt.Errorf("%s: no read was repeated after %s; the longest took %s", c.name, limit, c.longest)
		}
		return nil
	})
}

// suspect cuts one node off from Redis, until it is used again.
func (f *fleet) suspect() {
	f.links[0].Hold()
	f.haproxy.awaitServed("two", "three")
	// nginx cannot see it: a read whose token the node does not get to know is repeated at another.
	f.nginxs.awaitRead(readyours.DefaultWait)
	f.links[0].Release()
	f.haproxy.awaitServed("one", "two", "three")
}

// freeze stops one process for longer than both balancers take to notice. Only reads are at it then: a write would stay there,
// and both balancers would send the reads to nodes that are less busy.
func (f *fleet) freeze() {
	f.hush()
	f.procs[1].Stop(f.t)
	f.haproxy.awaitServed("one", "three")
	f.haproxy.awaitRead(readLimit)
	f.nginxs.awaitRead(readLimit)
	f.speak()
	f.awaitRequests(enoughEach, f.haproxy.requests.Load(), f.nginxs.requests.Load())
	f.procs[1].Cont(f.t)
	f.haproxy.awaitServed("one", "two", "three")
}

// away stops Redis itself, so that no node can show that it is fresh. Users do not write meanwhile: what they wrote last could
// be in no token's reach until Redis is back.
func (f *fleet) away() {
	f.hush()
	f.redis.Stop(f.t)
	over := time.After(awayFor(f.t))
	for i := range f.procs {
		f.awaitCheck(i, "/cachez", http.StatusServiceUnavailable)
	}
	f.haproxy.awaitServed("one", "two", "three")
	f.insist()
	<-over
	f.redis.Cont(f.t)
	for i := range f.procs {
		f.awaitCheck(i, "/cachez", http.StatusNoContent)
	}
	f.speak()
}

// hush lets no one write, and waits until every user has read the last write.
func (f *fleet) hush() {
	for _, c := range []*crowd{f.haproxy, f.nginxs} {
		c.quiet.Store(true)
		testenv.Eventually(f.t, patience, func(context.Context) error {
			if n := c.pending.Load(); n > 0 {
				return fmt.Errorf("%s: %d users did not read what they wrote", c.name, n)
			}
			return nil
		})
	}
}

func (f *fleet) speak() {
	f.haproxy.quiet.Store(false)
	f.nginxs.quiet.Store(false)
}

// insist lets a user write and read at once, which every node must refuse while Redis is away. nginx takes that for failures of
// all nodes, and must use them for the others all the same.
func (f *fleet) insist() {
	u := f.nginxs.user(false)
	if err := u.write(f.t.Context(), http.MethodPost, "/login", map[string]any{"user": "ada"}, http.StatusCreated); err != nil {
		f.t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		same := *u
		same.nodes = map[string]bool{}
		all.Go(func() {
			if err := same.write(f.t.Context(), http.MethodGet, "/session", nil, http.StatusServiceUnavailable); err != nil {
				f.t.Error(err)
			}
		})
	}
	all.Wait()
}

func awayFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(awayVar)
	if text == "" {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", awayVar, err)
	}
	return d
}
