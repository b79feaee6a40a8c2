package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
)

const (
	// nodeVar makes this test binary a node; its value is a nodeConfig as JSON.
	nodeVar = "FRESHET_SESSIONS_NODE"
	// awayVar is how long Redis is away; 10 s if it is not set.
	awayVar = "FRESHET_SESSIONS_AWAY"
	// enough requests of each balancer, and for each fault.
	enough, enoughEach = 20_000, 2_000
	usersEach          = 12
	pace               = 8 * time.Millisecond
	// readLimit is what both configurations allow a read at one node.
	readLimit = 3 * time.Second
)

type nodeConfig struct{ Listen, Brokers, DSN, Redis, Namespace, Topic string }

// nodeProcess is what main is, on the test's own topic.
func nodeProcess() int {
	var c nodeConfig
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := json.Unmarshal([]byte(os.Getenv(nodeVar)), &c)
	if err == nil {
		err = c.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		return 1
	}
	return 0
}

func (c nodeConfig) run(ctx context.Context) error {
	datasets, err := loadOnTopic(c.Topic)
	if err != nil {
		return err
	}
	o := options{listen: c.Listen, brokers: c.Brokers, dsn: c.DSN, redis: c.Redis, namespace: c.Namespace, drain: 3 * time.Second}
	return run(ctx, o, datasets, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// fleet is three processes behind both balancers, with users at each.
type fleet struct {
	*site

	configs         []nodeConfig
	procs           []*testenv.Process
	haproxy, nginxs *crowd
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	haproxy, nginx := balancer(t, "haproxy"), balancer(t, "nginx")
	s, o, topic := newWorker(t)
	f := &fleet{site: s}
	for i := range 3 {
		// An address of its own on loopback: while a node is down, its port is not given to a connection of another process.
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.77."+strconv.Itoa(os.Getpid()%250)+"."+strconv.Itoa(i+1)+":0")
		if err != nil {
			testenv.Skip(t, "no second address on loopback")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		own := s.linked(o)
		c := nodeConfig{Listen: l.Addr().String(), Brokers: o.brokers, DSN: o.dsn, Redis: own.redis, Namespace: o.namespace, Topic: topic}
		s.nodes, f.configs, f.procs = append(s.nodes, c.Listen), append(f.configs, c), append(f.procs, nil)
		f.start(i)
	}
	for i := range f.procs {
		f.awaitCheck(i, "/cachez", http.StatusNoContent)
	}
	first, second := *s, *s
	first.balance(haproxy)
	second.nginx(nginx)
	f.hidesChecks(first.url)
	f.haproxy, f.nginxs = newCrowd(&first, "HAProxy"), newCrowd(&second, "nginx")
	return f
}

func (f *fleet) start(i int) {
	f.t.Helper()
	text, err := json.Marshal(f.configs[i])
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeVar+"="+string(text))
	f.procs[i] = testenv.StartProcess(f.t, "node "+strconv.Itoa(i+1), cmd)
}

// awaitCheck waits until a node answers one of the balancers' checks so.
func (f *fleet) awaitCheck(i int, path string, want int) {
	f.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	testenv.Eventually(f.t, patience, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.nodes[i]+path, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		if resp.StatusCode != want {
			err = fmt.Errorf("node %d, %s: status %d, want %d", i+1, path, resp.StatusCode, want)
		}
		return errors.Join(err, resp.Body.Close())
	})
}

// crowd is the users of one balancer.
type crowd struct {
	*site

	name     string
	quiet    atomic.Bool // no one writes
	done     chan struct{}
	users    sync.WaitGroup
	requests atomic.Int64
	pending  atomic.Int64 // users whose last write no read has shown
	mu       sync.Mutex   // guards what follows
	failed   int
	failures []string
	longest  time.Duration // of a read
}

func newCrowd(s *site, name string) *crowd {
	return &crowd{site: s, name: name, done: make(chan struct{})}
}

// enter logs users in and lets them read and write until leave.
func (c *crowd) enter() {
	c.t.Helper()
	for i := range usersEach {
		u := c.user(i%2 == 0)
		if err := u.write(c.t.Context(), http.MethodPost, "/login", map[string]any{"user": "ada"}, http.StatusCreated); err != nil {
			c.t.Fatal(err)
		}
		c.users.Go(func() { c.live(u) })
	}
}

// live reads and, each fifth time, writes. Every read must show the last write.
func (c *crowd) live(u *user) {
	beat := time.NewTicker(pace)
	defer beat.Stop()
	for n, dirty := 0, false; ; n++ {
		select {
		case <-c.done:
			return
		case <-beat.C:
		}
		began := time.Now()
		var err error
		if n%5 == 4 && !c.quiet.Load() {
			if !dirty {
				c.pending.Add(1)
				dirty = true
			}
			if err = u.write(context.Background(), http.MethodPut, "/session", map[string]any{"n": u.wrote + 1}, http.StatusOK); err == nil {
				u.wrote++
			}
		} else {
			if err = u.read(context.Background()); err == nil && dirty {
				c.pending.Add(-1)
				dirty = false
			}
			c.took(time.Since(began))
		}
		c.requests.Add(1)
		if err != nil {
			c.note(fmt.Sprintf("after %s, served by %s: %v", time.Since(began).Round(time.Millisecond), u.last, err))
		}
	}
}

func (c *crowd) took(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = max(c.longest, d)
}

func (c *crowd) note(failure string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed++; c.failed <= 10 {
		c.failures = append(c.failures, failure)
	}
}

// phase is one fault: no request that was made during it may fail.
func (f *fleet) phase(name string, fault func()) {
	f.t.Helper()
	h, n := f.haproxy.begin(), f.nginxs.begin()
	fault()
	f.awaitRequests(enoughEach, h, n)
	f.report(name, h, n)
}

// awaitRequests waits until each balancer has had that many since.
func (f *fleet) awaitRequests(wanted, haproxy, nginx int64) {
	f.t.Helper()
	testenv.Eventually(f.t, patience, func(context.Context) error {
		h, n := f.haproxy.requests.Load()-haproxy, f.nginxs.requests.Load()-nginx
		if h < wanted || n < wanted {
			return fmt.Errorf("HAProxy had %d requests, nginx %d, of %d", h, n, wanted)
		}
		return nil
	})
}

func (f *fleet) report(name string, haproxy, nginx int64) {
	f.t.Helper()
	f.haproxy.report(name, haproxy)
	f.nginxs.report(name, nginx)
}

// begin returns how many requests there were before a phase.
func (c *crowd) begin() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = 0
	return c.requests.Load()
}

func (c *crowd) report(phase string, before int64) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.Logf("%s, %s: %d requests, %d failed, longest read %s", phase, c.name, c.requests.Load()-before, c.failed, c.longest.Round(time.Millisecond))
	for _, text := range c.failures {
		c.t.Errorf("%s, %s: %s", phase, c.name, text)
	}
	c.failed, c.failures = 0, nil
}

// No request fails behind either balancer: while the nodes are restarted one after the other, one is cut off from Redis, one is
// frozen, and Redis is away for all. Every read shows its user's last write.
func TestNoRequestFails(t *testing.T) {
	f := newFleet(t)
	crowds := []*crowd{f.haproxy, f.nginxs}
	for _, c := range crowds {
		c.enter()
	}
	stop := sync.OnceFunc(func() {
		for _, c := range crowds {
			close(c.done)
			c.users.Wait()
		}
	})
	defer stop()
	f.phase("rolling restart", f.roll)
	f.phase("a node without Redis", f.suspect)
	f.phase("a frozen node", f.freeze)
	f.phase("Redis is away", f.away)
	f.phase("recovered", func() { f.awaitRequests(enough, 0, 0) })
	stop()
	f.report("the end", 0, 0)
}
