package invalidation_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// weir delays fills on their way to Redis until it is opened, for however long that takes: its connections have no deadlines.
type weir struct {
	opened chan struct{}
	held   atomic.Int64 // fills that came
}

func (w *weir) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return &weirConn{Conn: conn, weir: w, closed: make(chan struct{})}, err
}

type weirConn struct {
	net.Conn

	weir   *weir
	once   sync.Once
	closed chan struct{}
}

func (c *weirConn) SetDeadline(time.Time) error      { return nil }
func (c *weirConn) SetReadDeadline(time.Time) error  { return nil }
func (c *weirConn) SetWriteDeadline(time.Time) error { return nil }

func (c *weirConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *weirConn) Write(b []byte) (int, error) {
	if aFill.Match(b) {
		c.weir.held.Add(1)
		select {
		case <-c.weir.opened:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	return c.Conn.Write(b)
}

// behind joins a node whose fills wait at a weir.
func (r *rig) behind(cfg invalidation.Config) (*weir, *invalidation.Node) {
	r.t.Helper()
	g := &weir{opened: make(chan struct{})}
	o := *r.server.Client(r.t).Options()
	o.Dialer = g.dial
	n := r.joinBy(r.clientOf(&o), cfg)
	r.current(n)
	return g, n
}

// A miss is answered once its value is loaded: the fill of Redis runs behind it, and what it fills is kept.
func TestMissIsAnsweredBeforeItsFill(t *testing.T) {
	t.Parallel()
	for name, get := range map[string]func(*testing.T, *invalidation.Cache[string]){
		"Get": func(t *testing.T, c *invalidation.Cache[string]) {
			if v := get(t, c, "1"); v != "1@1" {
				t.Errorf("Get returned %q", v)
			}
		},
		"GetMany": func(t *testing.T, c *invalidation.Cache[string]) {
			if got, err := c.GetMany(t.Context(), []string{"1", "2"}); err != nil || len(got) != 2 || got["1"] != "1@1" {
				t.Errorf("GetMany returned %q, %v", got, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := withLane(t)
			r.change("1")
			r.change("2")
			g, n := r.behind(invalidation.Config{})
			b := &batches{db: r.db}
			c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: b.load})
			get(t, c)
			if s := c.Stats(); s.Filling != 1 {
				t.Errorf("%d fills run behind their answers, want 1", s.Filling)
			}
			get(t, c)
			if s := c.Stats(); s.Loads != 1 || s.LocalHits == 0 {
				t.Errorf("stats: %+v, want the second answer from memory", s)
			}
			close(g.opened)
			filled(t, c)
			get(t, c)
			if s := c.Stats(); s.Loads != 1 || s.Refusals["redis"] != 0 {
				t.Errorf("stats: %+v, want what was filled from memory", s)
			}
			other := r.cache(r.join(invalidation.Config{}))
			wantGet(t, other, "1", "1@1")
			if s := other.Stats(); s.SharedHits != 1 {
				t.Errorf("another node's stats: %+v, want a shared hit", s)
			}
		})
	}
}

// What a fill behind its answer was refused is not kept.
func TestRefusalBehindTheAnswer(t *testing.T) {
	t.Parallel()
	for _, many := range []bool{false, true} {
		t.Run(fmt.Sprint("many ", many), func(t *testing.T) {
			t.Parallel()
			r := withLane(t)
			r.change("1")
			g, n := r.behind(invalidation.Config{})
			b := &batches{db: r.db}
			c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: b.load})
			if many {
				_, err := c.GetMany(t.Context(), []string{"1"})
				check(t, err)
			} else {
				get(t, c, "1")
			}
			if _, held := c.Peek("1"); !held {
				t.Error("it is not held until the fill is refused")
			}
			s, err := lane.New(r.rdb, lane.Config{Namespace: r.ns})
			check(t, err)
			check(t, s.Discard(t.Context(), "user:1")) // the lease: no message tells the node, only the fill
			close(g.opened)
			filled(t, c)
			if l, held := c.Peek("1"); held || c.Stats().Refusals["lost"] != 1 {
				t.Errorf("%v is held, refusals %v, want one that is lost", l, c.Stats().Refusals)
			}
		})
	}
}

// Where the fill may still change the answer, or is refused for sure, it is waited for.
func TestAnswerThatTheFillDecides(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		from  invalidation.Source
		tags  []string
		wait  bool // for a token, before
		low   bool // the load is below the floor
		early int64
	}{
		"secondary":                {early: 1},
		"secondary, tags":          {tags: []string{"org"}},
		"secondary, after a wait":  {wait: true},
		"primary":                  {from: invalidation.Primary, early: 1},
		"primary, tags":            {from: invalidation.Primary, tags: []string{"org"}, early: 1},
		"primary, after a wait":    {from: invalidation.Primary, wait: true, early: 1},
		"primary, below the floor": {from: invalidation.Primary, low: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := withLane(t)
			r.change("1")
			g, n := r.behind(invalidation.Config{})
			if tc.wait {
				check(t, n.WaitFor(t.Context(), schemas.NewToken(userSource, r.offset-1)))
			}
			c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: func(context.Context, string, invalidation.Source) (invalidation.Loaded[string], error) {
				l := r.db.read("1", tc.from)
				l.Tags = tc.tags
				if tc.low {
					l.Version = 0
				}
				return l, nil
			}})
			got := make(chan string, 1)
			go func() { got <- get(t, c, "1") }()
			eventually(t, "the fill is on its way", func() bool { return g.held.Load() == 1 })
			if s := c.Stats(); s.Filling != tc.early {
				t.Errorf("%d fills run behind their answers, want %d", s.Filling, tc.early)
			}
			if _, held := c.Peek("1"); held != (tc.early == 1) {
				t.Errorf("held before the fill: %t", held)
			}
			close(g.opened)
			if v := testenv.Await(t, got); v != "1@1" {
				t.Errorf("Get returned %q", v)
			}
			filled(t, c)
		})
	}
}

// So many fills run behind their answers and no more: beyond that, a Redis that is slow slows down its readers. None outlives
// the node.
func TestFillsBehindTheirAnswersAreBounded(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	g, n := r.behind(invalidation.Config{})
	c := r.cache(n)
	places := int64(5 * runtime.GOMAXPROCS(0)) // half of the connections
	for i := range places {
		k := fmt.Sprint(i)
		r.db.change(k, false)
		if v := get(t, c, k); v != k+"@1" {
			t.Errorf("Get returned %q", v)
		}
	}
	last := make(chan error, 1)
	go func() {
		_, err := c.Get(t.Context(), "absent")
		last <- err
	}()
	eventually(t, "all fills are on their way", func() bool { return g.held.Load() == places+1 })
	if s := c.Stats(); s.Filling != places {
		t.Errorf("%d fills run behind their answers, want %d", s.Filling, places)
	}
	select {
	case err := <-last:
		t.Errorf("the one beyond the bound is answered: %v", err)
	default:
	}
	check(t, n.Close())
	if err := testenv.Await(t, last); err == nil {
		t.Error("a read that Close ended returned a record")
	}
	filled(t, c)
}

// The place that a GetMany takes for answers before their fill is free again once it has filled, although other keys are still waited for.
func TestGetManyFreesItsPlace(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	keys, want := r.users(2)
	gate, began := make(chan struct{}), make(chan struct{}, 2)
	slow := func(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
		began <- struct{}{}
		<-gate
		return r.db.load(ctx, key, from)
	}
	other, n := r.join(invalidation.Config{}), r.join(invalidation.Config{})
	r.current(other)
	r.current(n)
	owner := r.cacheOf(other, invalidation.CacheConfig[string]{Load: slow})
	owned, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(owned); wantGet(t, owner, "1", "1@1") }()
	testenv.Await(t, began) // it has the lease of 1
	b := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: slow, LoadMany: b.load})
	go func() { defer close(done); wantMany(t, c, keys, want) }()
	eventually(t, "0 is stored and its place is free", func() bool {
		stored, err := r.rdb.Exists(t.Context(), "{fr:"+r.ns+":0}:v:user:0").Result()
		return err == nil && stored == 1 && c.Stats().Filling == 0
	})
	select {
	case <-done:
		t.Error("nothing was waited for any more")
	default:
	}
	close(gate)
	testenv.Await(t, done)
	testenv.Await(t, owned)
}
