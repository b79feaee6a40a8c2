package followers_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

const (
	records  = 20
	maxStale = time.Second
	poll     = 100 * time.Millisecond
	// patience is for hangs only.
	patience = 30 * time.Second
	lanes    = 2
	section  = "h1" // hash of the dataset's cache section
)

// world is a database, the worker that reports its changes, and a follower that is asked.
type world struct {
	t       *testing.T
	server  *testenv.RedisServer
	proxy   *testenv.Proxy // the follower's way to it, and ours
	rdb     *redis.Client
	ns      string
	emitter *invalidation.Emitter
	// silent publishes where no one listens: its entries are in the lane, but their messages are lost.
	silent *invalidation.Emitter
	roots  [lanes]string
	offset [lanes]int64 // of each lane's own source

	versions [records]int64  // the newest of each record
	emitted  [records][]told // emissions that Redis acknowledged
	// overtake makes each load be overtaken by a change.
	overtake    bool
	reads, hits int

	in  io.Writer
	out *bufio.Reader
	// limit bounds the wait for an answer.
	limit func(time.Time) error
}

type told struct {
	version int64
	at      time.Time
}

// setup is what a follower is started with; the zero value of a field is what fits the world.
type setup struct {
	lanes, section, ttl string
	sharded             bool // workers publish where a follower does not listen
	down                bool // Redis does not answer when it starts
}

func newWorld(t *testing.T, l language, command func(args ...string) *exec.Cmd, s setup) *world {
	t.Helper()
	w := &world{t: t, server: testenv.StartRedis(t, testenv.RedisOptions{})}
	w.proxy = testenv.NewProxy(t, w.server.Addr)
	w.rdb = redis.NewClient(&redis.Options{Addr: w.proxy.Addr, DialTimeout: time.Second, ReadTimeout: time.Second})
	t.Cleanup(func() {
		if err := w.rdb.Close(); err != nil {
			t.Error(err)
		}
	})
	w.ns = w.server.Namespace(t)
	w.emitter = w.newEmitter(invalidation.EmitterConfig{Namespace: w.ns, Lanes: lanes, Sharded: s.sharded})
	w.silent = w.newEmitter(invalidation.EmitterConfig{Namespace: w.ns, Lanes: lanes, Sharded: true})
	for i := range w.versions {
		w.versions[i] = 1
	}
	w.repair()
	sections := `[{"dataset": "users", "hash": "` + cmp.Or(s.section, section) + `", "names": {"user:{id}": {"id": "integer"}}}]`
	if s.down {
		w.server.Stop(t)
	}
	cmd := command("serve", fmt.Sprintf(l.address, w.proxy.Addr), w.ns, fmt.Sprint(maxStale.Seconds()), fmt.Sprint(poll.Seconds()),
		cmp.Or(s.lanes, strconv.Itoa(lanes)), sections, "users", "user:{id}", cmp.Or(s.ttl, "3600"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.in, w.out, w.limit = in, bufio.NewReader(out), out.(*os.File).SetReadDeadline
	testenv.StartProcess(t, "follower in "+l.name, cmd)
	return w
}

func (w *world) newEmitter(cfg invalidation.EmitterConfig) *invalidation.Emitter {
	w.t.Helper()
	e, err := invalidation.NewEmitter(w.rdb, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := e.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return e
}

// repair does what a worker does for lanes that are gone: it makes them and emits everything again.
func (w *world) repair() { w.flush(section) }

// flush gives every lane a new root, with that hash of the dataset's cache section, and emits everything again.
func (w *world) flush(hash string) {
	w.t.Helper()
	for n := range lanes {
		testenv.Eventually(w.t, patience, func(ctx context.Context) error {
			st, err := w.emitter.State(ctx, n, nil, nil)
			if err != nil {
				return err
			}
			r, err := w.emitter.Root(ctx, n, lane.RootRequest{Expected: st.Root, Group: "g", Hashes: map[string]string{"users": hash}})
			if err == nil && r.Status != lane.OK {
				err = errors.New("another root")
			}
			w.roots[n] = r.Root
			return err
		})
	}
	for i := range w.versions {
		w.tell(w.emitter, i)
	}
}

// change writes a record; the caller tells.
func (w *world) change(record int) { w.versions[record]++ }

// tell emits the newest version of a record.
func (w *world) tell(by *invalidation.Emitter, record int) {
	w.t.Helper()
	v := w.versions[record]
	n := lane.Of(key(record), lanes)
	em := lane.Emission{
		Source: "users/dG9waWM/" + strconv.Itoa(n), From: w.offset[n], To: w.offset[n],
		Items: []lane.Item{{Key: key(record), Version: v}},
	}
	testenv.Eventually(w.t, patience, func(ctx context.Context) error {
		r, err := by.Emit(ctx, n, w.roots[n], w.offset[n], em)
		if err == nil && r.Status != lane.OK {
			err = fmt.Errorf("status %d", r.Status)
		}
		return err
	})
	w.offset[n]++
	w.emitted[record] = append(w.emitted[record], told{v, time.Now()})
}

func key(record int) string { return "user:" + strconv.Itoa(record) }

// line is what the follower and we say to each other.
type line struct {
	Get   *values `json:"get,omitempty"`
	Load  *values `json:"load,omitempty"`
	Value string  `json:"value,omitempty"`
	Hit   bool    `json:"hit,omitempty"`
	Why   string  `json:"why,omitempty"`
}

// values are what the follower makes the cache key of.
type values struct {
	ID int `json:"id"`
}

func (w *world) say(l line) {
	w.t.Helper()
	b, err := json.Marshal(l)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.in.Write(append(b, '\n')); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) hear() (l line) {
	w.t.Helper()
	if err := w.limit(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	b, err := w.out.ReadBytes('\n')
	if err != nil {
		w.t.Fatalf("the follower says nothing: %v", err)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		w.t.Fatalf("the follower says %q: %v", b, err)
	}
	return l
}

// read asks for a record and checks what comes: nothing that was notified of longer ago than maxStale may be missing.
func (w *world) read(record int) (version int64, hit bool) {
	w.t.Helper()
	began := time.Now()
	w.say(line{Get: &values{record}})
	answer := w.hear()
	if answer.Load != nil {
		if answer.Load.ID != record {
			w.t.Fatalf("asked for %s, it loads %v", key(record), *answer.Load)
		}
		v := strconv.FormatInt(w.versions[record], 10)
		if w.overtake {
			w.change(record)
			w.tell(w.emitter, record)
			w.rdb.Ping(w.t.Context()) // time for the message
		}
		w.say(line{Value: v})
		answer = w.hear()
	}
	version, err := strconv.ParseInt(answer.Value, 10, 64)
	if err != nil {
		w.t.Fatalf("the follower gives %q", answer.Value)
	}
	for _, e := range w.emitted[record] {
		if e.version > version && e.at.Before(began.Add(-maxStale)) {
			w.t.Fatalf("%s: version %d, but %d was announced %s before (hit %t)", key(record), version, e.version, began.Sub(e.at), answer.Hit)
		}
	}
	w.reads++
	if answer.Hit {
		w.hits++
	}
	return version, answer.Hit
}

// why is what the follower says about not caching.
func (w *world) why() string {
	w.t.Helper()
	if _, err := w.in.Write([]byte("{\"get\":null}\n")); err != nil {
		w.t.Fatal(err)
	}
	return w.hear().Why
}

// traffic writes and reads at random.
func (w *world) traffic(steps int) {
	w.t.Helper()
	for range steps {
		r := rand.N(records)
		w.change(r)
		w.tell(w.emitter, r)
		for range 4 {
			w.read(rand.N(records))
		}
	}
}

// settle waits until every record is served from the follower's memory, in its newest version.
func (w *world) settle(after string) {
	w.t.Helper()
	began := time.Now()
	testenv.Eventually(w.t, patience, func(context.Context) error {
		for r := range records {
			if v, hit := w.read(r); v != w.versions[r] || !hit {
				return fmt.Errorf("after %s: %s: version %d of %d, hit %t", after, key(r), v, w.versions[r], hit)
			}
		}
		return nil
	})
	w.t.Logf("settled %s after %s", time.Since(began).Round(time.Millisecond), after)
}

// blind waits until the follower serves nothing from its memory any more; it has maxStale for that.
func (w *world) blind(since time.Time) {
	w.t.Helper()
	testenv.Eventually(w.t, patience, func(context.Context) error {
		for r := range records {
			asked := time.Now()
			if _, hit := w.read(r); hit {
				if late := asked.Sub(since); late > maxStale {
					w.t.Fatalf("served from memory %s after it could last know", late)
				}
				return errors.New("still serves from memory")
			}
		}
		return nil
	})
}
